"""Divergences in closed form, held to integrals of textbook densities; what has none says so."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch import distributions as td
from torch.autograd.functional import hessian
from torch.distributions import Distribution, Independent, kl_divergence

import oracle
from lpnested import ISA, GeneralizedGamma, GeneralizedNormal, LpNested, LpNestedTree, LpSpherical
from oracle import LogDensity, mp, mpf

f32, f64 = torch.float32, torch.float64
Real = Any


def t64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=f64)


def scalars(*values: float, dtype: torch.dtype = f64) -> list[Tensor]:
    return [torch.tensor(x, dtype=dtype, requires_grad=True) for x in values]


def assert_near(got: Tensor, want: Real, relative: float, absolute: float = 0.0) -> None:
    assert abs(mpf(got.item()) - want) <= relative * abs(want) + absolute


# Generalized gammas, with torch's special cases of them ------------------------------------------


def exact_kl(n1: Real, p1: Real, s1: Real, n2: Real, p2: Real, s2: Real) -> Real:
    """By the moments of log r and of r^p2, at 50 digits."""
    a = n1 / p1
    mean_log = mp.log(s1) + mp.digamma(a) / p1
    power = (s1 / s2) ** p2 * mp.gamma(a + p2 / p1) / mp.gamma(a)
    one = mp.log(p1) - mp.loggamma(a) - n1 * mp.log(s1) + n1 * mean_log - a
    return one - (mp.log(p2) - mp.loggamma(n2 / p2) - n2 * mp.log(s2) + n2 * mean_log - power)


PAIRS = [
    ((3.0, 1.5, 0.5), (3.0, 2.0, 1.25)),
    ((3.0, 1.5, 0.5), (5.5, 0.75, 2.0)),
    ((0.3, 0.1, 2.0), (0.7, 0.2, 1.0)),
    ((1.0, 20.0, 1e-20), (2.0, 3.0, 1e-20)),
    ((1.0, 0.5, 3.0), (2.0, 200.0, 1e6)),
    ((1e5, 2.0, 1.0), (1.001e5, 2.0, 1.0)),
    ((784.0, 2.1, 1.0), (784.0, 2.1000001, 1.0000001)),
    ((1e10, 1.0, 1.0), (1e10, 1.0, 1.000001)),
]


@pytest.mark.parametrize(("one", "two"), PAIRS[:3])
def test_that_closed_form_is_the_integral(one: tuple[float, ...], two: tuple[float, ...]) -> None:
    p, q = oracle.generalized_gamma(*one), oracle.generalized_gamma(*two)
    want = oracle.radial_mean(p, lambda r: p(r) - q(r), span=600)
    assert abs(exact_kl(*map(mpf, one), *map(mpf, two)) - want) < 1e-10


@pytest.mark.parametrize(("one", "two"), [*PAIRS, *((two, one) for one, two in PAIRS)])
@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
def test_kl_of_generalized_gammas_and_its_gradient_are_exact(
    one: tuple[float, ...], two: tuple[float, ...], dtype: torch.dtype
) -> None:
    leaves = scalars(*one, *two, dtype=dtype)
    got = kl_divergence(GeneralizedGamma(*leaves[:3]), GeneralizedGamma(*leaves[3:]))
    assert got.dtype == dtype
    args = [mpf(x.item()) for x in leaves]
    want, eps = exact_kl(*args), torch.finfo(dtype).eps
    if want > torch.finfo(dtype).max:
        assert got == math.inf
        return
    a, b = args[0] / args[1], args[3] / args[4]
    size = 1 + abs(args[4] * mp.log(args[2] / args[5])) + abs(mp.log(a)) + abs(mp.log(b))
    size *= (1 + a + b) * mpf(2.3e-16)
    assert_near(got, want, 4 * eps, float(size))
    grads = torch.autograd.grad(got, leaves)
    for i, (x, grad) in enumerate(zip(args, grads, strict=True)):
        exact = mp.diff(lambda x, i=i: exact_kl(*args[:i], x, *args[i + 1 :]), x, h=x / 10**15)
        exact = min(max(exact, -torch.finfo(dtype).max), torch.finfo(dtype).max)
        assert abs(grad.item() - exact) <= 8 * eps * abs(exact) + 16 * size / x


def test_kl_beyond_the_dtype_is_infinite_and_beyond_4e260_still_right() -> None:
    one = GeneralizedGamma(*scalars(1.0, 1.0, 1e3))
    got = kl_divergence(one, GeneralizedGamma(*scalars(1.0, 95.0, 1.0)))
    want = exact_kl(*map(mpf, (1, 1, 1000, 1, 95, 1)))
    assert want > mpf("1e400") and got == math.inf
    got = kl_divergence(one, GeneralizedGamma(*scalars(1.0, 69.0, 1.0)))
    want = exact_kl(*map(mpf, (1, 1, 1000, 1, 69, 1)))
    assert 1e300 < want < 1e308 and got.item() == pytest.approx(float(want), rel=1e-12)
    single = GeneralizedGamma(1.0, 1.0, 1e3), GeneralizedGamma(1.0, 20.0, 1.0)
    assert kl_divergence(*single) == math.inf and kl_divergence(*single).dtype == f32


SPECIAL: list[tuple[Callable[..., Distribution], tuple[float, ...], Callable[..., Any]]] = [
    (GeneralizedGamma, (2.5, 1.5, 0.75), lambda n, p, s: (n, p, s)),
    (td.Gamma, (2.5, 1.5), lambda a, b: (a, 1, 1 / b)),
    (td.Chi2, (3.5,), lambda k: (k / 2, 1, 2)),
    (td.Exponential, (1.5,), lambda b: (1, 1, 1 / b)),
    (td.Weibull, (0.75, 1.5), lambda s, k: (k, k, s)),
    (td.HalfNormal, (0.75,), lambda s: (1, 2, mp.sqrt(2) * s)),
]
TYPES = [(a, b) for a, b in itertools.product(SPECIAL, SPECIAL)]
IDS = [f"{a[0].__name__}-{b[0].__name__}" for a, b in TYPES]


@pytest.mark.parametrize(("one", "two"), TYPES, ids=IDS)
def test_kl_of_special_cases_is_that_of_generalized_gammas(one: Any, two: Any) -> None:
    """Between any two as radii; between one of ours and one of torch's as they are."""
    want = exact_kl(
        *(mpf(x) for make, args, as_ours in (one, two) for x in as_ours(*map(mpf, args)))
    )
    p, q = (make(*scalars(*args)) for make, args, _ in (one, two))
    tree, exponents = LpNestedTree((0, (1, 2))), t64(1.3, 2.2)
    nested = kl_divergence(LpNested(tree, exponents, p), LpNested(tree, exponents, q))
    assert_near(nested, want, 1e-13, 1e-15)
    if GeneralizedGamma in (one[0], two[0]):
        assert_near(kl_divergence(p, q), want, 1e-13, 1e-15)


