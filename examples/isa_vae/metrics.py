r"""Mutual information gap of Chen et al. (2018), by quadrature instead of sampling.

With normal posteriors q(z_j | x_n), everything is an entropy of a one-dimensional mixture:

.. math::
    I(z_j; v_k) = H\Big[\frac1N \sum_n q(z_j \mid x_n)\Big]
                - \sum_v p(v)\, H\Big[\frac1{N_v} \sum_{n : v_k = v} q(z_j \mid x_n)\Big]

Chen et al. estimate each entropy from samples; here every mixture is put on a grid and its entropy
summed (mixtures.py), so that there is no sampling noise, and the cost is O(N) instead of O(N^2).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mixtures import mixture_entropies
from render import MIG_FACTORS
from torch import Tensor
from tqdm import tqdm

ACTIVE = 0.01  # variance of the posterior mean from which a latent is active


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
    widened: Tensor  # share of the posteriors of each latent too narrow to resolve, (z,)

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

    Where very many posteriors lie very far apart for their width, the narrowest are widened: that
    is the information in the latent observed with so little noise, a lower bound, and the result
    has the share of these posteriors.

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
    found = [
        latent_information(m.double(), s.double(), groups, prior)
        for m, s in tqdm(
            zip(mean.T, std.T, strict=True),
            desc="mutual information",
            total=mean.shape[1],
            unit="latent",
            disable=not progress,
        )
    ]
    information, widened = zip(*found, strict=True)
    return Disentanglement(
        tuple(factors),
        tuple(mig_factors),
        torch.stack(information),
        entropy,
        torch.tensor(widened),
    )


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


def latent_information(
    mean: Tensor, std: Tensor, groups: Tensor, prior: list[Tensor]
) -> tuple[Tensor, float]:
    """I(z_j; v_k) of one latent with every factor, (factors,); the share of widened posteriors."""
    everything = torch.zeros_like(groups[:1])  # the mixture of all is one group more
    total = 1 + sum(len(p) for p in prior)
    entropies, widened = mixture_entropies(mean, std, torch.cat([everything, groups + 1]), total)
    given = entropies[1:].split([len(p) for p in prior])
    conditional = torch.stack([p @ h for p, h in zip(prior, given, strict=True)])
    return (entropies[0] - conditional).clamp_min(0), widened
