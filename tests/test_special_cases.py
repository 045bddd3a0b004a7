"""Members of the family that are known by another name, and laws that tie members together."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions import Distribution, kl_divergence
from torch.testing import assert_close

import oracle
from lpnested import ISA, GeneralizedGamma, GeneralizedNormal, LpNested, LpNestedTree, LpSpherical
from lpnested import functional as F
from oracle import LogDensity, mp, mpf

pytestmark = pytest.mark.usefixtures("backend")

f64 = torch.float64
RAGGED = ((3, (0, 5)), 1, (2, 4))


def t64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=f64)


def points(*shape: int) -> Tensor:
    torch.manual_seed(11)
    return torch.randn(shape, dtype=f64)


# The normal and products of generalised normals -------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, f64], ids=str)
def test_isa_with_exponents_two_and_scale_root_two_is_the_standard_normal(
    dtype: torch.dtype,
) -> None:
    two = torch.tensor(2.0, dtype=dtype)
    isa = ISA([4] * 5, two, two, two.double().sqrt().to(dtype) if dtype == f64 else 2**0.5)
    normal = td.Independent(
        td.Normal(torch.zeros(20, dtype=dtype), torch.ones(20, dtype=dtype)), 1
    )
    x = (3 * points(50, 20)).to(dtype)
    ulps = 20 * torch.finfo(dtype).eps
    assert_close(isa.log_prob(x), normal.log_prob(x), rtol=ulps, atol=0.0)
    assert_close(isa.entropy(), normal.entropy(), rtol=ulps, atol=0.0)
    assert_close(isa.variance, normal.variance, rtol=ulps, atol=0.0)
    assert_close(isa.covariance_matrix, torch.eye(20, dtype=dtype), rtol=ulps, atol=0.0)
    zero = torch.zeros(20, dtype=dtype)
    assert_close(isa.log_prob(zero), normal.log_prob(zero), rtol=ulps, atol=0.0)


def test_score_of_that_normal_is_minus_x() -> None:
    x = points(30, 20).requires_grad_()
    isa = ISA([4] * 5, t64(2.0)[0], t64(2.0), math.sqrt(2))
    (score,) = torch.autograd.grad(isa.log_prob(x).sum(), x)
    assert_close(score, -x, rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("p", [0.6, 1.0, 2.2, 7.0])
def test_equal_exponents_are_a_product_of_generalized_normals(p: float) -> None:
    scale = 1.3
    exponent = torch.tensor(p, dtype=f64)
    product = td.Independent(GeneralizedNormal(torch.zeros(6, dtype=f64), scale, exponent), 1)
    x = points(40, 6)
    tree = LpNestedTree(RAGGED)
    nested = LpNested(tree, exponent.expand(tree.num_nodes), GeneralizedGamma(6, exponent, scale))
    for dist in (
        ISA([2, 1, 3], exponent, exponent, scale),
        LpSpherical(6, exponent, GeneralizedGamma(6, exponent, scale)),
        nested,
    ):
        assert_close(dist.log_prob(x), product.log_prob(x), rtol=1e-13, atol=1e-13)
        assert_close(dist.entropy(), product.entropy(), rtol=1e-13, atol=1e-13)
        assert_close(dist.variance, product.variance, rtol=1e-13, atol=0.0)


def test_exponent_two_below_is_invariant_under_rotation_of_the_subspace() -> None:
    isa = ISA([3, 2], t64(1.3)[0], t64(2.0, 4.0))
    rotation = torch.linalg.qr(points(3, 3)).Q
    x = points(20, 5)
    turned = torch.cat([x[:, :3] @ rotation, x[:, 3:]], -1)
    assert_close(isa.log_prob(turned), isa.log_prob(x), rtol=1e-12, atol=1e-12)


# scipy ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.3, 1.0, 1.7, 2.0, 12.0])
def test_generalized_normal_is_scipys_gennorm(p: float) -> None:
    loc, scale = 0.4, 1.3
    ours = GeneralizedNormal(t64(loc), t64(scale), t64(p))
    theirs = scipy.stats.gennorm(p, loc=loc, scale=scale)
    x = np.array([-5.0, -0.3, 0.4, 0.9, 8.0])
    xt = torch.from_numpy(x)
    np.testing.assert_allclose(ours.log_prob(xt), theirs.logpdf(x), rtol=1e-12)
    np.testing.assert_allclose(ours.cdf(xt), theirs.cdf(x), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.entropy(), theirs.entropy(), rtol=1e-12)
    np.testing.assert_allclose(ours.variance, theirs.var(), rtol=1e-12)
    np.testing.assert_allclose(ours.mean, loc)


@pytest.mark.parametrize(
    ("dim", "p"), [(1.0, 0.5), (3.0, 1.4), (4.5, 2.0), (20.0, 2.1), (2.0, 15.0)]
)
def test_generalized_gamma_is_scipys_gengamma(dim: float, p: float) -> None:
    ours = GeneralizedGamma(t64(dim), t64(p), t64(0.7))
    theirs = scipy.stats.gengamma(dim / p, p, scale=0.7)
    x = theirs.ppf([0.001, 0.1, 0.5, 0.9, 0.999])
    xt = torch.from_numpy(x)
    np.testing.assert_allclose(ours.log_prob(xt), theirs.logpdf(x), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(ours.cdf(xt), theirs.cdf(x), rtol=1e-9)
    np.testing.assert_allclose(ours.entropy(), theirs.entropy(), rtol=1e-9)
    np.testing.assert_allclose(ours.mean, theirs.mean(), rtol=1e-10)
    np.testing.assert_allclose(ours.variance, theirs.var(), rtol=1e-9)


def test_generalized_gamma_contains_its_famous_members() -> None:
    x = t64(0.1, 0.7, 2.0, 5.0)
    for ours, theirs in (
        (GeneralizedGamma(t64(3.0), t64(1.0), t64(0.5)), td.Gamma(t64(3.0), t64(2.0))),
        (GeneralizedGamma(t64(1.7), t64(1.7), t64(0.5)), td.Weibull(t64(0.5), t64(1.7))),
        (GeneralizedGamma(t64(1.0), t64(2.0), t64(2**0.5)), td.HalfNormal(t64(1.0))),
    ):
        assert_close(ours.log_prob(x), theirs.log_prob(x), rtol=1e-12, atol=1e-12)
        assert_close(ours.mean, theirs.mean, rtol=1e-12, atol=0.0)
        assert_close(ours.variance, theirs.variance, rtol=1e-11, atol=0.0)


def test_generalized_normal_contains_laplace_and_normal() -> None:
    x = t64(-3.0, 0.0, 0.2, 4.0)
    laplace, normal = td.Laplace(t64(0.3), t64(1.2)), td.Normal(t64(0.3), t64(1.2))
    one = GeneralizedNormal(t64(0.3), t64(1.2), t64(1.0))
    two = GeneralizedNormal(t64(0.3), t64(1.2 * 2**0.5), t64(2.0))
    for ours, theirs in ((one, laplace), (two, normal)):
        assert_close(ours.log_prob(x), theirs.log_prob(x), rtol=1e-13, atol=1e-14)
        assert_close(ours.entropy(), theirs.entropy(), rtol=1e-13, atol=0.0)


def test_moments_of_the_radius_in_the_extremes_are_finite_and_right() -> None:
    """variance = E r^2 - (E r)^2 cancels for large p; the relative error must not."""
    for dim, p in ((20.0, 200.0), (3.0, 50.0), (1000.0, 2.0), (2.0, 0.5)):
        ours = GeneralizedGamma(t64(dim), t64(p), t64(1.0)).variance.item()
        first = mp.exp(oracle.log_radial_moment(dim, p, 1.0, 1))
        exact = mp.exp(oracle.log_radial_moment(dim, p, 1.0, 2)) - first**2
        assert ours == pytest.approx(float(exact), rel=1e-6), (dim, p)


# Structure --------------------------------------------------------------------------------------


def with_radius(root: oracle.Node, exponents: list[float]) -> LpNested:
    radial = GeneralizedGamma(oracle.size(root), t64(1.7)[0], 0.9)
    return LpNested(LpNestedTree(root), t64(*exponents), radial)


def test_a_node_with_one_child_changes_nothing() -> None:
    x = points(20, 3)
    plain = with_radius((0, (1, 2)), [1.3, 2.2])
    for wrapped in (
        with_radius((0, ((1, 2),)), [1.3, 0.2, 2.2]),
        with_radius(((0,), (1, 2)), [1.3, 9.0, 2.2]),
        with_radius(((0, (1, 2)),), [0.4, 1.3, 2.2]),
        with_radius((0, ((1,), 2)), [1.3, 2.2, 55.0]),
    ):
        assert_close(wrapped.log_prob(x), plain.log_prob(x), rtol=1e-13, atol=1e-13)
        assert_close(wrapped.norm(x), plain.norm(x), rtol=1e-13, atol=0.0)
        assert_close(wrapped.log_surface_area, plain.log_surface_area, rtol=1e-13, atol=1e-13)
        assert_close(wrapped.variance, plain.variance, rtol=1e-13, atol=0.0)
        assert_close(wrapped.entropy(), plain.entropy(), rtol=1e-13, atol=1e-13)


def test_the_exponent_of_a_one_child_node_gets_no_gradient() -> None:
    exponents = t64(1.3, 0.7, 2.2).requires_grad_()
    dist = LpNested(LpNestedTree((0, ((1, 2),))), exponents, GeneralizedGamma(3, 2.0))
    (grad,) = torch.autograd.grad(dist.log_prob(points(5, 3)).sum(), exponents)
    assert abs(grad[1].item()) < 1e-12 and grad[0] != 0 and grad[2] != 0


def test_relabelling_the_leaves_relabels_the_coordinates() -> None:
    exponents, permutation = [1.3, 2.2, 0.8, 3.0], [4, 2, 0, 5, 1, 3]

    def relabel(node: oracle.Node) -> oracle.Node:
        return permutation[node] if isinstance(node, int) else tuple(map(relabel, node))

    plain, moved = with_radius(RAGGED, exponents), with_radius(relabel(RAGGED), exponents)
    x = points(20, 6)
    y = torch.empty_like(x)
    y[:, permutation] = x
    assert_close(moved.log_prob(y), plain.log_prob(x), rtol=1e-14, atol=1e-14)
    assert_close(moved.variance[permutation], plain.variance, rtol=1e-14, atol=0.0)
    assert_close(moved.sample((9,)).shape, y[:9].shape)


def test_order_of_siblings_does_not_matter() -> None:
    x = points(20, 6)
    one = with_radius(((3, (0, 5)), 1, (2, 4)), [1.3, 2.2, 0.8, 3.0])
    two = with_radius(((4, 2), ((5, 0), 3), 1), [1.3, 0.8, 2.2, 3.0])
    assert_close(one.log_prob(x), two.log_prob(x), rtol=1e-13, atol=1e-13)


def test_isa_of_single_coordinates_does_not_depend_on_their_exponents() -> None:
    x = points(20, 3)
    p = t64(0.3, 2.0, 90.0).requires_grad_()
    ica = ISA([1, 1, 1], t64(1.4)[0], p, 0.8)
    product = td.Independent(GeneralizedNormal(torch.zeros(3, dtype=f64), 0.8, t64(1.4)), 1)
    log_prob = ica.log_prob(x)
    assert_close(log_prob, product.log_prob(x), rtol=1e-13, atol=1e-13)
    assert torch.autograd.grad(log_prob.sum(), p)[0].abs().max() < 1e-12


def test_isa_is_lp_nested_with_a_generalized_gamma_radius() -> None:
    isa = ISA([2, 3], t64(1.5)[0], t64(2.2, 0.7), 1.3)
    nested = LpNested(
        LpNestedTree.isa([2, 3]), t64(1.5, 2.2, 0.7), GeneralizedGamma(5, t64(1.5)[0], 1.3)
    )
    x = points(20, 5)
    assert torch.equal(isa.log_prob(x), nested.log_prob(x))
    assert isa.tree == nested.tree
    assert_close(isa.exponents, nested.exponents)
    for name in ("p0", "p", "scale"):
        assert_close(
            getattr(isa, name),
            {"p0": t64(1.5)[0], "p": t64(2.2, 0.7), "scale": t64(1.3)[0]}[name],
            check_dtype=False,
        )


def test_scale_is_a_scale_parameter_everywhere() -> None:
    x, s = points(20, 5), 3.7
    for make, dim in (
        (lambda scale: ISA([2, 3], t64(1.5)[0], t64(2.2, 0.7), scale), 5),
        (lambda scale: GeneralizedNormal(t64(0.0), scale, t64(1.5)), 1),
        (lambda scale: GeneralizedGamma(t64(5.0), t64(1.5), scale), 1),
    ):
        value = x if dim == 5 else x.abs()
        unit = make(1.0).log_prob(value / s) - dim * math.log(s)
        assert_close(make(s).log_prob(value), unit, rtol=1e-12, atol=1e-12)
        assert_close(make(s).variance, make(1.0).variance * s**2, rtol=1e-12, atol=0.0)


# Marginals --------------------------------------------------------------------------------------


def test_isa_is_the_product_of_its_subspaces() -> None:
    isa = ISA([2, 1, 3], t64(1.5)[0], t64(2.2, 0.4, 0.7), 1.3)
    x = points(20, 6)
    parts = list(isa.subspaces)
    assert all(isinstance(part, LpSpherical) for part in parts)
    blocks = x.split([2, 1, 3], -1)
    total = sum(part.log_prob(block) for part, block in zip(parts, blocks, strict=True))
    assert_close(total, isa.log_prob(x), rtol=1e-12, atol=1e-12)
    for index, part in enumerate(parts):
        marginal = isa.marginal(index + 1)  # breadth first: the root is 0
        assert_close(
            marginal.log_prob(blocks[index]), part.log_prob(blocks[index]), rtol=1e-13, atol=1e-13
        )
        same = isa.marginal(isa.tree.nodes[index + 1])
        assert_close(
            same.log_prob(blocks[index]), part.log_prob(blocks[index]), rtol=1e-13, atol=1e-13
        )


def test_marginal_of_the_root_is_the_distribution() -> None:
    isa = ISA([2, 1], t64(1.5)[0], t64(2.2, 0.4))
    x = points(9, 3)
    assert_close(isa.marginal(0).log_prob(x), isa.log_prob(x))


def test_marginal_of_a_subspace_integrates_the_rest_out() -> None:
    """The joint, integrated over x2 by quadrature, against the density of the marginal."""
    isa = ISA([2, 1], t64(1.5)[0], t64(2.2, 2.0), 1.3)
    grid = torch.linspace(-9, 9, 4001, dtype=f64)
    for at in points(4, 2):
        joint = isa.log_prob(torch.cat([at.expand(len(grid), 2), grid.unsqueeze(-1)], -1)).exp()
        assert_close(
            torch.trapezoid(joint, grid).log(), isa.marginal(1).log_prob(at), rtol=1e-4, atol=1e-5
        )


def test_marginals_keep_coordinates_in_ascending_order() -> None:
    root = (1, ((3, 0), 2))
    dist = LpNested(LpNestedTree(root), t64(1.5, 2.2, 0.7), GeneralizedGamma(4, t64(1.5)[0], 1.0))
    x = dist.sample((2000,))
    marginal = dist.marginal(((3, 0), 2))
    assert marginal.event_shape == (3,)
    assert_close(marginal.variance, dist.variance[[0, 2, 3]], rtol=1e-12, atol=0.0)
    mean = marginal.log_prob(x[:, [0, 2, 3]]).mean()
    assert abs(mean + marginal.entropy()) < 0.15


def test_marginals_without_closed_form_are_refused() -> None:
    dist = LpNested(LpNestedTree((0, (1, 2))), t64(1.5, 2.2), td.LogNormal(t64(0.0)[0], 1.0))
    with pytest.raises(NotImplementedError):
        dist.marginal(1)


def test_unknown_nodes_are_refused() -> None:
    isa = ISA([2, 1], 1.5, 2.2)
    for node in (3, -1, (0, 7), "x"):
        with pytest.raises((ValueError, IndexError, TypeError, KeyError)):
            isa.marginal(node)


def test_unit_variance_is_one_on_average() -> None:
    for sizes, p0, p in (([4] * 5, 2.1, t64(2.2)), ([2, 1, 3], 1.2, t64(0.6, 3.0, 9.0))):
        dist = ISA.unit_variance(sizes, torch.tensor(p0, dtype=f64), p)
        assert isinstance(dist, ISA)
        assert dist.variance.mean().item() == pytest.approx(1.0, rel=1e-12)
    paper = ISA.unit_variance([4] * 5, 2.1, 2.2)
    assert (paper.scale**2.1).item() == pytest.approx(2.093, abs=1e-3)  # the paper's s
    release = ISA([4] * 5, 2.1, 2.2).variance
    assert_close(release, torch.full((20,), 0.495), rtol=0.0, atol=1e-3)


def test_unit_variance_works_batch_by_batch_and_has_gradients() -> None:
    p0 = t64(1.2, 2.0, 5.0).requires_grad_()
    dist = ISA.unit_variance([2, 3], p0, t64(2.0, 4.0))
    assert_close(dist.variance.mean(-1), torch.ones(3, dtype=f64))
    assert torch.autograd.grad(dist.scale.sum(), p0)[0].isfinite().all()


# Volumes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 5, 30])
def test_volumes_of_known_bodies(dim: int) -> None:
    tree = LpNestedTree.flat(dim)
    cross = dim * math.log(2) - math.lgamma(dim + 1)
    ball = dim / 2 * math.log(math.pi) - math.lgamma(dim / 2 + 1)
    assert F.log_volume(t64(1.0), tree).item() == pytest.approx(cross, rel=1e-13, abs=1e-13)
    assert F.log_volume(t64(2.0), tree).item() == pytest.approx(ball, rel=1e-13, abs=1e-13)
    cube = F.log_volume(t64(1e6), tree).item()
    assert cube == pytest.approx(dim * math.log(2), rel=1e-4)


def test_product_of_equal_exponents_has_the_volume_of_the_flat_ball() -> None:
    tree = LpNestedTree(RAGGED)
    nested = F.log_volume(t64(1.7).expand(tree.num_nodes), tree)
    assert_close(nested, F.log_volume(t64(1.7), LpNestedTree.flat(6)), rtol=1e-13, atol=1e-13)


# Radial families --------------------------------------------------------------------------------

RADIALS: dict[str, tuple[Distribution, LogDensity]] = {
    "generalized_gamma": (
        GeneralizedGamma(7.0, t64(1.4)[0], 0.75),
        oracle.generalized_gamma(7, 1.4, 0.75),
    ),
    "gamma": (td.Gamma(t64(2.5)[0], 1.5), oracle.gamma(2.5, 1.5)),
    "chi2": (td.Chi2(t64(5.0)[0]), oracle.chi2(5)),
    "exponential": (td.Exponential(t64(0.75)[0]), oracle.exponential(0.75)),
    "weibull": (td.Weibull(t64(1.25)[0], t64(2.25)[0]), oracle.weibull(1.25, 2.25)),
    "log_normal": (td.LogNormal(t64(0.25)[0], t64(0.75)[0]), oracle.log_normal(0.25, 0.75)),
    "half_normal": (td.HalfNormal(t64(1.75)[0]), oracle.half_normal(1.75)),
    "half_cauchy": (td.HalfCauchy(t64(0.75)[0]), oracle.half_cauchy(0.75)),
    "pareto": (td.Pareto(t64(0.5)[0], t64(3.0)[0]), oracle.pareto(0.5, 3.0)),
    "mixture": (
        td.MixtureSameFamily(
            td.Categorical(t64(0.25, 0.75)), td.Gamma(t64(2.0, 9.0), t64(1.0, 0.5))
        ),
        oracle.mixture([0.25, 0.75], [oracle.gamma(2, 1), oracle.gamma(9, 0.5)]),
    ),
    "mixture_of_log_normals": (
        td.MixtureSameFamily(
            td.Categorical(t64(0.25, 0.75)), td.LogNormal(t64(0.0, 1.0), t64(1.0, 0.5))
        ),
        oracle.mixture([0.25, 0.75], [oracle.log_normal(0, 1), oracle.log_normal(1, 0.5)]),
    ),
    "fallback": (
        td.InverseGamma(t64(3.0)[0], t64(2.0)[0]),
        lambda r: oracle.gamma(3, 2)(1 / r) - 2 * mp.log(r),
    ),
}
FAMILY_EXPONENTS = [1.25, 2.5, 0.75, 3.0]


@pytest.mark.parametrize("name", RADIALS)
@pytest.mark.parametrize("size", [1e-8, 0.3, 1.0, 40.0, 1e6])
def test_log_prob_with_every_radial_family_is_exact(name: str, size: float) -> None:
    radial, exact = RADIALS[name]
    dist = LpNested(LpNestedTree(RAGGED), t64(*FAMILY_EXPONENTS), radial)
    p = oracle.name_exponents(RAGGED, FAMILY_EXPONENTS)
    x = (size * points(6)).requires_grad_()
    want = oracle.log_prob(RAGGED, x.tolist(), p, exact)
    got = dist.log_prob(x)
    if want == mp.ninf:
        assert got == -math.inf
        return
    if abs(want) > 1e250:
        assert got.isfinite() and got < -1e30
        return
    assert abs(mpf(got.item()) - want) <= 1e-11 * max(1, abs(want))
    in_x, _ = oracle.log_prob_gradient(RAGGED, x.tolist(), p, exact)
    (grad,) = torch.autograd.grad(got, x)
    for ours, theirs in zip(grad.tolist(), in_x, strict=True):
        assert abs(mpf(ours) - theirs) <= 1e-9 * abs(theirs) + 1e-250


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        n
        for n in RADIALS
        if n not in ("mixture", "mixture_of_log_normals", "fallback", "half_cauchy", "pareto")
    ],
)
def test_entropy_with_every_radial_family_is_exact(name: str) -> None:
    radial, exact = RADIALS[name]
    dist = LpNested(LpNestedTree(RAGGED), t64(*FAMILY_EXPONENTS), radial)
    want = oracle.entropy(RAGGED, oracle.name_exponents(RAGGED, FAMILY_EXPONENTS), exact)
    assert dist.entropy().item() == pytest.approx(float(want), rel=1e-11, abs=1e-11)


def test_entropy_with_heavy_tails_is_exact() -> None:
    """Pareto and half-Cauchy: h and E log r in closed form, checked by scipy's quadrature."""
    p = oracle.name_exponents(RAGGED, FAMILY_EXPONENTS)
    for radial, theirs in (
        (td.Pareto(t64(0.5)[0], t64(3.0)[0]), scipy.stats.pareto(3.0, scale=0.5)),
        (td.HalfCauchy(t64(0.75)[0]), scipy.stats.halfcauchy(scale=0.75)),
    ):
        dist = LpNested(LpNestedTree(RAGGED), t64(*FAMILY_EXPONENTS), radial)
        q = (np.arange(400_000) + 0.5) / 400_000
        mean_log = np.log(theirs.ppf(q)).mean()
        want = theirs.entropy() + 5 * mean_log + float(oracle.log_surface(RAGGED, p))
        assert dist.entropy().item() == pytest.approx(want, rel=1e-4)


