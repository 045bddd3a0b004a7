"""The two univariate distributions: state, tails, moments and draws, against 50 digits."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, autograd, func, nn
from torch import distributions as td
from torch.distributions import Distribution
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from cases import needs_gammas_without_memory
from gamma_oracle import Real, log_tails, mp
from lpnested import GeneralizedGamma, GeneralizedNormal

f32, f64 = torch.float32, torch.float64
inf, nan = math.inf, math.nan
Family = type[GeneralizedNormal] | type[GeneralizedGamma]
Row = tuple[float, ...]
FAMILIES: dict[str, Family] = {"normal": GeneralizedNormal, "gamma": GeneralizedGamma}
PARAMETERS: dict[str, Row] = {"normal": (0.3, 1.2, 1.7), "gamma": (3.0, 1.7, 1.2)}
families = pytest.mark.parametrize("name", list(FAMILIES))
dtypes = pytest.mark.parametrize("dtype", [f32, f64], ids=str)
FUNCTIONS = ["log_prob", "cdf", "log_cdf", "log_survival_function", "icdf"]


def tensors(row: Row, dtype: torch.dtype = f64) -> list[Tensor]:
    return [torch.tensor(value, dtype=dtype, requires_grad=True) for value in row]


def make(name: str, dtype: torch.dtype = f64, **how: Any) -> Distribution:
    return FAMILIES[name](*(x.detach() for x in tensors(PARAMETERS[name], dtype)), **how)


# State ------------------------------------------------------------------------------------------


def answers(dist: Distribution) -> list[Tensor]:
    torch.manual_seed(1)
    value = torch.tensor(0.7, dtype=f64)
    of_value = [getattr(dist, function)(value) for function in FUNCTIONS]
    moments = [dist.mean, dist.variance, dist.stddev, dist.mode, dist.entropy()]
    return [*of_value, *moments, dist.sample((3,)), dist.rsample((3,)).detach()]


def fill(x: Tensor) -> None:
    with torch.no_grad():
        x.fill_(1.9)


def fill_data(x: Tensor) -> None:
    x.data.mul_(1.5)


def fill_array(x: Tensor) -> None:
    x.detach().numpy()[...] = 1.9


def fill_dlpack(x: Tensor) -> None:
    torch.from_dlpack(x.detach()).fill_(1.9)


def step(family: Callable[..., torch.optim.Optimizer], **how: bool) -> Callable[[Tensor], None]:
    def write(x: Tensor) -> None:
        optimiser = family([x], lr=0.3, **how)
        (x * x).backward()
        optimiser.step()

    return write


WRITES = {
    **{"fill_": fill, ".data": fill_data, "array": fill_array, "dlpack": fill_dlpack},
    **{
        f"{family.__name__} {how}": step(family, **how)
        for family in (torch.optim.SGD, torch.optim.Adam)
        for how in ({"foreach": False}, {"foreach": True}, {"fused": True})
    },
}


@pytest.mark.slow
@families
@pytest.mark.parametrize("write", WRITES.values(), ids=list(WRITES))
def test_a_write_to_a_parameter_is_seen_by_every_answer(
    name: str, write: Callable[[Tensor], None]
) -> None:
    for place in range(3):
        parameters = tensors(PARAMETERS[name])
        dist = FAMILIES[name](*parameters)
        before = answers(dist)
        write(parameters[place])
        fresh = FAMILIES[name](*(x.detach().clone() for x in parameters))
        after = answers(dist)
        for got, expected in zip(after, answers(fresh), strict=True):
            assert torch.equal(got, expected)
        assert not torch.equal(after[0], before[0])


@families
def test_a_distribution_built_once_trains_its_parameters(name: str) -> None:
    """The maximum likelihood that a fresh distribution in every step finds."""
    x = make(name).sample((500,))
    found = []
    for once in (True, False):
        parameters = tensors(PARAMETERS[name])
        optimiser = torch.optim.Adam(parameters, lr=0.02, fused=True)
        built = FAMILIES[name](*parameters)
        for _ in range(20):
            dist = built if once else FAMILIES[name](*parameters)
            optimiser.zero_grad()
            (-dist.log_prob(x).mean()).backward()
            optimiser.step()
        found.append(torch.stack(parameters).detach())
    assert torch.equal(*found) and not torch.equal(found[0], found[0].new(PARAMETERS[name]))


@families
def test_attributes_are_views_of_what_was_passed(name: str) -> None:
    parameters = [x.detach() for x in tensors(PARAMETERS[name])]
    parameters[1] = parameters[1].expand(4)
    dist = FAMILIES[name](*parameters)
    for attribute, parameter in zip(dist.arg_constraints, parameters, strict=True):
        kept = dist.__dict__[attribute]
        assert kept.data_ptr() == parameter.data_ptr() and kept.shape == (4,)


@families
def test_results_have_the_dtype_that_all_parameters_promote_to(name: str) -> None:
    whole = torch.tensor([2, 3])
    for given, expected in (
        ((whole, 2.0, 1.0), f32),
        ((whole, whole, whole), f32),
        ((whole, torch.tensor(2.0, dtype=f64), 1), f64),
        ((torch.tensor(2.0), torch.tensor(2.0, dtype=f64), 1.5), f64),
    ):
        dist = FAMILIES[name](*given)
        results = [dist.mean, dist.mode, dist.variance, dist.stddev, dist.entropy()]
        results += [dist.sample((2,)), dist.rsample(), dist.log_prob(whole), dist.cdf(whole)]
        assert {x.dtype for x in results} == {expected}
        assert dist.icdf(torch.tensor(0.5, dtype=torch.float16)).dtype == expected


class Prior(Distribution, nn.Module):
    """As GPyTorch's."""


