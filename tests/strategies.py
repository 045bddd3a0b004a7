"""Hypothesis strategies: trees, exponents and coordinates over the whole promised range."""

from collections.abc import Sequence
from itertools import accumulate, cycle, islice
from math import exp2, inf, log2
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


class Conditioned(NamedTuple):
    """A problem with the radius of a distribution that is comparable to the norm of a row.

    ``dim`` is that of a radius whose dimension is not the tree's.
    """

    root: Node
    exponents: list[float]
    rows: list[list[float]]
    scale: float
    p: float
    dim: float


# Subnormal in float32; subnormal in float64, and zero in float32; the least of each.
SUBNORMAL = [1e-39, 3.7e-42, 1.4e-45, 5e-312, 5e-324]


@st.composite
def subnormal_rows(draw: st.DrawFn, root: Node) -> list[float]:
    """A row of `coordinates` in which some entries, or all, are subnormal."""
    row = draw(coordinates(root))
    indices = st.integers(0, len(row) - 1)
    chosen = draw(st.one_of(st.lists(indices, max_size=4), st.just(range(len(row)))))
    for index in chosen:
        row[index] = draw(st.sampled_from(SUBNORMAL)) * draw(st.sampled_from([1.0, -1.0, 3.0]))
    return row


def _log2_norm(node: Node, row: Sequence[float], p: dict[Node, float]) -> float:
    if isinstance(node, int):
        return log2(abs(row[node])) if row[node] else -inf
    below = [_log2_norm(child, row, p) for child in node]
    top = max(below)
    if top == -inf:
        return top
    return top + log2(sum(exp2(p[node] * (x - top)) for x in below)) / p[node]


@st.composite
def isa_roots(draw: st.DrawFn) -> Node:
    """Consecutive coordinates in subspaces: the trees of ISA."""
    sizes = draw(st.lists(st.integers(1, 8), min_size=1, max_size=7))
    ends = list(accumulate(sizes))
    return tuple(tuple(range(end - k, end)) for k, end in zip(sizes, ends, strict=True))


@st.composite
def conditioned(draw: st.DrawFn, trees: st.SearchStrategy[Node]) -> Conditioned:
    """The radius lies where the density of a row is, or anywhere."""
    root = draw(trees)
    p = draw(exponents(root))
    row = st.one_of(coordinates(root), coordinates(root), subnormal_rows(root))
    rows = draw(st.lists(row, min_size=1, max_size=2))
    power = draw(st.one_of(st.just(p[0]), one_exponent()))
    log2_norm = _log2_norm(root, rows[0], dict(zip(breadth_first(root), p, strict=True)))
    near = st.floats(-3.0, 3.0).map(lambda t: 2.0 ** min(max(log2_norm + t / power, -120), 120))
    scale = draw(st.one_of(near, near, near, st.just(1.0), positives(-2.0, 2.0)))
    dim = draw(st.one_of(positives(-1.0, 2.0), st.just(float(len(leaves(root))))))
    return Conditioned(root, p, rows, scale, power, dim)
