"""The oracle itself, against brute force and scipy: nothing of the library is imported here."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import scipy.stats

import oracle
from oracle import Node, mp, mpf

CUBE = (0, (1, 2))  # eq. 6
TREES: list[tuple[Node, list[float]]] = [
    ((0,), [1.7]),
    ((1, 0), [0.8]),
    (((1,), 0), [2.5, 0.4]),
    (CUBE, [1.3, 2.2]),
    (((2, 0), 1), [3.0, 0.9]),
    ((((0, 2),), (1,)), [1.5, 0.7, 5.0, 2.0]),
]
RADIALS = {
    "generalized_gamma": (
        oracle.generalized_gamma(3, 1.4, 0.7),
        scipy.stats.gengamma(3 / 1.4, 1.4, scale=0.7),
    ),
    "gamma": (oracle.gamma(2.5, 1.5), scipy.stats.gamma(2.5, scale=1 / 1.5)),
    "chi2": (oracle.chi2(5), scipy.stats.chi2(5)),
    "exponential": (oracle.exponential(0.7), scipy.stats.expon(scale=1 / 0.7)),
    "weibull": (oracle.weibull(1.3, 2.1), scipy.stats.weibull_min(2.1, scale=1.3)),
    "log_normal": (oracle.log_normal(0.3, 0.6), scipy.stats.lognorm(0.6, scale=np.exp(0.3))),
    "half_normal": (oracle.half_normal(1.7), scipy.stats.halfnorm(scale=1.7)),
    "half_cauchy": (oracle.half_cauchy(0.8), scipy.stats.halfcauchy(scale=0.8)),
    "pareto": (oracle.pareto(0.5, 3.0), scipy.stats.pareto(3.0, scale=0.5)),
}


def relative(a: object, b: object) -> float:
    return float(abs(mpf(a) - mpf(b)) / abs(mpf(b)))


def orthant_integral(of: Callable[[np.ndarray], np.ndarray], dim: int) -> float:
    """The integral over the positive orthant, by the trapezoid rule in log x."""
    step = 0.1 if dim < 3 else 0.15
    t = np.arange(-24.0 if dim < 3 else -18.0, 4.0, step)
    rest = np.array(list(product(t, repeat=dim - 1)))
    total = 0.0
    for first in t:  # slice by slice, for memory
        grid = np.insert(rest, 0, first, axis=1)
        total += (of(np.exp(grid)) * np.exp(grid.sum(-1))).sum()
    return float(total * step**dim)


def test_norm_is_equation_6() -> None:
    x, p0, p1 = [0.3, -1.2, 0.7], mpf("1.3"), mpf("2.2")
    inner = (mpf(1.2) ** p1 + mpf(0.7) ** p1) ** (p0 / p1)
    expected = (mpf(0.3) ** p0 + inner) ** (1 / p0)
    p = dict(zip(oracle.breadth_first(CUBE), (p0, p1), strict=True))
    assert relative(oracle.norm(CUBE, x, p), expected) < 1e-48


def test_nodes_come_breadth_first_with_the_root_first() -> None:
    root = ((0, (4, 5)), 1, (2, 3))
    assert oracle.breadth_first(root) == [root, (0, (4, 5)), (2, 3), (4, 5)]


@pytest.mark.slow
@pytest.mark.parametrize(("root", "exponents"), TREES, ids=str)
def test_volume_and_moments_match_brute_force_quadrature(
    root: Node, exponents: list[float]
) -> None:
    """The integral of exp(-f^2) |x|^k is S Gamma((n + K) / 2) / 2 times the moment."""
    p, dim = oracle.name_exponents(root, exponents), oracle.size(root)
    for orders in ([0] * dim, list(range(1, dim + 1)), [0.5] * dim):
        exact = oracle.log_surface(root, p) + oracle.log_sphere_moment(root, orders, p)
        exact += mp.loggamma(mpf(dim + sum(orders)) / 2) - mp.log(2)

        def integrand(x: np.ndarray, orders: list[float] = orders) -> np.ndarray:
            radius = oracle.naive_norm(root, x, p)
            return np.exp(-(radius**2)) * np.prod(x ** np.array(orders), -1)

        brute = 2**dim * orthant_integral(integrand, dim)
        assert relative(brute, mp.exp(exact)) < (1e-9 if dim < 3 else 1e-6)


@pytest.mark.parametrize(("root", "exponents"), TREES, ids=str)
def test_surface_is_the_same_as_beta_functions(root: Node, exponents: list[float]) -> None:
    p = oracle.name_exponents(root, exponents)
    telescoped, product = oracle.log_surface(root, p), oracle.beta_form_log_surface(root, p)
    assert abs(telescoped - product) < 1e-45


def test_volume_matches_the_hit_rate_of_uniform_points() -> None:
    root, exponents = ((0, 3), (1, (2, 4))), [1.6, 0.9, 3.0, 2.0]
    p = oracle.name_exponents(root, exponents)
    points = np.random.default_rng(0).uniform(-1, 1, (400_000, 5))
    rate = (oracle.naive_norm(root, points, p) <= 1).mean()
    expected = float(mp.exp(oracle.log_volume(root, p)) / 2**5)
    assert abs(rate - expected) < 4 * np.sqrt(expected / len(points))


@pytest.mark.parametrize(("root", "exponents"), TREES, ids=str)
def test_gradients_match_numerical_differentiation(root: Node, exponents: list[float]) -> None:
    x = [0.7, -1.9, 0.2][: oracle.size(root)]
    p = oracle.name_exponents(root, exponents)
    scale = mpf("1.3")
    in_x, in_p, in_scale = oracle.isa_gradient(root, x, p, scale)
    for i, exact in enumerate(in_x):
        moved = mp.diff(
            lambda v, i=i: oracle.isa_log_prob(root, [*x[:i], v, *x[i + 1 :]], p, scale), mpf(x[i])
        )
        assert abs(moved - exact) < 1e-20 * max(1, abs(exact))
    for node, exact in zip(p, in_p, strict=True):
        moved = mp.diff(
            lambda v, node=node: oracle.isa_log_prob(root, x, {**p, node: v}, scale), p[node]
        )
        assert abs(moved - exact) < 1e-20 * max(1, abs(exact))
    moved = mp.diff(lambda v: oracle.isa_log_prob(root, x, p, v), scale)
    assert abs(moved - in_scale) < 1e-20 * max(1, abs(in_scale))


@pytest.mark.parametrize(("root", "exponents"), TREES, ids=str)
def test_generic_radial_path_agrees_with_the_fused_one(root: Node, exponents: list[float]) -> None:
    x = [0.7, -1.9, 0.2][: oracle.size(root)]
    p = oracle.name_exponents(root, exponents)
    radial = oracle.generalized_gamma(oracle.size(root), p[root], 1.3)
    fused = oracle.isa_log_prob(root, x, p, 1.3)
    assert abs(oracle.log_prob(root, x, p, radial) - fused) < 1e-45
    generic, in_p = oracle.log_prob_gradient(root, x, p, radial)
    fused_x, fused_p, _ = oracle.isa_gradient(root, x, p, 1.3)
    assert max(abs(a - b) for a, b in zip(generic, fused_x, strict=True)) < 1e-20
    inner = zip(in_p[1:], fused_p[1:], strict=True)  # the root's exponent also moves the radius
    assert max((abs(a - b) for a, b in inner), default=0) < 1e-20


@pytest.mark.slow
@pytest.mark.parametrize(("root", "exponents"), TREES, ids=str)
def test_isa_density_integrates_to_one_and_has_its_entropy(
    root: Node, exponents: list[float]
) -> None:
    p, dim, scale = oracle.name_exponents(root, exponents), oracle.size(root), 0.8
    constant = float(oracle.isa_log_prob(root, [0.0] * dim, p, scale))

    def log_density(x: np.ndarray) -> np.ndarray:
        return constant - (oracle.naive_norm(root, x, p) / scale) ** float(p[root])

    mass = 2**dim * orthant_integral(lambda x: np.exp(log_density(x)), dim)
    spread = 2**dim * orthant_integral(lambda x: -np.exp(log_density(x)) * log_density(x), dim)
    tolerance = 1e-8 if dim < 3 else 1e-5
    assert abs(mass - 1) < tolerance
    assert abs(spread - float(oracle.isa_entropy(root, p, scale))) < 10 * tolerance
    radial = oracle.generalized_gamma(dim, p[root], scale)
    assert relative(oracle.entropy(root, p, radial), oracle.isa_entropy(root, p, scale)) < 1e-15


@pytest.mark.parametrize("name", RADIALS)
def test_radial_densities_are_scipys(name: str) -> None:
    ours, theirs = RADIALS[name]
    for r in (0.6, 1.0, 2.7, 9.0):
        assert float(ours(mpf(r))) == pytest.approx(theirs.logpdf(r), rel=1e-12, abs=1e-13)


def test_pareto_has_a_hole() -> None:
    assert oracle.pareto(0.5, 3.0)(mpf("0.4")) == mp.ninf


def test_mixture_is_the_log_of_the_weighted_sum() -> None:
    parts = [oracle.gamma(2, 1), oracle.log_normal(0, 1)]
    r = mpf("1.7")
    expected = (mp.exp(parts[0](r)) + 3 * mp.exp(parts[1](r))) / 4
    assert abs(oracle.mixture([1, 3], parts)(r) - mp.log(expected)) < 1e-45


@pytest.mark.parametrize("p", [0.4, 1.0, 1.7, 8.0])
def test_one_coordinate_is_scipys_gennorm(p: float) -> None:
    root, scale = (0,), 1.3
    named = oracle.name_exponents(root, [p])
    theirs = scipy.stats.gennorm(p, scale=scale)
    for x in (0.0, -0.2, 3.0):
        ours = float(oracle.isa_log_prob(root, [x], named, scale))
        assert ours == pytest.approx(theirs.logpdf(x), rel=1e-13, abs=1e-13)
    assert float(oracle.isa_entropy(root, named, scale)) == pytest.approx(
        theirs.entropy(), rel=1e-12
    )
    variance = mp.exp(oracle.log_radial_moment(1, p, scale, 2))
    assert float(variance) == pytest.approx(theirs.var(), rel=1e-12)


def test_radial_moments_are_scipys_gengamma() -> None:
    theirs = scipy.stats.gengamma(4 / 1.4, 1.4, scale=0.7)
    for order in (1, 2, 3):
        ours = float(mp.exp(oracle.log_radial_moment(4, 1.4, 0.7, order)))
        assert ours == pytest.approx(theirs.moment(order), rel=1e-11)
    radial = oracle.generalized_gamma(4, 1.4, 0.7)
    by_quadrature = oracle.radial_mean(radial, mp.log)
    assert abs(oracle.mean_log_radius(4, 1.4, 0.7) - by_quadrature) < 1e-15


@pytest.mark.parametrize(("root", "exponents"), TREES, ids=str)
def test_mean_log_is_the_derivative_of_the_moment_at_zero(
    root: Node, exponents: list[float]
) -> None:
    p, dim = oracle.name_exponents(root, exponents), oracle.size(root)
    for leaf in range(dim):

        def moment(k: object, leaf: int = leaf) -> object:
            return oracle.log_sphere_moment(root, [k if i == leaf else 0 for i in range(dim)], p)

        assert abs(mp.diff(moment, 0) - oracle.mean_log_sphere(root, leaf, p)) < 1e-20


def test_marginal_of_a_normal_is_a_normal() -> None:
    t = np.array([0.01, 0.5, 1.0, 2.5])
    for dim in (2, 3, 7):
        ours = oracle.spherical_marginal_cdf(t, dim, 2.0, scipy.stats.chi(dim))
        np.testing.assert_allclose(ours, scipy.stats.halfnorm.cdf(t), rtol=1e-6)


def test_naive_sampler_agrees_with_brute_force_moments_and_signs() -> None:
    root, exponents = ((0, 2), (1,)), [1.3, 0.8, 4.0]
    p = oracle.name_exponents(root, exponents)
    x = oracle.naive_sample(root, p, np.ones(200_000), np.random.default_rng(1))
    np.testing.assert_allclose(oracle.naive_norm(root, x, p), 1.0, rtol=1e-9)
    for orders in ([1, 0, 0], [0, 2, 0], [1, 1, 2]):
        draws = np.prod(np.abs(x) ** np.array(orders), -1)
        exact = float(mp.exp(oracle.log_sphere_moment(root, orders, p)))
        assert abs(draws.mean() - exact) < 4 * draws.std() / np.sqrt(len(x))
    assert np.abs(np.sign(x).mean(0)).max() < 4 / np.sqrt(len(x))
