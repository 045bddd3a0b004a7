r"""The walk of nested radial factorization over a tree, with all norms as logarithms.

Coordinates are never scaled on the way, only their norms: what is between the first and the last
scaling may be beyond the range of floating-point numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from lpnested.arguments import prepare, rows_of
from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.layout import Layout, Level
from lpnested.radial_map import radial_map
from lpnested.traversal import (
    LOG2_ZERO,
    align,
    in_layout_order,
    leaves_of,
    log2_p_norm,
    path_sums,
    reduce_tree,
    unsqueeze_like,
)
from lpnested.tree import LpNestedTree

__all__ = ["dependent", "independent", "leaf_exponents", "scaled_by_exp"]

_LOG_2 = math.log(2)
_LARGEST_LOG = 1200.0  # of a factor: from the smallest number to nearly the largest


class _Step(NamedTuple):
    """A level of the tree: its exponents, and the radii of its nodes before and after."""

    level: Level
    p: Tensor
    before: Distribution
    after: GeneralizedGamma


def independent(
    value: Tensor, exponents: Tensor, tree: LpNestedTree, radial: Distribution
) -> Tensor:
    """Nested radial factorization, from the root down.

    Args:
        value: In the working precision, shape ``(*sample, *batch, dim)``.
        exponents: In the working precision, shape ``(*batch, num_nodes)``.
        tree: The tree.
        radial: The distribution of the norm of the value, batch shape ``(*batch)``.
    """
    rows, p, layout = _prepared(value, exponents, tree)
    norms = [nodes for _, nodes in reduce_tree(rows, p, layout, log2_p_norm, LOG2_ZERO)]
    total = torch.zeros_like(norms[0])
    shifts: list[Tensor] = []
    for step, log2_norm in zip(_steps(p, layout, radial), norms, strict=True):
        shifts.append(_shift(step.before, step.after, _LOG_2 * log2_norm + total))
        total = _below(total + shifts[-1], step.level)
    return _scaled(value, shifts, layout)


def dependent(
    value: Tensor, exponents: Tensor, tree: LpNestedTree, radial: Distribution
) -> Tensor:
    """The inverse of :func:`independent`, from the leaves up, with the same arguments."""
    rows, p, layout = _prepared(value, exponents, tree)
    leaves = in_layout_order(rows, layout.leaves)
    nodes = leaves[:0]
    shifts: list[Tensor] = []
    for step in reversed(list(_steps(p, layout, radial))):
        own = leaves.narrow(0, step.level.first_leaf, step.level.num_leaves)
        log2_norm = _norms(torch.cat([own, nodes]), step, layout)
        shifts.insert(0, _shift(step.after, step.before, _LOG_2 * log2_norm))
        nodes = log2_norm + shifts[0] / _LOG_2
    return _scaled(value, shifts, layout)


def leaf_exponents(exponents: Tensor, tree: LpNestedTree) -> Tensor:
    """The exponent of the node above each coordinate, shape ``(*batch, dim)``."""
    p, layout = prepare(exponents, tree)
    return leaves_of(p.index_select(0, layout.parents), layout).movedim(0, -1)


def scaled_by_exp(value: Tensor, log_factor: Tensor) -> Tensor:
    """A finite value times an exponential; what overflows is the largest number."""
    root = (log_factor.clamp(-_LARGEST_LOG, _LARGEST_LOG) / 2).exp()
    largest = torch.finfo(root.dtype).max
    return (value * root * root).clamp(-largest, largest)


def _prepared(
    value: Tensor, exponents: Tensor, tree: LpNestedTree
) -> tuple[Tensor, Tensor, Layout]:
    """Base-2 logarithms of the coordinates as rows, exponents that fit them, and the layout."""
    p, layout = prepare(exponents, tree)
    rows, p = align(rows_of(value, tree).abs(), p)
    zero = rows == 0
    return rows.masked_fill(zero, 1.0).log2().masked_fill(zero, LOG2_ZERO), p, layout


def _steps(p: Tensor, layout: Layout, radial: Distribution) -> Iterator[_Step]:
    """The levels, root first. The radii below the root are what its generalized normal has."""
    above = p.index_select(0, layout.parents)  # of each edge
    p = in_layout_order(p, layout.nodes)
    sizes = unsqueeze_like(in_layout_order(layout.node_sizes, layout.nodes), p)
    before = radial
    for level in layout.levels:
        own, n = (x.narrow(0, level.start, level.num_nodes) for x in (p, sizes))
        yield _Step(level, own, before, _radius(n, own))
        first, last = level.first_edge + level.num_leaves, level.first_edge + level.num_edges
        n = sizes.narrow(0, level.start + level.num_nodes, last - first)
        before = _radius(n, above[first:last])


def _radius(n: Tensor, p: Tensor) -> GeneralizedGamma:
    """The radius of n independent coordinates with the exponent p."""
    return GeneralizedGamma(n, p, torch.ones_like(p), validate_args=False)


def _shift(source: Distribution, target: Distribution, log_r: Tensor) -> Tensor:
    """What scaling adds to the logarithm of a norm; for a zero norm, its limit at 0."""
    smallest = math.log(torch.finfo(log_r.dtype).tiny)
    log_r = torch.where(log_r < smallest, smallest, log_r)
    return radial_map(source, target, log_r) - log_r


def _norms(edges: Tensor, step: _Step, layout: Layout) -> Tensor:
    """The norms of the nodes of one level, computed as if it were the whole tree."""
    level = step.level._replace(start=0, first_leaf=0, num_leaves=step.level.num_edges)
    alone = layout._replace(levels=(level,), leaves=None, nodes=None)
    return reduce_tree(edges, step.p, alone, log2_p_norm, LOG2_ZERO)[0][1]


def _below(nodes: Tensor, level: Level) -> Tensor:
    """The values of the nodes of a level, repeated for the nodes under them."""
    return nodes.index_select(0, level.parents[level.num_leaves :])


def _scaled(value: Tensor, shifts: list[Tensor], layout: Layout) -> Tensor:
    """The value with each coordinate scaled by the shifts of all nodes above it."""
    edges = [
        torch.cat([shifts[0].new_zeros(level.num_leaves, *shifts[0].shape[1:]), *below])
        for level, below in zip(layout.levels, [*([x] for x in shifts[1:]), []], strict=True)
    ]
    total = (shifts[0] + path_sums(torch.cat(edges), layout)).movedim(0, -1)
    return scaled_by_exp(value, total)
