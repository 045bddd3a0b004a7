"""Gradients where one child rules its node, where children tie, and at zeros.

There a clamp meets its bound. torch up to 2.13 gives ``clamp`` gradient 1 at a tie and from 2.14
on 0, so every way of taking a gradient is held to the oracle at such points.
"""

import math
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given, settings
from torch import Tensor
from torch.distributions import Beta, Distribution, InverseGamma
from torch.overrides import TorchFunctionMode

import oracle
import problems
from cases import Case, each
from conditions import Norm
from lpnested import ISA, GeneralizedGamma, LpNestedTree
from lpnested import functional as F
from lpnested.precision import exp, saturate_cast
from lpnested.radial import log_generator
from oracle import Real, mp, mpf
from problems import Conditioned, Problem
from test_accuracy import FLOOR, GRADIENT, LARGEST, Setting, assert_near
from test_condition import check
from units import units

pytestmark = pytest.mark.usefixtures("backend")

f32, f64 = torch.float32, torch.float64
dtypes = pytest.mark.parametrize("dtype", [f64, f32], ids=str)
LogNorm = Callable[[Tensor, Tensor], Tensor]
Gradient = Callable[[LogNorm, Tensor, Tensor], tuple[Tensor, ...]]


@st.composite
def tied_problems(draw: st.DrawFn) -> Problem:
    """Of few magnitudes, the smaller of which are often lost beside the larger."""
    root = draw(problems.roots(max_dim=12, max_depth=4))
    dim = oracle.size(root)
    number = st.sampled_from([0.0, 1.0, 1.0, -1.0, 3.0, -1e-12, 1e-25])
    row = draw(st.lists(number, min_size=dim, max_size=dim))
    scale = max(1.0, *map(abs, row))  # at which the power of the radius is moderate
    return Problem(root, draw(problems.powers(root, low=0.5)), [row], scale)


# Each way of taking a gradient -------------------------------------------------------------------


def eager(log_norm: LogNorm, value: Tensor, exponents: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(log_norm(value, exponents), (value, exponents))


def batched(log_norm: LogNorm, value: Tensor, exponents: Tensor) -> tuple[Tensor, ...]:
    rows = [torch.stack([x, x]) for x in (value, exponents)]
    return tuple(x[1] for x in torch.autograd.grad(log_norm(*rows).sum(), rows))


def transformed(log_norm: LogNorm, value: Tensor, exponents: Tensor) -> tuple[Tensor, ...]:
    gradient = torch.func.vmap(torch.func.grad(log_norm, argnums=(0, 1)))
    rows = gradient(torch.stack([value, value]), torch.stack([exponents, exponents]))
    return tuple(x[1] for x in rows)


def forward(log_norm: LogNorm, value: Tensor, exponents: Tensor) -> tuple[Tensor, ...]:
    return torch.func.jacfwd(log_norm, argnums=(0, 1))(value.detach(), exponents.detach())


def compiled(log_norm: LogNorm, value: Tensor, exponents: Tensor) -> tuple[Tensor, ...]:
    torch._dynamo.reset()
    value = value.detach().requires_grad_()  # a leaf, as Dynamo wants it
    return eager(torch.compile(log_norm, fullgraph=True, backend="aot_eager"), value, exponents)


def check_log_norm(problem: Problem, dtype: torch.dtype, gradient: Gradient) -> None:
    setting = Setting(problem, dtype)
    (row,) = setting.rows
    in_x, in_p = gradient(
        lambda x, p: F.log_norm(x, p, setting.tree), setting.value[0], setting.exponents
    )
    norm = Norm(setting.root, setting.exponents.tolist(), row)
    known = [*norm.in_value, *norm.in_exponents]
    for got, exact in zip(torch.cat([in_x, in_p]).tolist(), known, strict=True):
        assert exact is not None and units(got, exact, dtype) <= 8


ONE_RULES = Problem((0, 1, 2, 3), [100.0], [[1.0, 3.0, -1.0, 0.0]], 3.0)
ALONE = Problem((((2,),), (0, (1, 3))), [2.0, 1.0, 0.5, 2.2, 3.0], [[0.0, 0.0, -3.0, 1e-25]], 3.0)
ALL_TIE = Problem(((0, 1), (2, 3)), [2.0, 2.2, 2.2], [[1.0, -1.0, 1.0, 1.0]], 1.0)
SUBSPACE_LOST = Problem(((0, 1), (2, 3)), [2.0, 2.2, 2.2], [[1e25, -1e25, 1.0, 3.0]], 1e25)


def hard(test):  # type: ignore[no-untyped-def]
    """Run the test on a few problems by name as well."""
    for problem in (ONE_RULES, ALONE, ALL_TIE, SUBSPACE_LOST):
        test = example(problem)(test)
    return settings(max_examples=30)(test)


@pytest.mark.slow
@given(tied_problems())
@hard
@dtypes
@pytest.mark.parametrize("gradient", [eager, batched, transformed, forward])
def test_gradients_of_log_norm_are_exact(
    gradient: Gradient, dtype: torch.dtype, problem: Problem
) -> None:
    check_log_norm(problem, dtype, gradient)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem", "dtype"), [(ONE_RULES, torch.float32), (ALONE, f64), (SUBSPACE_LOST, f64)]
)
def test_gradients_of_compiled_log_norm_are_exact(problem: Problem, dtype: torch.dtype) -> None:
    check_log_norm(problem, dtype, compiled)


