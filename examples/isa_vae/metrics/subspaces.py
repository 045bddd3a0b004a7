r"""Information of whole subspaces on the factors, and the total correlation, from the full data.

The aggregate posterior is a mixture with one component for each of the N given rows, and likewise
for any part G of the latents, or for the rows with a given value of a factor:

.. math::
    q(z_G) = \frac1N \sum_n q(z_G \mid x_n), \qquad
    q(z_G \mid v_k) = \frac1{N_{v_k}} \sum_{n : v_k(x_n) = v_k} q(z_G \mid x_n)

For S draws (x_n, z) with n among the rows and z from q(z | x_n), all these densities are computed
exactly, over all rows, including the one that the draw came from. The estimate is a mean of their
log ratios: for these N rows it is unbiased, with an error that falls as 1 / sqrt(S).
(docs/errata.md describes what the release of the ISA-VAE does instead.)

The N rows are a different population from the images they are sampled from. If posteriors are so
narrow that the row a draw came from outweighs all others, the index-code information is near its
maximum log N, the total correlation too is larger than that of all images, and a subspace that
distinguishes rows determines every factor. So use all available rows, and compare models only at
the same N.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .codes import (
    Array,
    as_classes,
    as_posteriors,
    check_sizes,
    factor_entropy,
    number_groups,
    relative_lead,
)

CHUNK, BLOCK = 16, 2048  # draws and rows processed at once, to stay in the CPU cache
LEAST = -87.0  # about the log of the smallest normal float32; exp is ten times slower below


@dataclass(frozen=True)
class LogDensities:
    """Log densities in nats, at S draws (n, z) with z from q(z | x_n)."""

    posterior: Tensor  # log q(z | x_n), (S,)
    joint: Tensor  # log q(z), (S,)
    subspaces: Tensor  # log q(z_G), (S, subspaces)
    latents: Tensor  # log q(z_j), (S, z)
    given: Tensor  # log q(z_G | v_k(x_n)), (S, subspaces, factors)

    @property
    def index_code(self) -> Tensor:
        """Terms whose mean is I(n; z), at most log N."""
        return self.posterior - self.joint

    @property
    def total(self) -> Tensor:
        """Terms whose mean is TC = KL(q(z) || prod_j q(z_j))."""
        return self.joint - self.latents.sum(1)

    @property
    def between(self) -> Tensor:
        """Terms whose mean is KL(q(z) || prod_G q(z_G))."""
        return self.joint - self.subspaces.sum(1)

    @property
    def within(self) -> Tensor:
        """Terms whose mean is sum_G KL(q(z_G) || prod_(j in G) q(z_j)); the rest of the TC."""
        return self.subspaces.sum(1) - self.latents.sum(1)

    @property
    def information(self) -> Tensor:
        """Terms whose mean is I(z_G; v_k): (S, subspaces, factors)."""
        return self.given - self.subspaces[..., None]


@dataclass(frozen=True)
class Estimate:
    """A mean over draws, with its standard error."""

    value: float
    standard_error: float

    @classmethod
    def of(cls, terms: Tensor) -> "Estimate":
        """Average the terms, (S,)."""
        return cls(float(terms.mean()), float(terms.std() / math.sqrt(len(terms))))


def log_densities(
    mean: Array,
    std: Array,
    classes: Array,
    sizes: Sequence[int],
    samples: int,
    generator: torch.Generator,
) -> LogDensities:
    """Compute all log densities, in the precision of the means; time grows as samples x N x z.

    Args:
        mean: Posterior means, (N, z).
        std: Posterior standard deviations, (N, z).
        classes: Values of the factors, (N, factors).
        sizes: Dimension of each subspace, in the order of the latents.
        samples: Number of draws S, from distinct rows if there are enough.
        generator: Random generator for the draws.
    """
    mean, std = as_posteriors(mean, std)
    classes = as_classes(classes, len(mean))
    check_sizes(sizes, mean.shape[1])
    rows, noise, z = draw_codes(mean, std, samples, generator)
    constant = 0.5 * math.log(2 * math.pi)
    posterior = -(0.5 * noise.square() + std[rows].log() + constant).sum(1)
    numbered, prior = number_groups(classes)
    groups, shares, own = numbered.T, torch.cat(prior), numbered.T[rows]
    blocks = [
        block_sums(z, own, mean[block].T.contiguous(), (1 / std[block]).T.contiguous(), hot, sizes)
        for block, hot in one_hot_blocks(groups, len(shares))
    ]
    joint, subspaces, latents, given = (
        torch.stack(sums).logsumexp(0) for sums in zip(*blocks, strict=True)
    )
    log_n, log_share = math.log(len(mean)), shares[own].log().to(mean)[:, None]
    return LogDensities(
        posterior, joint - log_n, subspaces - log_n, latents - log_n, given - log_n - log_share
    )


def draw_codes(
    mean: Tensor, std: Tensor, samples: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw S codes: their rows, (S,), and their noise and z, both (S, latents)."""
    rows = draw_rows(len(mean), samples, generator)
    noise = torch.randn(samples, mean.shape[1], generator=generator, dtype=mean.dtype)
    return rows, noise, mean[rows] + std[rows] * noise