@families
@pytest.mark.parametrize("base", [nn.Module, Prior], ids=["module", "prior"])
def test_a_module_may_be_a_distribution_too(name: str, base: type) -> None:
    class Both(base, FAMILIES[name]):
        def __init__(self, *parameters: Tensor) -> None:
            nn.Module.__init__(self)
            FAMILIES[name].__init__(self, *parameters)

    both = Both(*(x.detach() for x in tensors(PARAMETERS[name])))
    assert list(both.parameters()) == [] and both.double().train() is both
    for got, expected in zip(answers(both), answers(make(name)), strict=True):
        assert torch.equal(got, expected)


@families
@pytest.mark.parametrize("function", FUNCTIONS)
def test_numbers_are_values_where_torch_takes_them(name: str, function: str) -> None:
    dist = make(name, f32, validate_args=False)
    got = getattr(dist, function)(0.5)
    assert got.dtype == f32 and torch.equal(got, getattr(dist, function)(torch.tensor(0.5)))
    if function != "icdf":  # torch checks the values of the others alone
        with pytest.raises(ValueError, match="must be a Tensor"):
            getattr(make(name), function)(0.5)


# Tails ------------------------------------------------------------------------------------------


def log_normal_tails(x: Real, loc: Real, scale: Real, p: Real) -> tuple[Real, Real]:
    if x == loc:
        return -mp.log(2), -mp.log(2)
    log_q = log_tails(1 / p, (abs(x - loc) / scale) ** p)[1]
    tail, rest = log_q - mp.log(2), mp.log1p(-mp.exp(log_q) / 2)
    return (tail, rest) if x < loc else (rest, tail)


def log_gamma_tails(x: Real, dim: Real, p: Real, scale: Real) -> tuple[Real, Real]:
    return log_tails(dim / p, (x / scale) ** p)


TAILS = {"normal": log_normal_tails, "gamma": log_gamma_tails}


@cache
def points(name: str, dtype: torch.dtype, count: int = 24) -> list[Row]:
    """A value and parameters, numbers of the dtype: near the mode, in the tails, far below."""
    rng, rows = Random(f"{name} {dtype}"), []
    while len(rows) < count:
        scale, p = 10 ** rng.uniform(-30, 30), 10 ** rng.uniform(-1, math.log10(200))
        dim = 10 ** rng.uniform(-2, 6)
        a = 1 / p if name == "normal" else dim / p
        log_power = [math.log10(a) + rng.uniform(-1, 1), rng.uniform(-3, 4), rng.uniform(-80, 0)]
        x = scale * 10 ** (log_power[len(rows) % 3] / p)
        if not (1e-30 < abs(x) < 1e30 and a < 3000):
            continue
        if name == "normal":
            loc = scale * rng.gauss(0, 1) if rng.random() < 0.5 else scale * 1e-3
            x = loc + x * rng.choice([-1, 1])
        row = (x, loc, scale, p) if name == "normal" else (x, dim, p, scale)
        rows.append(tuple(torch.tensor(row, dtype=dtype).tolist()))
    return rows


def slopes(function: Callable[..., Real], row: tuple[Real, ...]) -> list[Real]:
    """By central differences with more digits."""
    found = []
    with mp.extradps(30):
        for k, value in enumerate(row):
            above, below, h = list(row), list(row), (abs(value) or 1) * mp.mpf(10) ** -25
            above[k], below[k] = value + h, value - h
            found.append((function(*above) - function(*below)) / (2 * h))
    return found


