"""The mutual information gap by sampling, as Chen et al. (2018) write it: the peer of mig.py.

Time grows as samples x N x z, for the whole and once more for each factor: hours for all of
dSprites with the 10,000 samples of the paper, so this is for parts of it.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Normal

from .codes import Array, as_classes, as_posteriors, factor_entropy, leads, number_groups

AT_ONCE = 2**20  # densities, to bound the memory


def information_sampled(
    mean: Array, std: Array, classes: Array, samples: int, generator: torch.Generator
) -> Tensor:
    """I(z_j; v_k) as Chen et al. estimate it, written out: the peer of `disentanglement`.

    Args:
        mean: Of the posteriors, (N, z).
        std: Of the posteriors, (N, z).
        classes: Values of the factors, (N, factors).
        samples: Draws that each entropy is a mean over.
        generator: Draws them.

    Returns:
        In nats, (z, factors).
    """
    mean, std = as_posteriors(mean, std)
    classes = as_classes(classes, len(mean))

    def entropy(rows: Tensor) -> Tensor:
        posterior = Normal(mean[rows], std[rows])
        chosen = rows[torch.randint(len(rows), (samples,), generator=generator)]
        noise = torch.randn((samples, mean.shape[1]), generator=generator, dtype=mean.dtype)
        z = mean[chosen] + std[chosen] * noise
        parts = z[:, None].split(max(1, AT_ONCE // mean[rows].numel()))
        log_q = torch.cat([posterior.log_prob(part).logsumexp(1) for part in parts])
        return math.log(len(rows)) - log_q.mean(0)

    total = entropy(torch.arange(len(mean)))
    columns = []
    for column in classes.T:
        given = torch.zeros_like(total)
        for value in column.unique():
            rows = (column == value).nonzero().squeeze(1)
            given += len(rows) / len(mean) * entropy(rows)
        columns.append((total - given).clamp_min(0))
    return torch.stack(columns, dim=-1)


def mig_sampled(
    mean: Array, std: Array, classes: Array, samples: int, generator: torch.Generator
) -> float:
    """Chen's MIG by sampling, over the factors given; NaN if one of them never varies."""
    information = information_sampled(mean, std, classes, samples, generator)
    _, prior = number_groups(as_classes(classes, len(classes)))
    return float(leads(information, factor_entropy(prior)).mean())
