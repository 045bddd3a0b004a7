r"""The tree that made the data, by agglomeration and Wald tests.

Let :math:`g = \log|x|`. Each logarithm is that of the radius plus those of the shares on the way
down to its coordinate, and the shares of different nodes are independent. So the covariance of two
of them depends on the node at which their ways part, and on nothing else: children of one node are
recognised by equal covariances with all other coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, LogNormal

from lpnested.estimation.maximum_likelihood import fit
from lpnested.estimation.result import FitResult
from lpnested.tree import LpNestedTree, Nested

__all__ = ["TreeFit", "fit_tree"]

_BLOCK = 512  # rows in a block of products


@dataclass(frozen=True, eq=False)
class TreeFit:
    """The result of :func:`lpnested.fit_tree`."""

    result: FitResult
    """The fit of the tree that was found."""
    support: dict[tuple[int, ...], float]
    """For each inner node below the root, by its coordinates and in the order of ``tree.nodes``:
    the share of bootstrap resamples whose tree has a node with exactly these coordinates. Empty
    without resamples."""
    merged: tuple[tuple[tuple[int, ...], float], ...]
    """The coordinates of each node that was merged into its parent, with its Wald statistic."""

    @property
    def tree(self) -> LpNestedTree:
        """The tree that was found."""
        tree: LpNestedTree = self.result.distribution.tree  # type: ignore[attr-defined]
        return tree

    def __str__(self) -> str:
        lines = [f"{share:4.0%}  {group}" for group, share in self.support.items()]
        head = ["", "share of bootstrap resamples with this node:"] if lines else []
        return "\n".join([str(self.result), *head, *lines])


def fit_tree(
    data: Tensor,
    radial: Distribution | type[Distribution] = LogNormal,
    *,
    level: float = 0.01,
    resamples: int = 20,
    generator: torch.Generator | None = None,
    callback: Callable[[int, LpNestedTree], None] | None = None,
    **options: Any,
) -> TreeFit:
    r"""Find the tree of an :math:`L_p`-nested distribution from data, and fit it.

    First the coordinates are joined into a binary tree: each step joins the two groups whose
    covariances with all others, in :math:`\log|x|`, are most alike (the largest of their t
    statistics is smallest). Then :func:`lpnested.fit` fits the tree. As long as a Wald test can't
    tell some node's exponent from its parent's, the node with the smallest statistic is merged
    into its parent, and the tree is fitted again.

    Args:
        data: Shape ``(N, dim)``, dim at least 2. All coordinates should have the same scale, since
            a tree has no scales of its own.
        radial: The radius, as for :func:`lpnested.fit`.
        level: The level of all tests of a tree together: each has ``level / (num_nodes - 1)``
            (Bonferroni).
        resamples: The number of bootstrap resamples; the whole search is repeated in each.
        generator: Draws the resamples.
        callback: Called after the search with 0 and the tree found, and after each resample with
            its number and the tree found there.
        options: Further arguments of :func:`lpnested.fit`, such as ``max_iter``; no weights, which
            the resamples need for themselves.

    Returns:
        The fit of the tree, and how often each of its nodes is found in the resamples.

    Raises:
        ValueError: Where the data have another shape or can't be fitted, see
            :func:`lpnested.fit`; where ``level`` or ``resamples`` is out of range.
        TypeError: Where the data are not a tensor.

    Example:
        >>> from lpnested import ISA
        >>> _ = torch.manual_seed(0)
        >>> data = ISA([2, 2], p0=0.8, p=2.0).sample((4000,))
        >>> fit_tree(data, resamples=0).tree
        LpNestedTree(((0, 1), (2, 3)))
    """
    if not isinstance(data, Tensor):
        raise TypeError(f"data must be a tensor of shape (N, dim), but got {type(data).__name__}")
    if data.dim() != 2 or data.shape[-1] < 2:
        raise ValueError(
            f"data must have shape (N, dim) with 2 coordinates or more, but got "
            f"{tuple(data.shape)}"
        )
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, but got {level}")
    if resamples < 0:
        raise ValueError(f"resamples must not be negative, but got {resamples}")
    ones = data.new_ones(len(data), dtype=torch.float64)
    result, merged = _search(data, ones, radial, level, options)
    tree = _tree_of(result)
    if callback is not None:
        callback(0, tree)
    counts = dict.fromkeys(_groups(tree), 0)
    for k in range(resamples):
        weights = _resampled(data, generator)
        again = _tree_of(_search(data, weights, radial, level, options)[0])
        for group in counts.keys() & set(_groups(again)):
            counts[group] += 1
        if callback is not None:
            callback(k + 1, again)
    support = {group: count / resamples for group, count in counts.items()} if resamples else {}
    return TreeFit(result, support, tuple(merged))


def _resampled(data: Tensor, generator: torch.Generator | None) -> Tensor:
    """How often each row is drawn; once more where all are equal, which have no tree."""
    while True:
        rows = torch.randint(len(data), (len(data),), generator=generator).to(data.device)
        if (data[rows] != data[rows[0]]).any():
            return torch.bincount(rows, minlength=len(data)).double()


def _tree_of(result: FitResult) -> LpNestedTree:
    tree: LpNestedTree = result.distribution.tree  # type: ignore[attr-defined]
    return tree


def _search(
    data: Tensor,
    weights: Tensor,
    radial: Distribution | type[Distribution],
    level: float,
    options: dict[str, Any],
) -> tuple[FitResult, list[tuple[tuple[int, ...], float]]]:
    """The fit of the tree of these data, and what was merged on the way to it."""
    tree = LpNestedTree(_agglomerate(data, weights))
    merged: list[tuple[tuple[int, ...], float]] = []
    while True:
        result = fit(tree, data, radial=radial, weights=weights, **options)
        tests = max(1, tree.num_nodes - 1)
        critical = NormalDist().inv_cdf(1 - level / tests / 2)
        z = {pair: abs(float(value)) for pair, value in result.merge_z.items()}
        # A statistic that is NaN, of an exponent without a standard error, keeps its node.
        weakest = min(z, key=lambda pair: z[pair] if z[pair] >= 0 else torch.inf, default=None)
        if weakest is None or not z[weakest] < critical:
            return result, merged
        parent, child = (tree.nodes[place] for place in weakest)
        merged.append((tuple(sorted(_leaves(child))), float(result.merge_z[weakest])))
        root = _spliced(tree.root, parent, child)
        tree = LpNestedTree(_ordered(root))


def _agglomerate(data: Tensor, weights: Tensor) -> tuple[Nested, ...]:
    """A binary tree, made by joining the two groups with the most similar covariances repeatedly.

    A group is represented by the mean of its coordinates' logarithms: its covariance with another
    group is the mean over their pairs.
    """
    logs, share = _log_magnitudes(data, weights), weights / weights.sum()
    nodes: list[Nested] = list(range(data.shape[-1]))
    groups = logs.unbind(-1)
    sizes = [1] * len(nodes)
    while len(nodes) > 2:
        a, b = _closest(torch.stack(groups, -1), share, weights.sum())
        total = sizes[a] + sizes[b]
        joined = (sizes[a] * groups[a] + sizes[b] * groups[b]) / total
        rest = [k for k in range(len(nodes)) if k not in (a, b)]
        nodes = [*(nodes[k] for k in rest), (nodes[a], nodes[b])]
        groups = (*(groups[k] for k in rest), joined)
        sizes = [*(sizes[k] for k in rest), total]
    return _ordered(tuple(nodes))


def _log_magnitudes(data: Tensor, weights: Tensor) -> Tensor:
    """Centred logarithms of absolute values, ``(N, dim)``; a zero counts as the least number."""
    size = data.detach().double().abs()
    least = size.masked_fill(size == 0, torch.inf).amin(0)
    logs = size.maximum(least.nan_to_num(posinf=1.0)).log()
    centred: Tensor = logs - (weights @ logs) / weights.sum()
    return centred


def _closest(logs: Tensor, share: Tensor, total: Tensor) -> tuple[int, int]:
    """The pair of groups whose covariances with all others differ least.

    For groups a, b and k, the statistic is the mean of :math:`(g_a - g_b) g_k` over its standard
    error.
    """
    m = logs.shape[-1]
    first, second = logs.new_zeros(m, m), logs.new_zeros(m, m, m)
    blocks = zip(logs.split(_BLOCK), share.unsqueeze(-1).split(_BLOCK), strict=True)
    for rows, part in blocks:
        first += rows.mT @ (rows * part)
        second += torch.einsum("na,nb,nk->abk", rows, rows, rows.square() * part)
    squares = second.diagonal(dim1=0, dim2=1).mT  # of a and k
    mean = first[:, None] - first[None]
    square = squares[:, None] + squares[None] - 2 * second
    t = mean / ((square - mean.square()).clamp_min(0) / total).sqrt()
    places = torch.arange(m, device=logs.device)
    own = (places == places[:, None])[:, None] | (places == places[:, None])[None]  # k is a or b
    distance = t.abs().masked_fill(own, 0).nan_to_num(0).amax(-1)
    distance = distance.masked_fill(torch.eye(m, dtype=torch.bool, device=logs.device), torch.inf)
    a, b = divmod(int(distance.argmin()), m)
    return a, b


def _spliced(node: tuple[Nested, ...], parent: Nested, child: Nested) -> tuple[Nested, ...]:
    """The tree with the children of ``child`` in its place under ``parent``."""
    row: list[Nested] = []
    for each in node:
        if isinstance(each, int):
            row.append(each)
        elif node == parent and each == child:
            row.extend(each)
        else:
            row.append(_spliced(each, parent, child))
    return tuple(row)


def _ordered(node: tuple[Nested, ...]) -> tuple[Nested, ...]:
    """The same tree with the children of each node in the order of their first coordinates."""
    row = [child if isinstance(child, int) else _ordered(child) for child in node]
    return tuple(sorted(row, key=lambda child: min(_leaves(child))))


def _leaves(node: Nested) -> Iterator[int]:
    if isinstance(node, int):
        yield node
    else:
        for child in node:
            yield from _leaves(child)


def _groups(tree: LpNestedTree) -> Sequence[tuple[int, ...]]:
    """The coordinates under each inner node below the root."""
    return [tuple(sorted(_leaves(node))) for node in tree.nodes[1:]]
