"""The mutual information gap by sampling, as Chen et al. (2018) write it: the peer of metrics.py.

Time grows as samples x N x z, for the whole and once more for each factor: hours for all of
dSprites with the 10,000 samples of the paper, so this is for parts of it.
"""

import math

import torch
from metrics import entropy_of, number_groups
from torch import Tensor
from torch.distributions import Normal

AT_ONCE = 2**20  # densities, to bound the memory


def information_sampled(
    mean: Tensor, std: Tensor, classes: Tensor, samples: int, generator: torch.Generator
) -> Tensor:
    """I(z_j; v_k) as Chen et al. estimate it, written out: the peer of `disentanglement`.

    Args:
        mean: Of the posteriors, (N, z).
        std: Of the posteriors, (N, z).
        classes: Values of the factors as whole numbers, (N, factors).
        samples: Draws that each entropy is a mean over.
        generator: Draws them.

    Returns:
        In nats, (z, factors).
    """

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
    mean: Tensor, std: Tensor, classes: Tensor, samples: int, generator: torch.Generator
) -> float:
    """Chen's MIG by sampling, over the factors given."""
    _, prior = number_groups(classes)
    entropy = torch.stack([entropy_of(p) for p in prior])
    information = information_sampled(mean, std, classes, samples, generator)
    best = torch.nn.functional.pad(information, (0, 0, 0, 1)).topk(2, dim=0).values
    return float(((best[0] - best[1]) / entropy).mean())
