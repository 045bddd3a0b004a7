"""Radial transforms: against 50 digits, autograd, samples, and the contract of torch."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from itertools import combinations
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy import stats
from torch import Tensor, autograd, func
from torch.distributions import (
    Beta,
    Categorical,
    Chi2,
    ComposeTransform,
    Distribution,
    Exponential,
    FisherSnedecor,
    Gamma,
    HalfCauchy,
    HalfNormal,
    InverseGamma,
    LogNormal,
    MixtureSameFamily,
    Normal,
    Pareto,
    Poisson,
    Transform,
    TransformedDistribution,
    Uniform,
    Weibull,
    constraints,
)
from torch.distributions.transforms import AffineTransform, ExpTransform
from torch.testing import assert_close

import oracle
import problems
import transform_oracle
from lpnested import ISA, GeneralizedGamma, GeneralizedNormal, LpNested, LpNestedTree, LpSpherical
from lpnested.radial_map import radial_map
from lpnested.transforms import NestedRadialFactorization, RadialTransform
from transform_oracle import Radial, Real, mp, mpf

f64 = torch.float64


def number(value: float, dtype: torch.dtype = f64) -> Tensor:
    return torch.tensor(value, dtype=dtype)


class LogLogistic(Distribution):
    """Any radius that has a distribution function and a quantile: (r/s)^k is F / (1 - F)."""

    arg_constraints = {"scale": constraints.positive, "k": constraints.positive}  # noqa: RUF012
    support = constraints.positive
    has_rsample = True

    def __init__(self, scale: Tensor, k: Tensor) -> None:
        self.scale, self.k = torch.broadcast_tensors(scale, k)
        super().__init__(self.scale.shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> LogLogistic:
        return LogLogistic(self.scale.expand(batch_shape), self.k.expand(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        t = self.k * (value / self.scale).log()
        return self.k.log() - value.log() + t - 2 * torch.nn.functional.softplus(t)

    def cdf(self, value: Tensor) -> Tensor:
        return torch.sigmoid(self.k * (value / self.scale).log())

    def icdf(self, value: Tensor) -> Tensor:
        return self.scale * (value.logit() / self.k).exp()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.icdf(torch.rand(self._extended_shape(torch.Size(sample_shape)), dtype=f64))


# The map of one radius --------------------------------------------------------------------------

RADII: dict[str, tuple[Callable[..., Distribution], Callable[..., Radial], list[float]]] = {
    "gamma": (GeneralizedGamma, transform_oracle.generalized_gamma, [3.0, 1.7, 2.0]),
    "log-normal": (LogNormal, transform_oracle.log_normal, [0.3, 0.5]),
    "sharp": (GeneralizedGamma, transform_oracle.generalized_gamma, [5.0, 150.0, 0.7]),
    "inverse gamma": (InverseGamma, transform_oracle.inverse_gamma, [2.5, 2.0]),
    "heavy": (GeneralizedGamma, transform_oracle.generalized_gamma, [40.0, 0.3, 1.0]),
    "half Cauchy": (HalfCauchy, transform_oracle.half_cauchy, [2.0]),
}
NAMES = list(RADII)
PAIRS = [(NAMES[i], NAMES[(i + k) % 6]) for k in (1, 4) for i in range(6)]
in_pairs = pytest.mark.parametrize(("source", "target"), PAIRS)


def radius(name: str, parameters: list[Tensor]) -> Distribution:
    return RADII[name][0](*parameters)


def exact_radius(name: str) -> Radial:
    _, make, parameters = RADII[name]
    return make(*parameters)


def parameters_of(name: str) -> list[Tensor]:
    return [number(x).requires_grad_() for x in RADII[name][2]]


def points(name: str, log_tails: list[float]) -> list[float]:
    """Logarithms of radii at which one tail and then the other has the given logarithms."""
    exponential = transform_oracle.generalized_gamma(1, 1, 1)
    upper = [mp.log(-mpf(t)) for t in log_tails]
    lower = [mp.log(-mp.log1p(-mp.exp(mpf(t)))) for t in log_tails]
    wanted = exact_radius(name)
    return [float(transform_oracle.log_radius(exponential, wanted, y)) for y in lower + upper]


@in_pairs
def test_a_radius_is_exact_deep_in_both_tails(source: str, target: str) -> None:
    log_r = points(source, [-0.7, -3.0, -690.0, -1e5])
    got = radial_map(
        radius(source, parameters_of(source)),
        radius(target, parameters_of(target)),
        torch.tensor(log_r, dtype=f64),
    )
    for y, g in zip(log_r, got.tolist(), strict=True):
        exact = transform_oracle.log_radius(exact_radius(source), exact_radius(target), mpf(y))
        assert abs(g - exact) < 3e-14 * max(1, abs(exact))


def tail_slopes(name: str, log_r: Real, side: int) -> tuple[list[Real], Real]:
    """Of the logarithm of a tail, in each parameter and in log r, by central differences."""
    _, make, parameters = RADII[name]
    with mp.extradps(mp.dps):
        values = [mpf(x) for x in parameters]
        h = mpf(10) ** -30

        def difference(at: Callable[[Real], Real]) -> Real:
            return (at(h) - at(-h)) / (2 * h)

        def moved(k: int) -> Callable[[Real], Real]:
            return lambda e: make(*(x + e * (j == k) for j, x in enumerate(values))).tails(log_r)[
                side
            ]

        in_parameters = [difference(moved(k)) for k in range(len(values))]
        return in_parameters, difference(lambda e: make(*values).tails(log_r + e)[side])


@in_pairs
def test_derivatives_of_a_radius_in_all_parameters_are_exact(source: str, target: str) -> None:
    for y in points(source, [-0.9, -50.0]):
        inputs = parameters_of(source), parameters_of(target), number(y).requires_grad_()
        got = radial_map(radius(source, inputs[0]), radius(target, inputs[1]), inputs[2])
        slopes = autograd.grad(got, (*inputs[0], *inputs[1], inputs[2]))
        exact = transform_oracle.log_radius(exact_radius(source), exact_radius(target), mpf(y))
        tails = exact_radius(source).tails(mpf(y))
        side = 0 if tails[0] < tails[1] else 1
        of_source, in_r = tail_slopes(source, mpf(y), side)
        of_target, in_g = tail_slopes(target, exact, side)
        wanted = [*(v / in_g for v in of_source), *(-v / in_g for v in of_target), in_r / in_g]
        for slope, w in zip(slopes, wanted, strict=True):
            assert abs(slope.item() - w) < 1e-10 * max(1, abs(w))


@pytest.mark.slow
@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_second_derivatives_of_a_radius(side: float) -> None:
    """The quantile of a log-normal variable has its own step of Halley."""

    def mapped(log_r: Tensor, loc: Tensor, scale: Tensor, dim: Tensor) -> Tensor:
        source = GeneralizedGamma(dim, number(1.5), number(1.0))
        return radial_map(source, LogNormal(loc, scale), log_r)

    inputs = [number(v).requires_grad_() for v in (0.6 * side, 0.3, 0.5, 2.0)]
    assert autograd.gradcheck(mapped, inputs, check_forward_ad=True)
    assert autograd.gradgradcheck(mapped, inputs)


@pytest.mark.parametrize("to", [LogNormal(number(0.3), 0.5), HalfCauchy(number(1.0))])
def test_medians_map_to_medians(to: Distribution) -> None:
    """Where the tails are equal, and the normal quantile is 0, the slope is right as well."""
    log_r = number(0.2).requires_grad_()
    got = radial_map(LogNormal(number(0.2), 1.5), to, log_r)
    (slope,) = autograd.grad(got, log_r)
    median = to.icdf(number(0.5))
    density = math.log(1.5 * math.sqrt(2 * math.pi)) + to.log_prob(median) + median.log()
    assert_close(got, median.log(), rtol=0, atol=1e-15)
    assert_close(slope, (-density).exp(), rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    "radial",
    [
        *(Gamma(number(3.0), 2.0), Chi2(number(5.0)), Exponential(number(0.7))),
        *(Weibull(number(2.0), 1.3), HalfNormal(number(1.7))),
    ],
    ids=lambda x: type(x).__name__,
)
def test_what_is_a_generalized_gamma_serves_as_one(radial: Distribution) -> None:
    by_name = {
        "Gamma": stats.gamma(3.0, scale=0.5),
        "Chi2": stats.chi2(5.0),
        "Exponential": stats.expon(scale=1 / 0.7),
        "Weibull": stats.weibull_min(1.3, scale=2.0),
        "HalfNormal": stats.halfnorm(scale=1.7),
    }[type(radial).__name__]
    r = np.array([1e-3, 0.5, 2.0, 9.0])
    target = LogNormal(number(0.0), 1.0)
    got = radial_map(radial, target, torch.tensor(r).log())
    upper = stats.norm.isf(by_name.sf(r))
    exact = np.where(by_name.cdf(r) < 0.5, stats.norm.ppf(by_name.cdf(r)), upper)
    assert_close(got, torch.from_numpy(exact), rtol=1e-10, atol=1e-12)
    assert_close(radial_map(target, radial, got).exp(), torch.from_numpy(r), rtol=1e-12, atol=0)


def test_any_radius_with_a_quantile_serves_with_its_accuracy() -> None:
    target, source = LogLogistic(number(2.0), number(1.5)), Exponential(number(1.0))
    r = torch.tensor([1e-9, 0.1, 1.0, 3.0, 20.0], dtype=f64)
    log_g = radial_map(source, target, r.log())
    exact = math.log(2.0) + (r.expm1().log()) / 1.5  # F / (1 - F) = exp(r) - 1
    assert_close(log_g[:4], exact[:4], rtol=1e-14, atol=1e-14)
    assert abs(log_g[4] - exact[4]) < 1e-16 / math.exp(-20)  # that 1 - F is rounded to
    assert_close(radial_map(target, source, log_g)[:4], r.log()[:4], rtol=1e-13, atol=1e-13)
    far = radial_map(source, target, torch.tensor([-800.0, 10.0], dtype=f64))
    assert far.isfinite().all()


# Nested radial factorization at 50 digits -------------------------------------------------------

ROOTS = [
    ((0, 3), (1, (2, 5), 4)),
    (((2,), 0), 1),
    ((((1, 0),),), (2, 3, 4)),
]


@pytest.mark.parametrize("root", ROOTS, ids=str)
@pytest.mark.parametrize("name", ["gamma", "log-normal"])
def test_factorization_is_that_of_the_paper_at_fifty_digits(root: Any, name: str) -> None:
    tree = LpNestedTree(root)
    exponents = torch.tensor([0.7, 2.5, 1.3, 4.0, 8.0][: tree.num_nodes], dtype=f64)
    dist = LpNested(tree, exponents, radius(name, parameters_of(name)))
    x = dist.sample()
    p = oracle.name_exponents(root, exponents.tolist())
    exact, log_det = transform_oracle.factorized(root, x.tolist(), p, exact_radius(name))
    transform = NestedRadialFactorization(dist)
    y = transform(x)
    for got, wanted in zip(y.tolist(), exact, strict=True):
        assert abs(got / wanted - 1) < 1e-13
    assert abs(transform.log_abs_det_jacobian(x, y).item() - log_det) < 1e-12


# Determinants, inverses and densities on random trees -------------------------------------------

EXACT = [
    GeneralizedGamma(number(3.0), 1.7, 2.0),
    LogNormal(number(0.3), 0.5),
    InverseGamma(number(3.0), 2.0),
    HalfCauchy(number(1.5)),
]


@st.composite
def transforms(draw: st.DrawFn, max_dim: int = 10) -> tuple[Transform, Distribution]:
    """A transform with its distribution of x, of either kind."""
    root = draw(problems.roots(max_dim=max_dim))
    low, high = draw(st.sampled_from([(0.1, 200.0), (0.5, 5.0)]))
    p = torch.tensor(draw(problems.powers(root, low, high)), dtype=f64)
    tree = LpNestedTree(root)
    own = GeneralizedGamma(number(tree.dim), p[0], number(1.5))
    source, target = draw(st.sampled_from([*EXACT, own])), draw(st.sampled_from([*EXACT, own]))
    dist = LpNested(tree, p, source)
    if draw(st.integers(0, 3)) == 0:
        return RadialTransform(tree, p, source, target), dist
    return NestedRadialFactorization(dist), dist


def log_det_by_autograd(transform: Transform, x: Tensor) -> Tensor:
    """Of d log y / d log x, whose rows are of a size, plus the logarithms of y / x."""
    x = x.detach().requires_grad_()
    y = transform(x)
    rows = [autograd.grad(v, x, retain_graph=True)[0] * x / v for v in y]
    sign, log_det = torch.linalg.slogdet(torch.stack(rows).detach())
    assert sign == transform.sign == 1
    return log_det + (y / x).detach().log().sum()


@pytest.mark.slow
@settings(max_examples=60)
@given(transforms())
def test_determinant_inverse_and_density(case: tuple[Transform, Distribution]) -> None:
    transform, dist = case
    torch.manual_seed(0)
    x = dist.sample()
    y = transform(x)
    log_det = transform.log_abs_det_jacobian(x, y)
    assert_close(log_det_by_autograd(transform, x), log_det, rtol=0, atol=1e-10)
    assert_close(transform.inv(y), x, rtol=1e-10, atol=0)
    by_inverse = log_det_by_autograd(transform.inv, y)
    assert_close(by_inverse, -log_det, rtol=1e-12, atol=1e-10)
    _, base = transform._distributions()
    density = base.log_prob(y) + log_det_by_autograd(transform, x)
    assert_close(density, dist.log_prob(x), rtol=0, atol=1e-10)
    model = TransformedDistribution(base, [transform.inv])
    assert_close(model.log_prob(x), dist.log_prob(x), rtol=0, atol=1e-10)
    z = base.sample()
    assert_close(transform(transform.inv(z)), z, rtol=1e-10, atol=0)


@st.composite
def rows(draw: st.DrawFn) -> tuple[Any, list[float], list[float]]:
    root = draw(problems.roots(max_dim=8))
    return root, draw(problems.powers(root)), draw(problems.coordinates(root))


def largest_log_power(x: Tensor, p: Tensor) -> float:
    """Of a power of a norm. Beyond 600 radii are not told apart: log Q of them is -4e260."""
    return p.max().item() * math.log(max(1.0, x.abs().max().item())) + math.log(len(x))


@pytest.mark.slow
@settings(max_examples=25)
@given(rows(), st.sampled_from([torch.float32, f64]), st.integers(0, 4), st.integers(0, 4))
def test_all_is_finite_over_the_whole_range(
    row: tuple[Any, list[float], list[float]], dtype: torch.dtype, first: int, second: int
) -> None:
    p = torch.tensor(row[1], dtype=dtype).requires_grad_()
    tree, x = LpNestedTree(row[0]), torch.tensor(row[2], dtype=dtype).requires_grad_()
    radii = [*EXACT, GeneralizedGamma(tree.dim, p[0], 1.5)]
    nested = NestedRadialFactorization(LpNested(tree, p, radii[first]))
    for transform in (nested, nested.inv, RadialTransform(tree, p, radii[first], radii[second])):
        y = transform(x)
        log_det = transform.log_abs_det_jacobian(x, y)
        assert (y.dtype, log_det.dtype) == (dtype, dtype)
        assert y.isfinite().all() and log_det.isfinite().all()
        assert (y[x == 0] == 0).all()
        if dtype == f64:
            inside = (y.abs() < 1e150).all()  # so that derivatives of y are numbers, too
            for result in (y, log_det) if inside else (log_det,):
                slopes = autograd.grad(result.sum(), (x, p), retain_graph=True)
                assert all(g.isfinite().all() for g in slopes)
            limits = torch.finfo(dtype)
            held = (y.abs() > limits.tiny) & (y.abs() < limits.max)
            held = held if max(largest_log_power(v, p) for v in (x, y)) < 590 else False
            assert_close(transform.inv(y)[held], x[held], rtol=1e-10, atol=0)


# At the origin ----------------------------------------------------------------------------------


def test_the_origin_stays_and_has_the_limit_of_the_determinant() -> None:
    """P is x^a / Gamma(a + 1) there, so that g / r is a constant."""
    n, (p, q), (s, t) = 6, (1.7, 0.6), (2.0, 0.5)
    radii = [GeneralizedGamma(number(n), a, b) for a, b in ((p, s), (q, t))]
    transform = RadialTransform(LpNestedTree(((0, 1, 2), (3, 4, 5))), [1.0, 2.0, 3.0], *radii)
    zero = torch.zeros(n, dtype=f64)
    log_ratio = math.log(t / s) + (math.lgamma(n / q + 1) - math.lgamma(n / p + 1)) / n
    assert torch.equal(transform(zero), zero)
    log_det = transform.log_abs_det_jacobian(zero, zero)
    assert_close(log_det, number(n * log_ratio), rtol=1e-13, atol=0)
    slope = func.jacrev(transform)(zero)
    assert_close(slope, math.exp(log_ratio) * torch.eye(n, dtype=f64), rtol=1e-12, atol=0)


@pytest.mark.parametrize("size", [0.0, 1e-300, 1e-200, 1e-30])
def test_the_determinant_of_a_factorization_has_its_limit_at_the_origin(size: float) -> None:
    tree = LpNestedTree(((0, 3), (1, (2, 5), 4)))
    p = torch.tensor([0.7, 2.5, 1.3, 4.0], dtype=f64)
    dist = LpNested(tree, p, GeneralizedGamma(number(6.0), 1.7, 2.0))
    transform = NestedRadialFactorization(dist)
    x = size * torch.tensor([1.0, -2.0, 0.5, 3.0, 1.0, 1.0], dtype=f64)
    y = transform(x)
    log_det = transform.log_abs_det_jacobian(x, y)
    limit = dist.log_prob(torch.zeros(6, dtype=f64)) - transform.base.log_prob(torch.zeros(6))
    assert_close(log_det, limit, rtol=1e-13, atol=0)
    by_autograd = torch.linalg.slogdet(func.jacrev(transform)(x))[1]
    assert_close(by_autograd, limit, rtol=1e-11, atol=0)


def test_a_subspace_of_zeros_stays_and_has_a_gradient() -> None:
    dist = ISA([2, 3], number(0.8), 2.5)
    transform = NestedRadialFactorization(dist)
    x = torch.tensor([0.0, 0.0, 1.0, 0.0, -2.0], dtype=f64, requires_grad=True)
    y = transform(x)
    assert (y == 0).tolist() == [True, True, False, True, False]
    near = x.detach() + torch.tensor([1e-150, -1e-150, 0.0, 0.0, 0.0], dtype=f64)
    log_dets = [transform.log_abs_det_jacobian(v, transform(v)) for v in (x.detach(), near)]
    assert_close(log_dets[0], log_dets[1], rtol=1e-12, atol=0)
    slope = func.jacrev(transform)(x.detach())
    assert_close(torch.linalg.slogdet(slope)[1], log_dets[0], rtol=1e-12, atol=0)
    assert_close(transform.inv(y), x, rtol=1e-13, atol=0)


def test_what_is_beyond_the_range_is_the_largest_number() -> None:
    single = torch.float32
    radii = GeneralizedGamma(number(2.0, single), 2.0), GeneralizedGamma(number(2.0, single), 0.05)
    transform = RadialTransform(LpNestedTree.flat(2), [2.0], *radii)
    y = transform(torch.tensor([-1e6, 0.0], dtype=single))
    assert y.tolist() == [-torch.finfo(single).max, 0.0]


def test_nan_stays_in_its_row() -> None:
    transform = NestedRadialFactorization(ISA([2, 2], number(1.0), 3.0))
    x = torch.tensor([[math.nan, 1.0, 2.0, 3.0], [1.0, 1.0, 2.0, 3.0]], dtype=f64)
    assert transform(x)[0].isnan().any() and transform(x)[1].isfinite().all()


# Gradients --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_gradients_in_the_value_and_in_all_parameters() -> None:
    tree = LpNestedTree(((0, 3), (1, 2)))

    def results(x: Tensor, p: Tensor, n: Tensor, s: Tensor, loc: Tensor) -> tuple[Tensor, ...]:
        radii = GeneralizedGamma(n, p[..., 0], s), LogNormal(loc, s)
        outputs = []
        for transform in (
            RadialTransform(tree, p, *radii),
            NestedRadialFactorization(LpNested(tree, p, radii[0])),
            NestedRadialFactorization(LpNested(tree, p, radii[1])),
        ):
            for direction in (transform, transform.inv):
                y = direction(x)
                outputs += [y, direction.log_abs_det_jacobian(x, y)]
        return tuple(outputs)

    x = torch.tensor([0.5, -1.2, 0.8, 0.3], dtype=f64, requires_grad=True)
    p = torch.tensor([0.9, 2.2, 1.4], dtype=f64, requires_grad=True)
    rest = [number(v).requires_grad_() for v in (3.5, 0.8, 0.2)]
    assert autograd.gradcheck(results, (x, p, *rest), fast_mode=True)


def test_the_determinant_has_the_gradient_of_that_of_autograd() -> None:
    """In the exponents, against central differences of the determinant that autograd makes."""
    tree = LpNestedTree(((0, 3), (1, 2)))
    x = torch.tensor([0.5, -1.2, 0.8, 0.3], dtype=f64)
    p = torch.tensor([0.9, 2.2, 1.4], dtype=f64)

    def transform(p: Tensor) -> Transform:
        return NestedRadialFactorization(LpNested(tree, p, LogNormal(number(0.3), 0.5)))

    got = func.jacrev(lambda p: transform(p).log_abs_det_jacobian(x, transform(p)(x)))(p)
    h = 1e-5
    for k in range(3):
        above, below = (
            log_det_by_autograd(transform(p + sign * h * torch.eye(3, dtype=f64)[k]), x)
            for sign in (1, -1)
        )
        assert_close(got[k], (above - below) / (2 * h), rtol=1e-7, atol=1e-8)


def test_draws_through_the_inverse_have_the_gradient_of_the_moments() -> None:
    """LpNested has no pathwise sampler; the inverse of the factorization makes one."""
    count = 4000
    p0 = number(1.2).requires_grad_()
    p = torch.tensor([0.9, 3.0], dtype=f64, requires_grad=True)
    dist = ISA([2, 2], p0, p)
    exact = autograd.grad(dist.variance[0], (p0, p))
    rows = ISA([2, 2], p0.expand(count).clone(), p.expand(count, 2).clone())
    parameters = rows.p0, rows.p
    transform = NestedRadialFactorization(rows)
    draws = TransformedDistribution(transform.base, [transform.inv]).rsample()
    for slopes, wanted in zip(
        autograd.grad(draws[:, 0].square().sum(), parameters), exact, strict=True
    ):
        slopes = slopes.reshape(count, -1)
        error = (slopes.mean(0) - wanted) / (slopes.std(0) / math.sqrt(count)).clamp_min(1e-12)
        assert (error.abs() < 4).all()


# Samples ----------------------------------------------------------------------------------------


def independence(rows: np.ndarray) -> tuple[float, float]:
    """The least p values over all pairs, of the rank correlation of sizes, and of a 5 x 5 table
    of signed ranks, which sees dependence without correlation."""
    ranks = stats.rankdata(np.abs(rows), axis=0)
    bins = np.floor(5 * (stats.rankdata(rows, axis=0) - 1) / len(rows)).astype(int)
    correlation, table = [], []
    for i, j in combinations(range(rows.shape[1]), 2):
        correlation.append(stats.pearsonr(ranks[:, i], ranks[:, j]).pvalue)
        counts = np.zeros((5, 5))
        np.add.at(counts, (bins[:, i], bins[:, j]), 1)
        table.append(stats.chi2_contingency(counts).pvalue)
    return min(correlation) * len(correlation), min(table) * len(table)


@pytest.mark.slow
@pytest.mark.parametrize(
    "dist",
    [
        LpNested(
            LpNestedTree(((0, 3), (1, (2, 5), 4))),
            torch.tensor([0.7, 2.5, 1.3, 4.0], dtype=f64),
            LogNormal(number(0.3), 0.8),
        ),
        LpNested(
            LpNestedTree(((((2, 0),), 1), (3,))),
            torch.tensor([3.0, 0.6, 5.0, 1.4, 1.1], dtype=f64),
            InverseGamma(number(2.0), 1.0),
        ),
        ISA([3, 3], number(2.0), torch.tensor([0.5, 8.0], dtype=f64)),
    ],
    ids=["log-normal", "one-child nodes", "ISA"],
)
def test_factorized_draws_are_independent_generalized_normals(dist: LpNested) -> None:
    torch.manual_seed(1)
    x = dist.sample((20_000,))
    transform = NestedRadialFactorization(dist)
    y = transform(x).numpy()
    normal = transform.base.base_dist
    for k, p in enumerate(normal.p.tolist()):
        assert stats.kstest(y[:, k], stats.gennorm(p).cdf).pvalue > 1e-3 / len(normal.p)
    assert min(independence(y)) > 1e-3
    assert min(independence(x.numpy())) < 1e-12  # the tests do see dependence


def test_a_radial_transform_of_draws_has_the_radius_of_the_target() -> None:
    torch.manual_seed(2)
    tree, p = LpNestedTree(((0, 1), (2, 3, 4))), [0.8, 2.0, 3.0]
    source, target = LogLogistic(number(2.0), number(3.0)), LogNormal(number(-0.4), 0.7)
    transform = RadialTransform(tree, torch.tensor(p, dtype=f64), source, target)
    x = LpNested(tree, transform.exponents, source).sample((20_000,))
    y = transform(x)
    radii = LpNested(tree, transform.exponents, target).norm(y).numpy()
    wanted = stats.lognorm(0.7, scale=math.exp(-0.4))
    assert stats.kstest(radii, wanted.cdf).pvalue > 1e-3
    assert_close(y / y.norm(dim=-1, keepdim=True), x / x.norm(dim=-1, keepdim=True))


# The contract of torch --------------------------------------------------------------------------


def both_kinds(dtype: torch.dtype = f64, batch: tuple[int, ...] = ()) -> list[Transform]:
    tree = LpNestedTree(((0, 3), (1, 2)))
    p = torch.tensor([0.9, 2.2, 1.4], dtype=dtype).expand(*batch, 3)
    radii = LogNormal(number(0.3, dtype), 0.5), Gamma(number(3.0, dtype), 2.0)
    nested = NestedRadialFactorization(LpNested(tree, p, radii[0]))
    return [RadialTransform(tree, p, *radii), nested]


kinds = pytest.mark.parametrize("kind", [0, 1], ids=["radial", "nested"])


@kinds
def test_the_attributes_of_a_transform(kind: int) -> None:
    transform = both_kinds()[kind]
    assert transform.bijective and transform.sign == 1 and transform.event_dim == 1
    assert transform.domain.event_dim == transform.codomain.event_dim == 1
    assert transform.domain.check(torch.zeros(4)) and not transform.domain.check(
        torch.tensor([math.nan, 0.0])
    )
    assert transform.inv.inv is transform
    assert transform.inv.sign == 1


@kinds
def test_equality_copies_and_pickles(kind: int) -> None:
    transform, other = both_kinds()[kind], both_kinds()[1 - kind]
    assert transform == both_kinds()[kind]
    assert transform != other
    assert transform != transform.inv
    assert transform.inv == both_kinds()[kind].inv
    assert transform != both_kinds(batch=(2,))[kind]
    x = torch.randn(4, dtype=f64)
    for same in (copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))):
        assert same == transform
        assert torch.equal(same(x), transform(x))
    assert type(transform).__name__ in repr(transform)


@kinds
def test_an_inverse_and_what_holds_it_can_be_copied(kind: int) -> None:
    transform = both_kinds()[kind]
    x = torch.randn(5, 4, dtype=f64)
    _, base = transform._distributions()
    model = TransformedDistribution(base, [transform.inv])
    for duplicate in (copy.deepcopy, lambda whole: pickle.loads(pickle.dumps(whole))):
        inverse, same = duplicate(transform.inv), duplicate(model)
        assert inverse == transform.inv and inverse.inv == transform
        assert torch.equal(inverse(x), transform.inv(x))
        assert torch.equal(same.log_prob(x), model.log_prob(x))


def test_equality_sees_every_parameter() -> None:
    tree, p = LpNestedTree.flat(2), [2.0]
    radii: list[Any] = [LogNormal(0.3, 0.5), Gamma(3.0, 2.0), Gamma(3.0, 2.5)]
    made = [RadialTransform(tree, p, one, two) for one in radii for two in radii]
    made += [
        RadialTransform(LpNestedTree(((0, 1),)), [2.0, 2.0], *radii[:2]),
        RadialTransform(tree, [2.1], *radii[:2]),
    ]
    for i, one in enumerate(made):
        assert [one == two for two in made] == [i == j for j in range(len(made))]
    unknown = TransformedDistribution(Normal(0.0, 1.0), [ExpTransform()])
    assert RadialTransform(tree, p, unknown, radii[0]) != RadialTransform(
        tree, p, copy.deepcopy(unknown), radii[0]
    )


@kinds
def test_the_latest_value_can_be_kept(kind: int) -> None:
    transform = both_kinds()[kind]
    assert transform.with_cache(0) is transform
    kept = transform.with_cache()
    assert kept == transform and kept.with_cache(1) is kept
    x = torch.randn(4, dtype=f64)
    y = kept(x)
    assert kept(x) is y and kept.inv(y) is x
    assert transform(x) is not transform(x)
    with pytest.raises(ValueError, match="cache_size"):
        transform.with_cache(2)


@kinds
def test_batches_broadcast(kind: int) -> None:
    tree = LpNestedTree(((0, 3), (1, 2)))
    p = torch.tensor([[0.9, 2.2, 1.4], [2.0, 1.0, 0.5]], dtype=f64)
    source = LogNormal(torch.tensor([[0.3], [0.1], [-0.5]], dtype=f64), 0.5)
    target = Gamma(torch.tensor([3.0, 1.0], dtype=f64), 2.0)

    def made(*batch: int) -> Transform:
        place = batch if batch else (slice(None),) * 2
        own = LogNormal(source.loc[place[0], 0], 0.5) if batch else source
        one = Gamma(target.concentration[place[1]], 2.0) if batch else target
        exponents = p[place[1]] if batch else p
        if kind:
            return NestedRadialFactorization(LpNested(tree, exponents, own))
        return RadialTransform(tree, exponents, own, one)

    transform = made()
    x = torch.randn(4, dtype=f64)
    y = transform(x)
    assert y.shape == (3, 2, 4) == transform.forward_shape(x.shape)
    assert transform.inverse_shape((5, 1, 1, 4)) == (5, 3, 2, 4)
    assert transform.inv.forward_shape((4,)) == (3, 2, 4)
    log_det = transform.log_abs_det_jacobian(x, y)
    assert log_det.shape == (3, 2)
    assert_close(transform.inv(y), x.expand(3, 2, 4))
    for i in range(3):
        for j in range(2):
            one = made(i, j)
            assert_close(y[i, j], one(x), rtol=1e-14, atol=0)
            assert_close(log_det[i, j], one.log_abs_det_jacobian(x, one(x)))
    with pytest.raises(ValueError, match="shape"):
        transform.forward_shape((5,))
    with pytest.raises(ValueError, match="expected a value|4 coordinates"):
        transform(torch.randn(5, dtype=f64))


@kinds
@pytest.mark.parametrize("dtype", [torch.float32, f64])
def test_as_a_density_model(kind: int, dtype: torch.dtype) -> None:
    transform = both_kinds(dtype, (3,))[kind]
    law, base = transform._distributions()
    model = TransformedDistribution(base, [transform.inv])
    assert (model.batch_shape, model.event_shape) == ((3,), (4,))
    x = law.sample((50,))
    tolerance = {torch.float32: 1e-5, f64: 1e-12}[dtype]
    got, wanted = model.log_prob(x), law.log_prob(x)
    assert got.dtype == dtype
    assert_close(got, wanted, rtol=tolerance, atol=tolerance)
    assert model.sample((2,)).shape == (2, 3, 4)
    wide = model.expand((5, 3))
    assert wide.sample().shape == (5, 3, 4)
    assert_close(wide.log_prob(x[0]), wanted[0].expand(5, 3), rtol=tolerance, atol=tolerance)


@kinds
def test_composed_with_a_linear_map(kind: int) -> None:
    transform = both_kinds()[kind]
    scale = AffineTransform(0.0, 3.0, event_dim=1)
    chain = ComposeTransform([scale, transform])
    x = torch.randn(7, 4, dtype=f64)
    y = chain(x)
    assert_close(y, transform(3 * x))
    assert_close(chain.inv(y), x)
    own = transform.log_abs_det_jacobian(3 * x, y)
    assert_close(chain.log_abs_det_jacobian(x, y), own + 4 * math.log(3.0))
    assert chain.sign == 1


@kinds
def test_function_transforms_give_what_a_loop_gives(kind: int) -> None:
    transform = both_kinds()[kind]
    x = torch.randn(5, 4, dtype=f64)
    y = func.vmap(transform)(x)
    assert_close(y, transform(x))
    slopes = func.vmap(func.jacfwd(transform.inv))(y)
    by_slopes = torch.linalg.slogdet(slopes)[1]
    assert_close(by_slopes, -transform.log_abs_det_jacobian(x, y), rtol=1e-11, atol=1e-11)
    mapped = func.vmap(transform.log_abs_det_jacobian)(x, y)
    assert_close(mapped, transform.log_abs_det_jacobian(x, y))


@pytest.mark.slow
def test_compiles_to_one_graph() -> None:
    for transform in both_kinds():
        for direction in (transform, transform.inv):
            compiled = torch.compile(lambda x, t=direction: t(x), backend="eager", fullgraph=True)
            x = torch.randn(5, 4, dtype=f64)
            assert_close(compiled(x), direction(x), rtol=1e-13, atol=0)


def test_single_precision_is_the_rounded_double() -> None:
    for single, double in zip(both_kinds(torch.float32), both_kinds(f64), strict=True):
        x = torch.randn(100, 4)
        y = single(x)
        assert y.dtype == torch.float32
        # 0.9 is rounded, too: compare at the parameters of the single ones.
        assert_close(y.double(), double(x.double()), rtol=2e-6, atol=1e-7)


def test_a_write_to_a_parameter_is_seen() -> None:
    p = torch.tensor([2.0, 1.0], dtype=f64)
    tree, x = LpNestedTree(((0, 1), 2)), torch.randn(3, dtype=f64)
    radii = LogNormal(number(0.0), 1.0), LogNormal(number(0.5), 0.7)
    for make in (
        lambda: RadialTransform(tree, p, *radii),
        lambda: NestedRadialFactorization(LpNested(tree, p, radii[0])),
    ):
        transform = make()
        before = transform(x)
        p[1] += 0.5
        assert_close(transform(x), make()(x), rtol=0, atol=0)
        assert not torch.equal(transform(x), before)


def test_the_base_is_a_product_of_generalized_normals() -> None:
    tree = LpNestedTree(((0, 3), (1, (2, 5), 4)))
    p = torch.tensor([[0.7, 2.5, 1.3, 4.0]], dtype=f64)
    base = NestedRadialFactorization(LpNested(tree, p, EXACT[1])).base
    assert (base.batch_shape, base.event_shape) == ((1,), (6,))
    normal = base.base_dist
    assert type(normal) is GeneralizedNormal
    assert normal.p.tolist() == [[2.5, 1.3, 4.0, 2.5, 1.3, 4.0]]


def test_independent_coordinates_are_only_scaled() -> None:
    """Where all exponents are that of a generalized gamma radius, nothing is left to do."""
    dist = LpNested(LpNestedTree(((0, 1), 2)), [1.5, 1.5], GeneralizedGamma(number(3.0), 1.5, 2.0))
    x = torch.randn(20, 3, dtype=f64)
    assert_close(NestedRadialFactorization(dist)(x), x / 2, rtol=1e-13, atol=0)


def test_a_flat_tree_is_radial_factorization() -> None:
    radial = LogNormal(number(0.3), 0.5)
    x = torch.randn(20, 4, dtype=f64)
    nested = NestedRadialFactorization(LpSpherical(4, number(1.3), radial))
    target = GeneralizedGamma(number(4.0), 1.3)
    flat = RadialTransform(LpNestedTree.flat(4), torch.tensor([1.3], dtype=f64), radial, target)
    assert_close(nested(x), flat(x), rtol=1e-14, atol=0)


# Refusals ---------------------------------------------------------------------------------------


class WithAtom(LogLogistic):
    """A tenth of it is exactly at the scale."""

    def cdf(self, value: Tensor) -> Tensor:
        smooth = super().cdf(value)
        return 0.9 * smooth + 0.1 * (value >= self.scale)


MIXTURE = MixtureSameFamily(Categorical(torch.ones(2)), LogNormal(torch.zeros(2), 1.0))


@pytest.mark.parametrize(
    ("radial", "error", "match"),
    [
        (Uniform(0.0, 1.0), ValueError, "support of .* must be all positive reals.*Uniform"),
        (Beta(2.0, 3.0), ValueError, "support of .* must be all positive reals.*Beta"),
        (Pareto(1.0, 2.0), ValueError, "support of .* must be all positive reals.*Pareto"),
        (Normal(0.0, 1.0), ValueError, "positive reals"),
        (Poisson(1.0), ValueError, "continuous"),
        (WithAtom(number(1.0), number(2.0)), ValueError, "atom"),
        (FisherSnedecor(2.0, 3.0), NotImplementedError, "FisherSnedecor.* lacks cdf or icdf"),
        (MIXTURE, NotImplementedError, "(?s)MixtureSameFamily.* lacks cdf or icdf"),
        ("LogNormal", TypeError, "torch Distribution"),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, Distribution) else None,
)
def test_radii_that_are_no_bijection_are_refused(
    radial: Any, error: type[Exception], match: str
) -> None:
    tree, good = LpNestedTree.flat(2), LogNormal(0.0, 1.0)
    for radii in ((radial, good), (good, radial)):
        with pytest.raises(error, match=match):
            RadialTransform(tree, [2.0], *radii)
    if isinstance(radial, Distribution) and error is not ValueError:
        with pytest.raises(error, match=match):
            NestedRadialFactorization(LpNested(tree, [2.0], radial))


def test_other_refusals_name_the_culprit() -> None:
    good = LogNormal(0.0, 1.0)
    with pytest.raises(TypeError, match="dist must be an LpNested"):
        NestedRadialFactorization(GeneralizedNormal(0.0, 1.0, 2.0))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="tree must be an LpNestedTree"):
        RadialTransform("(0, 1)", [2.0], good, good)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="exponents must have shape"):
        RadialTransform(LpNestedTree.flat(2), [2.0, 1.0], good, good)
    with pytest.raises(ValueError, match="cache_size"):
        RadialTransform(LpNestedTree.flat(2), [2.0], good, good, cache_size=2)