def exactly(row: Row) -> tuple[Real, ...]:
    return tuple(mp.mpf(value) for value in row)


def size_of(value: Real, row: tuple[Real, ...], slopes: list[Real]) -> Real:
    """The condition: what roundings of the arguments do to a value, in units of a rounding."""
    return abs(value) + sum(abs(x * slope) for x, slope in zip(row, slopes, strict=True))


def assert_slopes(got: tuple[Tensor, ...], exact: list[Real], condition: list[Real]) -> None:
    """Relative to the slope, and to a rounding of the value by its argument."""
    tiny, largest = (getattr(torch.finfo(got[0].dtype), end) for end in ("tiny", "max"))
    rtol = 2e-11 if got[0].dtype == f64 else 2e-6
    for g, e, c in zip(got, exact, condition, strict=True):
        if tiny < abs(e) < largest:
            assert abs(g.item() - e) < rtol * (abs(e) + 1e-4 * c)


@pytest.mark.slow
@families
@dtypes
def test_both_tails_and_their_gradients_are_exact(name: str, dtype: torch.dtype) -> None:
    eps, tiny = torch.finfo(dtype).eps, torch.finfo(dtype).tiny
    for point in points(name, dtype):
        row, inputs = exactly(point), tensors(point, dtype)
        dist = FAMILIES[name](*inputs[1:])
        for k, function in enumerate((dist.log_cdf, dist.log_survival_function)):
            exact = TAILS[name](*row)[k]
            in_row = slopes(lambda *row: TAILS[name](*row)[k], row)  # noqa: B023
            got = function(inputs[0])
            if tiny < abs(exact) < torch.finfo(dtype).max:
                assert abs(got.item() - exact) < 8 * eps * size_of(exact, row, in_row)
                condition = [abs(exact / x) for x in row]
                assert_slopes(autograd.grad(got, inputs), in_row, condition)
            if k == 0 and exact > mp.log(tiny):
                got, p = dist.cdf(inputs[0]), mp.exp(exact)
                in_row = [p * slope for slope in in_row]
                assert abs(got.item() - p) < 8 * eps * size_of(p, row, in_row)
                assert_slopes(autograd.grad(got, inputs), in_row, [p / abs(x) for x in row])


@pytest.mark.slow
@families
def test_the_quantile_is_the_inverse_with_the_gradients_of_one(name: str) -> None:
    for point in points(name, f64):
        log_p = TAILS[name](*exactly(point))[0]
        if not -700 < log_p < -1e-12:
            continue
        u = torch.tensor(float(mp.exp(log_p)), dtype=f64, requires_grad=True)
        parameters = tensors(point[1:])
        x = FAMILIES[name](*parameters).icdf(u)
        row = (mp.mpf(x.item()), *exactly(point)[1:])
        in_x, *in_row = slopes(lambda *row: mp.exp(TAILS[name](*row)[0]), row)
        miss = (mp.exp(TAILS[name](*row)[0]) - mp.mpf(u.item())) / in_x
        exact = [1 / in_x, *(-slope / in_x for slope in in_row)]
        arguments = (mp.mpf(u.item()), *row[1:])
        assert abs(miss) < 8 * torch.finfo(f64).eps * size_of(row[0], arguments, exact)
        shift = abs(row[0] - row[1]) if name == "normal" else row[0]
        if shift > 1e-3 * abs(row[0]):  # else x, rounded, no longer says where it is
            got = autograd.grad(x, [u, *parameters])
            assert_slopes(got, exact, [1e4 * abs(row[0] / a) for a in arguments])


def test_known_tails() -> None:
    standard = GeneralizedNormal(0.0, 2**0.5, 2.0)
    x = torch.tensor([-36.0, -9.0, -1.0, 0.0, 3.0], dtype=f64)
    normal = scipy.stats.norm(scale=math.sqrt(standard.scale.item() ** 2 / 2))
    assert_close(standard.cdf(x).numpy(), normal.cdf(x.numpy()), rtol=1e-12, atol=0)
    assert_close(standard.log_cdf(x).numpy(), normal.logcdf(x.numpy()), rtol=1e-13, atol=0)
    assert standard.cdf(torch.tensor(-9.0)).item() == pytest.approx(1.1286e-19, rel=1e-4)
    laplace = td.Laplace(torch.tensor(0.3, dtype=f64), 1.2)
    u = torch.linspace(0.01, 0.99, 9, dtype=f64)
    ours = GeneralizedNormal(laplace.loc, laplace.scale, 1.0)
    assert_close(ours.icdf(u), laplace.icdf(u), rtol=1e-14, atol=1e-15)
    weibull = td.Weibull(torch.tensor(0.7, dtype=f64), torch.tensor(1.7, dtype=f64))
    radius = GeneralizedGamma(weibull.concentration, weibull.concentration, weibull.scale)
    assert_close(radius.icdf(u), weibull.icdf(u), rtol=1e-13, atol=0)
    assert_close(radius.log_survival_function(u), -((u / 0.7) ** 1.7), rtol=1e-14, atol=0)


