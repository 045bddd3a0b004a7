"""The incomplete gamma functions against 50 digits: both tails, all derivatives, the quantile."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from random import Random

import pytest
import torch
from torch import Tensor, autograd, func
from torch.testing import assert_close

from gamma_oracle import Real, log_tails, mp
from lpnested import chunks
from lpnested import incomplete_gamma as ig

f64 = torch.float64
inf, nan = math.inf, math.nan
Function = Callable[[Tensor, Tensor], Tensor]
Points = list[tuple[float, float]]
both = pytest.mark.parametrize("function", [ig.log_gammainc, ig.log_gammaincc])


# The oracle -------------------------------------------------------------------------------------


def shape_derivatives(a: Real, x: Real) -> tuple[Real, Real]:
    """By a central difference with twice the digits."""
    with mp.extradps(mp.dps):
        h = a * mp.mpf(10) ** -30
        above, below = log_tails(a + h, x), log_tails(a - h, x)
        return (above[0] - below[0]) / (2 * h), (above[1] - below[1]) / (2 * h)


def test_the_oracle_is_mpmath() -> None:
    for a, x in regime("anywhere", 15) + regime("tiny shape", 5):
        for ours, ends in zip(log_tails(mp.mpf(a), mp.mpf(x)), ((0, x), (x, mp.inf)), strict=True):
            exact = mp.gammainc(a, *ends, regularized=True)
            assert abs(mp.exp(ours) / exact - 1) < 1e-30


# Points -----------------------------------------------------------------------------------------


def draw(rng: Random, name: str) -> tuple[float, float]:
    a = 10 ** rng.uniform(-2, 3)
    closely = 1 + rng.choice([-1, 1]) * 10 ** rng.uniform(-16, -1)
    match name:
        case "anywhere":
            return a, a * rng.uniform(0, 2)
        case "x near a":
            a = 10 ** rng.uniform(0, 3)
            return a, a + rng.gauss(0, 2) * math.sqrt(a)
        case "x near 1":
            return a, closely
        case "x at a":
            a = rng.choice([a + 1, float(rng.randrange(1, 1000))])
            return a, a * closely
        case "integer shape":
            a = float(rng.randrange(1, 40))
            return a * rng.choice([1, closely]), a * rng.uniform(0, 3)
        case "series to difference":  # where log(x / (a + 9)) changes its form
            return a, (a + 9) * rng.choice([0.7, 1.3]) * closely
        case "far tails":
            return a, 10 ** rng.choice([rng.uniform(-300, 0), rng.uniform(0, 300)])
        case "tiny shape":
            return 10 ** rng.uniform(-6, -2), 10 ** rng.choice([rng.uniform(-300, 2), 0.0])
    raise ValueError(name)


REGIMES = [
    *("anywhere", "x near a", "x near 1", "x at a", "integer shape", "series to difference"),
    *("far tails", "tiny shape"),
]
in_regimes = pytest.mark.parametrize("name", REGIMES)


@cache
def regime(name: str, count: int = 40) -> Points:
    rng = Random(name)
    found: Points = []
    while len(found) < count:
        a, x = draw(rng, name)
        if 1e-300 <= x <= 1e300:
            found.append((a, x))
    return found


def tensors(points: Points) -> tuple[Tensor, Tensor]:
    a, x = torch.tensor(points, dtype=f64).unbind(1)
    return a.clone().requires_grad_(), x.clone().requires_grad_()


def exactly(points: Points) -> Iterator[tuple[Real, Real]]:
    return ((mp.mpf(a), mp.mpf(x)) for a, x in points)


def assert_exact(got: Tensor, exact: list[Real], rtol: float) -> None:
    """Relative errors. Numbers near the smallest and above the largest of float64 stand aside.

    A number as small as exp(-t) has t times the error of one of size 1: a logarithm near 0 is the
    exponential of the other one.
    """
    pairs = [(float(e), g) for e, g in zip(exact, got.tolist(), strict=True)]
    pairs = [(e, g) for e, g in pairs if 1e-280 < abs(e) < 1e300]
    assert pairs
    worst = max(abs(g / e - 1) / (1 + max(0.0, -math.log(abs(e)))) for e, g in pairs)
    assert worst < rtol


# Values and derivatives -------------------------------------------------------------------------


@in_regimes
def test_both_logarithms_are_exact(name: str) -> None:
    points = regime(name)
    exact = [log_tails(a, x) for a, x in exactly(points)]
    a, x = tensors(points)
    assert_exact(ig.log_gammainc(a, x), [log_p for log_p, _ in exact], 3e-14)
    assert_exact(ig.log_gammaincc(a, x), [log_q for _, log_q in exact], 3e-14)


@pytest.mark.slow
@in_regimes
def test_derivatives_in_the_shape_are_exact(name: str) -> None:
    points = regime(name)
    exact = [shape_derivatives(a, x) for a, x in exactly(points)]
    a, x = tensors(points)
    for k, function in enumerate((ig.log_gammainc, ig.log_gammaincc)):
        (got,) = autograd.grad(function(a, x).sum(), a)
        assert_exact(got, [slopes[k] for slopes in exact], 3e-14)


@in_regimes
def test_the_derivative_in_x_is_the_density_by_the_tail(name: str) -> None:
    points = regime(name)
    with mp.workdps(360 if name == "far tails" else 50):  # logarithms up to 1e300 cancel
        exact = [x_derivatives(a, x) for a, x in exactly(points)]
    a, x = tensors(points)
    for k, function in enumerate((ig.log_gammainc, ig.log_gammaincc)):
        (got,) = autograd.grad(function(a, x).sum(), x)
        assert_exact(got, [slopes[k] for slopes in exact], 3e-14)


@pytest.mark.parametrize("shape", [0.01, 0.1, 1.0, 7.3, 100.0, 1000.0])
def test_relative_errors_down_to_tails_of_exp_minus_1e5(shape: float) -> None:
    """Of plain numbers: also of a logarithm that is nearly 0, down to 1e-278.

    The oracle makes that one by log1p, of the other tail with its 50 digits.
    """
    target = -torch.tensor([0.7, 3.0, 30.0, 300.0, 640.0, 1e4, 1e5], dtype=f64)
    a = torch.full_like(target, shape).requires_grad_()
    for lower in (True, False):  # the quantile chooses the points, and need not be right
        log_x = quantile(a, target, torch.tensor(lower)).detach()
        got = ig.log_tails(a, log_x)
        for k in range(2):
            (slopes,) = autograd.grad(got[k].sum(), a, retain_graph=True)
            for y, value, slope in zip(log_x, got[k], slopes, strict=True):
                x = mp.exp(mp.mpf(y.item()))
                exact = log_tails(mp.mpf(shape), x)[k]
                if abs(exact) > 1e-300:
                    assert abs(value.item() / exact - 1) < 1e-12
                    assert abs(slope.item() / shape_derivatives(mp.mpf(shape), x)[k] - 1) < 1e-8


def x_derivatives(a: Real, x: Real) -> tuple[Real, Real]:
    """By the density. Where a logarithm is below the smallest number it is given up for 0."""
    log_density = (a - 1) * mp.log(x) - x - mp.loggamma(a)
    log_p, log_q = log_tails(a, x)
    return (
        mp.exp(log_density - log_p) if log_p < -1e-280 else mp.zero,
        -mp.exp(log_density - log_q) if log_q < -1e-280 else mp.zero,
    )


def quadrature(a: Real, x: Real) -> tuple[Real, Real]:
    """log P and log Q for a large shape, by the integral of the density over its bulk."""

    def density(z: Real) -> Real:
        t = a + z * mp.sqrt(a)
        return mp.exp((a - 1) * mp.log(t) - t - mp.loggamma(a)) * mp.sqrt(a)

    z = (x - a) / mp.sqrt(a)
    tails = mp.quad(density, mp.linspace(-14, z, 12)), mp.quad(density, mp.linspace(z, 14, 12))
    return mp.log(tails[0]), mp.log(tails[1])


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e4, 1e8, 1e12])
def test_large_shapes_are_as_exact_as_a_rounding_of_x(size: float) -> None:
    points = [(size, size + z * math.sqrt(size)) for z in (-4.0, -1e-3, 0.3, 4.0)]
    exact = [quadrature(a, x) for a, x in exactly(points)]
    a, x = tensors(points)
    rtol = 1e-12 + 1e-15 * math.sqrt(size)
    assert_exact(ig.log_gammainc(a, x), [log_p for log_p, _ in exact], rtol)
    assert_exact(ig.log_gammaincc(a, x), [log_q for _, log_q in exact], rtol)


def test_the_largest_shapes() -> None:
    points = [(1e60, 0.5), (1e60, 2.0), (1e300, 0.5), (1e300, 1e100)]
    exact = [a * mp.log(x) - mp.loggamma(a + 1) for a, x in exactly(points)]
    assert_exact(ig.log_gammainc(*tensors(points)), exact, 1e-14)


def test_tails_of_an_argument_that_underflows() -> None:
    points = [(a, log_x) for a in (1e-6, 0.01, 1.0, 3.0) for log_x in (-1e3, -1e5, -1e7)]
    exact = [a * log_x - mp.loggamma(a + 1) for a, log_x in exactly(points)]
    a, log_x = tensors(points)
    log_p, log_q = ig.log_tails(a, log_x)
    assert_exact(log_p, exact, 1e-13)
    assert_exact(log_q, [mp.log1p(-mp.exp(value)) for value in exact], 1e-12)
    slopes = autograd.grad(log_p.sum(), (a, log_x))
    assert_exact(slopes[0], [log_x - mp.psi(0, a + 1) for a, log_x in exactly(points)], 1e-13)
    assert_exact(slopes[1], [a for a, _ in exactly(points)], 1e-13)


@pytest.mark.slow
@in_regimes
def test_the_logarithm_of_x_serves_as_well_as_x(name: str) -> None:
    a, x = tensors(regime(name))
    log_x = x.detach().log().requires_grad_()
    for got, function in zip(
        ig.log_tails(a, log_x), (ig.log_gammainc, ig.log_gammaincc), strict=True
    ):
        expected = function(a, x)
        # A rounding of log x moves x by so much.
        rounding = (x * autograd.grad(expected.sum(), x, retain_graph=True)[0] * log_x).abs()
        allowed = 1e-12 * expected.abs() + 4e-16 * rounding
        assert ((got - expected).abs() <= allowed.clamp_min(1e-300)).all()
        (slope,) = autograd.grad(got.sum(), log_x, retain_graph=True)
        assert_close(slope, x * autograd.grad(expected.sum(), x)[0], rtol=1e-10, atol=1e-280)


@pytest.mark.parametrize("log_p", [-1e-300, -1e-9, -2e-3, -0.5, -math.log(2), -0.7, -3.0, -200.0])
def test_the_complement_is_exact(log_p: float) -> None:
    x = torch.tensor(log_p, dtype=f64, requires_grad=True)
    result = ig.log_complement(x)
    (slope,) = autograd.grad(result, x)
    p = mp.exp(mp.mpf(log_p))
    with mp.extradps(300):
        assert_exact(result.reshape(1), [mp.log(-mp.expm1(mp.mpf(log_p)))], 1e-14)
    assert_exact(slope.reshape(1), [p / mp.expm1(mp.mpf(log_p))], 1e-14)


# Ends -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "x", "log_p", "log_q"),
    [
        *((2.0, 0.0, -inf, 0.0), (0.5, -0.0, -inf, 0.0), (2.0, inf, 0.0, -inf)),
        *((inf, 3.0, -inf, 0.0), (inf, inf, nan, nan), (nan, 0.0, nan, nan)),
        *((nan, 1.0, nan, nan), (1.0, nan, nan, nan), (2.0, -1.0, nan, nan)),
        *((0.0, 1.0, nan, nan), (-1.0, 1.0, nan, nan), (0.0, 0.0, nan, nan)),
        (-0.5, inf, nan, nan),
    ],
)
def test_values_and_gradients_at_the_ends(a: float, x: float, log_p: float, log_q: float) -> None:
    for function, expected in ((ig.log_gammainc, log_p), (ig.log_gammaincc, log_q)):
        inputs = tensors([(a, x)])
        result = function(*inputs)
        assert_close(result.item(), expected, rtol=0, atol=0, equal_nan=True)
        if not math.isnan(expected):
            assert [g.item() for g in autograd.grad(result, inputs)] == [0.0, 0.0]


def test_tails_of_an_infinite_logarithm() -> None:
    a, log_x = tensors([(2.0, -inf), (2.0, inf), (2.0, 1e4), (2.0, nan)])
    log_p, log_q = ig.log_tails(a, log_x)
    assert_close(log_p.tolist(), [-inf, 0.0, 0.0, nan], equal_nan=True)
    assert_close(log_q.tolist(), [0.0, -inf, -inf, nan], equal_nan=True)
    for slopes in autograd.grad((log_p[:3] + log_q[:3]).sum(), (a, log_x)):
        assert slopes[:3].tolist() == [0.0, 0.0, 0.0]


@both
def test_gradients_are_finite_from_the_smallest_to_the_largest_number(function: Function) -> None:
    points = [(a, x) for a in (1e-6, 0.5, 1.0, 30.0, 1e7) for x in (1e-300, 1.0, 1.7e308)]
    points += [(1e60, 1.0), (1e100, 0.5), (1e100, 3.0)]
    a, x = tensors(points)
    result = function(a, x)
    assert result.isfinite().all()
    assert all(g.isfinite().all() for g in autograd.grad(result.sum(), (a, x)))


# The quantile -----------------------------------------------------------------------------------


def quantile_points(low: float, high: float, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes, logarithms of the smaller tail (1/2 to exp(-1e5)), and whether it is the lower."""
    rng = Random(f"{low}, {high}")
    rows = []
    for k in range(count):
        steps = [10 ** rng.uniform(-16, 0), rng.uniform(0, 20), 10 ** rng.uniform(1, 5.15)]
        target = -math.log(2) * (1 + steps[k % 3])
        rows.append((10 ** rng.uniform(low, high), target, k % 2))
    a, target, lower = torch.tensor(rows, dtype=f64).unbind(1)
    return a.clone().requires_grad_(), target.clone().requires_grad_(), lower == 1