@given(tied_problems())
@hard
@dtypes
def test_gradients_of_log_prob_are_exact(dtype: torch.dtype, problem: Problem) -> None:
    check("gamma radius", Conditioned(*problem, p=problem.exponents[0], dim=1.0), dtype)


@given(tied_problems())
@hard
def test_gradients_of_norm_are_exact(problem: Problem) -> None:
    setting = Setting(problem, f64)
    length = F.norm(setting.value[0], setting.exponents, setting.tree)
    (grad,) = torch.autograd.grad(length, setting.value)
    exact = oracle.norm_gradient(setting.root, setting.rows[0], setting.p)
    for got, want in zip(grad[0], exact, strict=True):
        if abs(want) < LARGEST[f64]:
            assert_near(got, want, GRADIENT[f64], FLOOR[f64], "df/dx")


def curvature(setting: Setting, in_x: list[float], in_p: list[float]) -> list[Real]:
    """The change of the gradient of log f along a direction, in x (times x) and p: a difference
    at 90 digits."""

    def gradient(step: Real) -> list[Real]:
        moved = zip(setting.rows[0], in_x, strict=True)
        x = [mpf(value) * (1 + step * slope) for value, slope in moved]
        p = {n: q + step * d for (n, q), d in zip(setting.p.items(), in_p, strict=True)}
        length = oracle.norm(setting.root, x, p) or mpf(1)
        along_x = [g / length for g in oracle.norm_gradient(setting.root, x, p)]
        return along_x + oracle.log_norm_exponent_gradient(setting.root, x, p)

    with mp.workdps(90):
        step = mpf(10) ** -30
        ends = zip(gradient(step), gradient(-step), strict=True)
        return [(above - below) / (2 * step) for above, below in ends]


@pytest.mark.slow
@given(tied_problems())
@hard
@dtypes
def test_second_gradients_of_log_norm_are_exact(dtype: torch.dtype, problem: Problem) -> None:
    setting = Setting(problem, dtype)
    num, count = setting.tree.dim, setting.tree.num_nodes
    in_x, in_p = [1.0 + k / num for k in range(num)], [0.5 + k / count for k in range(count)]
    inputs = setting.value, setting.exponents
    log_norm = F.log_norm(setting.value[0], setting.exponents, setting.tree)
    first = torch.autograd.grad(log_norm, inputs, create_graph=True)
    slope = first[0][0] @ (setting.value.detach()[0] * torch.tensor(in_x, dtype=dtype))
    slope = slope + first[1] @ torch.tensor(in_p, dtype=dtype)
    second = torch.autograd.grad(slope, inputs)
    exact = curvature(setting, in_x, in_p)
    sizes = [abs(mpf(x)) for x in setting.rows[0]] + [mpf(1)] * count
    atol = GRADIENT[dtype] * (1 + max(setting.p.values()))  # of terms that nearly cancel
    for got, want, size in zip(torch.cat([second[0][0], second[1]]), exact, sizes, strict=True):
        assert abs(mpf(got.item()) - want) * size <= atol
        assert size or got == 0.0


# No gradient is left to torch --------------------------------------------------------------------


class Undecided(TorchFunctionMode):
    """Refuses a gradient through what is not smooth, unless by a clamp away from its bounds."""

    CLAMPS = ("clamp", "clamp_min", "clamp_max", "clip")
    OTHERS = ("amax", "amin", "max", "min", "maximum", "minimum", "fmax", "fmin", "relu", "sort")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "").rstrip("_")
        arguments = [x for x in (*args, *(kwargs or {}).values()) if x is not None]
        if any(isinstance(x, Tensor) and x.requires_grad for x in arguments):
            assert name not in self.OTHERS
            x, *bounds = arguments
            assert name not in self.CLAMPS or not any((x == bound).any() for bound in bounds), name
        return func(*args, **(kwargs or {}))


@given(tied_problems())
@hard
def test_no_clamp_decides_a_gradient(problem: Problem) -> None:
    setting = Setting(problem, f64)
    with Undecided():
        F.norm(setting.value, setting.exponents, setting.tree)
        F.log_norm(setting.value, setting.exponents, setting.tree)
        setting.dist().log_prob(setting.value)