ENDS = {  # of values, and what log_prob, cdf, log_cdf and log_survival_function are there
    ("normal", -inf): (-inf, 0.0, -inf, 0.0),
    ("normal", inf): (-inf, 1.0, 0.0, -inf),
    ("normal", nan): (nan, nan, nan, nan),
    ("gamma", 0.0): (-inf, 0.0, -inf, 0.0),
    ("gamma", -1.0): (nan, 0.0, -inf, 0.0),
    ("gamma", inf): (-inf, 1.0, 0.0, -inf),
    ("gamma", nan): (nan, nan, nan, nan),
}


@dtypes
@pytest.mark.parametrize(("name", "x"), list(ENDS))
def test_values_at_the_ends(name: str, x: float, dtype: torch.dtype) -> None:
    inputs = tensors((x, *PARAMETERS[name]), dtype)
    dist = FAMILIES[name](*inputs[1:], validate_args=False)
    for function, expected in zip(FUNCTIONS[:4], ENDS[name, x], strict=True):
        got = getattr(dist, function)(inputs[0])
        assert_close(got.item(), expected, rtol=0, atol=0, equal_nan=True)
        if not math.isnan(expected):
            gradients = autograd.grad(got, inputs)
            assert all(g.isfinite() for g in gradients) and gradients[0] == 0
    for u, expected in (
        (0.0, -inf if name == "normal" else 0.0),
        (1.0, inf),
        (1.5, nan),
        (nan, nan),
    ):
        u = torch.tensor(u, dtype=dtype, requires_grad=True)
        got = dist.icdf(u)
        assert_close(got.item(), expected, rtol=0, atol=0, equal_nan=True)
        assert [g.item() for g in autograd.grad(got, [u, *inputs[1:]])] == [0.0] * 4


@pytest.mark.slow
@dtypes
@pytest.mark.parametrize("p", [0.1, 1.0, 1.7, 200.0])
def test_finite_values_have_finite_densities_tails_and_gradients(
    p: float, dtype: torch.dtype
) -> None:
    ends = torch.finfo(dtype)
    sizes = [0.0, ends.tiny, 1e-30, 1e-10, 1.0, 1e5, 1e30, ends.max / 2]
    for name, rows in (
        ("normal", [(0.0, s, p) for s in (1e-30, 1.0, 1e30)]),
        ("gamma", [(n, p, s) for n in (1.0, 1e6) for s in (1e-30, 1.0, 1e30)]),
    ):
        for row in rows:
            parameters = tensors(row, dtype)
            dist = FAMILIES[name](*parameters)
            x = torch.tensor(sizes[name == "gamma" :], dtype=dtype, requires_grad=True)
            for function in ("log_prob", "log_cdf", "log_survival_function", "cdf"):
                result = getattr(dist, function)(x)
                gradients = autograd.grad(result.sum(), [x, *parameters])
                assert result.isfinite().all(), (row, function)
                assert not any(g.isnan().any() for g in gradients), (row, function)


def test_the_slope_of_the_cdf_at_the_mode_is_the_density() -> None:
    for p in (0.3, 1.0, 2.0, 200.0):
        x, *parameters = tensors((0.3, 0.3, 1.2, p))
        dist = GeneralizedNormal(*parameters)
        in_x, *rest = autograd.grad(dist.cdf(x), [x, *parameters])
        density = dist.log_prob(x).exp()
        assert_close([in_x, *rest], [density, -density, 0 * density, 0 * density])


def log_normal(x: Real, loc: Real, scale: Real, p: Real) -> Real:
    return mp.log(p / (2 * scale)) - mp.loggamma(1 / p) - (abs(x - loc) / scale) ** p


def log_gamma(x: Real, dim: Real, p: Real, scale: Real) -> Real:
    z = x / scale
    return mp.log(p / scale) - mp.loggamma(dim / p) + (dim - 1) * mp.log(z) - z**p