def test_pairs_of_torchs_own_types_stay_torchs() -> None:
    for (p, q), function in td.kl._KL_REGISTRY.items():
        ours = any(x.__module__.startswith("lpnested") for x in (p, q))
        assert function.__module__.startswith("lpnested") == ours, (p, q)


# Generalized normals -----------------------------------------------------------------------------


def line(
    make: Callable[..., Distribution], loc: float, scale: float, p: float
) -> tuple[Distribution, LogDensity]:
    m, s, p = mpf(loc), mpf(scale) * (mp.sqrt(2) if make is td.Normal else 1), mpf(p)
    constant = mp.log(p / (2 * s)) - mp.loggamma(1 / p)
    args = scalars(loc, scale, p) if make is GeneralizedNormal else scalars(loc, scale)
    return make(*args), lambda x: constant - (abs(x - m) / s) ** p


LINES = [
    (GeneralizedNormal, 0.25, 0.75, 1.5),
    (GeneralizedNormal, 0.25, 2.0, 0.5),
    (td.Normal, 0.25, 1.5, 2.0),
    (td.Laplace, 0.25, 0.5, 1.0),
]


@pytest.mark.slow
@pytest.mark.parametrize(("one", "two"), list(itertools.product(LINES, LINES)))
def test_kl_on_a_line_is_the_integral(one: Any, two: Any) -> None:
    (p, log_p), (q, log_q) = line(*one), line(*two)
    with mp.workdps(20):
        want = 2 * mp.quad(
            lambda t: (
                mp.exp(log_p(0.25 + mp.exp(t)) + t)
                * (log_p(0.25 + mp.exp(t)) - log_q(0.25 + mp.exp(t)))
            ),
            mp.linspace(-60, 12, 37),
        )
    assert_near(kl_divergence(p, q), want, 1e-12, 1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("one", [*LINES, (GeneralizedNormal, 0.25, 1.5, 20.0)])
def test_kl_of_two_centres_is_closed_to_a_normal(one: Any) -> None:
    p, log_p = line(*one)
    for make, scale in ((td.Normal, 1.25), (GeneralizedNormal, 1.25 * math.sqrt(2))):
        args = (make, -1.0, scale, *((2.0,) if make is GeneralizedNormal else ()))
        q = make(*(x.detach() for x in scalars(*args[1:])))
        _, log_q = line(make, -1.0, scale, 2.0)
        with mp.workdps(20):
            want = sum(
                mp.quad(
                    lambda t, s=s, log_q=log_q: (
                        mp.exp(log_p(0.25 + s * mp.exp(t)) + t)
                        * (log_p(0.25 + s * mp.exp(t)) - log_q(0.25 + s * mp.exp(t)))
                    ),
                    mp.linspace(-60, 12, 37),
                )
                for s in (-1, 1)
            )
        if type(p) is td.Normal is make:
            continue  # torch's own
        assert_near(kl_divergence(p, q), want, 1e-12)


def test_kl_of_two_centres_is_refused_where_it_would_lack_a_gradient() -> None:
    one, two = GeneralizedNormal(0.0, 1.0, 1.5), GeneralizedNormal(1.0, 1.0, 2.0)
    p = torch.tensor(2.0, requires_grad=True)
    for q in (GeneralizedNormal(1.0, 1.0, p), one.expand(()), td.Laplace(1.0, 1.0)):
        with pytest.raises(NotImplementedError, match="fixed exponent 2 of q"):
            kl_divergence(two.expand(()) if q.loc == 0 else one, q)
    with torch.no_grad():
        learned = kl_divergence(one, GeneralizedNormal(1.0, 1.0, p))
    assert learned == kl_divergence(one, two)

    def shifted(p: Tensor) -> Tensor:
        return kl_divergence(one, GeneralizedNormal(1.0, 1.0, p, validate_args=False))

    for transform in (torch.func.grad, torch.func.jacfwd):
        with pytest.raises(NotImplementedError, match="fixed"):
            transform(shifted)(torch.tensor(2.0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("p1", "p2"), [(2.0, 2.0), (1.5, 3.0), (3.0, 1.0), (1.2, 1.5), (2.0, 0.5)]
)
def test_the_curvature_of_kl_in_the_location_is_exact(p1: float, p2: float) -> None:
    """At equal exponents it is Fisher's information. By convolution with the smooth factor."""
    s1, s2 = 0.75, 1.25
    _, log_p = line(GeneralizedNormal, 0.0, s1, p1)

    def power(shift: Real) -> Real:  # E |x + shift|^p2
        def part(sign: int) -> Callable[[Real], Real]:
            return lambda y: y ** mpf(p2) * mp.exp(log_p(sign * y - shift))

        cuts = [0, 0.01, 0.1, 0.5, 1, 2, 4, 8, 40]
        return mp.quad(part(1), cuts) + mp.quad(part(-1), cuts)

    with mp.workdps(25):
        h = mpf("0.01")
        second = [(power(k * h) + power(-k * h) - 2 * power(0)) / (k * h) ** 2 for k in (1, 2)]
        want = (4 * second[0] - second[1]) / 3 / mpf(s2) ** mpf(p2)

    def kl(shift: Tensor) -> Tensor:
        p, q = scalars(s1, p1), scalars(s2, p2)
        return kl_divergence(GeneralizedNormal(shift, *p), GeneralizedNormal(0.0, *q))

    got = torch.func.hessian(kl)(torch.zeros((), dtype=f64))
    assert got.item() == pytest.approx(float(want), rel=2e-3)


# Between equals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
def test_kl_of_equals_is_exactly_zero(dtype: torch.dtype) -> None:
    def of(*values: Any) -> list[Tensor]:
        return [torch.tensor(x, dtype=dtype) for x in values]

    tree = LpNestedTree(((0, 1), 2, (3, (4, 5))))
    exponents = of([1.3, 0.7, 3.0, 2.2])[0]
    for make in (
        lambda: ISA([784], *of(0.1, 2.0)),
        lambda: ISA([100_000], *of(2.0, 2.0)),
        lambda: ISA([4, 1, 3], *of(2.1, [2.2, 0.3, 5.0], 1.7)),
        lambda: GeneralizedGamma(*of([1e-2, 3.0, 1e12], 1.3, 0.1)),
        lambda: GeneralizedNormal(*of(0.3, 1e-20, [0.1, 2.0, 7.3])),
        lambda: LpNested(tree, exponents, td.Gamma(*of(3.3, 0.7))),
        lambda: LpNested(tree, exponents, td.LogNormal(*of(0.3, 0.7))),
        lambda: LpNested(tree, exponents, td.InverseGamma(*of(3.3, 0.7))),
        lambda: LpSpherical(7, *of(1.3), td.Weibull(*of(1.3, 0.7))),
    ):
        assert (kl_divergence(make(), make()) == 0).all()
    normal = Independent(td.Normal(torch.zeros(5, dtype=f64), torch.ones(5, dtype=f64)), 1)
    isa = ISA([2, 3], *scalars(2.0, 2.0, math.sqrt(2)))
    assert kl_divergence(normal, isa) == 0
    assert kl_divergence(isa, normal).abs() < 1e-14


@pytest.mark.parametrize("size", [784, 100_000])
@pytest.mark.parametrize("change", [1e-3, 1e-6])
def test_kl_of_neighbours_does_not_drown_in_rounding(size: int, change: float) -> None:
    for which in range(2):
        one = [2.0, 1.5]
        two = [x * (1 + change) if k == which else x for k, x in enumerate(one)]
        (p0, s), (q0, t) = (scalars(*x) for x in (one, two))
        got = kl_divergence(ISA([size], p0, t64(2.0)[0], s), ISA([size], q0, t64(2.0)[0], t))
        n = mpf(size)
        args = [mpf(x.item()) for x in (p0, s, q0, t)]
        assert_near(got, exact_kl(n, args[0], args[1], n, args[2], args[3]), 1e-8)


# Nested distributions ----------------------------------------------------------------------------


def tanh_sinh(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights, for singularities at the ends."""
    t = np.linspace(-3.4, 3.4, 137)
    u, half = np.pi / 2 * np.sinh(t), (high - low) / 2
    to_end = half * np.exp(-np.abs(u)) / np.cosh(u)
    nodes = np.where(t < 0, low + to_end, high - to_end)
    return nodes, half * np.pi / 2 * np.cosh(t) / np.cosh(u) ** 2 * (t[1] - t[0])


Plane = Callable[[np.ndarray, np.ndarray], np.ndarray]


def log_spherical(p: float, radial: Callable[[np.ndarray], np.ndarray]) -> Plane:
    """In the plane: log rho(r) - log r - log S, by numpy."""
    log_area = 2 * math.log(2) - math.log(p) + 2 * math.lgamma(1 / p) - math.lgamma(2 / p)

    def log_density(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        log_r = np.logaddexp(p * np.log(np.abs(x)), p * np.log(np.abs(y))) / p
        return radial(log_r) - log_r - log_area

    return log_density


def log_gg(n: float, p: float, s: float) -> Callable[[np.ndarray], np.ndarray]:
    constant = math.log(p) - math.lgamma(n / p) - n * math.log(s)
    return lambda log_r: constant + (n - 1) * log_r - np.exp(p * (log_r - math.log(s)))


def log_product(
    locs: tuple[float, float], scales: tuple[float, float], powers: tuple[float, float]
) -> Plane:
    def log_density(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        total = np.zeros(())
        for z, m, s, p in zip((x, y), locs, scales, powers, strict=True):
            constant = math.log(p / (2 * s)) - math.lgamma(1 / p)
            total = total + constant - np.abs((z - m) / s) ** p
        return total

    return log_density


def plane_kl(log_p: Plane, log_q: Plane) -> float:
    """In polar coordinates, by quadrants; p must be centred for many digits."""
    log_r = np.linspace(-18, 7, 500)
    angles, weights = (
        np.concatenate(x)
        for x in zip(*(tanh_sinh(k * np.pi / 4, (k + 1) * np.pi / 4) for k in (0, 1)), strict=True)
    )
    r, angle = np.exp(log_r)[:, None], angles[None]
    x, y = r * np.cos(angle), r * np.sin(angle)
    total = 0.0
    for s, t in itertools.product((-1, 1), (-1, 1)):
        one = log_p(s * x, t * y)
        total += (np.exp(one + 2 * np.log(r)) * (one - log_q(s * x, t * y)) @ weights).sum()
    return total * (log_r[1] - log_r[0])


def slope(f: Callable[[float], float], x: float, h: float = 1e-3) -> float:
    one, two = ((f(x + k * h) - f(x - k * h)) / (2 * k * h) for k in (1, 2))
    return (4 * one - two) / 3


def test_the_quadrature_knows_a_normal() -> None:
    one = log_spherical(2.0, log_gg(2, 2.0, math.sqrt(2)))
    two = log_product((0.5, -1.0), (math.sqrt(8), math.sqrt(2)), (2.0, 2.0))
    normals = [
        Independent(td.Normal(t64(*m), t64(*s)), 1)
        for m, s in (((0.0, 0.0), (1.0, 1.0)), ((0.5, -1.0), (2.0, 1.0)))
    ]
    assert plane_kl(one, two) == pytest.approx(kl_divergence(*normals).item(), rel=1e-11)


@pytest.mark.slow
def test_kl_of_isa_has_the_gradient_in_the_exponents_of_both() -> None:
    """As reported: p got none."""
    p, q = t64(1.3, 2.0).requires_grad_(), t64(1.3, 2.0).requires_grad_()
    p0, q0, s, t = scalars(2.1, 1.2, 1.0, 1.4)
    got = kl_divergence(ISA([2, 2], p0, p, s), ISA([2, 2], q0, q, t))

    def exact(a: float, b: float, p0: float = 2.1, s: float = 1.0) -> float:
        return plane_kl(log_spherical(a, log_gg(2, p0, s)), log_spherical(b, log_gg(2, 1.2, 1.4)))

    assert got.item() == pytest.approx(exact(1.3, 1.3) + exact(2.0, 2.0), rel=1e-10)
    in_p, in_q, in_p0, in_s = torch.autograd.grad(got, (p, q, p0, s), retain_graph=True)
    for k, a in enumerate((1.3, 2.0)):
        assert in_p[k].item() == pytest.approx(slope(lambda x, a=a: exact(x, a), a), rel=1e-6)
        assert in_q[k].item() == pytest.approx(slope(lambda x, a=a: exact(a, x), a), rel=1e-6)
    assert in_p.tolist() == pytest.approx([-0.36, -0.13], abs=0.005)
    want = slope(lambda x: exact(1.3, 1.3, x) + exact(2.0, 2.0, x), 2.1)
    assert in_p0.item() == pytest.approx(want, rel=1e-6)
    want = slope(lambda x: exact(1.3, 1.3, 2.1, x) + exact(2.0, 2.0, 2.1, x), 1.0)
    assert in_s.item() == pytest.approx(want, rel=1e-6)


def log_normal(m: float, s: float) -> Callable[[np.ndarray], np.ndarray]:
    constant = -math.log(s) - math.log(2 * math.pi) / 2
    return lambda log_r: constant - log_r - ((log_r - m) / s) ** 2 / 2


def inverse_gamma(a: float, b: float) -> Callable[[np.ndarray], np.ndarray]:
    constant = a * math.log(b) - math.lgamma(a)
    return lambda log_r: constant - (a + 1) * log_r - b * np.exp(-log_r)


RADII = {
    "gamma": (td.Gamma, lambda a, b: log_gg(a, 1.0, 1 / b), (3.0, 2.0), (2.5, 1.5)),
    "log_normal": (td.LogNormal, log_normal, (0.1, 0.4), (0.3, 0.7)),
    "inverse_gamma": (td.InverseGamma, inverse_gamma, (6.0, 2.0), (5.0, 3.0)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RADII)
def test_kl_of_nested_has_the_gradient_in_the_exponents_of_both(name: str) -> None:
    make, log_density, one, two = RADII[name]
    p, q = scalars(1.3, 1.3)
    radii = make(*scalars(*one)), make(*scalars(*two))
    got = kl_divergence(LpSpherical(2, p, radii[0]), LpSpherical(2, q, radii[1]))

    def exact(a: float, b: float) -> float:
        return plane_kl(log_spherical(a, log_density(*one)), log_spherical(b, log_density(*two)))

    assert got.item() == pytest.approx(exact(1.3, 1.3), rel=1e-9)
    in_p, in_q = torch.autograd.grad(got, (p, q))
    assert in_p.item() == pytest.approx(slope(lambda x: exact(x, 1.3), 1.3), rel=1e-6)
    assert in_q.item() == pytest.approx(slope(lambda x: exact(1.3, x), 1.3), rel=1e-6)


def test_the_gradient_on_a_tree_is_that_of_monte_carlo() -> None:
    """By the score function: d KL / d p = E [(d log p / d p) log(p / q)]."""
    tree, values = LpNestedTree((0, (1, 2))), (1.3, 2.2)
    p, q = t64(*values).requires_grad_(), t64(*values).requires_grad_()
    one = LpNested(tree, p, td.Gamma(*scalars(3.0, 2.0)))
    two = LpNested(tree, q, td.Weibull(*scalars(2.0, 1.5)))
    exact = torch.autograd.grad(kl_divergence(one, two), (p, q))
    assert_opposite = (exact[0] + exact[1]).abs().max()
    assert assert_opposite < 1e-14
    x = one.sample((40_000,)).requires_grad_(False)
    ratio = (one.log_prob(x) - two.log_prob(x)).detach()
    for k in range(2):
        rows = torch.func.vmap(
            torch.func.jacrev(
                lambda e, row: LpNested(
                    tree, e, td.Gamma(*t64(3.0, 2.0), validate_args=False), validate_args=False
                ).log_prob(row)
            ),
            in_dims=(None, 0),
        )(t64(*values), x[:20_000])
        terms = rows[:, k] * ratio[:20_000]
        assert abs(terms.mean() - exact[0][k]) < 4.5 * terms.std() / math.sqrt(20_000)


def test_a_second_derivative_in_the_exponents_is_refused() -> None:
    p, q = t64(1.3, 2.0), t64(1.3, 2.0)

    def kl(p: Tensor) -> Tensor:
        one = ISA([2, 2], t64(2.1)[0], p, validate_args=False)
        return kl_divergence(one, ISA([2, 2], t64(1.2)[0], q, validate_args=False))

    jacobians = [torch.func.jacrev, torch.func.jacfwd]
    for first, second in itertools.product(jacobians, jacobians):
        want = torch.autograd.functional.jacobian(kl, p)
        assert first(kl)(p).tolist() == pytest.approx(want.tolist(), rel=1e-13)
        with pytest.raises(NotImplementedError, match="second derivative"):
            second(first(kl))(p)
    with pytest.raises(NotImplementedError, match="second derivative"):
        hessian(kl, p)
    mapped = torch.func.vmap(torch.func.grad(lambda s: kl(p) * s))(t64(1.0, 2.0))
    assert mapped.shape == (2,)


def test_exponents_of_one_tensor_are_no_matter_of_a_gradient() -> None:
    p = t64(1.3).requires_grad_()
    one, two = (LpNested(LpNestedTree.flat(3), p, td.Beta(*scalars(a, 3.0))) for a in (2.0, 2.5))
    kl = kl_divergence(one, two)
    assert kl.item() == pytest.approx(kl_divergence(one.radial, two.radial).item())
    assert torch.autograd.grad(kl, p, allow_unused=True) == (None,)
    (a,) = scalars(2.1)

    def shared(a: Tensor, p: Tensor) -> Tensor:
        isa = [ISA([2, 3], x, p[0], validate_args=False) for x in (a, 1.2)]
        return kl_divergence(*isa)

    assert hessian(lambda a: shared(a, p), a).isfinite()


def test_the_gradient_in_the_exponents_is_refused_for_other_radii() -> None:
    p, q = t64(1.3).requires_grad_(), t64(1.3)
    one, two = (
        LpNested(LpNestedTree.flat(3), e, td.Beta(*scalars(a, 3.0)))
        for e, a in ((p, 2.0), (q, 2.5))
    )
    for pair in ((one, two), (two, one)):
        with pytest.raises(NotImplementedError, match="detach the exponents"):
            kl_divergence(*pair)
    with torch.no_grad():
        assert kl_divergence(one, two) > 0


def test_exponents_of_single_children_change_nothing() -> None:
    tree = LpNestedTree((((2,),), (0, (1, 3))))
    radii = td.Gamma(*scalars(3.0, 2.0)), td.Gamma(*scalars(2.5, 1.5))
    one, two, three = (
        t64(1.6, 2.5, 0.7, 5.0, 3.0),
        t64(1.6, 9.0, 0.7, 0.1, 3.0),
        t64(1, 2, 3, 4, 5),
    )
    alone = [len(node) == 1 for node in tree.nodes]
    two = torch.where(torch.tensor(alone), two, one)
    got = kl_divergence(LpNested(tree, one, radii[0]), LpNested(tree, two, radii[1]))
    assert got.item() == pytest.approx(kl_divergence(*radii).item(), rel=1e-13)
    with pytest.raises(NotImplementedError):
        kl_divergence(LpNested(tree, one, radii[0]), LpNested(tree, three, radii[1]))


def test_results_have_the_broadcast_batch_and_the_promoted_dtype() -> None:
    one = ISA([2, 2], torch.rand(3, 1) + 1, t64(1.3, 2.0))
    two = ISA([2, 2], torch.rand(2) + 1, torch.tensor([1.3, 2.0], dtype=f64), 1.5)
    assert kl_divergence(one, two).shape == (3, 2) and kl_divergence(one, two).dtype == f64
    tree, exponents = LpNestedTree.flat(2), torch.full((3, 1), 1.3)
    radial = td.Gamma(2.0, 3.0)
    nested = LpNested(tree, exponents, radial), LpNested(tree, [1.3], td.Gamma(1.0, 3.0))
    assert kl_divergence(*nested).shape == (3,) and kl_divergence(*nested).dtype == f32
    gammas = GeneralizedGamma(torch.ones(3, 1), 2.0), td.Weibull(torch.ones(2), torch.ones(2))
    assert kl_divergence(*gammas).shape == (3, 2)


# Independent coordinates -------------------------------------------------------------------------


def independent(
    make: Callable[..., Distribution],
    locs: tuple[float, float],
    scales: tuple[float, float],
    powers: tuple[float, float],
) -> tuple[Distribution, list[Tensor]]:
    leaves = [t64(*x).requires_grad_() for x in (locs, scales, powers)]
    leaves = leaves[: 3 if make is GeneralizedNormal else 2]
    return Independent(make(*leaves), 1), leaves


TO_INDEPENDENT = [
    (td.Normal, (0.0, 0.0), (0.7, 1.3), (2.0, 2.0)),
    (td.Normal, (0.5, -1.0), (0.7, 1.3), (2.0, 2.0)),
    (td.Laplace, (0.0, 0.0), (0.7, 1.3), (1.0, 1.0)),
    (GeneralizedNormal, (0.0, 0.0), (0.7, 1.3), (1.5, 3.0)),
]


def as_product(make: Any, locs: Any, scales: Any, powers: Any) -> Plane:
    factor = math.sqrt(2) if make is td.Normal else 1.0
    return log_product(locs, tuple(factor * s for s in scales), powers)


@pytest.mark.slow
@pytest.mark.parametrize("target", TO_INDEPENDENT)
@pytest.mark.parametrize("radius", ["gamma", "log_normal"])
def test_kl_to_independent_coordinates_is_the_integral(target: Any, radius: str) -> None:
    make, log_density, parameters, _ = RADII[radius]
    (p,) = scalars(1.3)
    q, leaves = independent(*target)
    got = kl_divergence(LpSpherical(2, p, make(*scalars(*parameters))), q)

    def exact(a: float = 1.3, k: int = 0, scale: float | None = None) -> float:
        scales = list(target[2])
        scales[k] = scales[k] if scale is None else scale
        one = log_spherical(a, log_density(*parameters))
        return plane_kl(one, as_product(target[0], target[1], tuple(scales), target[3]))

    assert got.item() == pytest.approx(exact(), rel=1e-8)
    in_p, in_scale = torch.autograd.grad(got, (p, leaves[1]))
    assert in_p.item() == pytest.approx(slope(exact, 1.3), rel=1e-5)
    for k in range(2):
        want = slope(lambda s, k=k: exact(k=k, scale=s), target[2][k])
        assert in_scale[k].item() == pytest.approx(want, rel=1e-5)


def test_kl_of_a_tree_to_independent_coordinates_matches_monte_carlo() -> None:
    isa = ISA([2, 2], t64(1.5)[0], t64(1.2, 3.0), 0.7)
    zero, scales = torch.zeros(4, dtype=f64), t64(0.5, 0.5, 1.3, 2.0)
    for q in (
        td.Normal(t64(1.0, 0.0, -1.0, 0.3), scales),
        td.Laplace(zero, scales),
        GeneralizedNormal(zero, scales, t64(1.4, 1.4, 0.8, 3.0)),
    ):
        x = isa.sample((100_000,))
        ratio = isa.log_prob(x) - Independent(q, 1).log_prob(x)
        got = kl_divergence(isa, Independent(q, 1))
        assert abs(got - ratio.mean()) < 4.5 * ratio.std() / math.sqrt(100_000)


def test_infinite_moments_make_an_infinite_kl() -> None:
    heavy = LpSpherical(2, t64(1.3)[0], td.Pareto(*scalars(1.0, 1.5)))
    assert kl_divergence(heavy, independent(*TO_INDEPENDENT[0])[0]) == math.inf
    assert kl_divergence(heavy, independent(*TO_INDEPENDENT[2])[0]).isfinite()


FROM_INDEPENDENT = {  # of sizes, p0, p and scale of an ISA in the plane
    "one sphere": (TO_INDEPENDENT[0][:2], (0.7, 0.7), (2.0, 2.0), [2], 1.3, [2.0]),
    "a p-sphere": ((GeneralizedNormal, (0.0, 0.0)), (0.7, 0.7), (1.5, 1.5), [2], 1.3, [1.5]),
    "all factors": ((GeneralizedNormal, (0.0, 0.0)), (0.7, 1.3), (1.5, 3.0), [1, 1], 1.3, [9, 3]),
    "equal exponents": ((td.Laplace, (0.0, 0.0)), (0.7, 1.3), (1.0, 1.0), [2], 1.3, [1.3]),
    "normal": ((td.Normal, (0.5, -1.0)), (0.7, 1.3), (2.0, 2.0), [2], 2.0, [2.0]),
    "shifted factors": ((td.Laplace, (0.5, -1.0)), (0.7, 1.3), (1.0, 1.0), [1, 1], 2.0, [9, 3]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FROM_INDEPENDENT)
def test_kl_of_independent_coordinates_to_an_isa_is_the_integral(name: str) -> None:
    (make, locs), scales, powers, sizes, p0, p = FROM_INDEPENDENT[name]
    product, leaves = independent(make, locs, scales, powers)
    learned = name in ("one sphere", "a p-sphere", "all factors")
    root, scale = scalars(p0, 0.8)
    own = t64(*p).requires_grad_(learned)
    got = kl_divergence(product, ISA(sizes, root if learned else root.detach(), own, scale))

    def exact(
        p0: float = p0, own: float = p[0], scale: float = 0.8, k: int = 0, s: float | None = None
    ) -> float:
        changed = tuple(x if i != k or s is None else s for i, x in enumerate(scales))
        if len(sizes) == 2:
            two: Plane = log_product((0.0, 0.0), (scale, scale), (p0, p0))
        else:
            two = log_spherical(own, log_gg(2, p0, scale))
        return shifted_kl(make, locs, changed, powers, two)

    assert got.item() == pytest.approx(exact(), rel=1e-7)
    (in_scale, in_scales) = torch.autograd.grad(got, (scale, leaves[1]), retain_graph=True)
    assert in_scale.item() == pytest.approx(slope(lambda s: exact(scale=s), 0.8), rel=1e-5)
    for k in range(2):
        want = slope(lambda s, k=k: exact(k=k, s=s), scales[k])
        assert in_scales[k].item() == pytest.approx(want, rel=1e-5)
    if learned:
        in_root, in_own = torch.autograd.grad(got, (root, own))
        assert in_root.item() == pytest.approx(slope(lambda x: exact(p0=x), p0), rel=1e-5)
        if len(sizes) == 1:
            want = slope(lambda x: exact(own=x), p[0])
            assert in_own.item() == pytest.approx(want, rel=1e-5)
        else:
            assert in_own.tolist() == [0.0, 0.0]


def shifted_kl(make: Any, locs: Any, scales: Any, powers: Any, log_q: Plane) -> float:
    """On a product of grids about the locations, and where q bends."""
    factor = math.sqrt(2) if make is td.Normal else 1.0
    log_p = log_product(locs, tuple(factor * s for s in scales), powers)
    grids = []
    for m, s in zip(locs, scales, strict=True):
        far = 30 * s if make is td.Laplace else 12 * s
        cuts = sorted({m - far, m - s, m, m + s, m + far, 0.0})
        grids.append(
            [np.concatenate(x) for x in zip(*map(tanh_sinh, cuts, cuts[1:]), strict=True)]
        )
    (x, v), (y, w) = grids
    x, y = x[:, None], y[None]
    one = log_p(x, y)
    return float(v @ (np.exp(one) * (one - log_q(x, y))) @ w)


def test_kl_of_independent_coordinates_matches_monte_carlo() -> None:
    laplace = td.Laplace(torch.zeros(6, dtype=f64), t64(0.5, 0.5, 1.3, 2.0, 0.7, 0.7))
    product = Independent(laplace, 1)
    isa = ISA([2, 1, 1, 2], t64(1.5)[0], t64(1.0, 7.0, 1.0, 1.5), 0.7)
    x = product.sample((100_000,))
    ratio = product.log_prob(x) - isa.log_prob(x)
    got = kl_divergence(product, isa)
    assert abs(got - ratio.mean()) < 4.5 * ratio.std() / math.sqrt(100_000)


# Where there is no closed form -------------------------------------------------------------------


def refused() -> dict[str, tuple[Distribution, Distribution, str]]:
    isa = ISA([2, 3], t64(1.5)[0], t64(2.2, 0.75))
    tree, exponents = LpNestedTree((0, (1, 2))), t64(1.3, 2.2)
    nested = LpNested(tree, exponents, td.Gamma(*scalars(2.0, 1.0)))

    def normal(dim: int, loc: float = 0.0) -> Distribution:
        return Independent(
            td.Normal(torch.full((dim,), loc, dtype=f64), t64(*range(1, dim + 1))), 1
        )

    learned = ISA([2, 3], t64(1.5)[0].requires_grad_(), t64(1.5, 1.5))
    laplace = Independent(td.Laplace(torch.ones(3, dtype=f64), 1.0), 1)
    student = Independent(td.StudentT(torch.ones(3, dtype=f64)), 1)
    fisher = LpNested(tree, exponents, td.GeneralizedPareto(0.0, 1.0, 0.1))
    return {
        "other exponents": (isa, ISA([2, 3], t64(1.5)[0], t64(2.3, 0.75)), "equal exponents"),
        "other sizes": (isa, ISA([3, 2], t64(1.5)[0], t64(2.2, 0.75)), "equal sizes"),
        "normal to isa": (normal(5), isa, "one scale, and the exponent"),
        "learned": (normal(5), learned, "not learned"),
        "shifted": (normal(5, 1.0), ISA([2, 3], t64(2.0)[0], t64(2.0, 1.5)), "location 0"),
        "other tree": (
            nested,
            LpNested(LpNestedTree((1, (0, 2))), exponents, nested.radial),
            "equal trees",
        ),
        "other radii": (
            nested,
            LpNested(tree, exponents, td.InverseGamma(*scalars(2.0, 1.0))),
            "p type Gamma and q type InverseGamma",
        ),
        "shifted laplace": (nested, laplace, "location 0"),
        "student": (nested, student, "normal, Laplace or generalized normal"),
        "unknown radius": (fisher, normal(3), "the mean of log r has no closed form"),
    }


@pytest.mark.parametrize("name", refused())
def test_what_has_no_closed_form_says_what_would_and_what_to_do(name: str) -> None:
    one, two, match = refused()[name]
    with pytest.raises(NotImplementedError, match=match) as error:
        kl_divergence(one, two)
    text = str(error.value)
    assert "use one sample: z = p.sample()" in text and "A prior in your VAE" in text


def test_other_event_shapes_are_refused() -> None:
    isa = ISA([2, 3], 1.5, 2.0)
    for normal in (
        Independent(td.Normal(torch.zeros(4), 1.0), 1),
        Independent(td.Normal(torch.zeros(2, 5), 1.0), 2),
    ):
        for pair in ((isa, normal), (normal, isa)):
            with pytest.raises(ValueError, match="the same event shape"):
                kl_divergence(*pair)