def test_pareto_has_a_hole_around_the_origin() -> None:
    dist = LpNested(LpNestedTree((0, (1, 2))), t64(1.3, 2.2), td.Pareto(t64(0.5)[0], t64(3.0)[0]))
    assert dist.log_prob(t64(0.1, 0.1, 0.1)) == -math.inf
    assert dist.log_prob(t64(1.0, 0.1, 0.1)).isfinite()


# KL ------------------------------------------------------------------------------------------


def quadrature_kl(p: LogDensity, q: LogDensity) -> float:
    return float(oracle.radial_mean(p, lambda r: p(r) - q(r)))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 1.5, 0.5), (3, 2.0, 1.25)),
        ((3, 1.5, 0.5), (5.5, 0.75, 2.0)),
        ((1, 2.0, 1.0), (1, 2.0, 1.0)),
    ],
)
def test_kl_of_generalized_gammas_is_the_integral(
    a: tuple[float, ...], b: tuple[float, ...]
) -> None:
    ours = kl_divergence(
        *(GeneralizedGamma(*(torch.tensor(v, dtype=f64) for v in abc)) for abc in (a, b))
    )
    exact = quadrature_kl(oracle.generalized_gamma(*a), oracle.generalized_gamma(*b))
    assert ours.item() == pytest.approx(exact, rel=1e-11, abs=1e-13)