EXTREMES = {  # the ratio of value and scale leaves float64
    "normal": [(1e-300, 0.0, 1e30, 0.7), (1e300, 0.0, 1e-30, 0.1)],
    "gamma": [(1e-300, 3.0, 1.3, 1e30), (1e300, 3.0, 0.1, 1e-30)],
}


@families
def test_log_prob_is_exact_at_every_scale(name: str) -> None:
    log_density = {"normal": log_normal, "gamma": log_gamma}[name]
    for point in [*EXTREMES[name], *points(name, f64)]:
        row, inputs = exactly(point), tensors(point)
        exact, in_row = log_density(*row), slopes(log_density, row)
        got = FAMILIES[name](*inputs[1:]).log_prob(inputs[0])
        size = (row[1] if name == "gamma" else 1) / row[2 if name == "gamma" else 3]
        condition = size_of(exact, row, in_row) + abs(mp.loggamma(size)) + 100
        if exact > -1e250:
            assert abs(got.item() - exact) < 8 * torch.finfo(f64).eps * condition
            assert_slopes(
                autograd.grad(got, inputs), in_row, [condition / abs(x or 1) for x in row]
            )


# Moments ----------------------------------------------------------------------------------------


def radial_moment(dim: Real, p: Real, scale: Real, order: int) -> Real:
    return scale**order * mp.exp(mp.loggamma((dim + order) / p) - mp.loggamma(dim / p))


def radial_variance(dim: Real, p: Real, scale: Real) -> Real:
    return radial_moment(dim, p, scale, 2) - radial_moment(dim, p, scale, 1) ** 2


def radial_entropy(dim: Real, p: Real, scale: Real) -> Real:
    a = dim / p
    return mp.log(scale / p) + mp.loggamma(a) + a + (1 - dim) / p * mp.psi(0, a)


MOMENTS: dict[str, dict[str, Callable[..., Real]]] = {
    "normal": {
        "variance": lambda loc, scale, p: radial_moment(mp.one, p, scale, 2),
        "stddev": lambda loc, scale, p: mp.sqrt(radial_moment(mp.one, p, scale, 2)),
        "entropy": lambda loc, scale, p: mp.log(2 * scale) + mp.loggamma(1 + 1 / p) + 1 / p,
    },
    "gamma": {
        "mean": lambda dim, p, scale: radial_moment(dim, p, scale, 1),
        "variance": radial_variance,
        "stddev": lambda *row: mp.sqrt(radial_variance(*row)),
        "entropy": radial_entropy,
        "mode": lambda dim, p, scale: scale * ((dim - 1) / p) ** (1 / p) if dim > 1 else mp.zero,
    },
}


@cache
def parameter_rows(name: str, dtype: torch.dtype, count: int = 40) -> list[Row]:
    """Shapes dim / p of 1e-6 to 1e12."""
    rng, rows = Random(f"{name} {dtype}"), []
    for k in range(count):
        scale, p = (
            10 ** rng.uniform(-30, 30),
            10 ** rng.uniform(*((-1, 2.3) if k % 4 else (-3, 3))),
        )
        row = (scale, scale, p) if name == "normal" else (p * 10 ** rng.uniform(-6, 12), p, scale)
        rows.append(tuple(torch.tensor(row, dtype=dtype).tolist()))
    return rows


@pytest.mark.slow
@families
@dtypes
def test_moments_and_their_gradients_are_exact_at_every_shape_and_scale(
    name: str, dtype: torch.dtype
) -> None:
    """What the dtype can hold is right, and what it cannot is inf or 0."""
    ends = torch.finfo(dtype)
    for point in parameter_rows(name, dtype):
        parameters = tensors(point, dtype)
        dist = FAMILIES[name](*parameters)
        for moment, function in MOMENTS[name].items():
            with mp.workdps(80):
                row = exactly(point)
                exact, in_row = function(*row), slopes(function, row)
            if moment == "mode" and not row[0] > 1:
                continue
            got = getattr(dist, moment)
            got = got() if callable(got) else got
            logs = sum(abs(mp.log(x)) for x in row) if moment == "entropy" else 0
            if ends.tiny < abs(exact) < ends.max:
                condition = size_of(exact, row, in_row) + logs
                assert abs(got.item() - exact) < 8 * ends.eps * condition
                gradients = autograd.grad(got, parameters, allow_unused=True)
                gradients = [torch.zeros_like(got) if g is None else g for g in gradients]
                assert_slopes(gradients, in_row, [1e-2 * condition / x for x in row])
            else:
                assert got.item() == (inf if exact > ends.max else pytest.approx(0, abs=ends.tiny))


