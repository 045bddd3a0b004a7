"""The disk images of mechanism.py, and many small autoencoders trained side by side.

The first dimension of every tensor is the seed, so that one `baddbmm` computes a layer of all
models. The seeds are independent: each has its own weights, batches and noise from its own
generators, and these are the same in every arm.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from lpnested import ISA
from metrics import active_units, disentanglement
from objectives import log_likelihood

SIZE, POSITIONS, SPAN, RADIUS = 16, 32, 8.0, 2.0  # in pixels; the centre moves over SPAN
FACTORS = ("posX", "posY")
SCORE_DRAWS = 16  # draws of z per image, for log p(x|z) and KL
SCORE_SEED_OFFSET = 2**32  # added to the seed, so that scores use other noise than training


@dataclass(frozen=True)
class Arm:
    """A prior of two latents, and whether the square of positions stands on its corner."""

    name: str
    label: str
    exponents: tuple[float, float] | None = None  # (p0, p); None: the normal distribution
    diamond: bool = False

    @property
    def prior(self) -> Distribution:
        """p(z), with variance 1 in each latent."""
        if self.exponents is None:
            return Independent(Normal(torch.zeros(2), torch.ones(2), validate_args=False), 1)
        p0, p = torch.tensor(self.exponents)
        return ISA.unit_variance([2], p0, p, validate_args=False)


def factor_grid() -> Tensor:
    """All pairs of the two factors as integers, (1024, 2)."""
    return torch.cartesian_prod(torch.arange(POSITIONS), torch.arange(POSITIONS))


def centres(classes: Tensor, diamond: bool) -> Tensor:
    """Centres (x, y) of the disks, in pixels from the upper left corner: (N, 2)."""
    offset = (classes.double() / (POSITIONS - 1) - 0.5) * SPAN
    if diamond:
        u, v = offset.unbind(-1)
        offset = torch.stack([u - v, u + v], -1) / math.sqrt(2)
    return SIZE / 2 + offset


def draw_disks(places: Tensor, fine: int = 8) -> Tensor:
    """Fraction of each pixel inside the disk, from fine x fine points: (N, 2) -> (N, 256)."""
    ticks = (torch.arange(SIZE * fine, dtype=torch.float64) + 0.5) / fine
    x, y = (ticks - places[:, k, None] for k in (0, 1))
    inside = x.square()[:, None, :] + y.square()[:, :, None] < RADIUS**2
    blocks = inside.float().view(-1, SIZE, fine, SIZE, fine)
    return blocks.mean((2, 4)).flatten(1)


def layer_sizes(hidden: int) -> tuple[tuple[int, int], ...]:
    """Inputs and outputs of each layer: three of the encoder, then three of the decoder."""
    pixels = SIZE * SIZE
    encoder = ((pixels, hidden), (hidden, hidden), (hidden, 4))
    return (*encoder, (2, hidden), (hidden, hidden), (hidden, pixels))


def initial_weights(seeds: Sequence[int], hidden: int) -> list[Tensor]:
    """Weight and bias of each layer, uniform as in nn.Linear: (S, in, out) and (S, 1, out)."""
    models = []
    for seed in seeds:
        generator, model = torch.Generator().manual_seed(seed), []
        for inputs, outputs in layer_sizes(hidden):
            for rows in (inputs, 1):
                unit = torch.rand(rows, outputs, generator=generator)
                model.append((2 * unit - 1) / math.sqrt(inputs))
        models.append(model)
    return [torch.stack(same).requires_grad_() for same in zip(*models, strict=True)]


def perceptron(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Three layers with ReLU between them: (S, N, in) -> (S, N, out)."""
    for k in (0, 2):
        x = torch.baddbmm(weights[k + 1], x, weights[k]).relu()
    return torch.baddbmm(weights[5], x, weights[4])


def encode(x: Tensor, weights: Sequence[Tensor]) -> Normal:
    """q(z | x), a factorised normal over (S, N, 2)."""
    mean, log_std = perceptron(x, weights[:6]).chunk(2, -1)
    return Normal(mean, log_std.exp(), validate_args=False)


