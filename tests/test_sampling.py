"""The samplers, held to goodness of fit with fixed seeds: p from 0.2 to 100, in float32.

Thresholds: a Kolmogorov-Smirnov p-value above 1e-3 or a mean within 4.5 standard errors; the seeds
are fixed, so a pass stays a pass until the sampler changes.
"""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor
from torch import distributions as td

import oracle
from cases import NESTED, Case, each, named
from lpnested import ISA, GeneralizedGamma, GeneralizedNormal, LpNested, LpNestedTree, LpSpherical
from lpnested import functional as F

pytestmark = pytest.mark.usefixtures("backend")

COUNT = 20_000
ALPHA = 1e-4  # for each of some hundred tests
ALL_P = [0.2, 0.5, 1.0, 2.0, 7.3, 50.0, 100.0]
RAGGED = ((3, (0, 5)), 1, (2, 4))
ONE_CHILD = (((2,),), (0, (1, 3)))
every_p = pytest.mark.parametrize("p", ALL_P)


def array(tensor: Tensor) -> np.ndarray:
    return tensor.double().numpy()


def assert_law(draws: Tensor, cdf) -> None:  # type: ignore[no-untyped-def]
    assert scipy.stats.kstest(array(draws), cdf).pvalue > ALPHA


def assert_law_of_flat(draws: Tensor, dim: int, p: float) -> None:
    """|u_i|^p ~ Beta(1/p, (n-1)/p). For a large p much of the mass rounds to 1 in float32, so
    the law is held below 0.9999, and the mass above it by its size."""
    top, magnitude = 0.9999, array(draws.abs())
    law = scipy.stats.beta(1 / p, (dim - 1) / p)
    mass = law.cdf(top**p)
    below = magnitude[magnitude < top]
    assert (
        abs(len(below) / len(magnitude) - mass)
        < 4.5 * math.sqrt(mass * (1 - mass) / len(magnitude)) + 1e-9
    )
    assert scipy.stats.kstest(below, lambda t: law.cdf(t**p) / mass).pvalue > ALPHA


def assert_same_law(a: np.ndarray, b: np.ndarray) -> None:
    assert scipy.stats.ks_2samp(a, b).pvalue > ALPHA


def assert_mean(draws: Tensor, exact: float) -> None:
    draws = draws.double()
    error = (draws.std() / math.sqrt(len(draws))).item()
    assert abs(draws.mean().item() - exact) < 4.5 * error + 1e-6 * abs(exact)


def sphere(root: oracle.Node, exponents: list[float], count: int = COUNT) -> Tensor:
    return F.sample_sphere(torch.tensor(exponents), LpNestedTree(root), (count,))


def gengamma(dim: int, p: float, scale: float):  # type: ignore[no-untyped-def]
    return scipy.stats.gengamma(dim / p, p, scale=scale)


# Radii ------------------------------------------------------------------------------------------


@every_p
def test_generalized_gamma_samples_follow_their_cdf(p: float) -> None:
    draws = GeneralizedGamma(3, p, 0.7).sample((COUNT,))
    assert draws.dtype == torch.float32
    assert_law(draws, gengamma(3, p, 0.7).cdf)


@every_p
def test_generalized_normal_samples_follow_their_cdf(p: float) -> None:
    draws = GeneralizedNormal(0.3, 0.7, p).sample((COUNT,))
    assert_law(draws, scipy.stats.gennorm(p, loc=0.3, scale=0.7).cdf)


@pytest.mark.parametrize("dim", [0.2, 0.5])
def test_generalized_gamma_of_a_tiny_shape_does_not_clamp(dim: float) -> None:
    """r = G(dim / p)^(1/p) with dim / p = 0.004 is representable although G itself underflows."""
    draws = GeneralizedGamma(dim, 50.0).sample((COUNT,))
    assert_mean(draws.log(), float(oracle.mean_log_radius(dim, 50.0, 1.0)))


@every_p
def test_radius_of_isa_follows_its_density(p: float) -> None:
    dist = ISA([2, 1, 3], p, [0.5, 2.0, 30.0], 1.3)
    assert_law(dist.norm(dist.sample((COUNT,))), gengamma(6, p, 1.3).cdf)