def test_known_moments() -> None:
    def number(value: float) -> Tensor:
        return torch.tensor(value, dtype=f64)

    variance = GeneralizedNormal(number(0.0), 1.0, 0.015).variance
    assert variance.item() == pytest.approx(2.9324e280, rel=1e-4)
    assert GeneralizedNormal(0.0, 1.0, 0.015).variance.item() == inf
    for scale in (1e-25, 1e25):
        stddev = GeneralizedNormal(0.0, scale, 2.0).stddev.item()
        assert stddev == pytest.approx(scale / math.sqrt(2), rel=1e-6)
    assert GeneralizedGamma(number(1e12), 1.0).entropy().item() == pytest.approx(15.2344, abs=5e-5)
    exact = math.sqrt(5e11) * (1 - 1 / (8 * 5e11))
    assert GeneralizedGamma(number(1e12), 2.0).mean.item() == pytest.approx(exact, rel=1e-15)


@pytest.mark.parametrize("p", [0.0075, 0.0074])
def test_moments_and_quantiles_whose_factors_leave_float64(p: float) -> None:
    scale = 1e-250
    normal = GeneralizedNormal(*(x.detach() for x in tensors((0.0, scale, p))))
    exact = MOMENTS["normal"]["stddev"](*exactly((0.0, scale, p)))
    assert exact / scale > mp.mpf(10) ** 310
    assert normal.stddev.item() == pytest.approx(float(exact), rel=1e-12)
    assert normal.variance.item() == pytest.approx(float(exact**2), rel=1e-12)
    far = normal.icdf(torch.tensor(1 - 2.0**-53, dtype=f64))
    assert far / scale == inf and far < inf
    assert normal.log_survival_function(far).item() == pytest.approx(-53 * math.log(2), rel=1e-12)


@pytest.mark.parametrize("order", [-3.0, -2.9, -1.0, 0.0, 0.5, 1e4])
def test_moments_of_any_order(order: float) -> None:
    row = (3.0, 1.7, 1.2)
    got = GeneralizedGamma(*tensors(row)).log_moment(order).item()
    exact = inf if order <= -3 else mp.log(radial_moment(*exactly(row), mp.mpf(order)))
    assert got == pytest.approx(float(exact), rel=1e-13)


# As torch's functions ---------------------------------------------------------------------------


@pytest.mark.slow
@families
@pytest.mark.parametrize("function", FUNCTIONS[1:])
def test_second_derivatives_are_those_of_the_first(name: str, function: str) -> None:
    value = torch.tensor([0.02, 0.4, 0.9], dtype=f64, requires_grad=True)

    def result(value: Tensor, *parameters: Tensor) -> Tensor:
        return getattr(FAMILIES[name](*parameters, validate_args=False), function)(value)

    inputs = (value, *tensors(PARAMETERS[name]))
    options = {"rtol": 1e-4, "atol": 1e-7}
    assert autograd.gradcheck(result, inputs, check_forward_ad=True, **options)
    assert autograd.gradgradcheck(result, inputs, **options)


@families
@pytest.mark.parametrize("function", ["cdf", "icdf"])
def test_function_transforms_give_what_autograd_gives(name: str, function: str) -> None:
    values = torch.tensor([0.02, 0.4, 0.9], dtype=f64)
    parameters = [x.detach() for x in tensors(PARAMETERS[name])]

    def result(value: Tensor, *parameters: Tensor) -> Tensor:
        return getattr(FAMILIES[name](*parameters, validate_args=False), function)(value)

    places = tuple(range(4))
    inputs = [values.clone().requires_grad_(), *tensors(PARAMETERS[name])]
    whole = result(*inputs)
    expected = autograd.grad(whole.sum(), inputs, create_graph=True)
    assert_close(func.vmap(lambda v: result(v, *parameters))(values), whole)
    each = func.vmap(func.grad(result, places), (0, None, None, None))(values, *parameters)
    assert_close([g.sum() for g in each], [g.sum() for g in expected])
    ones = tuple(torch.ones_like(x) for x in (values, *parameters))
    _, tangent = func.jvp(result, (values, *parameters), ones)
    assert_close(tangent.sum(), sum(g.sum() for g in expected))
    p = 3 if name == "normal" else 2
    hessian = func.hessian(lambda *inputs: result(*inputs).sum(), p)(values, *parameters)
    assert_close(hessian, autograd.grad(expected[p], inputs[p])[0])


