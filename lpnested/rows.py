"""A tree as flat rows, and iterative traversals of them: deep trees need no deep stack.

The inner nodes of a tree have indices 0, 1, ..., breadth first. The row of a node holds its
children in order: a coordinate as itself, and the inner node at index k as ``~k``, which is
negative.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

__all__ = [
    "Rows",
    "ancestors",
    "drawing",
    "find",
    "leaves_under",
    "level_ranges",
    "subtree_rows",
    "text",
]

Rows: TypeAlias = tuple[tuple[int, ...], ...]


def leaves_under(rows: Rows, child: int) -> tuple[int, ...]:
    """Return the coordinates under a node ``~place``, or the given one, from left to right."""
    leaves: list[int] = []
    pending = [child]
    while pending:
        child = pending.pop()
        if child < 0:
            pending.extend(reversed(rows[~child]))
        else:
            leaves.append(child)
    return tuple(leaves)


def level_ranges(rows: Rows) -> list[range]:
    """Return the indices of the nodes of each depth, root first."""
    found, start, stop = [], 0, 1
    while start < stop:
        found.append(range(start, stop))
        start, stop = stop, stop + sum(x < 0 for k in range(start, stop) for x in rows[k])
    return found


def ancestors(rows: Rows, child: int) -> list[int]:
    """Return the indices of the inner nodes above a coordinate or node ``~place``, root first."""
    parents = {x: k for k, row in enumerate(rows) for x in row}
    places: list[int] = []
    while child in parents:
        places.append(parents[child])
        child = ~places[-1]
    return places[::-1]


def subtree_rows(rows: Rows, place: int) -> tuple[Rows, list[int]]:
    """Return the rows of a node's subtree, and the original indices of its inner nodes."""
    places = [place]
    for k in places:  # grows during iteration
        places.extend(~x for x in rows[k] if x < 0)
    renamed = {~old: ~new for new, old in enumerate(places)}
    return tuple(tuple(renamed.get(x, x) for x in rows[k]) for k in places), places


def find(rows: Rows, subtree: Rows) -> int:
    """Return the index of the node whose subtree has the given rows, or -1."""
    leaf = next(x for row in subtree for x in row if x >= 0)
    sizes = [1] * len(rows)  # the number of inner nodes in each subtree
    for k in reversed(range(len(rows))):  # children come after their parents
        sizes[k] += sum(sizes[~x] for x in rows[k] if x < 0)
    # Sizes grow towards the root, so at most one node above the leaf has the right size.
    place = next((k for k in ancestors(rows, leaf) if sizes[k] == len(subtree)), -1)
    return place if place >= 0 and subtree_rows(rows, place)[0] == subtree else -1


def text(rows: Rows) -> str:
    """Return the repr of the nested tuples."""
    texts = [""] * len(rows)
    for k in reversed(range(len(rows))):
        row = [str(x) if x >= 0 else texts[~x] for x in rows[k]]
        texts[k] = f"({', '.join(row)}{',' * (len(row) == 1)})"
    return texts[0]


def drawing(rows: Rows, labels: Sequence[str]) -> Iterator[str]:
    """Yield one line per node, with its label, and per leaf."""
    pending = [(~0, "", "")]
    while pending:
        child, first, rest = pending.pop()
        yield first + (f"x{child}" if child >= 0 else labels[~child])
        row = rows[~child] if child < 0 else ()
        for k in reversed(range(len(row))):
            end = k == len(row) - 1
            pending.append((row[k], rest + "├└"[end] + "─ ", rest + "│ "[end] + "  "))
