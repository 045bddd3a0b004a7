"""A tree as flat rows, and walks over them without recursion: depth costs no stack.

The inner nodes of a tree have places 0, 1, ..., breadth first. The row of a node holds its
children in order: a coordinate as itself, and the inner node of place k as ``~k``, which is
negative.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

__all__ = [
    "Rows",
    "above",
    "drawing",
    "find",
    "leaves_under",
    "ranges",
    "rows_under",
    "text",
]

Rows: TypeAlias = tuple[tuple[int, ...], ...]


def leaves_under(rows: Rows, child: int) -> tuple[int, ...]:
    """The coordinates under a node ``~place``, or the one given, from left to right."""
    leaves: list[int] = []
    pending = [child]
    while pending:
        child = pending.pop()
        if child < 0:
            pending.extend(reversed(rows[~child]))
        else:
            leaves.append(child)
    return tuple(leaves)


def ranges(rows: Rows) -> list[range]:
    """The places of each depth, root first."""
    found, start, stop = [], 0, 1
    while start < stop:
        found.append(range(start, stop))
        start, stop = stop, stop + sum(x < 0 for k in range(start, stop) for x in rows[k])
    return found


def above(rows: Rows, child: int) -> list[int]:
    """The places of the inner nodes above a coordinate or node ``~place``, root first."""
    parents = {x: k for k, row in enumerate(rows) for x in row}
    places: list[int] = []
    while child in parents:
        places.append(parents[child])
        child = ~places[-1]
    return places[::-1]


def rows_under(rows: Rows, place: int) -> tuple[Rows, list[int]]:
    """The rows of the tree from one node on, and the places of its inner nodes in the whole."""
    places = [place]
    for k in places:  # it grows meanwhile
        places.extend(~x for x in rows[k] if x < 0)
    renamed = {~old: ~new for new, old in enumerate(places)}
    return tuple(tuple(renamed.get(x, x) for x in rows[k]) for k in places), places


def find(rows: Rows, part: Rows) -> int:
    """The place of the node from which on the rows are those of a part, or -1."""
    leaf = next(x for row in part for x in row if x >= 0)
    sizes = [1] * len(rows)  # the number of inner nodes from each one on
    for k in reversed(range(len(rows))):  # children come after their parents
        sizes[k] += sum(sizes[~x] for x in rows[k] if x < 0)
    # Upwards that number grows: at most one node above the leaf has the right one.
    place = next((k for k in above(rows, leaf) if sizes[k] == len(part)), -1)
    return place if place >= 0 and rows_under(rows, place)[0] == part else -1


def text(rows: Rows) -> str:
    """What repr writes of the nested tuples."""
    texts = [""] * len(rows)
    for k in reversed(range(len(rows))):
        row = [str(x) if x >= 0 else texts[~x] for x in rows[k]]
        texts[k] = f"({', '.join(row)}{',' * (len(row) == 1)})"
    return texts[0]


def drawing(rows: Rows, labels: Sequence[str]) -> Iterator[str]:
    """One line per node, with its label, and per leaf."""
    pending = [(~0, "", "")]
    while pending:
        child, first, rest = pending.pop()
        yield first + (f"x{child}" if child >= 0 else labels[~child])
        row = rows[~child] if child < 0 else ()
        for k in reversed(range(len(row))):
            end = k == len(row) - 1
            pending.append((row[k], rest + "├└"[end] + "─ ", rest + "│ "[end] + "  "))
