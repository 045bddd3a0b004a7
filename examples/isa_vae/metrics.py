r"""Mutual information gap of Chen et al. (2018), by quadrature instead of sampling.

With normal posteriors q(z_j | x_n), everything is an entropy of a one-dimensional mixture:

.. math::
    I(z_j; v_k) = H\Big[\frac1N \sum_n q(z_j \mid x_n)\Big]
                - \sum_v p(v)\, H\Big[\frac1{N_v} \sum_{n : v_k = v} q(z_j \mid x_n)\Big]

Chen et al. estimate each entropy from samples; here every mixture is put on a grid and its entropy
summed, so that there is no sampling noise, and the cost is O(N) instead of O(N^2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from render import MIG_FACTORS
from torch import Tensor
from tqdm import tqdm

ACTIVE = 0.01  # variance of the posterior mean from which a latent is active
STEPS_PER_SIGMA = 6  # grid points in a standard deviation of the narrowest posterior
MAX_GRID = 2**15
MARGIN = 7.0  # standard deviations that a grid reaches beyond every mean
RATIO = 1.1  # of neighbouring variances in the table of smoothing kernels


class ScoringError(ValueError):
    """A model that has no scores, as after a training that diverged."""


def check_posteriors(mean: Tensor, std: Tensor) -> None:
    """Raise ScoringError unless all are normal distributions."""
    if not (mean.isfinite().all() and std.isfinite().all() and (std > 0).all()):
        raise ScoringError("posteriors must have finite means and positive, finite deviations")


@dataclass(frozen=True)
class Disentanglement:
    """What each latent tells about each factor, in nats."""

    factors: tuple[str, ...]
    mig_factors: tuple[str, ...]  # those of them that the MIG is a mean over
    information: Tensor  # I(z_j; v_k), (z, factors)
    entropy: Tensor  # H(v_k), (factors,)

    @property
    def gaps(self) -> dict[str, float]:
        """Per factor, lead of its best latent over the second best, as a fraction of H(v_k)."""
        best = torch.nn.functional.pad(self.information, (0, 0, 0, 1)).topk(2, dim=0).values
        gap = (best[0] - best[1]) / self.entropy  # NaN for a factor that never varies
        return dict(zip(self.factors, gap.tolist(), strict=True))

    @property
    def mig(self) -> float:
        """Mean gap over the factors of the MIG; NaN if one of them never varies."""
        gaps = self.gaps
        return sum(gaps[factor] for factor in self.mig_factors) / len(self.mig_factors)


def active_units(mean: Tensor) -> Tensor:
    """Latents with Var_n E[z_j | x_n] > 0.01 (Burda et al. 2016): (N, z) -> (z,) bool."""
    return mean.double().var(0, correction=0) > ACTIVE


def disentanglement(
    mean: Tensor,
    std: Tensor,
    classes: Tensor,
    factors: Sequence[str],
    progress: bool = False,
    mig_factors: Sequence[str] = MIG_FACTORS,
) -> Disentanglement:
    """Mutual information of every latent with every factor, by quadrature.

    Args:
        mean: Of the posteriors, (N, z).
        std: Of the posteriors, (N, z).
        classes: Values of the factors as whole numbers, (N, factors).
        factors: Their names.
        progress: Whether to show a bar.
        mig_factors: Those of them that the MIG is a mean over; by default those of dSprites.
    """
    check_posteriors(mean, std)
    groups, prior = number_groups(classes)
    entropy = torch.stack([entropy_of(p) for p in prior])
    rows = [
        latent_information(m.double(), s.double(), groups, prior)
        for m, s in tqdm(
            zip(mean.T, std.T, strict=True),
            desc="mutual information",
            total=mean.shape[1],
            unit="latent",
            disable=not progress,
        )
    ]
    return Disentanglement(tuple(factors), tuple(mig_factors), torch.stack(rows), entropy)


def entropy_of(p: Tensor) -> Tensor:
    """H of a discrete distribution, in nats."""
    return -torch.xlogy(p, p).sum()


def number_groups(classes: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Number the values of all factors through, and count them.

    Returns:
        Group of each image under each factor, (factors, N), and each factor's p(v).
    """
    groups, prior, offset = [], [], 0
    for column in classes.T:
        _, value, count = column.unique(return_inverse=True, return_counts=True)
        groups.append(value + offset)
        prior.append(count.double() / len(column))
        offset += len(count)
    return torch.stack(groups), prior