def quantile(a: Tensor, target: Tensor, lower: Tensor) -> Tensor:
    other = ig.log_complement(target.detach())
    log_p, log_q = torch.where(lower, target, other), torch.where(lower, other, target)
    return ig.log_gammaincinv(a, log_p, log_q)


@pytest.mark.slow
@pytest.mark.parametrize(("low", "high", "count"), [(-6, -2, 90), (-2, 1, 150), (1, 3, 90)])
def test_the_quantile_inverts_both_tails_and_has_the_derivatives_of_an_inverse(
    low: float, high: float, count: int
) -> None:
    a, target, lower = quantile_points(low, high, count)
    log_x = quantile(a, target, lower)
    slopes = autograd.grad(log_x.sum(), (a, target))
    worst = 0.0
    in_a, in_target = [], []
    rows = zip(a.tolist(), log_x.tolist(), target.tolist(), lower.tolist(), strict=True)
    for shape, y, t, is_lower in rows:
        shape, x = mp.mpf(shape), mp.exp(mp.mpf(y))
        log_tail = log_tails(shape, x)[not is_lower]
        slope = mp.exp(shape * mp.mpf(y) - x - mp.loggamma(shape) - log_tail)
        slope = slope if is_lower else -slope
        # In units of x; a logarithm beyond the range of x has but 16 digits itself.
        worst = max(worst, abs((log_tail - mp.mpf(t)) / slope) / max(1, abs(y) / 700))
        in_a.append(-shape_derivatives(shape, x)[not is_lower] / slope)
        in_target.append(1 / slope)
    assert worst < 1e-12
    assert_exact(slopes[0], in_a, 1e-10)
    assert_exact(slopes[1], in_target, 1e-10)


