"""Problems for the oracle: the public strategies as nested tuples and lists, with what else they
need."""

from collections.abc import Sequence
from math import exp2, inf, log2
from typing import NamedTuple

import hypothesis.strategies as st
import torch

from lpnested import ISA, LpNestedTree
from lpnested.strategies import distributions, exponents, trees, values
from oracle import Node, breadth_first, leaves

f64 = torch.float64


def roots(
    max_dim: int = 60, max_depth: int = 6, min_dim: int = 1
) -> st.SearchStrategy[tuple[Node, ...]]:
    """Nested tuples: 1..max_depth deep, permuted leaves, ragged, with one-child nodes."""
    drawn = trees(min_dim=min_dim, max_dim=max_dim, max_depth=max_depth)
    return drawn.map(lambda tree: tree.root)


isa_roots = distributions(ISA, max_dim=56).map(lambda dist: dist.tree.root)


def powers(root: Node, low: float = 0.1, high: float = 200.0) -> st.SearchStrategy[list[float]]:
    """An exponent for each node."""
    limits = {"min_exponent": low, "max_exponent": high}
    return exponents(LpNestedTree(root), **limits, dtype=f64).map(torch.Tensor.tolist)


def coordinates(root: Node, reach: float = 30.0) -> st.SearchStrategy[list[float]]:
    """One row, of magnitudes within 10^-reach..10^reach, with exact zeros."""
    limits = {"min_magnitude": 10.0**-reach, "max_magnitude": 10.0**reach}
    return values(LpNestedTree(root), **limits, dtype=f64).map(torch.Tensor.tolist)


one_power = powers((0,)).map(lambda p: p[0])


def decades(low: float, high: float) -> st.SearchStrategy[float]:
    """Magnitudes between powers of ten."""
    of_point = values(
        LpNestedTree.flat(1), min_magnitude=10**low, max_magnitude=10**high, zeros=False, dtype=f64
    )
    return of_point.map(lambda x: abs(x.item()))


class Problem(NamedTuple):
    """A tree, its exponents, rows of coordinates and a scale."""

    root: Node
    exponents: list[float]
    rows: list[list[float]]
    scale: float


@st.composite
def problems(draw: st.DrawFn, max_rows: int = 3, reach: float = 30.0) -> Problem:
    root = draw(roots())
    p = draw(powers(root))
    rows = draw(st.lists(coordinates(root, reach), min_size=1, max_size=max_rows))
    return Problem(root, p, rows, draw(st.one_of(st.just(1.0), decades(-2.0, 2.0))))


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
def conditioned(draw: st.DrawFn, trees: st.SearchStrategy[Node]) -> Conditioned:
    """The radius lies where the density of a row is, or anywhere."""
    root = draw(trees)
    p = draw(powers(root))
    row = st.one_of(coordinates(root), coordinates(root), subnormal_rows(root))
    rows = draw(st.lists(row, min_size=1, max_size=2))
    power = draw(st.one_of(st.just(p[0]), one_power))
    log2_norm = _log2_norm(root, rows[0], dict(zip(breadth_first(root), p, strict=True)))
    near = st.floats(-3.0, 3.0).map(lambda t: 2.0 ** min(max(log2_norm + t / power, -120), 120))
    scale = draw(st.one_of(near, near, near, st.just(1.0), decades(-2.0, 2.0)))
    dim = draw(st.one_of(decades(-1.0, 2.0), st.just(float(len(leaves(root))))))
    return Conditioned(root, p, rows, scale, power, dim)
