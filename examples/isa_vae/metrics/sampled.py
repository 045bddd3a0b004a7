"""The mutual information gap by sampling, as in Chen et al. (2018): the counterpart of mig.py.

Time grows as samples x N x z, once for the total and once more per factor: hours for all of
dSprites with the paper's 10,000 samples, so this is meant for subsets.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Normal

from .codes import Array, as_classes, as_posteriors, factor_entropy, leads, number_groups

CHUNK = 2**20  # densities computed at once, to bound the memory


def information_sampled(
    mean: Array, std: Array, classes: Array, samples: int, generator: torch.Generator
) -> Tensor:
    """I(z_j; v_k) as Chen et al. estimate it: the counterpart of `disentanglement`.

    Args:
        mean: Posterior means, (N, z).
        std: Posterior standard deviations, (N, z).
        classes: Values of the factors, (N, factors).
        samples: Number of draws to average each entropy over.
        generator: Random generator for the draws.

    Returns:
        The information in nats, (z, factors).
    """
    mean, std = as_posteriors(mean, std)
    classes = as_classes(classes, len(mean))

    def entropy(rows: Tensor) -> Tensor:
        posterior = Normal(mean[rows], std[rows])
        chosen = rows[torch.randint(len(rows), (samples,), generator=generator)]
        noise = torch.randn((samples, mean.shape[1]), generator=generator, dtype=mean.dtype)
        z = mean[chosen] + std[chosen] * noise
        parts = z[:, None].split(max(1, CHUNK // mean[rows].numel()))
        log_q = torch.cat([posterior.log_prob(part).logsumexp(1) for part in parts])
        return math.log(len(rows)) - log_q.mean(0)

    total = entropy(torch.arange(len(mean)))
    columns = []
    for column in classes.T:
        conditional = torch.zeros_like(total)
        for value in column.unique():
            rows = (column == value).nonzero().squeeze(1)
            conditional += len(rows) / len(mean) * entropy(rows)
        columns.append((total - conditional).clamp_min(0))
    return torch.stack(columns, dim=-1)


def mig_sampled(
    mean: Array, std: Array, classes: Array, samples: int, generator: torch.Generator
) -> float:
    """Chen's MIG by sampling, the mean over all factors; NaN if one of them never varies."""
    information = information_sampled(mean, std, classes, samples, generator)
    _, prior = number_groups(as_classes(classes, len(classes)))
    return float(leads(information, factor_entropy(prior)).mean())
