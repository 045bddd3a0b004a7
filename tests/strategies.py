"""Hypothesis strategies: trees, exponents and coordinates over the whole promised range."""

from collections.abc import Sequence
from itertools import cycle, islice
from typing import NamedTuple

import hypothesis.strategies as st
from oracle import Node, breadth_first, leaves

MAX_DIM, MAX_DEPTH = 60, 6
GOLDEN = (5**0.5 - 1) / 2
ZERO_ROW, ZERO_SUBTREE = "zero row", "zero subtree"


def _group(items: Sequence[Node], sizes: Sequence[int], wrap: bool) -> list[Node]:
    """Join neighbours into nodes of the given sizes, taken round and round; ``wrap`` keeps a lone
    item in a one-child node of its own, otherwise it passes, which makes the tree ragged."""
    rest, grouped = list(items), []
    for width in islice(cycle(sizes), len(rest)):
        head, rest = rest[:width], rest[width:]
        if head:
            grouped.append(head[0] if len(head) == 1 and not wrap else tuple(head))
    return grouped


@st.composite
def roots(
    draw: st.DrawFn, max_dim: int = MAX_DIM, max_depth: int = MAX_DEPTH, min_dim: int = 1
) -> Node:
    """Nested tuples: 1..max_depth deep, permuted leaves, ragged, with one-child nodes."""
    dim = draw(st.integers(min_dim, max_dim))
    items: list[Node] = list(draw(st.permutations(range(dim))))
    for _ in range(draw(st.integers(0, max_depth - 1))):
        sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
        items = _group(items, sizes, wrap=draw(st.booleans()))
    return tuple(items)


def positives(low: float, high: float) -> st.SearchStrategy[float]:
    """Log-uniform between powers of ten, shrinking to 1.

    Hypothesis prefers small integers and round floats; multiples of the golden ratio modulo one
    spread even small integers evenly.
    """
    span = high - low
    start = -low / span if low <= 0 <= high else 0.0
    return st.integers(0, 2**20).map(lambda k: 10.0 ** (low + span * ((start + k * GOLDEN) % 1.0)))


def one_exponent(low: float = 0.1, high: float = 200.0) -> st.SearchStrategy[float]:
    """Log-uniform, and now and then the round values where formulas like to break."""
    from math import log10

    special = [v for v in (0.1, 0.5, 1.0, 2.0, 3.0, 200.0) if low <= v <= high]
    spread = positives(log10(low), log10(high)).map(lambda v: min(max(v, low), high))
    return st.one_of(spread, st.sampled_from(special))


@st.composite
def exponents(draw: st.DrawFn, root: Node, low: float = 0.1, high: float = 200.0) -> list[float]:
    count = len(breadth_first(root))
    if draw(st.booleans()):  # all equal is the factorial member, and a frequent user's choice
        return [draw(one_exponent(low, high))] * count
    return draw(st.lists(one_exponent(low, high), min_size=count, max_size=count))


@st.composite
def coordinates(draw: st.DrawFn, root: Node, reach: float = 30.0) -> list[float]:
    """One row: signed values log-uniform within ``spread`` decades of a common centre, all within
    10^-reach..10^reach, with exact zeros; sometimes a whole subtree or the whole row is zero."""
    dim = len(leaves(root))
    spread = draw(st.sampled_from([0.5, 3.0, 2 * reach]))
    centre = draw(st.floats(-reach, reach)) if spread < reach else 0.0
    magnitude = positives(max(-reach, centre - spread), min(reach, centre + spread))
    entry = st.builds(lambda size, sign: sign * size, magnitude, st.sampled_from([1.0, -1.0]))
    row = draw(st.lists(entry, min_size=dim, max_size=dim))
    special = draw(st.sampled_from(["none", "none", "some", ZERO_SUBTREE, ZERO_ROW]))
    if special == "some":
        for index in draw(st.lists(st.integers(0, dim - 1), max_size=3)):
            row[index] = 0.0
    elif special != "none":
        nodes = breadth_first(root)
        for index in leaves(draw(st.sampled_from(nodes)) if special == ZERO_SUBTREE else root):
            row[index] = 0.0
    return row


class Problem(NamedTuple):
    """A tree, its exponents, rows of coordinates and a scale."""

    root: Node
    exponents: list[float]
    rows: list[list[float]]
    scale: float


@st.composite
def problems(draw: st.DrawFn, max_rows: int = 3, reach: float = 30.0) -> Problem:
    root = draw(roots())
    p = draw(exponents(root))
    rows = draw(st.lists(coordinates(root, reach), min_size=1, max_size=max_rows))
    return Problem(root, p, rows, draw(st.one_of(st.just(1.0), positives(-2.0, 2.0))))


batch_shapes = st.lists(st.integers(1, 3), max_size=3).map(tuple)
