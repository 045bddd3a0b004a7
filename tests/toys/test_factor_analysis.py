"""Factor analysis against dense Gaussian algebra, quadrature and search that share no code."""

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, norm

from factor_analysis import (
    Config,
    beta_sweep,
    moment,
    noise_sweep,
    orthogonal_weights,
    pruning_sweep,
    rotated,
    rotation_sweep,
)
from factor_model import (
    free_energy,
    kl,
    log_likelihood,
    maximise_free_energy,
    mean_field,
    reconstruction,
    split_weights,
)

pytestmark = pytest.mark.slow

NOISE = 0.3


@pytest.fixture(scope="module")
def problem():
    generator = np.random.default_rng(0)
    x, weights = generator.normal(size=(7, 3)) + 0.5, generator.normal(size=(3, 2))
    return x, weights, torch.from_numpy(x.T @ x / len(x)), torch.from_numpy(weights)


def grid(mean, std):
    """All combinations of Gauss-Hermite nodes of independent normals, and their masses."""
    nodes, masses = hermegauss(4)
    points = np.array(list(itertools.product(nodes, repeat=len(mean))))
    mass = np.array([math.prod(m) for m in itertools.product(masses, repeat=len(mean))])
    return mean + std * points, mass / mass.sum()


def elbo_terms(x, weights, noise, mean, std):
    """E_q log p(x | z) and KL(q || p(z)) of one datum by quadrature of log densities."""
    z, mass = grid(mean, std)
    likelihood = norm.logpdf(x, z @ weights.T, noise**0.5).sum(-1)
    log_ratio = (norm.logpdf(z, mean, std) - norm.logpdf(z)).sum(-1)
    return mass @ likelihood, mass @ log_ratio


def test_log_likelihood_is_that_of_a_dense_normal(problem):
    x, weights, second_moment, tensor = problem
    dense = multivariate_normal(np.zeros(3), weights @ weights.T + NOISE * np.eye(3))
    got = log_likelihood(tensor, NOISE, second_moment, len(x))
    assert got.item() == pytest.approx(dense.logpdf(x).sum(), rel=1e-12)


@pytest.mark.parametrize("beta", [0.25, 1.0, 4.0])
def test_terms_are_those_of_every_datum_by_quadrature(problem, beta):
    x, weights, second_moment, tensor = problem
    project, variance = (part.numpy() for part in mean_field(tensor, NOISE, beta))
    terms = [elbo_terms(d, weights, NOISE, project @ d, variance**0.5) for d in x]
    expected = np.sum(terms, axis=0)
    arguments = (tensor, NOISE, second_moment, len(x), beta)
    assert reconstruction(*arguments).item() == pytest.approx(expected[0], rel=1e-10)
    assert kl(*arguments).item() == pytest.approx(expected[1], rel=1e-10)
    total = expected[0] - beta * expected[1]
    assert free_energy(*arguments).item() == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("beta", [0.25, 1.0, 4.0])
def test_mean_field_is_the_best_factorised_normal(problem, beta):
    x, weights, _, tensor = problem

    def loss(q):
        expected, divergence = elbo_terms(x[0], weights, NOISE, q[:2], np.exp(q[2:]))
        return beta * divergence - expected

    best = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-8}).x
    project, variance = (part.numpy() for part in mean_field(tensor, NOISE, beta))
    np.testing.assert_allclose(best[:2], project @ x[0], atol=1e-5)
    np.testing.assert_allclose(np.exp(2 * best[2:]), variance, atol=1e-5)


def test_gap_is_the_divergence_from_the_exact_posterior(problem):
    x, weights, second_moment, tensor = problem
    joint = np.linalg.inv(np.eye(2) + weights.T @ weights / NOISE)  # covariance of the posterior
    variance = mean_field(tensor, NOISE)[1].numpy()
    gap = len(x) / 2 * (np.linalg.slogdet(joint)[1] - np.log(variance).sum())
    gap += len(x) / 2 * (np.trace(np.linalg.inv(joint) @ np.diag(variance)) - 2)
    arguments = (tensor, NOISE, second_moment, len(x))
    bound = free_energy(*arguments)
    assert (log_likelihood(*arguments) - bound).item() == pytest.approx(gap, rel=1e-10)


@pytest.mark.parametrize("copies", [2, 3, 5])
def test_beta_below_one_is_vi_with_replicated_observations(problem, copies):
    x, _, second_moment, tensor = problem
    replicated = (tensor.repeat(copies, 1), NOISE, second_moment.repeat(copies, copies), len(x))
    once = free_energy(tensor, NOISE, second_moment, len(x), 1 / copies)
    torch.testing.assert_close(free_energy(*replicated), copies * once)


