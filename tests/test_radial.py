"""Radii: densities, moments and draws of every type, at 50 digits, in the extremes, at edges."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor
from torch import distributions as td
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributions import Distribution

from lpnested import GeneralizedGamma, LpNested, LpNestedTree
from lpnested import functional as F
from lpnested.radial import log_generator
from lpnested.radial_draws import log_draw
from lpnested.radial_moments import generator_mode, log_radial_moment, mean_log, radial_entropy
from lpnested.radii import check_radial, dtype_of, is_bounded, parameters_of
from oracle import mp, mpf

f32, f64 = torch.float32, torch.float64
EPS = {dtype: torch.finfo(dtype).eps for dtype in (f32, f64)}
Real = Any


@dataclass(frozen=True)
class Family:
    """A type, its density from a textbook, and where a moment is finite."""

    make: Callable[..., Distribution]
    log_density: Callable[..., Real]  # of r and the parameters, within the support
    parameters: tuple[float, ...]
    orders: Callable[..., tuple[float, float]]  # the open interval of finite moments
    scipy: Callable[..., Any]
    support: Callable[..., tuple[float, float]] = lambda *_: (0.0, math.inf)
    extreme: tuple[float, ...] = ()  # parameters whose draws under- or overflow

    def of(self, dtype: torch.dtype = f64, parameters: tuple[float, ...] = ()) -> Distribution:
        return self.make(*tensors(parameters or self.parameters, dtype))


def tensors(parameters: tuple[float, ...], dtype: torch.dtype = f64) -> list[Tensor]:
    return [torch.tensor(x, dtype=dtype, requires_grad=True) for x in parameters]


def log_generalized_gamma(r: Real, n: Real, p: Real, s: Real) -> Real:
    return mp.log(p) - mp.loggamma(n / p) + n * mp.log(r / s) - mp.log(r) - (r / s) ** p


def log_gamma(r: Real, a: Real, b: Real) -> Real:
    return a * mp.log(b) - mp.loggamma(a) + (a - 1) * mp.log(r) - b * r


def log_fisher(r: Real, one: Real, two: Real) -> Real:
    a, b = one / 2, two / 2
    log_odds = a * mp.log(one * r) + b * mp.log(two) - (a + b) * mp.log(one * r + two)
    return log_odds - mp.log(r) - mp.log(mp.beta(a, b))


FAMILIES = {
    "generalized_gamma": Family(
        GeneralizedGamma,
        log_generalized_gamma,
        (2.5, 1.25, 0.75),
        lambda n, p, s: (-n, math.inf),
        lambda n, p, s: scipy.stats.gengamma(n / p, p, scale=s),
        extreme=(0.01, 0.01, 3.0),
    ),
    "gamma": Family(
        td.Gamma,
        log_gamma,
        (2.5, 1.25),
        lambda a, b: (-a, math.inf),
        lambda a, b: scipy.stats.gamma(a, scale=1 / b),
        extreme=(1e-3, 2.0),
    ),
    "chi2": Family(
        td.Chi2,
        lambda r, k: log_gamma(r, k / 2, mpf(1) / 2),
        (2.5,),
        lambda k: (-k / 2, math.inf),
        lambda k: scipy.stats.chi2(k),
        extreme=(1e-3,),
    ),
    "exponential": Family(
        td.Exponential,
        lambda r, b: log_gamma(r, mpf(1), b),
        (1.25,),
        lambda b: (-1, math.inf),
        lambda b: scipy.stats.expon(scale=1 / b),
    ),
    "weibull": Family(
        td.Weibull,
        lambda r, s, k: log_generalized_gamma(r, k, k, s),
        (0.75, 1.5),
        lambda s, k: (-k, math.inf),
        lambda s, k: scipy.stats.weibull_min(k, scale=s),
        extreme=(0.75, 0.005),
    ),
    "half_normal": Family(
        td.HalfNormal,
        lambda r, s: mp.log(2 / mp.pi) / 2 - mp.log(s) - (r / s) ** 2 / 2,
        (0.75,),
        lambda s: (-1, math.inf),
        lambda s: scipy.stats.halfnorm(scale=s),
    ),
    "half_cauchy": Family(
        td.HalfCauchy,
        lambda r, s: mp.log(2 / mp.pi / s) - mp.log(1 + (r / s) ** 2),
        (0.75,),
        lambda s: (-1, 1),
        lambda s: scipy.stats.halfcauchy(scale=s),
    ),
    "log_normal": Family(
        td.LogNormal,
        lambda r, m, s: -(((mp.log(r) - m) / s) ** 2) / 2 - mp.log(r * s * mp.sqrt(2 * mp.pi)),
        (0.25, 0.5),
        lambda m, s: (-math.inf, math.inf),
        lambda m, s: scipy.stats.lognorm(s, scale=math.exp(m)),
        extreme=(50.0, 200.0),
    ),
    "pareto": Family(
        td.Pareto,
        lambda r, s, a: mp.log(a / s) - (a + 1) * mp.log(r / s),
        (0.75, 2.5),
        lambda s, a: (-math.inf, a),
        lambda s, a: scipy.stats.pareto(a, scale=s),
        support=lambda s, a: (s, math.inf),
        extreme=(0.75, 0.01),
    ),
    "inverse_gamma": Family(
        td.InverseGamma,
        lambda r, a, b: log_gamma(1 / r, a, b) - 2 * mp.log(r),
        (2.5, 1.25),
        lambda a, b: (-math.inf, a),
        lambda a, b: scipy.stats.invgamma(a, scale=b),
        extreme=(0.01, 1.0),
    ),
    "fisher_snedecor": Family(
        td.FisherSnedecor,
        log_fisher,
        (3.0, 5.0),
        lambda one, two: (-one / 2, two / 2),
        lambda one, two: scipy.stats.f(one, two),
        extreme=(0.02, 0.01),
    ),
    "beta": Family(
        td.Beta,
        lambda r, a, b: (a - 1) * mp.log(r) + (b - 1) * mp.log1p(-r) - mp.log(mp.beta(a, b)),
        (1.5, 2.5),
        lambda a, b: (-a, math.inf),
        lambda a, b: scipy.stats.beta(a, b),
        support=lambda a, b: (0.0, 1.0),
        extreme=(0.01, 3.0),
    ),
    "uniform": Family(
        td.Uniform,
        lambda r, low, high: -mp.log(high - low),
        (0.25, 1.5),
        lambda low, high: (-math.inf if low > 0 else -1, math.inf),
        lambda low, high: scipy.stats.uniform(low, high - low),
        support=lambda low, high: (low, high),
    ),
    "kumaraswamy": Family(
        td.Kumaraswamy,
        lambda r, a, b: mp.log(a * b) + (a - 1) * mp.log(r) + (b - 1) * mp.log1p(-(r**a)),
        (1.5, 2.5),
        lambda a, b: (-a, math.inf),
        # As a power of a beta variable.
        lambda a, b: scipy.stats.beta(1, b),
        support=lambda a, b: (0.0, 1.0),
        extreme=(0.01, 3.0),
    ),
}
each_family = pytest.mark.parametrize("name", FAMILIES)
VARIED = {  # other parameters: small, large, and from 0 on
    "generalized_gamma": [(0.3, 2.0, 1e20), (1e6, 2.0, 1.0), (50.0, 0.2, 1e-9)],
    "gamma": [(0.1, 2.0), (1e5, 3.0)],
    "inverse_gamma": [(0.1, 2.0), (300.0, 1e-6)],
    "fisher_snedecor": [(0.1, 40.0), (1e4, 0.5)],
    "beta": [(0.1, 0.2), (3000.0, 0.5), (0.5, 3000.0)],
    "uniform": [(0.0, 2.0), (1.0, 1.0 + 1e-6), (1e-12, 1e8)],
    "kumaraswamy": [(0.1, 0.2), (30.0, 0.05), (0.05, 400.0)],
    "log_normal": [(-40.0, 3.0)],
    "pareto": [(1e9, 0.2)],
}
SETTINGS = [
    (name, parameters)
    for name, family in FAMILIES.items()
    for parameters in [family.parameters, *VARIED.get(name, [])]
]


def log_mean(
    family: Family, parameters: tuple[float, ...], of: Callable[[Real, Real], Real]
) -> Real:
    """The integral of a density times a function of r and of the log density, in log r."""
    args = [mpf(x) for x in parameters]
    low, high = family.support(*args)
    ends = [mp.log(low) if low else mpf(-600), mp.log(high) if high < math.inf else mpf(600)]
    centre = float(family.scipy(*parameters).median()) if family.make is not td.Kumaraswamy else 1
    middle = min(max(mp.log(centre), ends[0]), ends[1])
    cuts = [middle + s * mpf(d) for s in (-1, 1) for d in (1e-3, 0.03, 0.3, 1, 3, 10, 30, 100)]
    cuts = sorted({*ends, middle, *(c for c in cuts if ends[0] < c < ends[1])})

    def integrand(t: Real) -> Real:
        r = mp.exp(t)
        log = family.log_density(r, *args)
        return mp.exp(log + t) * of(r, log)

    with mp.workdps(25):
        return mp.quad(integrand, cuts)


# The density generator ---------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "parameters"), SETTINGS)
@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
def test_a_registered_density_is_exact_at_any_radius(
    name: str, parameters: tuple[float, ...], dtype: torch.dtype
) -> None:
    """From 1e-250 to 1e250, and its derivatives in log r and in the parameters."""
    family, dim = FAMILIES[name], 7
    leaves = tensors(parameters, dtype)
    args = [mpf(x.item()) for x in leaves]
    low, high = (float(x) for x in family.support(*args))
    inside = np.linspace(1e-3, 1 - 1e-3, 9)
    logs = [*(math.log(10) * k for k in (-250, -60, -20, -3, 0, 3, 20, 60, 250))]
    if high < math.inf or low > 0:
        top = high if high < math.inf else 1e9 * low
        logs = [*logs, *np.log(low + inside * (top - low))]
    logs = [t for t in logs if math.exp(t) > low and math.exp(t) < high]
    at = torch.tensor(logs, dtype=f64, requires_grad=True)
    got = log_generator(family.make(*leaves), at, dim, EPS[f64])

    def exact(t: Real, *args: Real) -> Real:
        return family.log_density(mp.exp(t), *args) - (dim - 1) * t

    for k, t in enumerate(logs):
        want, size = exact(mpf(t), *args), condition(exact, mpf(t), args)
        if abs(want) > 1e250:
            assert got[k] < -1e250
            continue
        assert abs(mpf(got[k].item()) - want) <= 1e-14 * size
        grads = torch.autograd.grad(got[k], [at, *leaves], retain_graph=True, allow_unused=True)
        slope = mp.diff(lambda t: exact(t, *args), mpf(t), h=mpf(10) ** -15)
        assert abs(grads[0][k].item() - slope) <= 1e-12 * (1 + abs(slope) + dim)
        for i, grad in enumerate(grads[1:]):
            slope = mp.diff(
                lambda x, i=i, t=t: exact(mpf(t), *args[:i], x, *args[i + 1 :]),
                args[i],
                h=(abs(args[i]) or 1) * mpf(10) ** -15,
            )
            assert grad is not None
            largest = mpf(torch.finfo(dtype).max)  # where a gradient saturates
            slope = min(max(slope, -largest), largest)
            rounding = 1e-12 if dtype == f64 else EPS[f32]
            assert abs(grad.item() - slope) <= rounding * abs(slope) + 1e-12 * size / (
                abs(args[i]) or 1
            )


def condition(f: Callable[..., Real], t: Real, args: list[Real]) -> Real:
    """The magnitude of a log density and of its sensitivities to relative changes of all."""
    size = 1 + abs(f(t, *args)) + abs(t) * abs(mp.diff(lambda t: f(t, *args), t))
    for i, x in enumerate(args):
        size += abs(x * mp.diff(lambda x, i=i: f(t, *args[:i], x, *args[i + 1 :]), x))
        size += abs(x) + (abs(mp.loggamma(x)) if x > 0 else 0)
    return size


def test_the_density_far_out_is_no_longer_clamped() -> None:
    """In double precision, at 1e60: it was -234.18."""
    radial = td.InverseGamma(*tensors((0.01, 1.0)))
    got = LpNested(LpNestedTree.flat(2), [2.0], radial).log_prob(
        torch.tensor([1e60, 0.0], dtype=f64)
    )
    args = mpf(0.01), mpf(1)
    r = mpf(1e60)
    want = FAMILIES["inverse_gamma"].log_density(r, *args) - mp.log(r) - mp.log(2 * mp.pi)
    assert got.item() == pytest.approx(float(want), rel=1e-13)
    assert float(want) == pytest.approx(-284.13, abs=0.01)


class Plain(Distribution):
    """A distribution of which the library knows nothing but its own ``log_prob``."""

    arg_constraints: ClassVar = {"low": td.constraints.real}

    def __init__(self, base: Distribution, low: Tensor, width: Tensor | float) -> None:
        self.base, self.low, self.width = base, low, width
        super().__init__(base.batch_shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Plain":
        return Plain(self.base.expand(batch_shape), self.low, self.width)

    @property
    def support(self) -> Any:
        high = self.low + self.width * getattr(self.base.support, "upper_bound", math.inf)
        return td.constraints.interval(self.low, high)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.base.log_prob((value - self.low) / self.width) - math.log(self.width)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.low + self.width * self.base.sample(sample_shape)


@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
def test_the_fallback_is_right_within_the_range_of_the_radials_dtype(dtype: torch.dtype) -> None:
    a, b = torch.tensor(0.01, dtype=dtype), torch.tensor(1.0, dtype=dtype)
    radial = Plain(td.InverseGamma(a, b, validate_args=False), torch.zeros((), dtype=dtype), 1.0)
    for log10 in (-2, 0, 3, 38) if dtype == f32 else (-2, 0, 3, 38, 60, 150):
        t = math.log(10) * log10
        got = log_generator(radial, torch.tensor(t, dtype=f64), 3, EPS[dtype])
        exact = FAMILIES["inverse_gamma"].log_density
        want = exact(mp.exp(mpf(t)), mpf(a.item()), mpf(1)) - 2 * mpf(t)
        assert got.item() == pytest.approx(float(want), rel=5 * EPS[dtype])


def test_nan_comes_out_where_nan_goes_in() -> None:
    nan = torch.tensor(math.nan, dtype=f64)
    Distribution.set_default_validate_args(False)
    for name, family in FAMILIES.items():
        assert log_generator(family.of(), nan, 2, EPS[f64]).isnan(), name
        bad = tuple(math.nan for _ in family.parameters)
        radial = family.make(*tensors(bad))
        for result in (log_radial_moment(radial, 0.5), mean_log(radial), radial_entropy(radial)):
            assert result.isnan(), name
    plain = Plain(td.Beta(2.0, 3.0, validate_args=False), torch.tensor(1.0), 2.0)
    assert log_generator(plain, nan, 2, EPS[f64]).isnan()


# The edges of a support --------------------------------------------------------------------------


def bounded(dtype: torch.dtype) -> dict[str, Distribution]:
    def of(make: Callable[..., Distribution], *parameters: float, **how: Any) -> Distribution:
        return make(*(torch.tensor(x, dtype=dtype) for x in parameters), **how)

    uniform = of(td.Uniform, [1.0, 5.0], [1.00001, 5.0001])
    return {
        "narrow uniform": of(td.Uniform, 1 - 1e-5, 1 + 1e-5),
        "large uniform": of(td.Uniform, 1e15, 1e20),
        "pareto": of(td.Pareto, 1.3, 50.0),
        "beta": of(td.Beta, 1.0, 0.5),
        "steep beta": of(td.Beta, 0.3, 0.01),
        "beta at 1": of(td.Beta, 200.0, 0.1),
        "falling beta": of(td.Beta, 200.0, 2.0),
        "kumaraswamy": of(td.Kumaraswamy, 1.0, 0.05),
        "steep kumaraswamy": of(td.Kumaraswamy, 100.0, 0.3),
        "mixture": td.MixtureSameFamily(td.Categorical(torch.ones(2, dtype=dtype)), uniform),
        "fallback": Plain(of(td.Beta, 0.3, 0.2), torch.tensor(1.0, dtype=dtype), 2.0),
        "fallback to zero": Plain(of(td.Beta, 3.0, 2.0), torch.tensor(1.0, dtype=dtype), 2.0),
    }


EDGES = [(name, dtype) for dtype in (f32, f64) for name in bounded(f32)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), EDGES)
@pytest.mark.parametrize("p", [0.1, 0.7, 2.0, 200.0])
def test_no_draw_is_outside_of_its_own_support(name: str, dtype: torch.dtype, p: float) -> None:
    radial = bounded(dtype)[name]
    for tree in (LpNestedTree.flat(1), LpNestedTree.flat(100), LpNestedTree(((0, 1), 2, (3, 4)))):
        exponents = torch.full((tree.num_nodes,), p, dtype=dtype)
        dist = LpNested(tree, exponents, radial)
        assert dist.log_prob(dist.sample((100_000 // (4 * tree.dim),))).isfinite().all()


@pytest.mark.parametrize(("name", "dtype"), EDGES)
def test_a_radius_that_is_rounded_beyond_a_bound_counts_as_the_bound(
    name: str, dtype: torch.dtype
) -> None:
    radial, eps = bounded(dtype)[name], EPS[dtype]
    assert is_bounded(radial)
    support: Any = getattr(radial.support, "base_constraint", radial.support)
    for bound, sign in (("lower_bound", -1), ("upper_bound", 1)):
        ends = torch.as_tensor(getattr(support, bound, 0.0), dtype=f64)
        for log_end in ends.flatten().log():
            if log_end.isfinite():
                near = torch.tensor([0.0, 0.5, 1.0, 3.0], dtype=f64)
                got = log_generator(radial, log_end + sign * eps * near, 3, eps)
                assert got.isfinite().all()
                beyond = log_end + sign * (8 * eps + 1e-12)
                assert log_generator(radial, beyond, 3, eps) == -math.inf


@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
def test_a_singular_density_at_a_bound_is_that_half_a_spacing_inside(dtype: torch.dtype) -> None:
    """So that the largest number below 1 still has its own density."""
    eps = EPS[dtype]
    for make in (td.Beta, td.Kumaraswamy):
        radial = make(torch.tensor(1.0, dtype=dtype), torch.tensor(0.5, dtype=dtype))
        want = [math.log(0.5) - 0.5 * math.log(eps / 2)] * 2
        at = torch.tensor([0.0, 1.0], dtype=f64) * math.log1p(-eps / 2)
        assert log_generator(radial, at, 1, eps).tolist() == pytest.approx(
            want, abs=eps, rel=1e-15
        )


def test_at_a_bound_gradients_are_finite() -> None:
    for name, radial in bounded(f64).items():
        support: Any = getattr(radial.support, "base_constraint", radial.support)
        bound = torch.as_tensor(getattr(support, "upper_bound", 1.3), dtype=f64).max()
        at = (bound.log() + 1e-13 * torch.tensor([-1.0, 0.0, 1.0], dtype=f64)).requires_grad_()
        (grad,) = torch.autograd.grad(log_generator(radial, at, 3, EPS[f64]).sum(), at)
        assert grad.isfinite().all(), name


# Moments -----------------------------------------------------------------------------------------


def inner_orders(low: float, high: float) -> list[float]:
    low, high = max(low, -6.0), min(high, 6.0)
    return [low + f * (high - low) for f in (0.1, 0.4, 0.65, 0.9)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parameters"), SETTINGS)
def test_a_moment_of_any_real_order_is_exact(name: str, parameters: tuple[float, ...]) -> None:
    family = FAMILIES[name]
    for k in inner_orders(*family.orders(*parameters)):
        want = exact_log_moment(name, parameters, k)
        got = log_radial_moment(family.of(parameters=parameters), k)
        assert got.dtype == f64
        assert abs(got.item() - want) <= 2e-14 * (1 + abs(want))


def exact_log_moment(name: str, parameters: tuple[float, ...], k: float) -> Real:
    """By a table, which is no matter for a shape of 1e6, or by quadrature."""
    args, k = [mpf(x) for x in parameters], mpf(k)
    if name in ("generalized_gamma", "gamma"):
        n, p, s = args if name == "generalized_gamma" else (args[0], mpf(1), 1 / args[1])
        return k * mp.log(s) + mp.loggamma((n + k) / p) - mp.loggamma(n / p)
    if name == "beta":
        a, b = args
        return mp.log(mp.beta(a + k, b) / mp.beta(a, b))
    if name == "kumaraswamy":
        a, b = args
        return mp.log(b * mp.beta(1 + k / a, b))
    if name == "inverse_gamma":
        a, b = args
        return k * mp.log(b) + mp.loggamma(a - k) - mp.loggamma(a)
    if name == "fisher_snedecor":
        a, b = args[0] / 2, args[1] / 2
        return k * mp.log(b / a) + mp.log(mp.beta(a + k, b - k) / mp.beta(a, b))
    if name == "pareto":
        return k * mp.log(args[0]) - mp.log(1 - k / args[1])
    if name == "log_normal":
        return k * args[0] + (k * args[1]) ** 2 / 2
    return mp.log(log_mean(FAMILIES[name], parameters, lambda r, _: r**k))


@pytest.mark.slow
@each_family
def test_that_table_of_moments_is_the_integral(name: str) -> None:
    family = FAMILIES[name]
    low, high = (max(-3.0, x) if x < 0 else min(3.0, x) for x in family.orders(*family.parameters))
    for k in (0.5 * low, 0.5 * high):
        want = mp.log(log_mean(family, family.parameters, lambda r, _, k=k: r**k))
        assert abs(exact_log_moment(name, family.parameters, k) - want) < 1e-9


@pytest.mark.parametrize(("name", "parameters"), SETTINGS)
def test_a_moment_is_infinite_exactly_where_it_diverges(
    name: str, parameters: tuple[float, ...]
) -> None:
    family = FAMILIES[name]
    radial = family.of(parameters=parameters)
    for bound, sign in zip(family.orders(*parameters), (-1, 1), strict=True):
        if math.isinf(bound):
            assert log_radial_moment(radial, sign * 20.0).isfinite()
            continue
        at = [bound, bound + sign * 0.1, sign * 1e3 * max(1, abs(bound))]
        within = bound - sign * 1e-9 * abs(bound)
        orders = torch.tensor([*at, within], dtype=f64)
        got = log_radial_moment(radial, orders)
        assert (got[:-1] == math.inf).all() and got[-1].isfinite()


def test_a_moment_that_diverges_leaves_the_other_gradients_finite() -> None:
    for name, family in FAMILIES.items():
        leaves = tensors(family.parameters)
        orders = torch.tensor([-1e4, 0.5, 1e4], dtype=f64)
        moments = log_radial_moment(family.make(*leaves), orders)
        used = torch.autograd.grad(moments[1], leaves)
        assert all(grad.isfinite() for grad in used), name


@pytest.mark.parametrize(
    ("radial", "order", "want"),
    [
        (td.FisherSnedecor(3.0, 1.5), 1, math.inf),  # torch's mean is NaN
        (td.FisherSnedecor(3.0, 3.0), 1, math.log(3.0)),
        (td.FisherSnedecor(3.0, 3.0), 2, math.inf),
        (td.GeneralizedPareto(0.0, 1.0, 1.5), 1, math.inf),  # by the fallback
        (td.GeneralizedPareto(0.0, 1.0, 0.75), 1, math.log(4.0)),
        (td.GeneralizedPareto(0.0, 1.0, 0.75), 2, math.inf),
        (td.GeneralizedPareto(0.0, 1.0, 1.5), 2, math.inf),
        (td.GeneralizedPareto(0.0, 1.0, 0.25), 2, math.log(2 / (0.75 * 0.5))),
        (td.GeneralizedPareto(0.0, 1.0, 1.5), 0, 0.0),
        (td.GeneralizedPareto(0.0, math.nan, 1.5, validate_args=False), 1, math.nan),
        (td.LogNormal(0.0, 20.0), 2, 800.0),
    ],
)
def test_what_torch_calls_nan_is_infinite(radial: Distribution, order: int, want: float) -> None:
    got = log_radial_moment(radial, order).item()
    assert got == pytest.approx(want, rel=1e-6, nan_ok=True)


def test_the_fallback_knows_no_third_moment() -> None:
    with pytest.raises(NotImplementedError, match="order 3 of GeneralizedPareto"):
        log_radial_moment(td.GeneralizedPareto(0.0, 1.0, 0.1), 3)
    orders = torch.tensor([0.0, 1.0, 2.0], dtype=f64)
    got = log_radial_moment(td.GeneralizedPareto(0.0, 1.0, 0.25), orders).exp()
    assert got.tolist() == pytest.approx([1.0, 4 / 3, 2 / (0.75 * 0.5)], rel=1e-6)


def test_moments_of_a_mixture_are_the_mixture_of_moments() -> None:
    weights = torch.tensor([0.25, 0.75, 0.0], dtype=f64).log().requires_grad_()
    alpha = torch.tensor([2.5, 4.5, 0.5], dtype=f64)
    parts = td.Pareto(torch.tensor([1.0, 2.0, 1.0], dtype=f64), alpha)
    radial = td.MixtureSameFamily(td.Categorical(logits=weights), parts)
    got = log_radial_moment(radial, torch.tensor([2.0, 3.0], dtype=f64))
    want = math.log(0.25 * 2.5 / 0.5 + 0.75 * 4.5 / 2.5 * 4)
    assert got.tolist() == [pytest.approx(want, rel=1e-14), math.inf]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parameters"), SETTINGS)
@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
def test_mean_log_and_entropy_are_exact_in_single_precision_too(
    name: str, parameters: tuple[float, ...], dtype: torch.dtype
) -> None:
    family = FAMILIES[name]
    leaves = tensors(parameters, dtype)
    held = tuple(x.item() for x in leaves)
    radial = family.make(*leaves)
    if name in EXACT:
        first, entropy = EXACT[name](*(mpf(x) for x in held))
    else:
        first = log_mean(family, held, lambda r, _: mp.log(r))
        entropy = -log_mean(family, held, lambda _, log: log)
    for got, want in ((mean_log(radial), first), (radial_entropy(radial), entropy)):
        assert got.dtype == f64
        assert abs(got.item() - want) <= 3e-14 * (1 + abs(want))
        grads = torch.autograd.grad(got, leaves, retain_graph=True, allow_unused=True)
        assert all(grad.isfinite() for grad in grads if grad is not None)


def of_gamma(n: Real, p: Real, s: Real) -> tuple[Real, Real]:
    a = n / p
    first = mp.log(s) + mp.digamma(a) / p
    return first, mp.log(s / p) + mp.loggamma(a) + a + (1 / p - a) * mp.digamma(a)


def of_inverse_gamma(a: Real, b: Real) -> tuple[Real, Real]:
    first, entropy = of_gamma(a, mpf(1), 1 / b)
    return -first, entropy - 2 * first


def of_beta(a: Real, b: Real) -> tuple[Real, Real]:
    one, other = mp.digamma(a) - mp.digamma(a + b), mp.digamma(b) - mp.digamma(a + b)
    return one, mp.log(mp.beta(a, b)) - (a - 1) * one - (b - 1) * other


def of_kumaraswamy(a: Real, b: Real) -> tuple[Real, Real]:
    harmonic = mp.digamma(b + 1) + mp.euler
    return -harmonic / a, 1 - 1 / b + (1 - 1 / a) * harmonic - mp.log(a * b)


def of_fisher(one: Real, two: Real) -> tuple[Real, Real]:
    """As the odds of a beta variable x, y = x / (1 - x), times two / one."""
    a, b = one / 2, two / 2
    log_x, log_rest = (mp.digamma(c) - mp.digamma(a + b) for c in (a, b))
    factor = mp.log(two / one)
    return factor + log_x - log_rest, factor + of_beta(a, b)[1] - 2 * log_rest


EXACT: dict[str, Callable[..., tuple[Real, Real]]] = {
    "generalized_gamma": of_gamma,
    "gamma": lambda a, b: of_gamma(a, mpf(1), 1 / b),
    "inverse_gamma": of_inverse_gamma,
    "beta": of_beta,
    "kumaraswamy": of_kumaraswamy,
    "fisher_snedecor": of_fisher,
    "log_normal": lambda m, s: (m, m + mp.log(s) + mp.log(2 * mp.pi * mp.e) / 2),
    "pareto": lambda s, a: (mp.log(s) + 1 / a, mp.log(s / a) + 1 + 1 / a),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_those_tables_are_the_integrals(name: str) -> None:
    family = FAMILIES[name]
    first, entropy = EXACT[name](*(mpf(x) for x in family.parameters))
    assert abs(first - log_mean(family, family.parameters, lambda r, _: mp.log(r))) < 1e-9
    assert abs(entropy + log_mean(family, family.parameters, lambda _, log: log)) < 1e-9


@each_family
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_mode_is_zero_only_where_the_generator_is_highest_there(name: str, dim: int) -> None:
    family = FAMILIES[name]
    others = [(x, y, 1.0) for x in (1.0, 2.0, 6.0) for y in (0.5, 1.0, 3.0)]
    others = [(0.0, 2.0, 1.0)] if name == "uniform" else others
    for parameters in [family.parameters, *(x[: len(family.parameters)] for x in others)]:
        radial = family.of(parameters=parameters)
        logs = torch.linspace(-40, 20, 4001, dtype=f64)
        generator = log_generator(radial, logs, dim, EPS[f64])
        is_flat = bool((generator[0] - generator[1]).abs() < 1e-3)
        highest = is_flat and bool((generator[0] > generator[2600:]).all())
        assert (generator_mode(radial, dim).item() == 0.0) == highest


# Draws -------------------------------------------------------------------------------------------


@each_family
@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
def test_draws_have_the_law_of_the_radial(name: str, dtype: torch.dtype) -> None:
    family = FAMILIES[name]
    draws = log_draw(family.of(dtype), (20_000,))
    assert draws.dtype == f64 and not draws.requires_grad
    r = draws.exp().numpy()
    if name == "kumaraswamy":
        r = r ** family.parameters[0]
    assert scipy.stats.kstest(r, family.scipy(*family.parameters).cdf).pvalue > 1e-4


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.extreme])
@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
def test_draws_are_right_where_the_radius_under_or_overflows(
    name: str, dtype: torch.dtype
) -> None:
    family, num = FAMILIES[name], 40_000
    radial = family.of(dtype, family.extreme)
    draws = log_draw(radial, (num,))
    assert draws.isfinite().all()
    assert (draws.abs() > 89).float().mean() > 0.1  # where float32 holds no radius
    error = (draws.mean() - mean_log(radial)).abs() / draws.std() * math.sqrt(num)
    assert error < 4.5


def test_draws_of_a_mixture_are_of_its_components() -> None:
    weights = torch.tensor([0.3, 0.7], dtype=f64)
    parts = td.Gamma(torch.tensor([0.001, 5.0], dtype=f64), torch.tensor([1.0, 5.0], dtype=f64))
    draws = log_draw(td.MixtureSameFamily(td.Categorical(weights), parts), (4, 10_000))
    assert draws.shape == (4, 10_000)
    share = (draws < -10).float().mean().item()  # nearly all of the first, nothing of the second
    first = scipy.stats.gamma(0.001).cdf(math.exp(-10))
    assert share == pytest.approx(0.3 * first, abs=4.5 * math.sqrt(0.21 / 40_000))


def test_draws_by_the_fallback_are_the_radials_own() -> None:
    radial = td.GeneralizedPareto(0.0, 1.0, 0.2)
    torch.manual_seed(1)
    draws = log_draw(radial, (5,))
    torch.manual_seed(1)
    assert torch.equal(draws, radial.sample((5,)).double().log())


def test_draws_follow_parameters_that_are_written_in_place() -> None:
    """torch's Weibull and Kumaraswamy keep reciprocals of theirs, which do not."""
    for make, parameters, new in (
        (td.Weibull, (1.0, 2.0), (1.0, 0.01)),
        (td.Kumaraswamy, (2.0, 3.0), (0.01, 3.0)),
        (td.FisherSnedecor, (3.0, 4.0), (0.02, 0.01)),
    ):
        leaves = [torch.tensor(x) for x in parameters]
        radial = make(*leaves)
        for leaf, x in zip(leaves, new, strict=True):
            leaf.fill_(x)
        torch.manual_seed(0)
        draws = log_draw(radial, (10,))
        torch.manual_seed(0)
        assert torch.equal(draws, log_draw(make(*(torch.tensor(x) for x in new)), (10,)))