@pytest.mark.parametrize(("a", "b"), [((0.5, 1.5), (1.25, 2.0)), ((1.0, 0.75), (0.5, 3.0))])
def test_kl_of_generalized_normals_with_one_centre_is_the_integral(
    a: tuple[float, float], b: tuple[float, float]
) -> None:
    ours = kl_divergence(
        *(GeneralizedNormal(t64(0.3)[0], t64(s)[0], t64(p)[0]) for s, p in (a, b))
    )
    exact = quadrature_kl(*(oracle.generalized_gamma(1, p, s) for s, p in (a, b)))
    assert ours.item() == pytest.approx(exact, rel=1e-11)


def test_kl_of_generalized_normals_with_two_centres_needs_an_exponent_of_two() -> None:
    one = GeneralizedNormal(t64(0.0)[0], t64(1.0)[0], t64(1.5)[0])
    two = GeneralizedNormal(t64(1.0)[0], t64(1.0)[0], t64(2.0)[0])
    grid = torch.linspace(-60, 60, 400_001, dtype=f64)
    want = torch.trapezoid(
        one.log_prob(grid).exp() * (one.log_prob(grid) - two.log_prob(grid)), grid
    )
    assert_close(kl_divergence(one, two), want, rtol=1e-8, atol=1e-8)
    with pytest.raises(NotImplementedError, match="equal locations"):
        kl_divergence(two, one)