@pytest.mark.slow
@families
def test_tails_and_draws_compile_to_one_graph(name: str) -> None:
    value = torch.tensor([0.3, 0.9], dtype=f64)
    p = torch.tensor(1.4, dtype=f64, requires_grad=True)

    def distribution() -> Distribution:
        return FAMILIES[name](3.0, p, 1.2, validate_args=False)

    compiled = torch.compile(lambda: distribution().cdf(value), fullgraph=True, backend="eager")
    assert_close(compiled(), distribution().cdf(value))
    draws = torch.compile(lambda: distribution().sample((2,)), fullgraph=True, backend="eager")()
    assert draws.shape == (2,) and not draws.requires_grad and draws.isfinite().all()


@pytest.mark.slow
@needs_gammas_without_memory
@families
def test_an_exported_sampler_has_a_dynamic_batch(name: str, tmp_path: Any) -> None:
    class Sampler(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = nn.Parameter(torch.tensor(1.5))

        def forward(self, x: Tensor) -> Tensor:
            dist = FAMILIES[name](1.0, self.p, 1.2, validate_args=False)
            return dist.sample((x.shape[0],))

    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(Sampler(), (torch.ones(3),), dynamic_shapes=(batch,))
    torch.export.save(program, tmp_path / "sampler.pt2")
    loaded = torch.export.load(tmp_path / "sampler.pt2").module()
    assert loaded(torch.ones(7)).shape == (7,)


# Draws ------------------------------------------------------------------------------------------

LAWS = [("normal", (0.3, 0.7, p)) for p in (0.1, 0.6, 2.0, 60.0)]
LAWS += [
    ("gamma", (dim, p, 0.7)) for dim, p in ((0.01, 30.0), (0.7, 0.5), (5.0, 2.0), (300.0, 0.4))
]


def assert_law(draws: Tensor, row: Row) -> None:
    """Of dim, p and scale, by the power of a draw, whose logarithm has no bounds.

    Draws below the smallest and above the largest number stand aside.
    """
    dim, p, scale = row
    a, ends = dim / p, torch.finfo(draws.dtype)

    def cdf(log_power: np.ndarray) -> np.ndarray:
        first = np.exp(a * np.minimum(log_power, -50) - math.lgamma(a + 1))
        return np.where(
            log_power < -50, first, scipy.special.gammainc(a, np.exp(np.minimum(log_power, 700)))
        )

    inside = draws[(draws > ends.tiny) & (draws < ends.max)].double().numpy()
    low, high = (cdf(p * np.log(end / scale)) for end in (ends.tiny, ends.max))
    share = len(inside) / draws.numel()
    assert abs(share - (high - low)) < 4 / math.sqrt(draws.numel())
    law = scipy.stats.kstest(p * np.log(inside / scale), lambda x: (cdf(x) - low) / (high - low))
    assert law.pvalue > 1e-3


@dtypes
@pytest.mark.parametrize(("name", "row"), LAWS)
def test_draws_follow_their_law_with_and_without_gradient(
    name: str, row: Row, dtype: torch.dtype
) -> None:
    dist = FAMILIES[name](*tensors(row, dtype))
    for draws in (dist.sample((40_000,)), dist.rsample((10_000,)).detach()):
        if name == "gamma":
            assert_law(draws, row)
        else:
            loc, scale, p = row
            above = (draws > loc).double().mean()
            assert abs(above - 0.5) < 2 / math.sqrt(len(draws))
            assert_law((draws - torch.tensor(loc, dtype=dtype)).abs(), (1.0, p, scale))


@pytest.mark.parametrize(("p", "scale"), [(0.03, 1e-30), (0.05, 1e-35)])
def test_draws_are_right_where_a_power_of_a_gamma_variable_leaves_the_dtype(
    p: float, scale: float
) -> None:
    for dist in (GeneralizedNormal(0.0, scale, p), GeneralizedGamma(1.0, p, scale)):
        draws = dist.sample((20_000,)).abs()
        assert draws.isfinite().all()
        assert_law(draws, (1.0, dist.p.item(), dist.scale.item()))


def test_the_largest_draws() -> None:
    dist = GeneralizedGamma(torch.tensor(1000.0), 0.1, 1e-5)  # the power is 1e40
    expected = scipy.stats.gengamma(1000 / 0.1, 0.1, scale=1e-5).median()
    assert dist.sample((2000,)).median().item() == pytest.approx(expected, rel=0.02)
    large = GeneralizedNormal(torch.tensor(0.0, dtype=f64), 1e110, 0.0116)  # of about 1e280
    assert (large.sample((4000,)).abs() > 1e270).double().mean() > 0.5


@pytest.mark.slow
@families
@pytest.mark.parametrize("batch", [(30, 70), (500, 140), (2, 33_000)], ids=str)
def test_draws_depend_on_the_seed_and_not_on_the_layout_of_the_parameters(
    name: str, batch: tuple[int, int]
) -> None:
    wide = [10 ** (2 * torch.rand(batch) - 1) for _ in range(2)] + [
        torch.tensor(1.3).expand(batch)
    ]
    drawn = []
    for parameters in (wide, [x.t().contiguous().t() for x in wide]):
        torch.manual_seed(0)
        drawn.append(FAMILIES[name](*parameters).sample((2,)))
    assert torch.equal(*drawn) and drawn[0].is_contiguous()
    probabilities = FAMILIES[name](*wide).cdf(drawn[0])  # each with its own parameters
    assert scipy.stats.kstest(probabilities.flatten(), "uniform").pvalue > 1e-3


@pytest.mark.slow
def test_draws_do_not_depend_on_the_number_of_threads(one_thread: None) -> None:
    drawn = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for dtype in (f32, f64):
            p = torch.tensor(2.2, dtype=dtype, requires_grad=True)
            for size in (1, 1000, 2**14 + 1, 40_000, 2**16 + 1, 100_003):
                for dist in (GeneralizedNormal(0.0, 1.0, p), GeneralizedGamma(3.0, p, 1.0)):
                    torch.manual_seed(0)
                    drawn.append((dist.sample((size,)), dist.rsample((size,)).detach()))
    for one, two in zip(drawn[:24], drawn[24:], strict=True):
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


class Storages(TorchDispatchMode):
    """The memory that operations make, by address."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: dict[int, int] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.bytes[result.untyped_storage().data_ptr()] = result.untyped_storage().nbytes()
        return result


@families
def test_draws_take_little_memory_beside_the_result(name: str) -> None:
    """Copies of parameters that lie in no order, and one of the draws."""
    first = torch.full((1000, 800), 2.0)
    for parameters, shape in (
        ([torch.tensor(2.0)] * 3, (800_000,)),
        ([first, *torch.tensor([1.2, 1.7]).unbind()], ()),
        ([first.t(), first.t(), first.t()], ()),
    ):
        dist = FAMILIES[name](*parameters, validate_args=False)
        with Storages() as made:
            draws = dist.sample(shape)
        made.bytes.pop(first.data_ptr(), None)
        assert draws.numel() == 800_000 and sum(made.bytes.values()) < 4.1 * draws.nbytes


@families
def test_empty_draws_have_their_shape(name: str) -> None:
    assert make(name).sample((0,)).shape == (0,)
    empty = FAMILIES[name](torch.ones(0), 1.0, 1.0)
    assert empty.sample((3,)).shape == (3, 0)


@needs_gammas_without_memory
@families
def test_answers_without_memory_have_their_shape(name: str) -> None:
    meta = FAMILIES[name](torch.ones(2, device="meta"), 1.0, 1.0, validate_args=False)
    for result in (meta.sample((3,)), meta.rsample((3,)), meta.cdf(0.5).expand(3, 2)):
        assert result.shape == (3, 2) and result.device.type == "meta"


@pytest.mark.parametrize("p", [0.01, 0.02, 0.05, 0.07, 2.0])
def test_the_slope_of_the_median_is_that_of_the_density(p: float) -> None:
    """d quantile / du = 1 / density = 2 s Gamma(1 + 1/p), and the median has no slope in p."""
    u, power = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.5, p))
    slopes = torch.autograd.grad(GeneralizedNormal(0.0, 1.0, power).icdf(u), (u, power))
    right = 2 * mp.gamma(1 + 1 / mp.mpf(p))
    assert slopes[1] == 0
    assert abs(mp.mpf(slopes[0].item()) / right - 1) < 1e-11


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_repr_has_the_digits_of_its_dtype(dtype: torch.dtype) -> None:
    parameter = torch.tensor(2.1, dtype=dtype)
    assert repr(GeneralizedNormal(0.0, 0.1, parameter)).endswith("scale: 0.1, p: 2.1)")
    assert repr(GeneralizedGamma(4, parameter)) == "GeneralizedGamma(dim: 4, p: 2.1, scale: 1)"