def latent_information(mean: Tensor, std: Tensor, groups: Tensor, prior: list[Tensor]) -> Tensor:
    """I(z_j; v_k) of one latent with every factor: (N,), (N,) -> (factors,)."""
    summed, step = mixtures(mean, std, groups, sum(len(p) for p in prior))
    by_factor = summed.split([len(p) for p in prior])
    total = differential_entropy(by_factor[0].sum(0), step)
    given = [p @ differential_entropy(m, step) for m, p in zip(by_factor, prior, strict=True)]
    return (total - torch.stack(given)).clamp_min(0)


def differential_entropy(density: Tensor, step: float) -> Tensor:
    """H by the trapezoid rule, of densities known up to a factor: (..., grid) -> (...)."""
    p = density.clamp_min(0)  # the Fourier transform leaves -1e-17
    p = p / (p.sum(-1, keepdim=True) * step)
    return -torch.xlogy(p, p).sum(-1) * step


def mixtures(mean: Tensor, std: Tensor, groups: Tensor, num_groups: int) -> tuple[Tensor, float]:
    """Sum of the posteriors of every group, on one grid: densities up to a factor.

    Posteriors of twice the width are put on a grid of twice the step; the transforms of these
    grids begin with the same frequencies, so they are added up there.

    Returns:
        The sums, (num_groups, grid), and the step of the grid.
    """
    low, high = float((mean - MARGIN * std).min()), float((mean + MARGIN * std).max())
    wanted = STEPS_PER_SIGMA * (high - low) / float(std.min())
    size = 2 ** math.ceil(math.log2(min(wanted, MAX_GRID)))
    step = (high - low) / size
    if wanted > size:
        # Where MAX_GRID is too coarse for a posterior, it is widened: that is the information in
        # the latent observed with so little noise, a lower bound. The grid reaches beyond it too.
        step = (high - low) / (size - 2 * MARGIN * STEPS_PER_SIGMA)
        std = std.clamp_min(STEPS_PER_SIGMA * step)
        low = float((mean - MARGIN * std).min())
    octave = (std / (STEPS_PER_SIGMA * step)).log2().long()
    spectrum = torch.zeros(num_groups, size // 2 + 1, dtype=torch.complex128)
    for k in octave.unique().tolist():
        rows = (octave == k).nonzero().squeeze(1)
        place = (mean[rows] - low) / (step * 2**k)
        width = std[rows] / (step * 2**k)
        part = transformed(place, width, groups[:, rows], num_groups, size >> k)
        spectrum[:, : part.shape[1]] += part
    return torch.fft.irfft(spectrum, n=size), step


def transformed(
    place: Tensor, width: Tensor, groups: Tensor, num_groups: int, size: int
) -> Tensor:
    """Fourier transform of every group's sum of normals, on a grid of step 1.

    Each normal becomes four that together have its mean and its variance: with means at the two
    nearest grid points, and with the two nearest variances of a geometric table. All that share a
    variance are smoothed at once.

    Args:
        place: Mean of each image's posterior, (N,).
        width: Its standard deviation, (N,).
        groups: Its group under each factor, (factors, N).
        num_groups: Of all factors together.
        size: Of the grid.

    Returns:
        (num_groups, size // 2 + 1).
    """
    cell = place.long()
    right = place - cell  # share of the right grid point
    variance = width.square() - right * (1 - right)
    level = ((variance / variance.min()).log() / math.log(RATIO)).long()
    table = variance.min() * RATIO ** torch.arange(int(level.max()) + 2, dtype=torch.float64)
    upper = (variance - table[level]) / (table[level + 1] - table[level])  # share of that variance
    order = level.argsort()
    ends = torch.searchsorted(level[order], torch.arange(-1, len(table) + 1)).tolist()
    omega = 2 * torch.pi * torch.fft.rfftfreq(size, dtype=torch.float64)
    spectrum = torch.zeros(num_groups, len(omega), dtype=torch.complex128)
    for k, kernel in enumerate(table):
        rows = order[ends[k] : ends[k + 2]]  # level k - 1 has it as upper variance, k as lower
        share = torch.where(level[rows] == k, 1 - upper[rows], upper[rows])
        bins = groups[:, rows] * size + cell[rows]
        mass = torch.zeros(num_groups * size, dtype=torch.float64)
        for shift, weight in ((0, share * (1 - right[rows])), (1, share * right[rows])):
            weights = weight.expand_as(bins).flatten()
            mass += torch.bincount((bins + shift).flatten(), weights, len(mass))
        spectrum += torch.fft.rfft(mass.view(num_groups, size)) * (-kernel * omega**2 / 2).exp()
    return spectrum