def draw_rows(total: int, samples: int, generator: torch.Generator) -> Tensor:
    """Draw rows, without replacement if there are enough: (samples,)."""
    if samples <= total:
        return torch.randperm(total, generator=generator)[:samples]
    return torch.randint(total, (samples,), generator=generator)


def one_hot_blocks(groups: Tensor, values: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield blocks of rows, each with the one-hot values of its rows: (rows, values)."""
    for start in range(0, len(groups), BLOCK):
        block = slice(start, start + BLOCK)
        hot = torch.zeros(len(groups[block]), values).scatter_(1, groups[block], 1.0)
        yield block, hot


def block_sums(
    z: Tensor, own: Tensor, mean: Tensor, precision: Tensor, hot: Tensor, sizes: Sequence[int]
) -> tuple[Tensor, ...]:
    """Logs of the sums of q(z | x_n), and of its parts, over the rows of a block.

    Args:
        z: Points at which to evaluate, (S, latents).
        own: Factor values of the row that each point was drawn from, (S, factors).
        mean: Posterior means of the rows, (latents, B).
        precision: 1 / std of the rows, (latents, B).
        hot: One-hot values of the rows, (B, values).
        sizes: Dimension of each subspace.

    Returns:
        Log sums, (S,), (S, subspaces), (S, latents) and, over the rows with the values `own`, (S,
        subspaces, factors).
    """
    log_scale, hot = precision.log() - 0.5 * math.log(2 * math.pi), hot.to(z)
    parts = torch.arange(len(mean)).split(list(sizes))
    found = []
    for at, values in zip(z.split(CHUNK), own.split(CHUNK), strict=True):
        joint = at.new_zeros(len(at), mean.shape[1])
        subspaces, latents, given = [], [], []
        for part in parts:
            inside = torch.zeros_like(joint)
            for j in part.tolist():
                place = (at[:, j, None] - mean[j]).mul_(precision[j])
                log_q = torch.addcmul(log_scale[j], place, place, value=-0.5)
                inside += log_q
                # In one dimension the own component is neither 0 nor infinite: no peak needed.
                latents.append(log_q.clamp_(min=LEAST).exp_().sum(1).log())
            joint += inside
            weight, peak = weights(inside)
            subspaces.append(weight.sum(1).log() + peak.squeeze(1))
            given.append((weight @ hot).gather(1, values).log() + peak)
        weight, peak = weights(joint)
        stacked = [torch.stack(columns, dim=1) for columns in (subspaces, latents, given)]
        found.append((weight.sum(1).log() + peak.squeeze(1), *stacked))
    return tuple(torch.cat(columns) for columns in zip(*found, strict=True))


def weights(log_q: Tensor) -> tuple[Tensor, Tensor]:
    """exp(log q - peak), computed in place, and the peak of each row: (S, B) -> (S, B), (S, 1).

    Clamping loses nothing: no other density at a draw exceeds that of its own row by e^87.
    """
    peak = log_q.amax(1, keepdim=True)
    return log_q.sub_(peak).clamp_(min=LEAST).exp_(), peak


def subspace_gaps(information: Tensor, entropy: Tensor) -> Tensor:
    """Lead of each factor's most informative subspace, as a fraction of the entropy H(v_k).

    A single subspace leads over 0, and negative estimates count as 0. The best two are selected
    on the same draws: if several are equally informative, the gap is a little too large, which
    its standard error does not include.

    Args:
        information: Terms whose mean is the information, (S, subspaces, factors).
        entropy: H(v_k), (factors,).

    Returns:
        Terms whose mean is the gap, (S, factors); NaN for a factor that never varies.
    """
    known = information.where(information.mean(0) > 0, 0)
    terms = torch.nn.functional.pad(known, (0, 0, 0, 1))
    best = terms.mean(0).topk(2, dim=0).indices  # (2, factors)
    lead = terms.gather(1, best[None, :, :].expand(len(terms), -1, -1))
    return relative_lead(lead[:, 0], lead[:, 1], entropy)


def subspace_mig(densities: LogDensities, classes: Array, chosen: Sequence[int]) -> Estimate:
    """Mutual information gap between subspaces, averaged over the chosen factors.

    It rewards lumping: a subspace that encodes many factors leads in each of them, and so does any
    other set of as many latents if each factor has a latent of its own. Compare with random
    groupings (groupings.py) to see whether the model's subspaces contribute.

    Args:
        densities: From `log_densities`, with the same classes.
        classes: Values of the factors, (N, factors).
        chosen: Columns of the factors to average over.
    """
    entropy = factor_entropy(number_groups(as_classes(classes, len(classes)))[1])
    gaps = subspace_gaps(densities.information, entropy)
    return Estimate.of(gaps[:, list(chosen)].mean(1))


def total_correlation_full(
    mean: Array, std: Array, sizes: Sequence[int], samples: int, generator: torch.Generator
) -> dict[str, Estimate]:
    """Total correlation, between and within subspaces, and index-code information, in nats."""
    no_factor = torch.zeros(len(mean), 1, dtype=torch.long)
    found = log_densities(mean, std, no_factor, sizes, samples, generator)
    names = ("total", "between", "within", "index_code")
    return {name: Estimate.of(getattr(found, name)) for name in names}
