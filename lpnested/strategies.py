r"""Hypothesis strategies for all the library works with (extra ``lpnested[hypothesis]``).

They draw what implementations stumble over as often as ordinary cases: ragged, deep and permuted
trees, nodes with one child, exponents from 0.1 to 200, coordinates of every magnitude and exact
zeros. A counterexample shrinks to a small tree, exponents of 2, and coordinates of 1 and 0.

Example:
    >>> from hypothesis import given
    >>> from lpnested.strategies import distributions
    >>> @given(distributions())
    ... def test_draws_have_a_density(dist):
    ...     assert dist.log_prob(dist.sample()).isfinite().all()
    >>> test_draws_have_a_density()
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions import Distribution

from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.generalized_normal import GeneralizedNormal
from lpnested.isa import ISA
from lpnested.lp_nested import LpNested
from lpnested.lp_spherical import LpSpherical
from lpnested.strategy_elements import (
    check_range,
    isa_trees,
    magnitudes,
    numbers,
    points,
    st,
    stacked,
    trees_between,
)
from lpnested.tree import LpNestedTree

__all__ = ["distributions", "exponents", "radials", "trees", "values"]

_SPECIAL = 2.0, 1.0, 0.1, 0.5, 3.0, 200.0  # exponents where formulas like to break


def trees(
    *, min_dim: int = 1, max_dim: int = 20, max_depth: int = 6
) -> st.SearchStrategy[LpNestedTree]:
    """Trees of every shape, shrinking to a flat one of ``min_dim`` coordinates.

    Args:
        min_dim: The least number of coordinates.
        max_dim: The largest number of coordinates.
        max_depth: The largest number of levels of inner nodes.

    Raises:
        ValueError: Where a limit is less than 1, or ``min_dim`` more than ``max_dim``.

    Example:
        >>> from hypothesis import find
        >>> find(trees(), lambda tree: tree.depth > 1)
        LpNestedTree(((0,),))
    """
    check_range("dim", min_dim, max_dim)
    check_range("depth", 1, max_depth)
    return trees_between(min_dim, max_dim, max_depth)


def exponents(
    tree: LpNestedTree,
    *,
    min_exponent: float = 0.1,
    max_exponent: float = 200.0,
    batch_shape: Sequence[int] = (),
    dtype: torch.dtype | None = None,
) -> st.SearchStrategy[Tensor]:
    """Exponents of a tree, often all equal or a round number, shrinking to 2.

    Args:
        tree: The tree.
        min_exponent: The least exponent.
        max_exponent: The largest exponent.
        batch_shape: The ``*batch`` of the result, of shape ``(*batch, num_nodes)``.
        dtype: The dtype of the result; torch's default if left out.

    Raises:
        ValueError: Where a limit is not positive or beyond the range of the dtype, or the least
            exceeds the largest.

    Example:
        >>> from hypothesis import find
        >>> find(exponents(LpNestedTree.isa([2, 3])), lambda p: True)
        tensor([2., 2., 2.])
    """
    check_range("exponent", min_exponent, max_exponent, dtype)
    special = [p for p in _SPECIAL if min_exponent <= p <= max_exponent]
    number = magnitudes(min_exponent, max_exponent)
    number = st.sampled_from(special) | number if special else number
    count = tree.num_nodes
    differing = st.lists(number, min_size=count, max_size=count)
    return stacked(number.map(lambda p: [p] * count) | differing, batch_shape, dtype)


def values(
    tree: LpNestedTree,
    *,
    min_magnitude: float = 1e-30,
    max_magnitude: float = 1e30,
    zeros: bool = True,
    sample_shape: Sequence[int] = (),
    dtype: torch.dtype | None = None,
) -> st.SearchStrategy[Tensor]:
    """Points in the space of a tree, shrinking to ones.

    The coordinates of a point are of either sign, and lie close to each other, within a few
    decades, or anywhere between the limits. Some are 0, or all under a node, or all.

    Args:
        tree: The tree.
        min_magnitude: The least absolute value of a coordinate that is not 0.
        max_magnitude: The largest absolute value.
        zeros: Whether to draw zeros.
        sample_shape: The ``*sample`` of the result, of shape ``(*sample, dim)``.
        dtype: The dtype of the result; torch's default if left out.

    Raises:
        ValueError: Where a limit is not positive or beyond the range of the dtype, or the least
            exceeds the largest.

    Example:
        >>> from hypothesis import find
        >>> find(values(LpNestedTree.flat(3)), lambda x: x.norm() > 0)
        tensor([1., 1., 1.])
    """
    check_range("magnitude", min_magnitude, max_magnitude, dtype)
    return stacked(points(tree, min_magnitude, max_magnitude, zeros), sample_shape, dtype)


def radials(
    *,
    max_dim: int = 20,
    min_exponent: float = 0.1,
    max_exponent: float = 200.0,
    batch_shape: Sequence[int] = (),
    dtype: torch.dtype | None = None,
) -> st.SearchStrategy[Distribution]:
    """Distributions on all positive reals, for the radius of :class:`~lpnested.LpNested`.

    Some are from the library and some from torch, with light and heavy tails; they shrink to
    parameters of 1 and exponents of 2.

    Args:
        max_dim: The largest dimension of a generalized gamma variable.
        min_exponent: The least exponent of a generalized gamma variable.
        max_exponent: Its largest exponent.
        batch_shape: The batch shape.
        dtype: The dtype of the parameters; torch's default if left out.

    Raises:
        ValueError: Where a limit is out of range, or the least exponent exceeds the largest.

    Example:
        >>> from hypothesis import find
        >>> find(radials(), lambda radial: isinstance(radial, GeneralizedGamma))
        GeneralizedGamma(dim: 1, p: 2, scale: 1)
    """
    check_range("dim", 1, max_dim)
    of_batch: Any = {"batch_shape": tuple(batch_shape), "dtype": dtype}
    p = _exponent(min_exponent=min_exponent, max_exponent=max_exponent, **of_batch)
    scale, shape = _positives(0.01, 100.0, **of_batch), _positives(0.5, 30.0, **of_batch)
    return st.one_of(
        st.builds(GeneralizedGamma, _positives(0.5, max_dim, **of_batch), p, scale),
        st.builds(td.LogNormal, scale.map(torch.log), _positives(0.1, 3.0, **of_batch)),
        st.builds(td.Gamma, shape, scale),
        st.builds(td.Chi2, shape),
        st.builds(td.HalfNormal, scale),
        st.builds(td.HalfCauchy, scale),
    )


def distributions(
    *families: type[Distribution],
    max_dim: int = 20,
    max_depth: int = 6,
    min_exponent: float = 0.1,
    max_exponent: float = 200.0,
    batch_shape: Sequence[int] = (),
    dtype: torch.dtype | None = None,
) -> st.SearchStrategy[Any]:
    """Distributions of the library, with scales from 0.01 to 100.

    Args:
        families: Some of the classes, such as :class:`~lpnested.ISA`; all if none is given.
        max_dim: The largest number of coordinates, or dimension of a generalized gamma variable.
        max_depth: The largest depth of a tree.
        min_exponent: The least exponent.
        max_exponent: The largest exponent.
        batch_shape: The batch shape.
        dtype: The dtype of the parameters; torch's default if left out.

    Raises:
        TypeError: Where a family is not one of these classes.
        ValueError: Where a limit is out of range, or the least exponent exceeds the largest.

    Example:
        >>> from hypothesis import find
        >>> find(distributions(ISA), lambda dist: len(dist.sizes) > 1)
        ISA(sizes: (1, 1), p0: 2, p: [2, 2], scale: 1)
    """
    of_batch: Any = {"batch_shape": tuple(batch_shape), "dtype": dtype}
    limits: Any = {"min_exponent": min_exponent, "max_exponent": max_exponent, **of_batch}
    radial, p = radials(max_dim=max_dim, **limits), _exponent(**limits)
    scale = _positives(0.01, 100.0, **of_batch)
    loc = stacked(st.just(0.0) | numbers(0.01, 100.0), batch_shape, dtype)
    dim, of_any = st.integers(1, max_dim), trees(max_dim=max_dim, max_depth=max_depth)

    def on(trees: st.SearchStrategy[LpNestedTree]) -> st.SearchStrategy[tuple[Any, Tensor]]:
        return trees.flatmap(lambda tree: st.tuples(st.just(tree), exponents(tree, **limits)))

    every: dict[type[Distribution], st.SearchStrategy[Any]] = {
        GeneralizedNormal: st.builds(GeneralizedNormal, loc, scale, p),
        GeneralizedGamma: st.builds(
            GeneralizedGamma, _positives(0.5, max_dim, **of_batch), p, scale
        ),
        ISA: st.builds(_isa, on(isa_trees(max_dim)), scale),
        LpSpherical: st.builds(LpSpherical, dim, p, radial),
        LpNested: st.builds(lambda on, r: LpNested(on[0], on[1], r), on(of_any), radial),
    }
    if unknown := [family for family in families if family not in every]:
        known = ", ".join(family.__name__ for family in every)
        raise TypeError(f"a family must be one of {known}, but got {unknown[0]!r}")
    return st.one_of([every[family] for family in families or every])


def _isa(on: tuple[LpNestedTree, Tensor], scale: Tensor) -> ISA:
    tree, p = on
    return ISA([len(x) for x in tree.subspaces], p[..., 0], p[..., 1:], scale)


def _exponent(**limits: Any) -> st.SearchStrategy[Tensor]:
    return exponents(LpNestedTree.flat(1), **limits).map(lambda p: p[..., 0])


def _positives(
    low: float, high: float, batch_shape: Sequence[int], dtype: torch.dtype | None
) -> st.SearchStrategy[Tensor]:
    return stacked(magnitudes(low, high), batch_shape, dtype)
