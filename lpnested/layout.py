"""Index tensors that let one batched operation per level walk a whole tree.

The nodes of one depth make a :class:`Level`. Its edges go to their children, leaves first and
then the nodes of the next depth. A level's nodes are worked on in blocks
``(nodes, width, ...)``, padded where nodes have fewer children than ``width``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lpnested.precision import working_dtype
from lpnested.rows import Rows, ranges
from lpnested.tracing import is_eager, is_faked
from lpnested.tree import LpNestedTree

__all__ = ["Block", "Layout", "Level", "layout_of"]


class Block(NamedTuple):
    """Nodes of a level, side by side, that are worked on together."""

    start: int
    """The place of the first node in the level."""
    num_nodes: int
    width: int
    """The number of slots for children."""
    first_edge: int
    slots: Tensor | None
    """Which edge of the level fills each slot, shape ``(num_nodes * width,)``; the number after
    the last edge stands for no child. ``None`` where all are there, in order from the first."""


class Level(NamedTuple):
    """The nodes of one depth and their edges to their children."""

    start: int
    """The place of the first node in :attr:`Layout.nodes`."""
    num_nodes: int
    first_edge: int
    """The place of the first edge in :attr:`Layout.parents`."""
    blocks: tuple[Block, ...]
    first_leaf: int
    """The place of the first leaf in :attr:`Layout.leaves`."""
    num_leaves: int
    num_edges: int
    parents: Tensor
    """The node of the level that each edge leaves from, shape ``(num_edges,)``."""


class Layout(NamedTuple):
    """The levels of a tree, root first, and what is known of every node and edge.

    Sizes and arities are in the working precision of the device.
    """

    levels: tuple[Level, ...]
    nodes: Tensor | None
    """The breadth-first place of each node; ``None`` where that is its own place."""
    leaves: Tensor | None
    """The coordinate of each leaf, level after level; ``None`` where they are in order."""
    places: Tensor | None
    """The inverse of :attr:`leaves`: where each coordinate stands."""
    parents: Tensor
    """The breadth-first place of the node that each edge leaves from, shape ``(num_edges,)``."""
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
    """The layout of a tree on a device, made once and kept."""
    # A plain dict, as Dynamo ignores functools.lru_cache, and a string of the tree, which to
    # Dynamo is one constant.
    if is_faked():
        return _make_layout(tree, device)
    key = tree.code, device, working_dtype(device)
    layout = _LAYOUTS.get(key)
    # What is made within a transform or a tracer belongs to it.
    if layout is None and not is_eager():
        return _make_layout(tree, device)
    if layout is None:
        with torch.inference_mode(False):  # what is kept must serve training too
            layout = _LAYOUTS[key] = _make_layout(tree, device)
    return layout


class _Depth(NamedTuple):
    """The nodes of one depth, by place, and their edges: parent (its place here) and child."""

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
    """The number of leaves under every node."""
    sizes = [0] * len(rows)
    for k in reversed(range(len(rows))):  # children come after their parents
        sizes[k] = sum(1 if child >= 0 else sizes[~child] for child in rows[k])
    return sizes


def _bucket(arity: int) -> int:
    """Nodes of one bucket differ in their number of children by less than a factor of two."""
    return (arity - 1).bit_length()


def _is_wasteful(arities: list[int]) -> bool:
    """Whether one padded block for all of them would more than double the work."""
    return max(arities) * len(arities) > 2 * sum(arities)


def _depths(rows: Rows) -> list[_Depth]:
    """The nodes of every depth, side by side with those of their bucket where that saves work.

    Edges to leaves come first, then edges to nodes in the order of the nodes of the next depth.
    """
    orders = [_in_buckets(places, rows) for places in ranges(rows)]
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
    """Of a block: its first node, its number of nodes, and the edge in every slot."""

    start: int
    num_nodes: int
    edges: list[int]


def _slots(depth: _Depth) -> Iterator[_Slots]:
    """The whole level as one block, or one block per bucket where that saves work."""
    of_node: list[list[int]] = [[] for _ in depth.nodes]
    for edge, parent in enumerate(depth.parents):
        of_node[parent].append(edge)
    split = _is_wasteful(depth.arities)
    groups: dict[int, list[int]] = {}  # Dynamo traces no groupby with a key
    for k, arity in enumerate(depth.arities):
        groups.setdefault(_bucket(arity) if split else 0, []).append(k)
    for members in groups.values():
        width = max(len(of_node[k]) for k in members)
        absent = len(depth.parents)
        padded = [of_node[k] + [absent] * (width - len(of_node[k])) for k in members]
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