@pytest.mark.parametrize("size", [1e4, 1e8, 1e12])
def test_the_quantile_of_a_large_shape_is_as_exact_as_its_tails(size: float) -> None:
    a, target, lower = quantile_points(math.log10(size), math.log10(size), 50)
    log_x = quantile(a, target, lower)
    tails = ig.log_tails(a, log_x)
    got = torch.where(lower, *tails)
    # log x, about 28, is rounded to 3.6e-15.
    slope = autograd.grad(got.sum(), log_x, retain_graph=True)[0].abs()
    assert ((got - target).abs() <= 1e-12 * target.abs() + 2e-14 * slope).all()


@pytest.mark.parametrize("target", [-1e8, -1e12])
def test_the_quantile_deep_in_the_tails(target: float) -> None:
    points = [(a, target) for a in (0.01, 0.7, 1.0, 3.0, 1000.0)]
    a, log_tail = tensors(points)
    for lower in (True, False):
        got = quantile(a, log_tail, torch.tensor(lower))
        if lower:  # P is its first term
            exact = [(t + mp.loggamma(a + 1)) / a for a, t in exactly(points)]
        else:  # Q is x^(a - 1) exp(-x) / Gamma(a) (1 + ...)
            exact = []
            for a_, t in exactly(points):
                x = -t
                for _ in range(8):
                    log_terms = mp.log1p((a_ - 1) / x * (1 + (a_ - 2) / x))
                    x = -t + (a_ - 1) * mp.log(x) - mp.loggamma(a_) + log_terms
                exact.append(mp.log(x))
        assert_exact(got, exact, 1e-14)