def bound(
    x: Tensor, noise: Tensor, weights: Sequence[Tensor], prior: Distribution
) -> tuple[Tensor, Tensor]:
    """Log p(x | z) and log q(z | x) - log p(z) at one z; both (S, N)."""
    posterior = encode(x, weights)
    z = posterior.mean + posterior.stddev * noise
    rate = posterior.log_prob(z).sum(-1) - prior.log_prob(z)
    return log_likelihood(x, perceptron(z, weights[6:])), rate


def batches(seeds: Sequence[int], size: int, total: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield rows (S, size) and noise (S, size, 2) of every step, endlessly; equal in all arms."""
    generators = [torch.Generator().manual_seed(seed + 2**31) for seed in seeds]
    while True:
        order = torch.stack([torch.randperm(total, generator=g) for g in generators])
        noise = torch.stack([torch.randn(total, 2, generator=g) for g in generators])
        for first in range(0, total - size + 1, size):
            yield order[:, first : first + size], noise[:, first : first + size]


def train(
    images: Tensor,
    prior: Distribution,
    seeds: Sequence[int],
    hidden: int,
    batch_size: int,
    learning_rate: float,
    beta: float,
) -> Iterator[list[Tensor]]:
    """Yield the weights of all seeds after each step, endlessly."""
    weights = initial_weights(seeds, hidden)
    optimiser = torch.optim.Adam(weights, learning_rate, fused=True)
    for rows, noise in batches(seeds, batch_size, len(images)):
        likelihood, rate = bound(images[rows], noise, weights, prior)
        optimiser.zero_grad()
        (beta * rate - likelihood).mean(-1).sum().backward()
        optimiser.step()
        yield weights


@torch.no_grad()
def score(
    images: Tensor, classes: Tensor, weights: Sequence[Tensor], prior: Distribution, seed: int
) -> dict[str, float]:
    """Compute all scores of one seed, whose weights have a first dimension of 1."""
    posterior = encode(images[None], weights)
    mean, std = posterior.mean[0], posterior.stddev[0]
    generator = torch.Generator().manual_seed(seed + SCORE_SEED_OFFSET)
    draws = [torch.randn(1, len(images), 2, generator=generator) for _ in range(SCORE_DRAWS)]
    terms = torch.stack([torch.stack(bound(images[None], n, weights, prior)) for n in draws])
    log_px, kl = terms.double().mean((0, 2, 3)).tolist()
    gaps = disentanglement(mean, std, classes, FACTORS, mig_factors=FACTORS)
    active = int(active_units(mean).sum())
    angle, r2 = orientation(mean.double(), classes.double())
    return {
        "mig": gaps.mig,
        **{f"mig_{factor}": gap for factor, gap in gaps.gaps.items()},
        "log_px": log_px,
        "kl": kl,
        "active_units": active,
        "angle": angle,
        "r2": r2,
        "counted": int(active == 2),
    }


def orientation(code: Tensor, factors: Tensor) -> tuple[float, float]:
    r"""Degrees between the axes of code and factors, and R^2 of the linear fit between them.

    The fit is :math:`z \approx A v + c`; the orthogonal factor of A's polar decomposition is the
    nearest rotation or reflection. If A is a scaled rotation, the scaling does not affect it; for
    a sheared code it is a compromise that depends on the scaling.

    Args:
        code: Posterior means, (N, 2).
        factors: Factors of equal variance, (N, 2).

    Returns:
        The angle, from 0 (aligned) to 45 (diagonal), and the linear fraction of the code's
        variance.
    """
    v, z = factors - factors.mean(0), code - code.mean(0)
    fit = torch.linalg.lstsq(v, z).solution  # A transposed
    left, _, right = torch.linalg.svd(fit)
    turn = left @ right
    degrees = math.degrees(math.atan2(turn[1, 0], turn[0, 0])) % 90
    residual = (z - v @ fit).square().sum() / z.square().sum()
    return min(degrees, 90 - degrees), 1 - float(residual)
