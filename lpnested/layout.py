"""Index tensors for traversing a tree with one batched operation per level.

The nodes of one depth form a :class:`Level`. Its edges lead to their children, leaves first and
then the nodes of the next depth. A level's nodes are processed in blocks
``(nodes, width, ...)``, padded where a node has fewer than ``width`` children.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lpnested.precision import working_dtype
from lpnested.rows import Rows, level_ranges
from lpnested.tracing import is_eager, is_fake
from lpnested.tree import LpNestedTree

__all__ = ["Block", "Layout", "Level", "layout_of"]


class Block(NamedTuple):
    """Adjacent nodes of a level that are processed together."""

    start: int
    """The index of the first node in the level."""
    num_nodes: int
    width: int
    """The number of slots for children."""
    first_edge: int
    slots: Tensor | None
    """The edge of the level in each slot, shape ``(num_nodes * width,)``; an index past the last
    edge marks an empty slot. ``None`` if the edges are contiguous and no slot is empty."""


class Level(NamedTuple):
    """The nodes of one depth and their edges to their children."""

    start: int
    """The index of the first node in :attr:`Layout.nodes`."""
    num_nodes: int
    first_edge: int
    """The index of the first edge in :attr:`Layout.parents`."""
    blocks: tuple[Block, ...]
    first_leaf: int
    """The index of the first leaf in :attr:`Layout.leaves`."""
    num_leaves: int
    num_edges: int
    parents: Tensor
    """The parent of each edge, as an index in the level, shape ``(num_edges,)``."""


class Layout(NamedTuple):
    """The levels of a tree, root first, and the properties of every node and edge.

    Sizes and arities are in the working precision of the device.
    """

    levels: tuple[Level, ...]
    nodes: Tensor | None
    """The breadth-first index of each node; ``None`` for the identity."""
    leaves: Tensor | None
    """The coordinate of each leaf, level by level; ``None`` for the identity."""
    places: Tensor | None
    """The inverse permutation of :attr:`leaves`: the position of each coordinate."""
    parents: Tensor
    """The breadth-first index of the parent of each edge, shape ``(num_edges,)``."""
    node_sizes: Tensor
    """The number of leaves under each node, breadth first."""
    edge_sizes: Tensor
    """The number of leaves under each edge."""
    inner: Tensor
    """1 for an edge to a node, 0 for one to a leaf."""
    arities: Tensor
    """The number of children of each node, breadth first."""


_LAYOUTS: dict[tuple[str, torch.device, torch.dtype], Layout] = {}


def layout_of(tree: LpNestedTree, device: torch.device) -> Layout:
    """Return the cached layout of a tree on a device."""
    # A plain dict, as Dynamo ignores functools.lru_cache, keyed by the tree's string, which
    # Dynamo treats as a single constant.
    if is_fake():
        return _make_layout(tree, device)
    key = tree.code, device, working_dtype(device)
    layout = _LAYOUTS.get(key)
    # Tensors created under a transform or tracer belong to it and must not be cached.
    if layout is None and not is_eager():
        return _make_layout(tree, device)
    if layout is None:
        with torch.inference_mode(False):  # cached tensors must also work in training
            layout = _LAYOUTS[key] = _make_layout(tree, device)
    return layout


class _Depth(NamedTuple):
    """The nodes of one depth, by index, and the parent (an index here) and child of each edge."""

    nodes: list[int]
    arities: list[int]
    parents: list[int]
    children: list[int]
    num_leaves: int


def _make_layout(tree: LpNestedTree, device: torch.device) -> Layout:
    def integers(numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, device=device)

    def floats(numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, device=device, dtype=working_dtype(device))

    depths = _depths(tree.children)
    sizes = _sizes(tree.children)
    children = [child for depth in depths for child in depth.children]
    leaves = [child for child in children if child >= 0]
    nodes = [node for depth in depths for node in depth.nodes]
    in_order = leaves == list(range(tree.dim))
    return Layout(
        levels=tuple(_levels(depths, integers)),
        nodes=None if nodes == list(range(len(nodes))) else integers(nodes),
        leaves=None if in_order else integers(leaves),
        places=None if in_order else integers(sorted(range(tree.dim), key=leaves.__getitem__)),
        parents=integers([depth.nodes[k] for depth in depths for k in depth.parents]),
        node_sizes=floats(sizes),
        edge_sizes=floats([1 if child >= 0 else sizes[~child] for child in children]),
        inner=floats([child < 0 for child in children]),
        arities=floats([len(row) for row in tree.children]),
    )


def _levels(depths: list[_Depth], integers: Callable[[list[int]], Tensor]) -> Iterator[Level]:
    start, first_edge, first_leaf = 0, 0, 0
    for depth in depths:
        yield Level(
            start=start,
            num_nodes=len(depth.nodes),
            first_edge=first_edge,
            blocks=tuple(_blocks(depth, integers)),
            first_leaf=first_leaf,
            num_leaves=depth.num_leaves,
            num_edges=len(depth.parents),
            parents=integers(depth.parents),
        )
        start += len(depth.nodes)
        first_edge += len(depth.parents)
        first_leaf += depth.num_leaves


def _sizes(rows: Rows) -> list[int]:
    """Count the leaves under every node."""
    sizes = [0] * len(rows)
    for k in reversed(range(len(rows))):  # children come after their parents
        sizes[k] = sum(1 if child >= 0 else sizes[~child] for child in rows[k])
    return sizes


def _bucket(arity: int) -> int:
    """Return the bucket of a node; arities in a bucket differ by less than a factor of two."""
    return (arity - 1).bit_length()


def _is_wasteful(arities: list[int]) -> bool:
    """Return whether one padded block for all nodes would more than double the work."""
    return max(arities) * len(arities) > 2 * sum(arities)


def _depths(rows: Rows) -> list[_Depth]:
    """Order the nodes of every depth, grouped by bucket where that saves work.

    Edges to leaves come first, then edges to nodes in the order of the next depth.
    """
    orders = [_in_buckets(places, rows) for places in level_ranges(rows)]
    depths = []
    for nodes, below in zip(orders, [*orders[1:], []], strict=True):
        edges = [(k, child) for k, node in enumerate(nodes) for child in rows[node]]
        leaves = [edge for edge in edges if edge[1] >= 0]
        parent = {~child: k for k, child in edges if child < 0}
        edges = leaves + [(parent[node], ~node) for node in below]
        depths.append(
            _Depth(
                nodes=nodes,
                arities=[len(rows[node]) for node in nodes],
                parents=[k for k, _ in edges],
                children=[child for _, child in edges],
                num_leaves=len(leaves),
            )
        )
    return depths


def _in_buckets(places: range, rows: Rows) -> list[int]:
    if not _is_wasteful([len(rows[k]) for k in places]):
        return list(places)
    return sorted(places, key=lambda k: _bucket(len(rows[k])))


class _Slots(NamedTuple):
    """The first node of a block, its number of nodes, and the edge in every slot."""

    start: int
    num_nodes: int
    edges: list[int]


def _slots(depth: _Depth) -> Iterator[_Slots]:
    """Split a level into one block, or one block per bucket where that saves work."""
    edges_of: list[list[int]] = [[] for _ in depth.nodes]
    for edge, parent in enumerate(depth.parents):
        edges_of[parent].append(edge)
    split = _is_wasteful(depth.arities)
    groups: dict[int, list[int]] = {}  # Dynamo cannot trace groupby with a key
    for k, arity in enumerate(depth.arities):
        groups.setdefault(_bucket(arity) if split else 0, []).append(k)
    for members in groups.values():
        width = max(len(edges_of[k]) for k in members)
        empty = len(depth.parents)
        padded = [edges_of[k] + [empty] * (width - len(edges_of[k])) for k in members]
        yield _Slots(members[0], len(members), [edge for node in padded for edge in node])


def _blocks(depth: _Depth, integers: Callable[[list[int]], Tensor]) -> Iterator[Block]:
    for block in _slots(depth):
        slots = block.edges
        in_order = slots == list(range(slots[0], slots[0] + len(slots)))
        in_order = in_order and slots[-1] < len(depth.parents)
        yield Block(
            start=block.start,
            num_nodes=block.num_nodes,
            width=len(slots) // block.num_nodes,
            first_edge=slots[0],
            slots=None if in_order else integers(slots),
        )
