"""The public strategies find every kind of what they promise, and shrink to small examples."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from torch.distributions import Distribution

from lpnested import (
    ISA,
    GeneralizedGamma,
    GeneralizedNormal,
    LpNested,
    LpNestedTree,
    LpSpherical,
)
from lpnested.strategies import distributions, exponents, radials, trees, values
from oracle import Node, leaves

FAMILIES = [GeneralizedNormal, GeneralizedGamma, ISA, LpSpherical, LpNested]
CUBE = LpNestedTree((0, (1, 2)))

some = settings(max_examples=30)
# To find is to generate: a search for the smallest is a test of its own.
first = settings(
    max_examples=2000,
    phases=[Phase.generate],
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
smallest = settings(first, phases=[Phase.generate, Phase.shrink])


def depths(node: Node, depth: int = 0) -> set[int]:
    """Of the leaves."""
    if isinstance(node, int):
        return {depth}
    return set().union(*(depths(child, depth + 1) for child in node))


def has_lone_child(tree: LpNestedTree) -> bool:
    return any(len(node) == 1 for node in tree.nodes)


# What is found ----------------------------------------------------------------------------------

KINDS = {
    "flat": lambda tree: tree.depth == 1 and tree.dim > 5,
    "isa": lambda tree: tree == LpNestedTree.isa([len(x) for x in tree.subspaces]),
    "ragged": lambda tree: len(depths(tree.root)) > 1,
    "very ragged": lambda tree: len(depths(tree.root)) > 2,
    "one child": lambda tree: has_lone_child(tree) and tree.dim > 3,
    "no lone child": lambda tree: not has_lone_child(tree) and tree.depth > 2,
    "deep": lambda tree: tree.depth == 6,
    "deep and wide": lambda tree: tree.depth > 4 and tree.dim > 8,
    "permuted": lambda tree: leaves(tree.root) != list(range(tree.dim)),
    "a line": lambda tree: tree.dim == 1,
    "large": lambda tree: tree.dim == 20,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_tree_is_found(kind: str) -> None:
    assert KINDS[kind](find(trees(), KINDS[kind], settings=first))


NUMBERS = {
    "equal": lambda p: (p == p[0]).all() and p[0] not in (1, 2),
    "all differ": lambda p: len(set(p.tolist())) == len(p) == 2,
    "smallest": lambda p: p.min() == torch.tensor(0.1),
    "largest": lambda p: p.max() == 200.0,
    "no round number": lambda p: ((p > 0.1) & (p < 0.2)).any() and ((p > 100) & (p < 200)).any(),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_every_kind_of_exponents_is_found(kind: str) -> None:
    assert NUMBERS[kind](find(exponents(CUBE), NUMBERS[kind], settings=first))


POINTS = {
    "ordinary": lambda x: (x != 0).all() and x.abs().max() < 4 * x.abs().min(),
    "all scales": lambda x: x.abs().min() < 1e-20 and x.abs().max() > 1e20 and (x != 0).all(),
    "tiny": lambda x: 0 < x.abs().max() < 1e-25,
    "huge": lambda x: x.abs().min() > 1e25,
    "a zero": lambda x: (x == 0).sum() == 1,
    "a zero node": lambda x: x.tolist()[1:] == [0.0, 0.0] and x[0] != 0,
    "the origin": lambda x: (x == 0).all(),
    "both signs": lambda x: (x > 0).any() and (x < 0).any(),
}


@pytest.mark.parametrize("kind", POINTS)
def test_every_kind_of_point_is_found(kind: str) -> None:
    assert POINTS[kind](find(values(CUBE), POINTS[kind], settings=first))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_found(family: type[Distribution]) -> None:
    found = find(distributions(), lambda dist: type(dist) is family, settings=first)
    assert type(found) is family


# What is promised -------------------------------------------------------------------------------


@some
@given(st.data(), st.integers(1, 9), st.integers(0, 9), st.integers(1, 4))
def test_trees_keep_their_limits(data: st.DataObject, low: int, more: int, depth: int) -> None:
    limits = {"min_dim": low, "max_dim": low + more, "max_depth": depth}
    tree = data.draw(trees(**limits))
    assert low <= tree.dim <= low + more
    assert tree.depth <= depth


@some
@given(st.data())
def test_numbers_keep_their_limits(data: st.DataObject) -> None:
    tree = data.draw(trees(max_dim=6))
    few = {"batch_shape": (2, 3), "dtype": torch.float64}
    p = data.draw(exponents(tree, min_exponent=0.7, max_exponent=1.5, **few))
    assert p.shape == (2, 3, tree.num_nodes) and p.dtype == torch.float64
    assert p.min() >= 0.7 and p.max() <= 1.5
    limits = {"min_magnitude": 1e-300, "max_magnitude": 1e-3, "zeros": False}
    x = data.draw(values(tree, **limits, sample_shape=(4,), dtype=torch.float64)).abs()
    assert x.shape == (4, tree.dim) and x.dtype == torch.float64
    assert x.min() >= 1e-300 and x.max() <= 1e-3


@some
@given(radials(batch_shape=(2,), dtype=torch.float64))
def test_a_radial_serves_any_tree(radial: Distribution) -> None:
    dist = LpNested(CUBE, [2.0, 1.0], radial)
    draws = dist.sample((3,))
    assert dist.batch_shape == (2,) and draws.dtype == torch.float64
    assert dist.log_prob(draws).isfinite().all()


@pytest.mark.slow
@given(
    st.data(),
    st.sampled_from([(), (3,), (2, 1)]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_distributions_have_the_shape_and_dtype_asked_for(
    data: st.DataObject, batch: tuple[int, ...], dtype: torch.dtype
) -> None:
    limits = {"max_dim": 7, "max_depth": 2, "min_exponent": 0.5, "max_exponent": 4.0}
    dist = data.draw(distributions(**limits, batch_shape=batch, dtype=dtype))
    assert dist.batch_shape == batch
    draws = dist.sample((4,))
    assert draws.shape == (4, *batch, *dist.event_shape) and draws.dtype == dtype
    if isinstance(dist, LpNested):
        assert dist.tree.dim <= 7 and dist.tree.depth <= 2
        assert dist.exponents.min() >= 0.5 and dist.exponents.max() <= 4.0


@given(distributions())
def test_a_draw_has_a_density_and_a_slope(dist: Distribution) -> None:
    """As a project that builds on the library writes it."""
    x = dist.sample((3,)).requires_grad_()
    log_prob = dist.log_prob(x)
    (slope,) = torch.autograd.grad(log_prob.sum(), x)
    assert log_prob.shape == (3, *dist.batch_shape)
    assert log_prob.isfinite().all() and slope.isfinite().all()


@pytest.mark.slow
@given(distributions(LpNested, ISA, LpSpherical), st.data())
def test_any_point_has_a_norm_of_the_right_degree(dist: LpNested, data: st.DataObject) -> None:
    x = data.draw(values(dist.tree, max_magnitude=1e10))
    torch.testing.assert_close(dist.norm(2 * x), 2 * dist.norm(x))
    assert (dist.norm(x) == 0) == (x == 0).all()


# What it shrinks to -----------------------------------------------------------------------------


def anything(drawn: object) -> bool:
    return True


@pytest.mark.slow
def test_the_smallest_examples() -> None:
    def least(strategy: st.SearchStrategy[Any], what: Callable[[Any], object] = anything) -> str:
        return repr(find(strategy, what, settings=smallest))

    assert least(trees()) == "LpNestedTree((0,))"
    assert least(trees(), lambda tree: tree.dim > 2) == "LpNestedTree((0, 1, 2))"
    assert least(trees(), KINDS["permuted"]) == "LpNestedTree((1, 0))"
    assert least(exponents(CUBE)) == "tensor([2., 2.])"
    assert least(exponents(CUBE), lambda p: p[0] != p[1]) == "tensor([2., 1.])"
    assert least(values(CUBE)) == "tensor([1., 1., 1.])"
    assert least(values(CUBE), POINTS["the origin"]) == "tensor([0., 0., 0.])"
    assert least(distributions(LpNested)).startswith("LpNested(LpNestedTree((0,)), exponents: [2]")
    two = least(distributions(ISA), lambda dist: len(dist.sizes) > 1)
    assert two == "ISA(sizes: (1, 1), p0: 2, p: [2, 2], scale: 1)"


# Errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("min_dim and max_dim", lambda: trees(min_dim=5, max_dim=4)),
        ("min_dim and max_dim", lambda: trees(min_dim=0)),
        ("min_depth and max_depth", lambda: trees(max_depth=0)),
        ("min_exponent and max_exponent", lambda: exponents(CUBE, min_exponent=0.0)),
        ("min_exponent .* but got 3 and 2", lambda: radials(min_exponent=3, max_exponent=2)),
        ("min_magnitude and max_magnitude", lambda: values(CUBE, max_magnitude=float("inf"))),
        ("min_dim and max_dim", lambda: distributions(max_dim=0)),
        ("range of torch.float32", lambda: values(CUBE, max_magnitude=1e39)),
        ("range of torch.float32", lambda: values(CUBE, min_magnitude=1e-60)),
        ("range of torch.float16", lambda: exponents(CUBE, max_exponent=1e5, dtype=torch.half)),
    ],
)
def test_limits_the_wrong_way_round_are_refused(message: str, make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_family_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match=r"GeneralizedNormal.*but got .*Normal"):
        distributions(torch.distributions.Normal)


WITHOUT = """
import sys, lpnested
assert "hypothesis" not in sys.modules
sys.modules["hypothesis"] = None
import lpnested.strategies
"""


@pytest.mark.slow
def test_the_library_does_without_hypothesis_and_the_strategies_name_the_extra() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("ImportError") and "pip install 'lpnested[hypothesis]'" in last