def test_the_gradient_goes_to_the_smaller_tail() -> None:
    a = torch.tensor(3.0, dtype=f64)
    for p in (0.2, 0.8):
        log_p, log_q = (torch.tensor(math.log(v), dtype=f64) for v in (p, 1 - p))
        log_p.requires_grad_()
        log_q.requires_grad_()
        in_p, in_q = autograd.grad(ig.log_gammaincinv(a, log_p, log_q), (log_p, log_q))
        assert (in_p > 0, in_q < 0) == (p < 0.5, p > 0.5)


@pytest.mark.parametrize(
    ("a", "log_p", "log_q", "expected"),
    [
        *((2.0, -inf, 0.0, -inf), (2.0, 0.0, -inf, inf), (nan, -1.0, -1.0, nan)),
        *((1.0, nan, -1.0, nan), (1.0, -1.0, nan, nan), (1.0, 1.0, 1.0, nan)),
        *((0.0, -1.0, -1.0, nan), (-1.0, -inf, 0.0, nan)),
    ],
)
def test_ends_of_the_quantile(a: float, log_p: float, log_q: float, expected: float) -> None:
    inputs = [torch.tensor(v, dtype=f64, requires_grad=True) for v in (a, log_p, log_q)]
    result = ig.log_gammaincinv(*inputs)
    assert_close(result.item(), expected, rtol=0, atol=0, equal_nan=True)
    if not math.isnan(expected):
        assert [g.item() for g in autograd.grad(result, inputs)] == [0.0, 0.0, 0.0]


