r"""What whole subspaces know of the factors, and the total correlation, from the full data.

The aggregate posterior is a mixture with one component for each of the N rows given, and so is
the one of any part G of the latents, or of the rows with some value of a factor:

.. math::
    q(z_G) = \frac1N \sum_n q(z_G \mid x_n), \qquad
    q(z_G \mid v_k) = \frac1{N_{v_k}} \sum_{n : v_k(x_n) = v_k} q(z_G \mid x_n)

Of S draws (x_n, z) with n among the rows and z from q(z | x_n), all these densities are computed
exactly, over all rows, the one that the draw came from included. What is estimated is a mean of
their log ratios: for these N rows it has no bias, and an error that falls as 1 / sqrt(S). (What
the release of the ISA-VAE does instead, docs/errata.md tells.)

The N rows are another population than the images they are a sample of. Where posteriors are so
narrow that the row that a draw came from outweighs all others, the index-code information is near
log N, its largest value, and the total correlation too is larger than that of all images; and a
subspace that tells rows apart knows every factor. So take all rows there are, and compare models
at the same N only.
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

CHUNK, BLOCK = 16, 2048  # draws and rows at once, to stay in the cache
LEAST = -87.0  # logarithm of about the least normal float32; exp is ten times slower below


@dataclass(frozen=True)
class LogDensities:
    """At S draws (n, z) with z from q(z | x_n), in nats."""

    posterior: Tensor  # log q(z | x_n), (S,)
    joint: Tensor  # log q(z), (S,)
    subspaces: Tensor  # log q(z_G), (S, subspaces)
    latents: Tensor  # log q(z_j), (S, z)
    given: Tensor  # log q(z_G | v_k(x_n)), (S, subspaces, factors)

    @property
    def index_code(self) -> Tensor:
        """Their mean is I(n; z), at most log N."""
        return self.posterior - self.joint

    @property
    def total(self) -> Tensor:
        """Their mean is TC = KL(q(z) || prod_j q(z_j))."""
        return self.joint - self.latents.sum(1)

    @property
    def between(self) -> Tensor:
        """Their mean is KL(q(z) || prod_G q(z_G))."""
        return self.joint - self.subspaces.sum(1)

    @property
    def within(self) -> Tensor:
        """Their mean is sum_G KL(q(z_G) || prod_(j in G) q(z_j)); the rest of the TC."""
        return self.subspaces.sum(1) - self.latents.sum(1)

    @property
    def information(self) -> Tensor:
        """Their mean is I(z_G; v_k): (S, subspaces, factors)."""
        return self.given - self.subspaces[..., None]


@dataclass(frozen=True)
class Estimate:
    """A mean over draws."""

    value: float
    standard_error: float

    @classmethod
    def of(cls, terms: Tensor) -> "Estimate":
        """The mean of these: (S,)."""
        return cls(float(terms.mean()), float(terms.std() / math.sqrt(len(terms))))


def log_densities(
    mean: Array,
    std: Array,
    classes: Array,
    sizes: Sequence[int],
    samples: int,
    generator: torch.Generator,
) -> LogDensities:
    """All log densities, in the precision of the means; time grows as samples x N x z.

    Args:
        mean: Of the posteriors, (N, z).
        std: Of the posteriors, (N, z).
        classes: Values of the factors, (N, factors).
        sizes: Dimension of each subspace, the first latents first.
        samples: Draws S; of different rows where there are enough.
        generator: Draws them.
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
    """S draws: their rows (S,), their noise and z from the posterior of the row, (S, latents)."""
    rows = draw_rows(len(mean), samples, generator)
    noise = torch.randn(samples, mean.shape[1], generator=generator, dtype=mean.dtype)
    return rows, noise, mean[rows] + std[rows] * noise


def draw_rows(total: int, samples: int, generator: torch.Generator) -> Tensor:
    """Without replacement where there are enough: (samples,)."""
    if samples <= total:
        return torch.randperm(total, generator=generator)[:samples]
    return torch.randint(total, (samples,), generator=generator)


def one_hot_blocks(groups: Tensor, values: int) -> Iterator[tuple[slice, Tensor]]:
    """Some rows after the others, with a one where a row has a value: (rows of it, values)."""
    for start in range(0, len(groups), BLOCK):
        block = slice(start, start + BLOCK)
        hot = torch.zeros(len(groups[block]), values).scatter_(1, groups[block], 1.0)
        yield block, hot


def block_sums(
    z: Tensor, own: Tensor, mean: Tensor, precision: Tensor, hot: Tensor, sizes: Sequence[int]
) -> tuple[Tensor, ...]:
    """Logarithms of the sums of q(z | x_n), and of its parts, over the rows of a block.

    Args:
        z: Where, (S, latents).
        own: Values of the factors of the row that each was drawn from, (S, factors).
        mean: Of the rows, (latents, B).
        precision: 1 / std of the rows, (latents, B).
        hot: Which values they have, (B, values).
        sizes: Dimension of each subspace.

    Returns:
        (S,), (S, subspaces), (S, latents) and, over the rows with the values `own`, (S,
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
                # In one dimension the own component is neither 0 nor infinite: no need of a peak.
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
    """In place, exp(log q - peak), and the peak of each line: (S, B) -> (S, B), (S, 1).

    A draw is not e^87 times as likely elsewhere as where it came from: what is cut off is nothing.
    """
    peak = log_q.amax(1, keepdim=True)
    return log_q.sub_(peak).clamp_(min=LEAST).exp_(), peak


def subspace_gaps(information: Tensor, entropy: Tensor) -> Tensor:
    """Lead of the subspace that knows most of a factor, as a fraction of its entropy H(v_k).

    The information of a single subspace is compared with 0, and so is a negative estimate. Which
    two know most is taken from the same draws: where several know as much, the gap is a little
    too large, and its standard error leaves that out.

    Args:
        information: Terms that it is the mean of, (S, subspaces, factors).
        entropy: H(v_k), (factors,).

    Returns:
        Terms that the gap is the mean of, (S, factors); NaN for a factor that never varies.
    """
    known = information.where(information.mean(0) > 0, 0)
    terms = torch.nn.functional.pad(known, (0, 0, 0, 1))
    best = terms.mean(0).topk(2, dim=0).indices  # (2, factors)
    lead = terms.gather(1, best[None, :, :].expand(len(terms), -1, -1))
    return relative_lead(lead[:, 0], lead[:, 1], entropy)


def subspace_mig(densities: LogDensities, classes: Array, chosen: Sequence[int]) -> Estimate:
    """The mutual information gap between subspaces, a mean over the chosen factors.

    It rewards lumping: a subspace that knows many factors leads in each of them, and so does any
    other set of as many latents if each factor has a latent of its own. Whether the model's
    subspaces have to do with it, random ones tell: groupings.py.

    Args:
        densities: From `log_densities`, with the same classes.
        classes: Values of the factors, (N, factors).
        chosen: Columns of the factors that the gap is a mean over.
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
