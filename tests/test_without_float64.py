"""A device without float64, as Apple's: no operation there meets it, and results stay right.

There is none here, so the CPU is taken for one, and any tensor in float64 is an error.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cases import NESTED, UNIVARIATE, Case, each
from lpnested import ISA, LpNestedTree, precision
from lpnested import functional as F
from lpnested.ops import library

f32, f64 = torch.float32, torch.float64
EPS = torch.finfo(f32).eps
Inputs = Callable[[LpNestedTree], tuple[Tensor, Tensor]]
TREES = {
    "isa": LpNestedTree.isa([4] * 5),
    "ragged": LpNestedTree(((3, (0, 5)), 1, (2, 4))),
    "one_child": LpNestedTree((((2,),), (0, (1, 3)))),
    "deep": LpNestedTree((((((0, 1), 2), 3), 4), (5,))),
    "permuted": LpNestedTree((4, (2, 0), (3, (1, 5)))),
}
every_tree = pytest.mark.parametrize("tree", TREES.values(), ids=TREES)


class NoFloat64(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in tree_leaves((args, kwargs, result)):
            assert not (isinstance(x, Tensor) and x.dtype == f64), func
        return result


@contextmanager
def without_float64() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, library.using("off"), NoFloat64():
        patch.setattr(precision, "_WITHOUT_FLOAT64", {"cpu"})
        yield


def with_gradients(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    inputs = tuple(x.detach().requires_grad_() for x in inputs)
    result = function(*inputs)
    return [result.detach(), *torch.autograd.grad(result.sum(), inputs)]


def here_and_there(function: Callable[..., Tensor], *inputs: Tensor) -> list[list[Tensor]]:
    """What float64 makes of float32 inputs, and what a device without it; with gradients."""
    with without_float64():
        there = with_gradients(function, *inputs)
    assert all(x.dtype == f32 and x.isfinite().all() for x in there)
    return [with_gradients(function, *(x.to(f64) for x in inputs)), [x.to(f64) for x in there]]


def log_uniform(low: float, high: float, *size: int) -> Tensor:
    return (math.log(low) + math.log(high / low) * torch.rand(size)).exp()


def ordinary(tree: LpNestedTree, num: int = 100) -> tuple[Tensor, Tensor]:
    """Rows of |x| in 1e-3..1e3, and exponents in 0.3..20, one of each for every number."""
    value = torch.randn(num, tree.dim).sign() * log_uniform(1e-3, 1e3, num, tree.dim)
    return value, log_uniform(0.3, 20.0, num, tree.num_nodes)


def extreme(tree: LpNestedTree, num: int = 100) -> tuple[Tensor, Tensor]:
    """Of |x| in 1e-30..1e30, with zeros, and exponents in 0.1..200."""
    value = torch.randn(num, tree.dim).sign() * log_uniform(1e-30, 1e30, num, tree.dim)
    value[:10, 0], value[10:20, 1:], value[20] = 0.0, 0.0, 0.0
    return value, log_uniform(0.1, 200.0, num, tree.num_nodes)


def assert_near(there: Tensor, here: Tensor, rounding: Tensor | float) -> None:
    worst = ((there - here).abs() / rounding).max().item()
    assert worst <= EPS, f"{worst / EPS} roundings"


# Functions ---------------------------------------------------------------------------------------


@pytest.mark.slow
@every_tree
@pytest.mark.parametrize("inputs", [ordinary, extreme])
def test_the_logarithm_of_the_norm_is_that_of_float64(tree: LpNestedTree, inputs: Inputs) -> None:
    """To 4 roundings of its terms, and so its gradient in the value, up to what underflows."""
    value, exponents = inputs(tree)
    here, there = here_and_there(lambda x, p: F.log_norm(x, p, tree), value, exponents)
    some = (value != 0).any(-1)
    origin = torch.full_like(there[0][~some], math.log(torch.finfo(f32).tiny))
    assert_close(there[0][~some], origin)
    assert_near(there[0][some], here[0][some], 4 * (1 + here[0][some].abs()))
    assert (there[1][value == 0] == 0).all()
    x, f = value.to(f64), here[0].unsqueeze(-1).exp()
    steepness = 1 + exponents.to(f64).amax(-1, keepdim=True) * (1 + (x / f).abs().log2().abs())
    # A gradient or a share of the whole that float32 lacks.
    floor = torch.finfo(f32).tiny / EPS * (1 + 1 / x.abs())
    rounding = 4 * (steepness * here[1].abs() + floor)
    assert_near(there[1][value != 0], here[1][value != 0], rounding[value != 0])
    multiple = 8 if inputs is ordinary else 64
    assert_near(there[2], here[2], multiple * (1 + here[2].abs()))


@every_tree
def test_the_norm_is_that_of_float64(tree: LpNestedTree) -> None:
    value, exponents = ordinary(tree)
    here, there = here_and_there(lambda x, p: F.norm(x, p, tree), value, exponents)
    assert_near(there[0], here[0], 8 * here[0])
    value, exponents = extreme(tree)
    here_and_there(lambda x, p: F.norm(x, p, tree).clamp_max(1e37), value, exponents)


def test_a_small_norm_of_a_large_ratio_is_held() -> None:
    """2^130 times the largest coordinate."""
    value, exponents = torch.full((8192,), 1e-30), torch.tensor([0.1])
    here, there = here_and_there(
        lambda x, p: F.norm(x, p, LpNestedTree.flat(8192)), value, exponents
    )
    assert_near(there[0], here[0], 200 * here[0])


def terms(tree: LpNestedTree, exponents: Tensor, orders: Tensor) -> Tensor:
    """The magnitudes of the terms of the area and of a moment, added up."""

    def order(node: Any) -> Tensor:
        return orders[..., node] if isinstance(node, int) else sum(map(order, node))

    def size(node: Any) -> int:
        return 1 if isinstance(node, int) else sum(map(size, node))

    total = torch.full(exponents.shape[:-1], tree.dim, dtype=f64)
    for node, p in zip(tree.nodes, exponents.to(f64).unbind(-1), strict=True):
        total += len(node) * p.log().abs()
        for part in (node, *node):
            total += (size(part) / p).lgamma().abs() + ((size(part) + order(part)) / p).lgamma()
    return total


@every_tree
@pytest.mark.parametrize("low", [0.3, 0.1])
def test_areas_volumes_and_moments_are_those_of_float64(tree: LpNestedTree, low: float) -> None:
    exponents = log_uniform(low, 20.0 if low == 0.3 else 200.0, 100, tree.num_nodes)
    orders = torch.randint(0, 9, (100, tree.dim)) / 2
    size = terms(tree, exponents, orders)
    for function in (F.log_surface_area, F.log_volume):
        here, there = here_and_there(lambda p, f=function: f(p, tree), exponents)
        assert_near(there[0], here[0], 2 * size)
    here, there = here_and_there(lambda k, p: F.log_moment(k, p, tree), orders, exponents)
    assert_near(there[0], here[0], 2 * size)
    here, there = here_and_there(lambda p: F.log_coordinate_moment(2, p, tree), exponents)
    assert_near(there[0], here[0], 2 * size.unsqueeze(-1))


@every_tree
def test_derivatives_by_transforms_are_those_of_float64(tree: LpNestedTree) -> None:
    """Not in forward mode, where torch itself takes the slope of a Python number for float64."""
    value, exponents = torch.randn(tree.dim) + 3, log_uniform(1.0, 3.0, tree.num_nodes)

    def derivatives(x: Tensor, p: Tensor) -> list[Tensor]:
        def log_norm(x: Tensor) -> Tensor:
            return F.log_norm(x, p, tree)

        rows = x.expand(3, -1)
        return [
            torch.func.jacrev(torch.func.jacrev(log_norm))(x),
            torch.func.vmap(torch.func.grad(log_norm))(rows),
        ]

    with without_float64():
        there = derivatives(value, exponents)
    for mine, right in zip(there, derivatives(value.to(f64), exponents.to(f64)), strict=True):
        assert_close(mine.to(f64), right, rtol=1e-5, atol=1e-5)


# Distributions -----------------------------------------------------------------------------------


def built(case: Case) -> Callable[..., Distribution]:
    names = list(case.params)
    return lambda *tensors: case.build(**dict(zip(names, tensors, strict=True)))


@each(NESTED)
def test_densities_are_those_of_float64(case: Case) -> None:
    """To 32 roundings; a radial that is not registered is as exact as it is itself."""
    build, parameters = built(case), case.tensors(f32).values()
    with without_float64():
        value = build(*parameters).sample((200,))
    here, there = here_and_there(lambda x, *t: build(*t).log_prob(x), value, *parameters)
    assert_near(there[0], here[0], 32 * (1 + here[0].abs()))
    for mine, right in zip(there[1:], here[1:], strict=True):
        assert_close(mine, right, rtol=2e-3, atol=1e-4)


@each([case for case in NESTED if case.name != "unregistered"])  # as finite as it is itself
def test_densities_and_gradients_are_finite_at_any_scale(case: Case) -> None:
    build, parameters = built(case), [x.requires_grad_() for x in case.tensors(f32).values()]
    with without_float64():
        dist = build(*parameters)
        value = extreme(dist.tree)[0].reshape(-1, *(1,) * len(case.batch), dist.tree.dim)
        value = value.expand(-1, *case.batch, -1).requires_grad_()
        log_prob = dist.log_prob(value)
        inside = log_prob > -math.inf
        assert (log_prob < math.inf).all()
        grads = torch.autograd.grad(log_prob.masked_fill(~inside, 0.0).sum(), (value, *parameters))
        assert all(x.isfinite().all() for x in grads)
    wide = build(*(x.detach().to(f64) for x in parameters)).log_prob(value.detach().to(f64))
    fits = wide.abs() < 1e28
    fits &= (value != 0).any(-1)  # the logarithm of no radius depends on the precision
    assert (inside == (wide > -math.inf)).all()
    assert_close(log_prob[fits].to(f64), wide[fits], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@each()
def test_properties_are_those_of_float64(case: Case) -> None:
    def properties(dist: Distribution) -> Iterator[Tensor]:
        names = ["entropy", "mean", "variance", "stddev", "mode"]
        names += ["covariance_matrix", "log_surface_area", "log_volume"] * case.nested
        for name in names:
            with suppress(NotImplementedError):
                result = getattr(dist, name)
                yield result() if callable(result) else result
        if case.nested:
            with suppress(NotImplementedError):
                yield dist.moment([0.5] * dist.tree.dim)

    with without_float64():
        there = list(properties(case.make(f32)))
    here = list(properties(built(case)(*(x.to(f64) for x in case.tensors(f32).values()))))
    for mine, right in zip(there, here, strict=True):
        assert mine.dtype == f32
        assert_close(mine.to(f64), right, rtol=32 * EPS, atol=32 * EPS, equal_nan=True)


@pytest.mark.slow
@each(UNIVARIATE)
@pytest.mark.parametrize("name", ["log_prob", "cdf", "log_cdf", "log_survival_function", "icdf"])
def test_univariate_functions_are_those_of_float64(case: Case, name: str) -> None:
    build, parameters = built(case), case.tensors(f32).values()
    with without_float64():
        dist = build(*parameters)
        value = torch.rand(50, *case.batch) if name == "icdf" else dist.rsample((50,))
    here, there = here_and_there(lambda x, *t: getattr(build(*t), name)(x), value, *parameters)
    for mine, right in zip(there, here, strict=True):
        assert_close(mine, right, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("p", "scale"), [(0.1, 1e-20), (0.5, 1.0), (2.0, 1e30), (20.0, 1e-3)])
def test_draws_are_those_of_the_law(p: float, scale: float) -> None:
    """With this radius coordinates are independent."""
    with without_float64():
        draws = ISA([2, 3, 1], p, p, scale).sample((4000,))
    law = scipy.stats.gennorm(p, scale=scale)
    assert scipy.stats.kstest(draws.flatten().double().numpy(), law.cdf).pvalue > 1e-4
    assert abs((draws > 0).double().mean() - 0.5) < 4.5 * 0.5 / math.sqrt(draws.numel())


@each()
def test_draws_of_every_distribution_are_finite(case: Case) -> None:
    with without_float64():
        draws = case.make(f32).sample((100,))
        assert draws.dtype == f32 and draws.isfinite().all()


def test_values_in_half_precision() -> None:
    value = torch.randn(10, 4).to(torch.bfloat16).requires_grad_()
    with without_float64():
        log_prob = ISA([2, 2], 2.1, 2.2).log_prob(value)
        (grad,) = torch.autograd.grad(log_prob.sum(), value)
    assert log_prob.dtype == f32 and grad.dtype == torch.bfloat16
    assert_close(log_prob, ISA([2, 2], 2.1, 2.2).log_prob(value))


def test_a_density_beyond_float32_saturates_with_gradient_0() -> None:
    value = torch.tensor([1e30, -1e30], requires_grad=True)
    with without_float64():
        log_prob = ISA([2], 200.0, 2.0).log_prob(value)
        (grad,) = torch.autograd.grad(log_prob, value)
    assert log_prob.isfinite() and log_prob < -1e30
    assert grad.tolist() == [0.0, 0.0]
