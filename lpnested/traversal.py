"""Level-by-level passes over a tree, on tensors ``(num, ...)`` of its edges, nodes or leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad

from lpnested.layout import Layout, Level

__all__ = [
    "LOG2_ZERO",
    "align",
    "in_layout_order",
    "leaves_of",
    "log2_p_norm",
    "log2_totals",
    "path_sums",
    "reduce_tree",
    "unsqueeze_like",
]

_Combine: TypeAlias = Callable[[Tensor, Tensor], Tensor]

LOG2_ZERO = -1e30  # finite, to keep inf - inf out of gradients; 2 ** (p * LOG2_ZERO) is 0


def align(rows: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Align the dimensions after the first, and expand ``rows`` to the broadcast shape."""
    ndim = max(rows.dim(), p.dim())
    rows, p = (x.reshape(x.shape[0], *(1,) * (ndim - x.dim()), *x.shape[1:]) for x in (rows, p))
    shape = torch.broadcast_shapes(rows.shape[1:], p.shape[1:])
    return rows.expand(-1, *shape), p


def unsqueeze_like(numbers: Tensor, p: Tensor) -> Tensor:
    """Append singleton dimensions until a vector broadcasts along the first dimension of p."""
    return numbers.reshape(-1, *(1,) * (p.dim() - 1))


def in_layout_order(rows: Tensor, order: Tensor | None) -> Tensor:
    return rows if order is None else rows.index_select(0, order)


def _blocks(level: Level, edges: Tensor, fill: float) -> list[Tensor]:
    """Gather a level's edges ``(num_edges, ...)`` into blocks ``(count, width, ...)`` of nodes."""
    padding = (0, 0) * (edges.dim() - 1) + (0, 1)
    return [
        (
            edges.narrow(0, block.first_edge, block.num_nodes * block.width)
            if block.slots is None
            else pad(edges, padding, value=fill).index_select(0, block.slots)
        ).reshape(block.num_nodes, block.width, *edges.shape[1:])
        for block in level.blocks
    ]


def reduce_tree(
    rows: Tensor, p: Tensor, layout: Layout, combine: _Combine, fill: float = 0.0
) -> list[tuple[Tensor, Tensor]]:
    """Reduce a tree from leaves to root; return edge and node values per level, root first.

    ``combine`` takes children ``(count, width, ...)``, padded with ``fill``, and the exponents
    of their nodes, ``(count, ...)``.
    """
    rows, p = in_layout_order(rows, layout.leaves), in_layout_order(p, layout.nodes)
    levels: list[tuple[Tensor, Tensor]] = []
    for level in reversed(layout.levels):
        edges = rows.narrow(0, level.first_leaf, level.num_leaves)
        if levels:
            edges = torch.cat([edges, levels[0][1]]) if level.num_leaves else levels[0][1]
        nodes = [
            combine(children, p.narrow(0, level.start + block.start, block.num_nodes))
            for block, children in zip(level.blocks, _blocks(level, edges, fill), strict=True)
        ]
        levels.insert(0, (edges, torch.cat(nodes) if len(nodes) > 1 else nodes[0]))
    return levels


def leaves_of(edges: Tensor, layout: Layout) -> Tensor:
    """Select the edges that lead to leaves, in the order of the coordinates."""
    leaves = [edges.narrow(0, x.first_edge, x.num_leaves) for x in layout.levels if x.num_leaves]
    return in_layout_order(torch.cat(leaves) if len(leaves) > 1 else leaves[0], layout.places)


def path_sums(edges: Tensor, layout: Layout) -> Tensor:
    """Sum the edges on the path from the root to each coordinate."""
    levels: list[Tensor] = []
    nodes: Tensor | None = None
    for level in layout.levels:
        sums = edges.narrow(0, level.first_edge, level.num_edges)
        if nodes is not None:
            sums = sums + nodes.index_select(0, level.parents)
        levels.append(sums)
        nodes = sums.narrow(0, level.num_leaves, level.num_edges - level.num_leaves)
    return leaves_of(torch.cat(levels) if len(levels) > 1 else levels[0], layout)


def log2_totals(logs: Tensor, layout: Layout) -> Tensor:
    """Return, for each edge, the base-2 logarithm of the sum over all edges of its node."""

    def log2_total(children: Tensor) -> Tensor:
        largest = children.amax(1)
        return largest + (children - largest.unsqueeze(1)).exp2().sum(1).log2()

    totals = [
        torch.cat([log2_total(b) for b in blocks]).index_select(0, level.parents)
        for level in layout.levels
        for edges in [logs.narrow(0, level.first_edge, level.num_edges)]
        for blocks in [_blocks(level, edges, LOG2_ZERO)]
    ]
    return torch.cat(totals) if len(totals) > 1 else totals[0]


def log2_p_norm(children: Tensor, p: Tensor) -> Tensor:
    """Compute the p-norm over the second dimension, from and to base-2 logarithms.

    The largest child is divided out without gradient, since the norm does not depend on it.
    """
    largest = children.detach().amax(1)
    powers = (p.unsqueeze(1) * (children - largest.unsqueeze(1))).exp2()
    return largest + powers.sum(1).log2() / p
