"""Walks over the levels of a tree, on rows ``(num, ...)`` of its edges, nodes or leaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad, threshold

from lpnested.layout import Layout, Level

__all__ = [
    "Combine",
    "align",
    "climb",
    "column",
    "in_layout_order",
    "leaves_of",
    "log2_totals",
    "log_p_norm",
    "p_norm",
    "path_sums",
]

Combine: TypeAlias = Callable[[Tensor, Tensor], Tensor]

_TINY, _HUGE = torch.finfo(torch.float64).tiny, torch.finfo(torch.float64).max
_LOG2_TINY = math.log2(_TINY)
_LOG2_ZERO = -1e30  # finite, so that no gradient meets inf - inf, and 2 ** (p * this) is 0


def align(rows: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Give both the same number of dimensions behind the first, and rows the broadcast shape."""
    ndim = max(rows.dim(), p.dim())
    rows, p = (x.reshape(x.shape[0], *(1,) * (ndim - x.dim()), *x.shape[1:]) for x in (rows, p))
    shape = torch.broadcast_shapes(rows.shape[1:], p.shape[1:])
    return rows.expand(-1, *shape), p


def column(numbers: Tensor, p: Tensor) -> Tensor:
    return numbers.reshape(-1, *(1,) * (p.dim() - 1))


def in_layout_order(rows: Tensor, order: Tensor | None) -> Tensor:
    return rows if order is None else rows.index_select(0, order)


def _blocks(level: Level, edges: Tensor, fill: float) -> list[Tensor]:
    """A level's edges ``(num_edges, ...)`` as blocks ``(count, width, ...)`` of its nodes."""
    padding = (0, 0) * (edges.dim() - 1) + (0, 1)
    return [
        (
            edges.narrow(0, block.first_edge, block.num_nodes * block.width)
            if block.slots is None
            else pad(edges, padding, value=fill).index_select(0, block.slots)
        ).reshape(block.num_nodes, block.width, *edges.shape[1:])
        for block in level.blocks
    ]


def climb(
    rows: Tensor,
    p: Tensor,
    layout: Layout,
    combine: Combine,
    fill: float = 0.0,
    at_root: Combine | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """From the leaves up: what a level's edges carry and its nodes make of it, root first.

    ``combine`` takes children ``(count, width, ...)``, ``fill`` where there is none, and the
    exponents of their nodes, ``(count, ...)``; ``at_root`` takes its place at the root.
    """
    rows, p = in_layout_order(rows, layout.leaves), in_layout_order(p, layout.nodes)
    levels: list[tuple[Tensor, Tensor]] = []
    for level in reversed(layout.levels):
        edges = rows.narrow(0, level.first_leaf, level.num_leaves)
        if levels:
            edges = torch.cat([edges, levels[0][1]]) if level.num_leaves else levels[0][1]
        function = combine if level.start or at_root is None else at_root
        nodes = [
            function(children, p.narrow(0, level.start + block.start, block.num_nodes))
            for block, children in zip(level.blocks, _blocks(level, edges, fill), strict=True)
        ]
        levels.insert(0, (edges, torch.cat(nodes) if len(nodes) > 1 else nodes[0]))
    return levels


def leaves_of(edges: Tensor, layout: Layout) -> Tensor:
    """Of rows of all edges, those that lead to the leaves, in the order of the coordinates."""
    leaves = [edges.narrow(0, x.first_edge, x.num_leaves) for x in layout.levels if x.num_leaves]
    return in_layout_order(torch.cat(leaves) if len(leaves) > 1 else leaves[0], layout.places)


def path_sums(edges: Tensor, layout: Layout) -> Tensor:
    """From the root to the leaves: the sum over the edges of its path, per coordinate."""
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
    """For each edge, of the base-2 logarithms of all edges, that of the sum over its node."""

    def log2_total(children: Tensor) -> Tensor:
        largest = children.amax(1)
        return largest + (children - largest.unsqueeze(1)).exp2().sum(1).log2()

    totals = [
        torch.cat([log2_total(b) for b in blocks]).index_select(0, level.parents)
        for level in layout.levels
        for edges in [logs.narrow(0, level.first_edge, level.num_edges)]
        for blocks in [_blocks(level, edges, _LOG2_ZERO)]
    ]
    return torch.cat(totals) if len(totals) > 1 else totals[0]


def p_norm(children: Tensor, p: Tensor) -> Tensor:
    """The p-norm over the second dimension, exact at every scale and with zeros.

    The largest child is divided out. As the norm does not depend on what is divided out, that
    number carries no gradient, and all derivatives are still right.
    """
    largest, log2_rest = _largest_and_rest(children, p)
    return largest * log2_rest.exp2()


def log_p_norm(children: Tensor, p: Tensor) -> Tensor:
    """Its logarithm, from the smallest normal number on; no gradient of it meets the norm's."""
    largest, log2_rest = _largest_and_rest(children, p)
    return largest.clamp(_TINY, _HUGE).log() + math.log(2) * log2_rest


def _largest_and_rest(children: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """The largest child, and log2 of the norm of all of them when it is divided out."""
    largest = children.detach().amax(1)
    ratios = children / largest.clamp(_TINY, _HUGE).unsqueeze(1)
    # An absent or zero child adds exactly 0 to the sum, and 0 to every gradient.
    logs = threshold(ratios.clamp_min(_TINY).log2(), _LOG2_TINY, _LOG2_ZERO)
    # The largest child adds 1, unless it is next to 0 itself.
    total = torch.where(largest < _TINY, 1.0, (p.unsqueeze(1) * logs).exp2().sum(1))
    return largest, total.log2() / p