@each([case for case in NESTED if case.name not in ("mixture", "unregistered")])
def test_radius_of_every_case_follows_its_radial_distribution(case: Case) -> None:
    dist = case.make(torch.float32)
    radius = dist.norm(dist.sample((COUNT // 2,)))
    peer = dist.radial.expand(case.batch).sample((COUNT // 2,))
    for ours, theirs in zip(
        array(radius).reshape(COUNT // 2, -1).T, array(peer).reshape(COUNT // 2, -1).T, strict=True
    ):
        assert_same_law(ours, theirs)


# Directions -------------------------------------------------------------------------------------


@every_p
@pytest.mark.parametrize("root", [RAGGED, ONE_CHILD], ids=["ragged", "one_child"])
def test_directions_lie_on_the_unit_sphere(root: oracle.Node, p: float) -> None:
    exponents = [p] * len(oracle.breadth_first(root))
    u = sphere(root, exponents, 2000)
    assert u.dtype == torch.float32 and u.isfinite().all()
    radius = F.norm(u.double(), torch.tensor(exponents, dtype=torch.float64), LpNestedTree(root))
    assert (radius - 1).abs().max() < 1e-5


@pytest.mark.parametrize("p", [0.1, 0.2, 1.0, 100.0, 200.0])
def test_samples_are_finite_over_the_whole_range_of_exponents(p: float) -> None:
    for other in (0.1, 2.0, 200.0):
        dist = LpNested(
            LpNestedTree(RAGGED), torch.tensor([p, other, p, other]), td.LogNormal(0.0, 1.0)
        )
        assert dist.sample((2000,)).isfinite().all()


@every_p
def test_signs_are_balanced_and_independent(p: float) -> None:
    u = sphere(((0, 1), (2, 3)), [p, 2.0, p])
    signs = array(u.sign())
    assert (signs != 0).all()
    codes = ((signs > 0) * np.array([1, 2, 4, 8])).sum(-1)
    counts = np.bincount(codes, minlength=16)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3  # all 16 patterns equally likely
    magnitude = array(u.abs())
    for i in range(4):  # and the magnitudes do not know the signs
        positive = signs[:, i] > 0
        assert_same_law(magnitude[positive, i], magnitude[~positive, i])
        assert_same_law(magnitude[positive, i], magnitude[~positive, i])


@every_p
@pytest.mark.parametrize("root", [RAGGED, ONE_CHILD], ids=["ragged", "one_child"])
def test_moments_of_directions_match_closed_forms(root: oracle.Node, p: float) -> None:
    """E|u|^k and E log|u|, coordinate by coordinate, with p at one level and 1.5 at the others."""
    nodes = oracle.breadth_first(root)
    for place in range(len(nodes)):
        exponents = [p if i == place else 1.5 for i in range(len(nodes))]
        named_p = oracle.name_exponents(root, exponents)
        magnitude = sphere(root, exponents, 10_000).abs().double()
        for leaf in range(oracle.size(root)):
            assert_mean(
                magnitude[:, leaf].log(), float(oracle.mean_log_sphere(root, leaf, named_p))
            )
            orders = [2.0 if i == leaf else 0.0 for i in range(oracle.size(root))]
            exact = float(oracle.mp.exp(oracle.log_sphere_moment(root, orders, named_p)))
            assert_mean(magnitude[:, leaf] ** 2, exact)


@every_p
def test_directions_of_a_flat_tree_follow_the_beta_law(p: float) -> None:
    u = sphere((0, 1, 2, 3), [p])
    for i in range(4):
        assert_law_of_flat(u[:, i], 4, p)


def test_small_coordinates_are_drawn_where_a_gamma_would_underflow() -> None:
    """p = 50, n = 4: the 5 % quantile of |u_1| is 0.067; a clamped float32 Gamma gives 0.418."""
    quantile = torch.quantile(sphere((0, 1, 2, 3), [50.0])[:, 0].abs(), 0.05).item()
    exact = scipy.stats.beta(1 / 50, 3 / 50).ppf(0.05) ** (1 / 50)
    assert exact == pytest.approx(0.067, abs=0.001)
    assert quantile == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize(
    ("p0", "p"), [(0.2, 2.0), (2.1, 2.2), (1.0, 50.0), (100.0, 0.5), (4.0, 1.0)]
)
def test_marginals_of_isa_match_quadrature(p0: float, p: float) -> None:
    """Coordinates of subspaces of 3 and 1: the subspace is Lp-spherical of its own radius."""
    x = ISA([3, 1], p0, p, 0.8).sample((COUNT,)).abs()
    grid = np.sort(array(x[:, 1]))
    cdf = oracle.spherical_marginal_cdf(grid[::100], 3, p, gengamma(3, p0, 0.8))
    empirical = np.arange(0, COUNT, 100) / COUNT
    assert np.abs(cdf - empirical).max() < 1.95 / math.sqrt(COUNT) + 1e-3
    assert_law(x[:, 3], gengamma(1, p0, 0.8).cdf)


@pytest.mark.parametrize("p", [0.5, 1.0, 3.0, 50.0])
def test_marginals_of_lp_spherical_match_quadrature(p: float) -> None:
    x = LpSpherical(4, p, td.Gamma(3.0, 2.0)).sample((COUNT,)).abs()
    grid = np.sort(array(x[:, 2]))
    cdf = oracle.spherical_marginal_cdf(grid[::100], 4, p, scipy.stats.gamma(3.0, scale=0.5))
    assert np.abs(cdf - np.arange(0, COUNT, 100) / COUNT).max() < 1.95 / math.sqrt(COUNT) + 1e-3


@each(named("isa_ragged", "cube", "ragged", "one_child"))
def test_radius_and_direction_are_independent(case: Case) -> None:
    dist = case.make()
    x = dist.sample((COUNT // 2,)).reshape(COUNT // 2, -1, *case.event)[:, 0]
    exponents = dist.exponents.reshape(-1, dist.tree.num_nodes)[0]
    r = F.norm(x, exponents, dist.tree)
    u = array((x / r.unsqueeze(-1)).abs())
    small = array(r <= r.median()).astype(bool)
    for i in range(case.event[0]):
        assert_same_law(u[small, i], u[~small, i])


# Against Algorithm 1 to the letter --------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "exponents"),
    [
        ((0, (1, 2)), [1.3, 2.2]),
        (RAGGED, [1.3, 2.2, 0.8, 3.0]),
        (ONE_CHILD, [1.6, 2.5, 0.7, 5.0, 3.0]),
    ],
    ids=["cube", "ragged", "one_child"],
)
def test_samples_have_the_joint_law_of_algorithm_1(
    root: oracle.Node, exponents: list[float]
) -> None:
    rng = np.random.default_rng(5)
    p = dict(zip(oracle.breadth_first(root), exponents, strict=True))
    theirs = oracle.naive_sample(root, p, rng.gamma(3.0, 0.5, COUNT), rng)
    dist = LpNested(LpNestedTree(root), torch.tensor(exponents), td.Gamma(3.0, 2.0))
    ours = array(dist.sample((COUNT,)))
    dim = oracle.size(root)
    for i in range(dim):
        assert_same_law(ours[:, i], theirs[:, i])
        for j in range(i):  # joint: ratios and products of every pair
            assert_same_law(ours[:, i] * ours[:, j], theirs[:, i] * theirs[:, j])
            assert_same_law(
                np.log(np.abs(ours[:, i] / ours[:, j])),
                np.log(np.abs(theirs[:, i] / theirs[:, j])),
            )
    assert_same_law(np.abs(ours).max(-1), np.abs(theirs).max(-1))
    assert_same_law(np.abs(ours).sum(-1), np.abs(theirs).sum(-1))


# Batches ----------------------------------------------------------------------------------------


def test_every_element_of_a_batch_follows_its_own_law() -> None:
    p = torch.tensor([[0.5], [2.0], [40.0]])
    u = F.sample_sphere(p, LpNestedTree.flat(3), (COUNT // 2,))
    assert u.shape == (COUNT // 2, 3, 3)
    for row in range(3):
        assert_law_of_flat(u[:, row, 0], 3, p[row].item())
    assert abs(np.corrcoef(array(u[:, 0, 0].abs()), array(u[:, 1, 0].abs()))[0, 1]) < 0.05


def test_float32_and_float64_draw_the_same_law() -> None:
    exponents = torch.tensor([20.0, 0.3])
    tree = LpNestedTree((0, (1, 2)))
    single = F.sample_sphere(exponents, tree, (COUNT,))
    double = F.sample_sphere(exponents.double(), tree, (COUNT,))
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    for i in range(3):  # rounded alike: what is near 1 in float64 is 1 in float32
        assert_same_law(array(single[:, i]), array(double[:, i].float()))


# Density and sampler together -------------------------------------------------------------------


@pytest.mark.parametrize("dim", [2, 8, 20])
def test_density_ratio_of_two_isa_has_mean_one_under_the_sampler(dim: int) -> None:
    """E_d[q/d] = 1 for q with lighter tails: the two normalisations and the sampler agree."""
    sizes = [dim // 2, dim - dim // 2]
    d = ISA(sizes, 1.7, [1.9, 2.4], 1.25)
    q = ISA(sizes, 1.9, [2.1, 2.2], 1.2)
    x = d.sample((COUNT * 2,))
    assert_mean((q.log_prob(x) - d.log_prob(x)).exp(), 1.0)


@each(named("ragged", "one_child", "cube", "weibull", "mixture", "unregistered", "spherical"))
def test_density_ratio_has_mean_one_whatever_the_radial(case: Case) -> None:
    d = case.make()
    dim = case.event[0]
    q = LpNested(d.tree, d.exponents * 1.1, GeneralizedGamma(dim, 3.0, 1.2))
    x = d.sample((COUNT * 2,))
    ratio = (q.log_prob(x) - d.log_prob(x)).exp().reshape(len(x), -1)
    for column in ratio.T:
        assert_mean(column, 1.0)