def test_kl_of_isa_with_equal_subspace_exponents_is_the_sum_over_subspaces() -> None:
    sizes, p = [2, 3], t64(2.2, 0.75)
    one, two = ISA(sizes, t64(1.5)[0], p, 0.75), ISA(sizes, t64(2.5)[0], p, 1.25)
    exact = sum(
        quadrature_kl(
            oracle.generalized_gamma(n, 1.5, 0.75), oracle.generalized_gamma(n, 2.5, 1.25)
        )
        for n in sizes
    )
    assert kl_divergence(one, two).item() == pytest.approx(exact, rel=1e-10)
    assert abs(kl_divergence(one, one).item()) < 1e-12


def test_kl_of_isa_ignores_the_exponents_of_single_coordinates() -> None:
    p0 = t64(1.5)[0]
    one, two = ISA([1, 3], p0, t64(0.3, 2.2)), ISA([1, 3], p0, t64(9.0, 2.2), 1.5)
    same = ISA([1, 3], p0, t64(0.3, 2.2), 1.5)
    assert_close(kl_divergence(one, two), kl_divergence(one, same))


def test_kl_of_equal_spheres_is_that_of_the_radials() -> None:
    tree, exponents = LpNestedTree((0, (1, 2))), t64(1.3, 2.2)
    one, two = td.Gamma(t64(2.0, 3.0), 1.0), td.Gamma(t64(2.5)[0], 0.7)
    got = kl_divergence(LpNested(tree, exponents, one), LpNested(tree, exponents, two))
    assert_close(got, kl_divergence(one, two))
    flat = kl_divergence(LpSpherical(3, t64(1.3)[0], one), LpSpherical(3, t64(1.3)[0], two))
    assert_close(flat, kl_divergence(one, two))


