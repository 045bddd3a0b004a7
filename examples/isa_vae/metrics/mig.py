r"""Mutual information gap of Chen et al. (2018), by quadrature instead of sampling.

With normal posteriors q(z_j | x_n), everything reduces to entropies of one-dimensional mixtures:

.. math::
    I(z_j; v_k) = H\Big[\frac1N \sum_n q(z_j \mid x_n)\Big]
                - \sum_v p(v)\, H\Big[\frac1{N_v} \sum_{n : v_k = v} q(z_j \mid x_n)\Big]

Chen et al. estimate each entropy from samples; here every mixture is evaluated on a grid and its
entropy summed (mixtures.py), so there is no sampling noise, and the cost is O(N) instead of
O(N^2). The cost grows if posteriors are far narrower than the distances between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from .codes import (
    Array,
    as_classes,
    as_posteriors,
    chosen_names,
    factor_entropy,
    factor_names,
    leads,
    number_groups,
)
from .mixtures import mixture_entropies


@dataclass(frozen=True)
class Disentanglement:
    """Mutual information between latents and factors, in nats."""

    factors: tuple[str, ...]
    mig_factors: tuple[str, ...]  # the factors that the MIG averages over
    information: Tensor  # I(z_j; v_k), (z, factors)
    entropy: Tensor  # H(v_k), (factors,)
    widened: Tensor  # fraction of posteriors of each latent that were too narrow to resolve, (z,)

    @property
    def gaps(self) -> dict[str, float]:
        """Lead of each factor's best latent over the second best, as a fraction of H(v_k)."""
        gap = leads(self.information, self.entropy)  # NaN for a factor that never varies
        return dict(zip(self.factors, gap.tolist(), strict=True))

    @property
    def mig(self) -> float:
        """Mean gap over the factors of the MIG; NaN if one of them never varies."""
        gaps = self.gaps
        return sum(gaps[factor] for factor in self.mig_factors) / len(self.mig_factors)


def disentanglement(
    mean: Array,
    std: Array,
    classes: Array,
    factors: Sequence[str] | None = None,
    progress: bool = False,
    mig_factors: Sequence[str] | None = None,
) -> Disentanglement:
    """Mutual information of every latent with every factor, by quadrature.

    If very many posteriors are very far apart relative to their width, the narrowest are widened.
    This yields the information in the latent with that little noise added, a lower bound; the
    result includes the fraction of posteriors affected.

    Args:
        mean: Posterior means, (N, z).
        std: Posterior standard deviations, (N, z).
        classes: Values of the factors, (N, factors).
        factors: Names of the factors; by default factor0, factor1, ...
        progress: Whether to show a progress bar.
        mig_factors: Factors to average the MIG over; by default all.
    """
    mean, std = as_posteriors(mean, std)
    classes = as_classes(classes, len(mean))
    names = factor_names(factors, classes.shape[1])
    chosen = chosen_names(mig_factors, names)
    groups, prior = number_groups(classes)
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
        names, chosen, torch.stack(information), factor_entropy(prior), torch.tensor(widened)
    )


def latent_information(
    mean: Tensor, std: Tensor, groups: Tensor, prior: list[Tensor]
) -> tuple[Tensor, float]:
    """I(z_j; v_k) of one latent and every factor, (factors,); and the fraction widened."""
    everything = torch.zeros_like(groups[:1])  # the mixture of all rows is one more group
    total = 1 + sum(len(p) for p in prior)
    entropies, widened = mixture_entropies(mean, std, torch.cat([everything, groups + 1]), total)
    per_value = entropies[1:].split([len(p) for p in prior])
    conditional = torch.stack([p @ h for p, h in zip(prior, per_value, strict=True)])
    return (entropies[0] - conditional).clamp_min(0), widened