@pytest.mark.parametrize("beta", [0.5, 3.0])
def test_beta_vi_is_vi_with_another_noise_up_to_a_constant(problem, beta):
    x, _, second_moment, tensor = problem
    num, dim = len(x), 3
    constant = (beta - 1) * math.log(2 * math.pi * NOISE) + beta * math.log(beta)
    expected = beta * free_energy(tensor, beta * NOISE, second_moment, num)
    got = free_energy(tensor, NOISE, second_moment, num, beta)
    torch.testing.assert_close(got, expected + num * dim / 2 * constant)


def test_paper_numbers_at_45_degrees():
    sweep = rotation_sweep(Config())
    assert sweep["log_likelihood_at_45_degrees"] == pytest.approx(-17.82, abs=0.005)
    assert sweep["free_energy_at_45_degrees"] == pytest.approx(-57.16, abs=0.005)
    assert np.ptp(sweep["log_likelihood"]) < 1e-10
    assert np.argmin(sweep["free_energy"]) == len(sweep["degrees"]) // 2
    for end in (0, -1):  # the maxima are orthogonal weights, and there the bound is tight
        assert sweep["free_energy"][end] == pytest.approx(sweep["log_likelihood"][end], abs=1e-9)


@pytest.mark.parametrize("noise", [1e-3, 0.0135825, 0.02])
def test_rotation_closed_form_has_no_noise_in_it(noise):
    config = Config(noise=noise)
    sweep = rotation_sweep(config)
    ratio = config.variances[0] / config.variances[1]
    sine = np.sin(2 * np.deg2rad(sweep["degrees"]))
    gap = config.num / 2 * np.log1p((ratio - 1) ** 2 * sine**2 / (4 * ratio))
    got = np.array(sweep["log_likelihood"]) - sweep["free_energy"]
    np.testing.assert_allclose(got, gap, atol=1e-8)


def test_pruning_closed_form():
    config = Config()
    sweep = pruning_sweep(config)
    rho, a2 = np.array(sweep["rho"]), config.variances[0] - config.noise
    inside = rho**2 * (1 - rho**2) * a2**2 / (config.noise**2 * (1 + a2 / config.noise))
    got = np.array(sweep["log_likelihood"]) - sweep["free_energy"]
    np.testing.assert_allclose(got, config.num / 2 * np.log1p(inside), atol=1e-8)
    assert np.ptp(sweep["log_likelihood"]) < 1e-10
    assert sweep["rho_of_lowest_free_energy"] == pytest.approx(0.5**0.5)


def test_split_weights_keep_their_covariance():
    weights = split_weights(torch.linspace(0, 1, 5).double(), 2.0, 3.0)
    expected = torch.tensor([4.0, 9.0], dtype=torch.float64).diag().expand(5, 2, 2)
    torch.testing.assert_close(weights @ weights.mT, expected)


def test_ripple_closed_form_and_same_directions():
    config = Config()
    w2 = np.array(config.variances) - config.noise
    for row in beta_sweep(config):
        a, b = 1 + w2 / (row["beta"] * config.noise)
        ripple = row["beta"] * config.num / 2 * math.log1p((a - b) ** 2 / (4 * a * b))
        assert row["ripple"] == pytest.approx(ripple)
        assert row["best_degrees"] == pytest.approx([0.0, 90.0])


def test_ripple_over_beta_falls_but_the_ripple_itself_does_not():
    rows = beta_sweep(Config())
    over = [row["ripple_over_beta"] for row in rows]
    assert over == sorted(over, reverse=True)
    assert rows[0]["ripple"] < rows[1]["ripple"] < rows[2]["ripple"]


def test_fixed_noise_prunes_what_is_below_beta_times_noise():
    for row in noise_sweep(Config()):
        assert row["found"] == pytest.approx(row["formula"], abs=2e-5)


@pytest.mark.parametrize("beta", [1.0, 1.5, 3.0])
def test_maximum_is_also_where_another_search_finds_it(beta):
    config = Config()
    data = (config.noise, moment(config), config.num, beta)

    def loss(flat):
        return -free_energy(torch.from_numpy(flat).view(2, 2), *data).item() / config.num

    start = np.random.default_rng(1).normal(scale=0.3, size=4)
    other = minimize(loss, start, method="Nelder-Mead", options={"maxiter": 4000, "fatol": 1e-12})
    ours = maximise_free_energy(torch.from_numpy(start).view(2, 2), *data)
    assert free_energy(ours, *data).item() >= -config.num * other.fun - 1e-4
    expected = (moment(config).diagonal() - beta * config.noise).clamp_min(0)
    torch.testing.assert_close(ours @ ours.mT, expected.diag(), atol=1e-4, rtol=0)
    off = (ours.mT @ ours)[0, 1].item()  # the columns are orthogonal, or one of them is 0
    assert off == pytest.approx(0, abs=1e-4)


def test_rotated_weights_are_orthogonal_only_at_multiples_of_90_degrees():
    config = Config()
    assert torch.equal(rotated(config, 0.0), orthogonal_weights(config))
    assert (rotated(config, 45.0).mT @ rotated(config, 45.0))[0, 1].abs() > 0.01
