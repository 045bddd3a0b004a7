"""The subspace MIG of random groupings: what subspaces come to that the model knows nothing of.

The subspace MIG asks how far the subspace that knows most of a factor leads the second best, and
not whether it knows other factors as well. So it rewards lumping: where each factor has a latent
of its own, any grouping of the latents has the highest value, also that of a model with a
normal prior, whose subspaces are only a way of counting; and where all that is known is in a few
latents, many groupings come near it.

What a model's own subspaces have to do with its value is what they have ahead of subspaces of the
same sizes that are filled with the same latents at random. Their mean is what the sizes and the
latents give without any choice. If many of them reach the model's own value, it says nothing of
its subspaces. If hardly any does, then its factors are spread over latents, and those that belong
together are in one subspace.

All groupings are compared at the same draws, at which the model's own value is computed as well.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from .codes import Array, as_classes, as_posteriors, check_sizes, factor_entropy, number_groups
from .subspaces import BLOCK, Estimate, draw_codes, subspace_gaps, weights

AT_ONCE = 4  # draws, to stay in the cache
ROUNDING = 1e-5  # a grouping may differ from the model's own only in the order of its latents


def random_groupings(sizes: Sequence[int], count: int, generator: torch.Generator) -> Tensor:
    """Random ways to fill subspaces of these sizes.

    Returns:
        1 where a subspace has a latent, else 0: (count, subspaces, latents).
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
    """Gaps of random groupings at the draws that `log_densities` makes of such a generator.

    Args:
        mean: Of the posteriors, (N, z).
        std: Of the posteriors, (N, z).
        classes: Values of the factors, (N, factors).
        sizes: Dimension of each subspace.
        samples: Draws S.
        count: Groupings.
        generator: Draws the codes, and then the groupings.

    Returns:
        Terms whose mean is the gap of a grouping, (S, count, factors).
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

    The density of each latent is computed once for all of them.

    Args:
        mean: Of the posteriors, (N, z).
        std: Of the posteriors, (N, z).
        classes: Values of the factors as whole numbers, (N, factors).
        groupings: As `random_groupings` returns them.
        rows: That the draws came from, (S,).
        z: The draws, (S, latents).

    Returns:
        (S, groupings, subspaces, factors) and (factors,).
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
    """The mean over random groupings, and the share of them that reach the model's own value.

    Args:
        gaps: Terms whose mean is the subspace MIG of a grouping, (S, groupings).
        own: The model's, at the same draws.
    """
    reached = gaps.mean(0) > own - ROUNDING
    return Estimate.of(gaps.mean(1)), float(reached.double().mean())


def block_sums(
    z: Tensor, own: Tensor, mean: Tensor, precision: Tensor, groups: Tensor, members: Tensor
) -> Tensor:
    """Logarithms of the sums of q(z_G | x_n) over the rows of a block, of all and of like rows.

    Args:
        z: Where, (S, latents).
        own: Values of the factors of the row that each was drawn from, (S, factors).
        mean: Of the rows, (latents, B).
        precision: 1 / std of the rows, (latents, B).
        groups: Values of their factors, (factors, B).
        members: Which latents each part G has, (parts, latents).

    Returns:
        Over all rows, then over those with a value of `own`, without the constants that all
        q(z_G | x_n) of a part have in common: (S, parts, 1 + factors).
    """
    log_scale, found = precision.log(), []
    for at, values in zip(z.split(AT_ONCE), own.split(AT_ONCE), strict=True):
        place = (at[:, :, None] - mean).mul_(precision)
        log_q = torch.addcmul(log_scale, place, place, value=-0.5)
        weight, peak = weights((members @ log_q).flatten(0, 1))
        every = torch.ones(len(at), 1, mean.shape[1], dtype=torch.bool)
        like = torch.cat([every, groups == values[:, :, None]], dim=1).to(weight)
        shape = len(at), len(members)
        sums = like @ weight.unflatten(0, shape).transpose(1, 2)  # (chunk, 1 + factors, parts)
        found.append(sums.transpose(1, 2).log() + peak.unflatten(0, shape))
    return torch.cat(found)
