"""What the strategies of :mod:`lpnested.strategies` draw: trees, rows of numbers, and tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

from lpnested.rows import leaves_under
from lpnested.tree import LpNestedTree, Nested

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        f"lpnested.strategies needs Hypothesis, which could not be imported ({error}): "
        "pip install 'lpnested[hypothesis]'"
    ) from error

__all__ = [
    "check_range",
    "isa_trees",
    "magnitudes",
    "numbers",
    "points",
    "st",
    "stacked",
    "trees_between",
]

_GOLDEN = (5**0.5 - 1) / 2
_SIZES = st.lists(st.sampled_from([1, 2, 3, 1, 2, 4, 8]), min_size=1, max_size=6)


def check_range(what: str, low: float, high: float, dtype: torch.dtype | None = None) -> None:
    if not 0 < low <= high < math.inf:
        raise ValueError(
            f"min_{what} and max_{what} must be positive and finite, and the first not larger, "
            f"but got {low} and {high}"
        )
    rounded = torch.tensor([low, high], dtype=dtype or torch.get_default_dtype())
    if not ((rounded > 0) & rounded.isfinite()).all():
        raise ValueError(
            f"min_{what} and max_{what} must be in the range of {rounded.dtype}, but got {low} "
            f"and {high}"
        )


# Trees ------------------------------------------------------------------------------------------


@st.composite
def trees_between(draw: st.DrawFn, min_dim: int, max_dim: int, max_depth: int) -> LpNestedTree:
    """Neighbours among the permuted coordinates are joined, and neighbours among these."""
    depth = draw(st.integers(1, max_depth))
    levels = [draw(st.tuples(_SIZES, st.booleans())) for _ in range(depth - 1)]
    dim = draw(st.integers(min_dim, max_dim))
    items: Iterable[Nested] = draw(st.permutations(range(dim)))
    for sizes, wrap in levels:
        items = _joined(items, sizes, wrap)
    return LpNestedTree(tuple(items))


def isa_trees(max_dim: int) -> st.SearchStrategy[LpNestedTree]:
    def tree(sizes: Sequence[int], dim: int) -> LpNestedTree:
        return LpNestedTree(_joined(range(dim), sizes, wrap=True))

    return st.builds(tree, _SIZES, st.integers(1, max_dim))


def _joined(items: Iterable[Nested], sizes: Sequence[int], wrap: bool) -> list[Nested]:
    """Nodes of neighbours, of the given sizes, taken round and round.

    ``wrap`` keeps a lone item in a one-child node of its own; otherwise it passes, which makes
    the tree ragged.
    """
    rest, nodes, next_size = list(items), list[Nested](), cycle(sizes)
    while rest:
        size = next(next_size)
        head, rest = tuple(rest[:size]), rest[size:]
        nodes.append(head if wrap or len(head) > 1 else head[0])
    return nodes


# Numbers ----------------------------------------------------------------------------------------


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    """Numbers of either sign, with log-uniform magnitudes between two limits, shrinking to 1.

    Hypothesis prefers small integers and round floats; multiples of the golden ratio modulo one
    spread even small integers evenly.
    """
    start, span = math.log(low), math.log(high) - math.log(low)
    simplest = 1.0 if low <= 1 <= high else low
    offset = (math.log(simplest) - start) / span if span else 0.0

    def number(k: int) -> float:
        part = (offset + (k >> 1) * _GOLDEN) % 1.0
        size = min(max(math.exp(start + span * part), low), high) if k > 1 else simplest
        return -size if k & 1 else size

    return st.integers(0, 2**21).map(number)


def magnitudes(low: float, high: float) -> st.SearchStrategy[float]:
    return numbers(low, high).map(abs)


@st.composite
def points(
    draw: st.DrawFn, tree: LpNestedTree, low: float, high: float, zeros: bool
) -> list[float]:
    """Coordinates within some decades of a common centre; a few are 0, or a node's, or all."""
    decades = draw(st.sampled_from([0.5, 3.0, math.inf]))
    centre = 1.0 if decades == math.inf else draw(magnitudes(low, high))
    near, far = max(low, centre / 10**decades), min(high, centre * 10**decades)
    point = draw(st.lists(numbers(near, far), min_size=tree.dim, max_size=tree.dim))
    if zeros and draw(st.booleans()):
        some = st.lists(st.integers(0, tree.dim - 1), max_size=3)
        nodes = st.sampled_from(range(tree.num_nodes))
        for i in draw(some | nodes.map(lambda k: leaves_under(tree.children, ~k))):
            point[i] = 0.0
    return point


def stacked(
    elements: st.SearchStrategy[Any], shape: Sequence[int], dtype: torch.dtype | None
) -> st.SearchStrategy[Tensor]:
    """One tensor of numbers, or of rows of them, in the given shape."""
    if not shape:
        return elements.map(lambda x: torch.tensor(x, dtype=dtype))
    count = math.prod(shape)
    drawn = st.lists(elements, min_size=count, max_size=count)
    return drawn.map(lambda x: torch.tensor(x, dtype=dtype).unflatten(0, tuple(shape)))