@each()
def test_no_clamp_decides_a_gradient_of_any_distribution(case: Case) -> None:
    dist = case.make(requires_grad=True)
    value = dist.sample()
    if case.nested and case.smooth:
        value[..., 0] = 0.0
    with Undecided():
        dist.log_prob(value.requires_grad_())
        for name in ("mean", "mode", "variance", "entropy"):
            try:
                result = getattr(dist, name)
                result = result() if callable(result) else result
            except NotImplementedError:
                continue


# The bounds themselves ---------------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize("dim", [1, 2])
def test_the_norm_follows_the_largest_number(dim: int, dtype: torch.dtype) -> None:
    value = torch.zeros(dim, dtype=dtype)
    value[0] = torch.finfo(dtype).max
    value.requires_grad_()
    length = F.norm(value, torch.tensor([2.0], dtype=dtype), LpNestedTree.flat(dim))
    (grad,) = torch.autograd.grad(length, value)
    assert length == value[0]
    assert grad.tolist() == [1.0, 0.0][:dim]


@pytest.mark.parametrize("number", [torch.finfo(f64).tiny, torch.finfo(f64).max])
def test_log_norm_follows_the_smallest_and_the_largest_number(number: float) -> None:
    value = torch.tensor([number], dtype=f64, requires_grad=True)
    exponents = torch.tensor([2.0], dtype=f64)
    F.log_norm(value, exponents, LpNestedTree.flat(1)).backward()
    assert value.grad is not None and value.grad.item() == pytest.approx(1 / number, abs=0.0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_result_that_fits_is_not_saturated(sign: float) -> None:
    largest = sign * torch.finfo(f32).max
    x = torch.tensor([largest, 2 * largest, sign * torch.inf], dtype=f64, requires_grad=True)
    saturate_cast(x, f32).sum().backward()
    assert saturate_cast(x, f32).tolist() == [largest, largest, sign * torch.inf]
    assert x.grad is not None and x.grad.tolist() == [1.0, 0.0, 1.0]


def test_an_exponential_is_saturated_beyond_its_bound_only() -> None:
    x = torch.tensor([599.0, 600.0, 601.0], dtype=f64, requires_grad=True)
    result = exp(x)
    result.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [*result.tolist()[:2], 0.0]


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0])
def test_the_mode_of_a_radius_has_gradient_zero_where_it_becomes_zero(p: float) -> None:
    parameters = [torch.tensor(x, dtype=f64, requires_grad=True) for x in (1.0, p, 2.0)]
    mode = GeneralizedGamma(*parameters).mode
    assert mode == 0.0
    assert all(grad == 0.0 for grad in torch.autograd.grad(mode, parameters))


@pytest.mark.parametrize(
    ("radial", "log_r", "slope"),
    [
        (InverseGamma(torch.tensor(3.0, dtype=f64), 1.0), 88.7, -4.0),
        (Beta(torch.tensor(2.0, dtype=f64), 3.0), math.log(1 - 2.0**-22), 3 - 2.0**23),
    ],
    ids=["large", "next to the end of a support"],
)
def test_the_slope_of_any_radial_is_its_own(
    radial: Distribution, log_r: float, slope: float
) -> None:
    """At radii to which the generic fallback holds what is beyond."""
    at = torch.tensor(log_r, dtype=f64, requires_grad=True)
    log_generator(radial, at, 1, 0.0).backward()
    assert at.grad is not None and at.grad.item() == pytest.approx(slope)


# What was reported -------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [2.0, 100.0])
def test_no_row_of_a_plain_norm_loses_its_gradient(p: float) -> None:
    """By Euler's theorem, as f is homogeneous: sum_i x_i d log f / dx_i = 1."""
    value = torch.randn(500, 4, dtype=f64, requires_grad=True)
    exponents = torch.tensor([p], dtype=f64)
    log_norm = F.log_norm(value, exponents, LpNestedTree.flat(4))
    (grad,) = torch.autograd.grad(log_norm.sum(), value)
    torch.testing.assert_close((value * grad).sum(-1), torch.ones(500, dtype=f64))


@pytest.mark.slow
def test_a_compiled_subspace_of_one_coordinate_keeps_its_score() -> None:
    value = torch.tensor([0.5, -1.0, 2.0, 0.1, 0.7], requires_grad=True)
    log_prob = ISA([4, 1], 2.0, 2.0, validate_args=False).log_prob
    torch._dynamo.reset()
    result = torch.compile(log_prob, fullgraph=True, backend="aot_eager")(value)
    (score,) = torch.autograd.grad(result, value)
    torch.testing.assert_close(score, -2 * value)