# As torch's functions ---------------------------------------------------------------------------

SHAPES = [0.05, 0.9, 2.0, 3.5, 300.0, 5.0, 0.5, 50.0]
VALUES = [0.1, 2.0, 0.9, 3.0, 290.0, 60.0, 30.0, 10.0]


def inputs() -> tuple[Tensor, Tensor]:
    return tensors(list(zip(SHAPES, VALUES, strict=True)))


def quantile_of(a: Tensor, log_tail: Tensor) -> Tensor:
    """Of the lower tail for the first half of the numbers, of the upper for the other."""
    return quantile(a, log_tail, torch.arange(a.shape[-1], device=a.device) < a.shape[-1] // 2)


@pytest.mark.slow
def test_first_and_second_derivatives_are_those_of_the_values() -> None:
    options = {"eps": 1e-6, "rtol": 1e-4}
    for function in (ig.log_gammainc, ig.log_gammaincc):
        assert autograd.gradcheck(
            function,
            inputs(),
            check_forward_ad=True,
            check_batched_grad=True,
            check_batched_forward_grad=True,
            atol=1e-9,
            **options,
        )
        assert autograd.gradgradcheck(function, inputs(), atol=1e-6, **options)


@pytest.mark.slow
def test_first_and_second_derivatives_of_the_quantile_are_those_of_its_values() -> None:
    a, _ = inputs()
    log_tail = -torch.linspace(0.8, 40.0, len(a), dtype=f64).requires_grad_()
    options = {"eps": 1e-6, "rtol": 1e-4, "atol": 1e-6}
    assert autograd.gradcheck(quantile_of, (a, log_tail), check_forward_ad=True, **options)
    assert autograd.gradgradcheck(quantile_of, (a, log_tail), **options)


@both
def test_function_transforms_give_what_autograd_gives(function: Function) -> None:
    a, x = inputs()
    result = function(a, x)
    slopes = autograd.grad(result.sum(), (a, x))
    assert_close(func.vmap(function)(a, x), result)
    assert_close(func.vmap(function, (None, 0))(a[0], x), function(a[0], x))
    assert_close(func.vmap(function, (0, None))(a, x[0]), function(a, x[0]))
    assert_close(func.vmap(func.grad(function, (0, 1)))(a, x), slopes)
    _, tangent = func.jvp(function, (a, x), (torch.ones_like(a), torch.zeros_like(x)))
    assert_close(tangent, slopes[0])


@pytest.mark.slow
def test_everything_compiles_to_one_graph() -> None:
    def tails(a: Tensor, x: Tensor) -> Tensor:
        return torch.stack(ig.log_tails(a, x.log()))

    def results(function: Function) -> list[Tensor]:
        a, x = inputs()
        result = function(a, x)
        return [result, *autograd.grad(result.sum(), (a, x))]

    # Three times the tails take their time to trace, backwards too.
    for function, backend in (
        (tails, "aot_eager"),
        (lambda a, x: quantile_of(a, -x - 1), "eager"),
    ):
        compiled = torch.compile(function, fullgraph=True, backend=backend)
        for got, expected in zip(results(compiled), results(function), strict=True):
            assert_close(got, expected, rtol=1e-12, atol=1e-300)


def test_numbers_are_never_read_and_shapes_broadcast() -> None:
    a, x = torch.ones(3, 1, device="meta"), torch.ones(4, device="meta")
    for result in (ig.log_gammainc(a, x), *ig.log_tails(a, x), ig.log_gammaincinv(a, -x, -x)):
        assert (result.shape, result.dtype) == ((3, 4), f64)


def test_arguments_in_single_precision_are_exact_and_get_their_gradients() -> None:
    a, x = (v.detach().float().requires_grad_() for v in inputs())
    result = ig.log_gammainc(a, x)
    assert torch.equal(result, ig.log_gammainc(a.double(), x.double()))
    assert [g.dtype for g in autograd.grad(result.sum(), (a, x))] == [torch.float32] * 2


def test_a_device_gives_the_numbers_of_the_cpu(device: torch.device) -> None:
    a, x = inputs()
    log_p, log_q = ig.log_tails(a, x.log())
    there = [v.detach().to(device) for v in (a, x, log_p, log_q)]
    assert_close(ig.log_gammainc(*there[:2]).cpu(), log_p, rtol=1e-12, atol=0)
    assert_close(ig.log_gammaincinv(there[0], *there[2:]).cpu(), x.log(), rtol=1e-12, atol=1e-14)


# Many numbers -----------------------------------------------------------------------------------


@both
def test_chunks_change_nothing(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    def results() -> list[Tensor]:
        a, x = inputs()
        result = function(a.unsqueeze(-1), x)
        slopes = autograd.grad(result.sum(), (a, x), create_graph=True)
        (curvature,) = autograd.grad(slopes[0].sum(), a)
        first = autograd.grad(function(a.unsqueeze(-1), x).sum(), (a, x))
        return [result, *slopes, curvature, *first, function(a.detach(), x.detach())]

    whole = results()
    monkeypatch.setattr(chunks, "_CPU_CHUNK", 7)
    for got, expected in zip(results(), whole, strict=True):
        assert_close(got, expected, rtol=1e-13, atol=0)


def test_chunks_change_no_quantile(monkeypatch: pytest.MonkeyPatch) -> None:
    def results() -> list[Tensor]:
        a, x = inputs()
        result = quantile_of(a, -x - 1)
        slopes = autograd.grad(result.sum(), (a, x), create_graph=True)
        return [result, *slopes, autograd.grad(slopes[0].sum(), a)[0]]

    whole = results()
    monkeypatch.setattr(chunks, "_CPU_CHUNK", 5)
    for got, expected in zip(results(), whole, strict=True):
        assert_close(got, expected, rtol=1e-13, atol=0)


def test_only_what_is_asked_for_gets_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_CPU_CHUNK", 5)
    a, x = inputs()
    (slope,) = autograd.grad(ig.log_gammainc(a.detach(), x).sum(), x)
    assert_close(slope, autograd.grad(ig.log_gammainc(a, x).sum(), x)[0], rtol=1e-14, atol=0)


def test_the_gradient_of_many_numbers_keeps_little_more_than_them() -> None:
    a = torch.full((20_000,), 3.0, dtype=f64, requires_grad=True)
    kept = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    with autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        ig.log_gammainc(a, torch.ones_like(a))
    assert kept < 40 * 8 * len(a)  # as one piece it is hundreds