def test_kl_matches_monte_carlo() -> None:
    one = ISA([2, 3], t64(1.5)[0], t64(2.2, 0.75), 0.75)
    two = ISA([2, 3], t64(1.8)[0], t64(2.2, 0.75), 0.9)
    x = one.sample((40_000,))
    ratio = one.log_prob(x) - two.log_prob(x)
    assert abs(ratio.mean() - kl_divergence(one, two)) < 4.5 * ratio.std() / 200


def test_kl_without_closed_form_is_refused() -> None:
    isa = ISA([2, 3], t64(1.5)[0], t64(2.2, 0.75))
    radial = td.Gamma(t64(2.0)[0], 1.0)
    tree = LpNestedTree((0, (1, 2)))
    nested = LpNested(tree, t64(1.3, 2.2), radial)
    normal = td.Independent(td.Normal(torch.zeros(5, dtype=f64), 1.0), 1)
    for one, two in (
        (isa, ISA([2, 3], t64(1.5)[0], t64(2.3, 0.75))),
        (isa, ISA([3, 2], t64(1.5)[0], t64(2.2, 0.75))),
        (normal, isa),
        (nested, LpNested(tree, t64(1.3, 2.3), radial)),
        (nested, LpNested(LpNestedTree((1, (0, 2))), t64(1.3, 2.2), radial)),
    ):
        with pytest.raises(NotImplementedError):
            kl_divergence(one, two)


def test_kl_has_gradients_and_broadcasts() -> None:
    p0 = t64(1.2, 1.5, 2.5).requires_grad_()
    p = t64(2.2, 0.75)
    value = kl_divergence(ISA([2, 3], p0, p), ISA([2, 3], t64(1.5)[0], p))
    assert value.shape == (3,) and value[1].abs() < 1e-12 and (value[[0, 2]] > 0).all()
    assert torch.autograd.grad(value.sum(), p0)[0].isfinite().all()
