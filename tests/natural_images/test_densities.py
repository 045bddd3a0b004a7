"""The models' bookkeeping: bits, determinants, normalisation, and what a fit finds."""

import math
from collections import Counter

import numpy as np
import pytest
import scipy.stats
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from densities.candidates import (
    EXPECTED,
    FITS,
    MATRICES,
    build_model,
    gaussian_scores,
    initial_matrix,
    scores,
)
from densities.factorial_code import fit_factorial_code
from densities.scale_mixtures import LogNormals
from densities.source_models import Independent, Nested, Subspaces
from densities.source_trees import deep_tree, groups, leaves, size_correlations
from densities.unmixing import Unmixing, maximise
from lpnested import LpNestedTree, functional
from photographs.split import split

pytestmark = pytest.mark.slow

TREE = LpNestedTree(((0, 1), (2, (3, 4))))


@pytest.fixture(scope="module")
def data():
    return split(4, 32, 2, (600, 400), seed=0)


def scattered(module, scale=0.3):
    """With other parameters than those of its start."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return module.double()


def plane(limit=60.0, points=1201):
    """The points of a square, their weights; denser at the middle, where a density peaks."""
    t = torch.linspace(-1, 1, points, dtype=torch.float64)
    axis, slope = limit * t**3, limit * 3 * t**2 * (t[1] - t[0])
    return torch.cartesian_prod(axis, axis), torch.outer(slope, slope).flatten()


def test_bits_of_the_gaussian_are_its_closed_form(data):
    """Entropy of a normal distribution by the covariance of patches without their mean grey."""
    pixels = data.fitted.pixels - data.fitted.pixels.mean(1, keepdims=True)
    centred = pixels - pixels.mean(0)
    variances = np.linalg.svd(centred, compute_uv=False)[:15] ** 2 / len(pixels)
    closed = 0.5 * np.log2(2 * np.pi * np.e * variances).mean()
    assert data.bits(gaussian_scores(data.x)).mean() == pytest.approx(closed, rel=1e-10)


def test_bits_of_held_out_patches_are_those_of_scipy(data):
    fitted, held_out = (
        half.pixels - half.pixels.mean(1, keepdims=True) for half in (data.fitted, data.held_out)
    )
    normal = scipy.stats.multivariate_normal(
        fitted.mean(0), np.cov(fitted.T, bias=True), allow_singular=True
    )
    found = data.bits(gaussian_scores(data.y))
    assert np.allclose(found, -normal.logpdf(held_out) / (15 * math.log(2)), rtol=1e-6)


def test_the_determinant_is_that_of_autograd():
    weight = torch.randn(5, 5, dtype=torch.float64)
    model = Unmixing(weight, Nested(TREE, 3).double())
    x = torch.randn(5, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(model.unmix, x)
    assert model.log_det().item() == pytest.approx(jacobian.det().abs().log().item())
    assert model(x[None]).item() == pytest.approx(
        (model.sources(model.unmix(x[None])) + model.log_det()).item()
    )


@pytest.mark.parametrize(
    "sources",
    [
        Independent(2, 3),
        Subspaces([(0, 1)], 3),
        Subspaces([(1,), (0,)], 3),
        Nested(LpNestedTree.flat(2), 3),
        Nested(LpNestedTree.flat(2), 3, exponent=2.0),
    ],
    ids=["ica", "isa", "isa-apart", "lp", "l2"],
)
def test_a_model_integrates_to_one_in_x(sources):
    model = Unmixing(torch.tensor([[1.0, 0.4], [-0.3, 0.8]]), scattered(sources)).double()
    points, weights = plane()
    with torch.no_grad():
        total = (model(points).exp() * weights).sum().item()
    assert total == pytest.approx(1, abs=2e-3)


def test_ica_is_a_mixture_of_normals_for_each_source():
    sources = scattered(Independent(4, 3))
    z = torch.randn(50, 4, dtype=torch.float64)
    mixture, scales = Categorical(logits=sources.mixture.logits), sources.mixture.log_scales.exp()
    expected = MixtureSameFamily(mixture, Normal(torch.zeros_like(scales), scales)).log_prob(z)
    assert torch.allclose(sources(z), expected.sum(-1))


def test_isa_is_a_product_over_its_groups():
    both = scattered(Subspaces([(0, 3), (1, 2)], 3))
    z, alone = torch.randn(20, 4, dtype=torch.float64), []
    for k, group in enumerate(both.batches[0].tolist()):
        one = Subspaces([(0, 1)], 3).double()
        one.load_state_dict({key: value[k : k + 1] for key, value in both.state_dict().items()})
        alone.append(one(z[:, group]))
    assert torch.allclose(both(z), sum(alone))


@pytest.mark.parametrize("sources", [Independent(5, 3), Nested(TREE, 3)], ids=["ica", "nested"])
def test_the_scale_of_the_radius_is_fixed(sources):
    scattered(sources)
    z = torch.randn(20, 5, dtype=torch.float64)
    before = sources(z).detach()
    with torch.no_grad():
        sources.mixture.places += 0.7
    assert torch.allclose(sources(z), before)
    mean = (sources.mixture.logits.softmax(-1) * sources.mixture.log_scales).sum(-1)
    assert torch.allclose(mean, torch.zeros_like(mean), atol=1e-12)


def test_an_elliptical_density_does_not_see_a_rotation(data):
    model = build_model(
        "l2-spherical", LpNestedTree.flat(15).root, np.eye(15), torch.tensor(data.x), 3
    )
    before = scores(model, data.x)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(initial_matrix("rotation", data.x, 0)) @ model.weight)
    assert np.allclose(scores(model, data.x), before)


def test_quantiles_of_a_mixture_of_log_normals_are_those_of_its_distribution():
    radius = LogNormals(3)
    scattered(radius, scale=1.0)
    u = torch.linspace(0.001, 0.999, 99, dtype=torch.float64)
    dist = radius.radial()
    assert torch.allclose(dist.cdf(dist.icdf(u)), u, atol=1e-12)


def test_a_fit_finds_the_sources_again():
    """Laplace sources, mixed: every row of W A has one entry that stands out."""
    torch.manual_seed(1)
    mixing = torch.randn(3, 3)
    x = torch.distributions.Laplace(0.0, 1.0).sample((4000, 3)) @ mixing.T
    model = Unmixing(torch.eye(3), Independent(3, 3))
    model.weight.data *= model.sources.start(x).unsqueeze(-1)
    steps, before = [], model(x).mean().item()
    effort = maximise(model, x, 40, steps.append)
    assert model(x).mean() > before + 0.1
    assert sum(steps) == effort.iterations <= 40 < effort.evaluations + 40
    found = (model.weight.detach() @ mixing).abs()
    share = found.max(1).values / found.norm(dim=1)
    assert (share > 0.99).all() and sorted(found.argmax(1).tolist()) == [0, 1, 2]


def test_a_likelihood_that_is_not_finite_ends_the_fit():
    model = Unmixing(torch.eye(2), Independent(2, 2))
    with pytest.raises(FloatingPointError, match="no longer finite"):
        maximise(model, torch.full((10, 2), math.nan), 5)


def test_trees_find_what_goes_together():
    """Sources whose scales are shared within pairs, and less so within quadruples."""
    generator = np.random.default_rng(0)
    quad, pair = generator.normal(size=(5000, 2)), generator.normal(size=(5000, 4))
    scale = np.exp(0.8 * np.repeat(quad, 4, axis=1) + 0.8 * np.repeat(pair, 2, axis=1))
    order = generator.permutation(8)
    place = np.argsort(order)  # where each of the eight has gone
    correlations = size_correlations((scale * generator.normal(size=(5000, 8)))[:, order])
    planted = {frozenset(place[2 * k : 2 * k + 2].tolist()) for k in range(4)}
    assert {frozenset(group) for group in groups(correlations, 1)} == planted
    quads = {frozenset(place[:4].tolist()), frozenset(place[4:].tolist())}
    assert {frozenset(group) for group in groups(correlations, 2)} == quads
    tree = deep_tree(correlations)
    assert tree.depth == 3 and {frozenset(leaves(node)) for node in tree.root} == quads


def test_a_tree_of_an_odd_number_of_sources_has_them_all():
    correlations = np.corrcoef(np.random.default_rng(0).normal(size=(50, 7)).T)
    assert sorted(leaves(deep_tree(correlations).root)) == list(range(7))
    assert sorted(len(group) for group in groups(correlations, 2)) == [3, 4]


def test_independent_sizes_are_not_correlated_and_common_ones_are():
    generator = np.random.default_rng(0)
    z = generator.normal(size=(20_000, 3))
    assert np.abs(size_correlations(z) - np.eye(3)).max() < 0.03
    common = np.exp(generator.normal(size=(20_000, 1)))
    expected = 1 / (1 + np.pi**2 / 8)  # the variance of log |z| of a normal z is pi^2 / 8
    assert size_correlations(z * common)[0, 1] == pytest.approx(expected, abs=0.02)


def test_a_factorial_code_is_close_to_the_truth_and_no_better():
    generator = np.random.default_rng(3)
    marginals = [scipy.stats.gennorm(0.5), scipy.stats.gennorm(3, scale=2), scipy.stats.norm()]
    train, test = (
        np.column_stack([m.rvs(6000, random_state=generator) for m in marginals]) for _ in range(2)
    )
    truth = sum(m.logpdf(test[:, k]) for k, m in enumerate(marginals))
    found = fit_factorial_code(train).log_prob(test)
    assert -0.02 < (found - truth).mean() < 0.005


def test_a_factorial_code_takes_mixtures_where_they_are_better():
    generator = np.random.default_rng(0)
    scales = np.array([0.1, 1.0, 10.0])[generator.integers(0, 3, (6000, 2))]
    y = scales * generator.normal(size=(6000, 2))
    truth = np.log(sum(scipy.stats.norm(scale=s).pdf(y) for s in (0.1, 1, 10)) / 3).sum(1)
    code = fit_factorial_code(y)
    assert code.is_mixture.all()
    assert code.log_prob(y).mean() == pytest.approx(truth.mean(), abs=0.01)


def test_every_model_is_expected_somewhere_and_starts_from_what_is_there():
    assert set(EXPECTED) == {"gaussian", *(name for name, _ in FITS)}
    assert len(set(FITS)) == len(FITS)
    there = set(MATRICES)
    for name, start in FITS:
        assert start in there, (name, start)
        there.add(name)
    several = Counter(name for name, _ in FITS)
    assert several["ica"] >= 4 and several["lp-spherical"] >= 4


def test_spherical_models_have_as_many_steps_as_the_nested_ones_that_begin_where_they_end():
    """The best spherical fit at that time, then one fit more, for either."""
    place = {fit: k for k, fit in enumerate(FITS)}
    for name in ("nested-pairs", "nested-quadruples", "nested-deep"):
        assert place[name, "lp-spherical"] < place["lp-spherical", "lp-spherical"]


def test_starts_are_scaled_as_the_radius_asks():
    x = torch.randn(500, 5, dtype=torch.float64) * 7
    model = build_model("lp-spherical", LpNestedTree.flat(5).root, np.eye(5), x, 4)
    log_r = functional.log_norm(
        model.unmix(x), model.sources.log_exponents.exp(), model.sources.tree
    )
    assert abs(log_r.mean().item()) < 1e-9
