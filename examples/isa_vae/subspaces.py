r"""What whole subspaces know of the factors, and the total correlation, from the full data.

The aggregate posterior is a mixture with one component for each of the N rows given, and so is
the one of any part G of the latents, or of the rows with some value of a factor:

.. math::
    q(z_G) = \frac1N \sum_n q(z_G \mid x_n), \qquad
    q(z_G \mid v_k) = \frac1{N_{v_k}} \sum_{n : v_k(x_n) = v_k} q(z_G \mid x_n)

Of S draws (x_n, z) with n among the rows and z from q(z | x_n), all these densities are computed
exactly, over all rows, the one that the draw came from included. What is estimated is a mean of
their log ratios: for these N rows it has no bias, and an error that falls as one over the root of
S. (In the release of the ISA-VAE the log of a mixture weight is added once for each dimension, not
once: it moves the information of a subspace of l dimensions by (l - 1) log V.)

The N rows are another population than the images they are a sample of. Where posteriors are so
narrow that the row that a draw came from outweighs all others, the index-code information is near
log N, its largest value, and the total correlation too is larger than that of all images; and a
subspace that tells rows apart knows every factor. So take all rows there are, and compare models
at the same N only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from metrics import entropy_of, number_groups
from torch import Tensor

CHUNK = 8  # draws at once: (draws, rows) numbers, to stay in the cache


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
    mean: Tensor,
    std: Tensor,
    classes: Tensor,
    sizes: Sequence[int],
    samples: int,
    generator: torch.Generator,
) -> LogDensities:
    """All log densities, in the precision of the means; time grows as samples x N x z.

    Args:
        mean: Of the posteriors, (N, z).
        std: Of the posteriors, (N, z).
        classes: Values of the factors as whole numbers, (N, factors); factors may be 0.
        sizes: Dimension of each subspace, the first latents first.
        samples: Draws S; of different rows where there are enough.
        generator: Draws them.
    """
    if sum(sizes) != mean.shape[1] or min(sizes) < 1:
        raise ValueError(
            f"sizes must be positive and add up to the {mean.shape[1]} latents, "
            f"but got {tuple(sizes)}"
        )
    if not (mean.isfinite().all() and std.isfinite().all() and (std > 0).all()):
        raise ValueError("posteriors must have finite means and positive, finite deviations")
    rows = draw_rows(len(mean), samples, generator)
    noise = torch.randn(samples, mean.shape[1], generator=generator, dtype=mean.dtype)
    z = mean[rows] + std[rows] * noise
    constant = 0.5 * math.log(2 * math.pi)
    posterior = -(0.5 * noise.square() + std[rows].log() + constant).sum(1)
    mixture = Mixture(mean.T.contiguous(), (1 / std.T).contiguous(), classes, tuple(sizes))
    parts = [mixture(z[s], rows[s]) for s in torch.arange(samples).split(CHUNK)]
    return LogDensities(posterior, *(torch.cat(part) for part in zip(*parts, strict=True)))


def draw_rows(total: int, samples: int, generator: torch.Generator) -> Tensor:
    """Without replacement where there are enough: (samples,)."""
    if samples <= total:
        return torch.randperm(total, generator=generator)[:samples]
    return torch.randint(total, (samples,), generator=generator)


@dataclass(frozen=True)
class Factor:
    """The rows with each of its values."""

    value: Tensor  # of each row, numbered from 0, (N,)
    count: Tensor  # of the rows with each value, (V,)
    rows: tuple[Tensor, ...]  # with each value

    @classmethod
    def of(cls, column: Tensor) -> "Factor":
        """From its values, (N,)."""
        _, value, count = column.unique(return_inverse=True, return_counts=True)
        return cls(value, count, value.argsort(stable=True).split(count.tolist()))


class Mixture:
    """The aggregate posterior: its log densities at the places z, (S, z), drawn from rows (S,)."""

    def __init__(self, mean: Tensor, precision: Tensor, classes: Tensor, sizes: tuple[int, ...]):
        self.mean, self.precision = mean, precision  # (z, N); precision is 1 / std
        self.log_scale = precision.log() - 0.5 * math.log(2 * math.pi)
        self.parts = torch.arange(len(mean)).split(list(sizes))
        self.factors = [Factor.of(column) for column in classes.T]

    def __call__(self, z: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Densities log q(z), log q(z_G), log q(z_j) and log q(z_G | v_k)."""
        log_n = math.log(self.mean.shape[1])
        joint = z.new_zeros(len(z), self.mean.shape[1])
        subspaces, latents, given = [], [], []
        for part in self.parts:
            inside = torch.zeros_like(joint)
            for j in part.tolist():
                log_q = self.component(z[:, j, None], j)
                inside += log_q
                # In one dimension the own component is neither 0 nor infinite: no need of a peak.
                latents.append(log_q.exp_().sum(1).log() - log_n)
            joint += inside
            whole, shared = self.summed(inside, rows)
            subspaces.append(whole - log_n)
            given.append(shared)
        stacked = [torch.stack(columns, dim=1) for columns in (subspaces, latents, given)]
        return joint.logsumexp(1) - log_n, *stacked

    def component(self, z: Tensor, j: int) -> Tensor:
        """The log density of latent j at every z under every row: (S, 1) -> (S, N)."""
        place = (z - self.mean[j]).mul_(self.precision[j])
        return torch.addcmul(self.log_scale[j], place, place, value=-0.5)

    def summed(self, log_q: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Log of the sum over all rows, and of the mean over those that share each factor.

        Args:
            log_q: Of a subspace under every row, (S, N).
            rows: That each draw came from, (S,).

        Returns:
            (S,) and (S, factors).
        """
        # A draw is not e^87 times as likely elsewhere as where it came from: exp leaves that row.
        peak = log_q.amax(1, keepdim=True)
        weight = (log_q - peak).exp_()
        whole = weight.sum(1, keepdim=True).log() + peak
        shared = weight.new_zeros(len(rows), len(self.factors))
        for k, factor in enumerate(self.factors):
            for s, value in enumerate(factor.value[rows].tolist()):
                shared[s, k] = weight[s].index_select(0, factor.rows[value]).sum()
        count = [factor.count[factor.value[rows]] for factor in self.factors]
        log_count = torch.stack(count, 1).to(shared).log() if count else shared
        return whole.squeeze(1), shared.log() + peak - log_count


def subspace_gaps(densities: LogDensities, entropy: Tensor) -> Tensor:
    """Lead of the subspace that knows most of a factor, as a fraction of its entropy H(v_k).

    The information of a single subspace is compared with 0, and so is a negative estimate.

    Args:
        densities: At S draws.
        entropy: H(v_k), (factors,).

    Returns:
        Terms that the gap is the mean of, (S, factors); NaN for a factor that never varies.
    """
    terms = densities.information
    terms = torch.nn.functional.pad(terms.where(terms.mean(0) > 0, 0), (0, 0, 0, 1))
    best = terms.mean(0).topk(2, dim=0).indices  # (2, factors)
    lead = terms.gather(1, best[None, :, :].expand(len(terms), -1, -1))
    return (lead[:, 0] - lead[:, 1]) / entropy


def subspace_mig(densities: LogDensities, classes: Tensor, chosen: Sequence[int]) -> Estimate:
    """The mutual information gap between subspaces, a mean over the chosen factors.

    Args:
        densities: From `log_densities`, with the same classes.
        classes: Values of the factors, (N, factors).
        chosen: Columns of the factors that the gap is a mean over.
    """
    _, prior = number_groups(classes)
    entropy = torch.stack([entropy_of(p) for p in prior])
    return Estimate.of(subspace_gaps(densities, entropy)[:, list(chosen)].mean(1))


def total_correlation_full(
    mean: Tensor, std: Tensor, sizes: Sequence[int], samples: int, generator: torch.Generator
) -> dict[str, Estimate]:
    """Total correlation, between and within subspaces, and index-code information, in nats."""
    none = torch.zeros(len(mean), 0, dtype=torch.long)
    found = log_densities(mean, std, none, sizes, samples, generator)
    names = ("total", "between", "within", "index_code")
    return {name: Estimate.of(getattr(found, name)) for name in names}