@pytest.mark.slow
@each_family
def test_draws_pass_vmap_fake_tensors_and_the_compiler(name: str) -> None:
    family = FAMILIES[name]
    radial = family.make(*(torch.tensor(x) for x in family.parameters), validate_args=False)
    mapped = torch.vmap(lambda _: log_draw(radial, (3,)), randomness="different")(torch.zeros(4))
    assert mapped.shape == (4, 3) and mapped.unique().numel() == 12
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert log_draw(radial, (3,)).shape == (3,)
    torch._dynamo.reset()
    compiled = torch.compile(lambda: log_draw(radial, (3,)), fullgraph=True, backend="eager")
    assert compiled().isfinite().all()


@pytest.mark.slow
@each_family
def test_draws_are_the_same_for_any_number_of_threads(name: str, one_thread: None) -> None:
    draws = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        draws.append(log_draw(FAMILIES[name].of(f32), (70_001,)))
    assert torch.equal(*draws)


# What a radial is made of ------------------------------------------------------------------------


def test_parameters_are_those_of_components_and_bases() -> None:
    a, b = torch.tensor([1.0, 2.0], dtype=f64), torch.tensor([3.0, 4.0], dtype=f64)
    gamma = td.Gamma(a, b)
    assert [x is y for x, y in zip(parameters_of(gamma), (a, b), strict=True)] == [True, True]
    mixture = td.MixtureSameFamily(td.Categorical(torch.ones(2)), gamma)
    assert len(parameters_of(mixture)) == 2 and dtype_of(mixture) == f64
    power = td.TransformedDistribution(gamma, [td.PowerTransform(torch.tensor(2.0))])
    assert dtype_of(power) == f64
    assert dtype_of(td.Gamma(a.bfloat16(), b.bfloat16())) == f32


def test_a_support_is_bounded_where_the_density_can_jump() -> None:
    free = ["half_cauchy", "log_normal", "inverse_gamma", "fisher_snedecor", "gamma", "weibull"]
    assert not any(is_bounded(FAMILIES[name].of()) for name in free)
    assert all(is_bounded(FAMILIES[name].of()) for name in ("pareto", "uniform", "beta"))
    for radial in bounded(f64).values():
        check_radial(radial, check_values=True)


def test_log_prob_and_norm_agree_on_the_radius() -> None:
    """The density of a nested distribution is the generator at the norm, over the area."""
    tree, exponents = LpNestedTree((0, (1, 2))), torch.tensor([1.3, 2.2], dtype=f64)
    x = torch.randn(50, 3, dtype=f64)
    for name, family in FAMILIES.items():
        radial = family.of()
        generator = log_generator(radial, F.log_norm(x, exponents, tree), 3, EPS[f64])
        want = generator - F.log_surface_area(exponents, tree)
        got = LpNested(tree, exponents, radial).log_prob(x)
        assert torch.equal(got.isinf(), want.isinf()), name
        torch.testing.assert_close(got, want, rtol=1e-12, atol=0.0)
