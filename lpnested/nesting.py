"""Conversion between nested tuples and the rows of :mod:`lpnested.rows`, without recursion."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Iterable, Sequence
from itertools import accumulate, count, pairwise
from typing import Any, SupportsIndex, TypeAlias

from lpnested.rows import Rows, ancestors, find

__all__ = [
    "INNER",
    "MAX_DEPTH",
    "Nested",
    "assign_places",
    "check_coordinates",
    "check_depth",
    "check_size",
    "check_sizes",
    "levels_of",
    "nested",
    "place_of",
]

Nested: TypeAlias = int | tuple["Nested", ...]
"""A coordinate, or the tuple of the children of an inner node."""

MAX_DEPTH = 500
"""The maximum number of levels of inner nodes. Python compares, prints and hashes nested tuples
recursively, and its recursion limit of 1000 calls includes those of the calling program."""

INNER = -1
"""Marks a child that is an inner node, in rows whose nodes have no indices yet."""


def check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(
            f"a tree may have up to {MAX_DEPTH} levels of inner nodes, but this one has "
            f"{depth} or more: nest less deeply (a node with one child has no effect and can be "
            "left out), and make sure that no list contains itself"
        )


def levels_of(root: Sequence[Any]) -> list[list[list[int]]]:
    """Return the rows of nested tuples or lists, by depth."""
    levels: list[list[list[int]]] = []
    found: set[int] = set()
    num_leaves = 0
    pending: list[tuple[Sequence[Any], int]] = [(root, 0)]
    while pending:  # depth first, so that a list that contains itself is soon too deep
        node, depth = pending.pop()
        check_depth(depth + 1)
        if not node:
            raise ValueError("a node of the tree has no children: every node needs at least one")
        if depth == len(levels):
            levels.append([])
        row = [INNER if isinstance(x, (tuple, list)) else _coordinate(x) for x in node]
        levels[depth].append(row)
        pending.extend((x, depth + 1) for x in reversed(node) if isinstance(x, (tuple, list)))
        found.update(row)
        num_leaves += sum(x >= 0 for x in row)
        if num_leaves > 2 * len(found) + 1000:  # shared lists may double at every level
            raise ValueError(
                "the leaves of a tree must be coordinates, each exactly once, but "
                f"{sorted(found - {INNER})[:8]} are repeated: is one list used in several nodes?"
            )
    return levels


def _coordinate(leaf: Any) -> int:
    if isinstance(leaf, bool) or not hasattr(leaf, "__index__"):
        raise TypeError(f"a leaf must be an integer coordinate, but got {leaf!r}")
    if operator.index(leaf) < 0:
        raise ValueError(
            f"the leaves of a tree must be the coordinates 0, 1, ..., but [{leaf}] are negative"
        )
    return operator.index(leaf)


def assign_places(levels: Sequence[Sequence[Sequence[int]]]) -> Rows:
    """Flatten rows by depth into the rows of a tree, and give inner nodes their indices."""
    places = count(1)
    return tuple(
        tuple(x if x >= 0 else ~next(places) for x in row) for level in levels for row in level
    )


def of_subspaces(sizes: Sequence[int]) -> Rows:
    """Return the rows of a tree of depth two, whose nodes have consecutive coordinates."""
    subspaces = [range(end - k, end) for k, end in zip(sizes, accumulate(sizes), strict=True)]
    return assign_places([[[INNER] * len(sizes)], subspaces])


def of_branching(branching: Sequence[int]) -> Rows:
    """Return the rows of a tree in which all nodes of a depth have the same number of children."""
    *above_last, last = branching
    widths = list(accumulate(above_last, operator.mul, initial=1))
    inner = [[[INNER] * b] * width for b, width in zip(above_last, widths, strict=False)]
    leaves = [range(k * last, (k + 1) * last) for k in range(widths[-1])]
    return assign_places([*inner, leaves])


def check_coordinates(rows: Rows) -> None:
    """Raise unless the leaves are 0..n-1, each exactly once."""
    found = sorted(x for row in rows for x in row if x >= 0)
    dim = len(found)
    if found == list(range(dim)):
        return
    culprits = {
        "repeated": sorted({a for a, b in pairwise(found) if a == b}),
        "missing": sorted(set(range(dim)) - set(found)),
        "too large": [leaf for leaf in found if leaf >= dim],
    }
    raise ValueError(
        f"the {dim} leaves of a tree must be the coordinates 0..{dim - 1}, each exactly once, but "
        + " and ".join(f"{found[:8]} are {how}" for how, found in culprits.items() if found)
    )


def nested(rows: Rows) -> list[tuple[Nested, ...]]:
    """Return every inner node as nested tuples, by index."""
    nodes: list[tuple[Nested, ...]] = [()] * len(rows)
    for k in reversed(range(len(rows))):  # children come after their parents
        nodes[k] = tuple(x if x >= 0 else nodes[~x] for x in rows[k])
    return nodes


def place_of(node: Nested | SupportsIndex, rows: Rows) -> int:
    """Return the index of an inner node, given as nested tuples or as that index itself."""
    if isinstance(node, (tuple, list)):
        place = find(rows, assign_places(levels_of(node)))
    elif isinstance(node, bool) or not hasattr(node, "__index__"):
        raise TypeError(
            "an inner node must be nested tuples, one of tree.nodes, or its index there, "
            f"an integer, but got {node!r}"
        )
    else:
        place = operator.index(node)
    if not 0 <= place < len(rows):
        raise ValueError(_no_node(node, rows))
    return place


def _no_node(node: Any, rows: Rows) -> str:
    last = len(rows) - 1
    message = (
        "expected one of the inner nodes of the tree, as nested tuples or as an index into "
        f"tree.nodes ({f'0..{last}, where 0 is the root' if last else '0, the root'}), "
        f"but got {reprlib.repr(node)}"
    )
    leaf = node[0] if isinstance(node, (tuple, list)) and len(node) == 1 else node
    parents = [] if isinstance(leaf, (tuple, list)) else ancestors(rows, operator.index(leaf))
    if not parents or operator.index(leaf) < 0:
        return message
    return f"{message}: coordinate {leaf} is a leaf, a child of the node at index {parents[-1]}"


def check_sizes(name: str, sizes: Sequence[int], what: str) -> list[int]:
    if not isinstance(sizes, Iterable):
        raise TypeError(f"{name} must be a sequence of positive integers, but got {sizes!r}")
    sizes = list(sizes)
    if set(map(type, sizes)) == {int} and min(sizes) > 0:  # the common case, fast for hundreds
        return sizes
    checked = [check_size(f"{name}[{k}]", size) for k, size in enumerate(sizes)]
    if not checked:
        raise ValueError(f"{name} must have at least one {what}, but got none")
    return checked


def check_size(name: str, size: int) -> int:
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise TypeError(f"{name} must be a positive integer, but got {size!r}")
    if operator.index(size) < 1:
        raise ValueError(f"{name} must be a positive integer, but got {size!r}")
    return operator.index(size)
