"""The subspace MIG of random groupings of the latents: a baseline for a model's own subspaces.

The subspace MIG measures how far the most informative subspace of a factor leads the second best,
regardless of what else that subspace encodes. So it rewards lumping: if each factor has a latent
of its own, any grouping of the latents attains the highest value, even for a model with a normal
prior, whose subspaces are arbitrary; and if all information is in a few latents, many groupings
come close.

The contribution of a model's own subspaces is their lead over subspaces of the same sizes, filled
with the same latents at random. The mean of these is what sizes and latents yield by themselves.
If many of them reach the model's own value, that value says nothing about its subspaces. If hardly
any does, the factors are spread over several latents each, and those that belong together share a
subspace.

All groupings are compared on the same draws, which also yield the model's own value.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from .codes import Array, as_classes, as_posteriors, check_sizes, factor_entropy, number_groups
from .subspaces import BLOCK, Estimate, draw_codes, subspace_gaps, weights

CHUNK = 4  # draws processed at once, to stay in the CPU cache
ROUNDING = 1e-5  # tolerance for groupings that equal the model's own up to the order of latents


def random_groupings(sizes: Sequence[int], count: int, generator: torch.Generator) -> Tensor:
    """Assign the latents at random to subspaces of these sizes.

    Returns:
        Membership, 1 if a subspace contains a latent and else 0: (count, subspaces, latents).
    """
    owner = torch.arange(len(sizes)).repeat_interleave(torch.tensor(list(sizes)))
    orders = [torch.randperm(len(owner), generator=generator) for _ in range(count)]
    return one_hot(owner[torch.stack(orders)], len(sizes)).transpose(1, 2)


def random_gaps(
    mean: Array,
    std: Array,
    classes: Array,
    sizes: Sequence[int],
    samples: int,
    count: int,
    generator: torch.Generator,
) -> Tensor:
    """Gaps of random groupings, on the same draws as `log_densities` with an equal generator.

    Args:
        mean: Posterior means, (N, z).
        std: Posterior standard deviations, (N, z).
        classes: Values of the factors, (N, factors).
        sizes: Dimension of each subspace.
        samples: Number of draws S.
        count: Number of groupings.
        generator: Random generator for the codes, then for the groupings.

    Returns:
        Terms whose mean over draws is the gap of a grouping, (S, count, factors).
    """
    mean, std = as_posteriors(mean, std)
    classes = as_classes(classes, len(mean))
    check_sizes(sizes, mean.shape[1])
    rows, _, z = draw_codes(mean, std, samples, generator)
    groupings = random_groupings(sizes, count, generator)
    terms, entropy = grouped_information(mean, std, classes, groupings, rows, z)
    return torch.stack([subspace_gaps(part, entropy) for part in terms.unbind(1)], dim=1)


def grouped_information(
    mean: Tensor, std: Tensor, classes: Tensor, groupings: Tensor, rows: Tensor, z: Tensor
) -> tuple[Tensor, Tensor]:
    """Terms whose mean is I(z_G; v_k) for the subspaces G of every grouping, and H(v_k).

    The density of each latent is computed once for all groupings.

    Args:
        mean: Posterior means, (N, z).
        std: Posterior standard deviations, (N, z).
        classes: Values of the factors as integers, (N, factors).
        groupings: Membership from `random_groupings`.
        rows: Rows that the draws came from, (S,).
        z: The draws, (S, latents).

    Returns:
        The terms, (S, groupings, subspaces, factors), and the entropies, (factors,).
    """
    groups, prior = number_groups(classes)
    own, members = groups.T[rows], groupings.to(mean).flatten(0, 1)
    blocks = zip(mean.split(BLOCK), std.split(BLOCK), groups.split(BLOCK, 1), strict=True)
    sums = torch.stack(
        [
            block_sums(z, own, some.T.contiguous(), 1 / width.T.contiguous(), values, members)
            for some, width, values in blocks
        ]
    ).logsumexp(0)
    log_share = torch.cat(prior)[own].log().to(mean)
    information = sums[..., 1:] - sums[..., :1] - log_share[:, None]
    return information.unflatten(1, groupings.shape[:2]), factor_entropy(prior)


def compared_with_random(gaps: Tensor, own: float) -> tuple[Estimate, float]:
    """Mean over random groupings, and the fraction that reaches the model's own value.

    Args:
        gaps: Terms whose mean is the subspace MIG of a grouping, (S, groupings).
        own: The model's own subspace MIG, on the same draws.
    """
    reached = gaps.mean(0) > own - ROUNDING
    return Estimate.of(gaps.mean(1)), float(reached.double().mean())


def block_sums(
    z: Tensor, own: Tensor, mean: Tensor, precision: Tensor, groups: Tensor, members: Tensor
) -> Tensor:
    """Logs of the sums of q(z_G | x_n) over all rows of a block, and over those with own values.

    Args:
        z: Points at which to evaluate, (S, latents).
        own: Factor values of the row that each point was drawn from, (S, factors).
        mean: Posterior means of the rows, (latents, B).
        precision: 1 / std of the rows, (latents, B).
        groups: Factor values of the rows, (factors, B).
        members: Membership of the latents in each part G, (parts, latents).

    Returns:
        Sums over all rows, then over those with each value of `own`, without the constants shared
        by all q(z_G | x_n) of a part: (S, parts, 1 + factors).
    """
    log_scale, found = precision.log(), []
    for at, values in zip(z.split(CHUNK), own.split(CHUNK), strict=True):
        place = (at[:, :, None] - mean).mul_(precision)
        log_q = torch.addcmul(log_scale, place, place, value=-0.5)
        weight, peak = weights((members @ log_q).flatten(0, 1))
        every = torch.ones(len(at), 1, mean.shape[1], dtype=torch.bool)
        like = torch.cat([every, groups == values[:, :, None]], dim=1).to(weight)
        shape = len(at), len(members)
        sums = like @ weight.unflatten(0, shape).transpose(1, 2)  # (chunk, 1 + factors, parts)
        found.append(sums.transpose(1, 2).log() + peak.unflatten(0, shape))
    return torch.cat(found)
