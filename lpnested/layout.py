"""Index tensors that let one batched operation per level walk a whole tree.

The nodes of one depth make a :class:`Level`. Its edges go to their children, leaves first and
then the nodes of the next depth. A level's nodes are worked on in blocks
``(nodes, width, ...)``, padded where nodes have fewer children than ``width``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from lpnested.tracing import is_faked, is_transformed
from lpnested.tree import LpNestedTree, Nested

__all__ = ["Block", "Layout", "Level", "layout_of"]

Node = tuple[Nested, ...]


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
    edge_slots: Tensor | None
    """Where each edge stands among the slots of all blocks; ``None`` where that is in order."""


class Layout(NamedTuple):
    """The levels of a tree, root first, and what is known of every node and edge."""

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
    """The number of leaves under each node, breadth first, float64."""
    edge_sizes: Tensor
    """The number of leaves under each edge, float64."""
    inner: Tensor
    """1 for an edge to a node, 0 for one to a leaf, float64."""
    arities: Tensor
    """The number of children of each node, breadth first, float64."""


_LAYOUTS: dict[tuple[LpNestedTree, torch.device], Layout] = {}


def layout_of(tree: LpNestedTree, device: torch.device) -> Layout:
    """The layout of a tree on a device, made once and kept."""
    # A plain dict: Dynamo ignores functools.lru_cache.
    if is_faked():
        return _make_layout(tree, device)
    layout = _LAYOUTS.get((tree, device))
    # What is made within a transform belongs to it.
    if layout is None and (torch.compiler.is_compiling() or is_transformed()):
        return _make_layout(tree, device)
    if layout is None:
        with torch.inference_mode(False):  # what is kept must serve training too
            layout = _LAYOUTS[tree, device] = _make_layout(tree, device)
    return layout


def _make_layout(tree: LpNestedTree, device: torch.device) -> Layout:
    def integers(numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, device=device)

    def floats(numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, device=device, dtype=torch.float64)

    place = {node: k for k, node in enumerate(tree.nodes)}
    sizes = _sizes(tree)
    depths = [_in_buckets(nodes) for nodes in tree.levels]
    edges = [_edges(level, below) for level, below in zip(depths, [*depths[1:], []], strict=True)]
    leaves = [child for level in edges for _, child in level if isinstance(child, int)]
    nodes = [place[node] for level in depths for node in level]
    parents = [
        place[level[parent]]
        for level, to_children in zip(depths, edges, strict=True)
        for parent, _ in to_children
    ]
    starts = accumulate(map(len, depths), initial=0)
    first_edges = accumulate(map(len, edges), initial=0)
    num_leaves = [sum(isinstance(child, int) for _, child in level) for level in edges]
    first_leaves = accumulate(num_leaves, initial=0)
    in_order = leaves == sorted(leaves)
    return Layout(
        levels=tuple(
            Level(
                start=start,
                num_nodes=len(level),
                first_edge=first_edge,
                blocks=tuple(_blocks(level, to_children, integers)),
                first_leaf=first_leaf,
                num_leaves=leaf_count,
                num_edges=len(to_children),
                parents=integers([parent for parent, _ in to_children]),
                edge_slots=_edge_slots(level, to_children, integers),
            )
            for start, first_edge, first_leaf, leaf_count, level, to_children in zip(
                starts, first_edges, first_leaves, num_leaves, depths, edges, strict=False
            )
        ),
        nodes=None if nodes == sorted(nodes) else integers(nodes),
        leaves=None if in_order else integers(leaves),
        places=None if in_order else integers(sorted(range(tree.dim), key=leaves.__getitem__)),
        parents=integers(parents),
        node_sizes=floats([sizes[node] for node in tree.nodes]),
        edge_sizes=floats([sizes[child] for level in edges for _, child in level]),
        inner=floats([not isinstance(child, int) for level in edges for _, child in level]),
        arities=floats([len(node) for node in tree.nodes]),
    )


def _sizes(tree: LpNestedTree) -> dict[Nested, int]:
    """The number of leaves under every node, a leaf itself included."""
    sizes: dict[Nested, int] = dict.fromkeys(range(tree.dim), 1)
    for node in reversed(tree.nodes):  # children come after their parents
        sizes[node] = sum(sizes[child] for child in node)
    return sizes


def _bucket(node: Node) -> int:
    """Nodes of one bucket differ in their number of children by less than a factor of two."""
    return (len(node) - 1).bit_length()


def _is_wasteful(nodes: Sequence[Node]) -> bool:
    """Whether one padded block for all of them would more than double the work."""
    return max(map(len, nodes)) * len(nodes) > 2 * sum(map(len, nodes))


def _in_buckets(nodes: Sequence[Node]) -> list[Node]:
    """The nodes of a depth, side by side with those of their bucket where that saves work."""
    return sorted(nodes, key=_bucket) if _is_wasteful(nodes) else list(nodes)


def _edges(level: list[Node], below: list[Node]) -> list[tuple[int, Nested]]:
    """Pairs of parent (its place in the level) and child: leaves first, then nodes as below."""
    place: dict[Nested, int] = {node: k for k, node in enumerate(below)}
    edges = [(parent, child) for parent, node in enumerate(level) for child in node]
    leaves = [edge for edge in edges if isinstance(edge[1], int)]
    inner = [edge for edge in edges if not isinstance(edge[1], int)]
    return leaves + sorted(inner, key=lambda edge: place[edge[1]])


class _Slots(NamedTuple):
    """Of a block: its first node, its number of nodes, and the edge in every slot."""

    start: int
    num_nodes: int
    edges: list[int]


def _slots(level: list[Node], edges: list[tuple[int, Nested]]) -> Iterator[_Slots]:
    """The whole level as one block, or one block per bucket where that saves work."""
    of_node: list[list[int]] = [[] for _ in level]
    for edge, (parent, _) in enumerate(edges):
        of_node[parent].append(edge)
    split = _is_wasteful(level)
    groups: dict[int, list[int]] = {}  # Dynamo traces no groupby with a key
    for k, node in enumerate(level):
        groups.setdefault(_bucket(node) if split else 0, []).append(k)
    for members in groups.values():
        width = max(len(of_node[k]) for k in members)
        absent = len(edges)
        padded = [of_node[k] + [absent] * (width - len(of_node[k])) for k in members]
        yield _Slots(members[0], len(members), [edge for node in padded for edge in node])


def _blocks(
    level: list[Node],
    edges: list[tuple[int, Nested]],
    integers: Callable[[list[int]], Tensor],
) -> Iterator[Block]:
    for block in _slots(level, edges):
        slots = block.edges
        in_order = slots == list(range(slots[0], slots[0] + len(slots))) and slots[-1] < len(edges)
        yield Block(
            start=block.start,
            num_nodes=block.num_nodes,
            width=len(slots) // block.num_nodes,
            first_edge=slots[0],
            slots=None if in_order else integers(slots),
        )


def _edge_slots(
    level: list[Node],
    edges: list[tuple[int, Nested]],
    integers: Callable[[list[int]], Tensor],
) -> Tensor | None:
    slots = [edge for block in _slots(level, edges) for edge in block.edges]
    place = {edge: k for k, edge in enumerate(slots)}
    places = [place[edge] for edge in range(len(edges))]
    return None if places == list(range(len(slots))) else integers(places)
