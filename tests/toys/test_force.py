"""The force of the prior against its formula, quadrature, and the values of the design."""

import math

import numpy as np
import pytest
import torch
from scipy.special import gamma, gammaln

from force import Config, gain, plane, rotated, uniform_factors, unit_prior
from records import RESULTS, read_csv, read_json

CONFIG = Config(replicates=16, samples=2048)


@pytest.fixture(scope="module")
def factors():
    return uniform_factors(CONFIG.replicates, CONFIG.samples, CONFIG.seed)


def unit_scale(size, p0, p):
    """The paper's s at which coordinates of the product form have variance 1."""
    radial = gamma((size + 2) / p0) / gamma(size / p0)
    angular = gamma(3 / p) / gamma(1 / p) * gamma(size / p) / gamma((size + 2) / p)
    return (radial * angular) ** (-p0 / 2)


def log_density(z, size, p0, p):
    """Product form of the ISA density, written from the paper."""
    s = unit_scale(size, p0, p)
    log_c = math.log(p0) + (size - 1) * math.log(p) + gammaln(size / p) - size * math.log(2)
    log_c -= size * gammaln(1 / p) + gammaln(size / p0) + size / p0 * math.log(s)
    subspaces = z.reshape(len(z), -1, size)
    powers = (np.abs(subspaces) ** p).sum(-1) ** (p0 / p)
    return (log_c - powers / s).sum(-1)


@pytest.mark.parametrize("pair", [(2.1, 2.2), (4.0, 4.0), (1.0, 3.0), (2.1, 1.9)])
def test_prior_is_the_product_form_of_variance_one(pair):
    z = np.random.default_rng(0).normal(size=(50, 8))
    prior = unit_prior([4, 4], *pair)
    torch.testing.assert_close(prior.variance, torch.ones(8, dtype=torch.float64))
    got = prior.log_prob(torch.from_numpy(z)).numpy()
    np.testing.assert_allclose(got, log_density(z, 4, *pair), rtol=1e-10)


def test_factors_are_uniform_with_variance_one_and_turns_keep_them_so(factors):
    for code in (factors, rotated(factors)):
        covariance = torch.cov(code.flatten(0, 1).T)
        torch.testing.assert_close(covariance, torch.eye(2).double(), atol=1e-3, rtol=0)
    assert factors.abs().max() <= 3**0.5
    assert rotated(factors).abs().max() > 2.3  # towards the corner at sqrt(6) = 2.45


@pytest.mark.parametrize("p", [1.0, 1.9, 2.0, 2.2, 4.0])
def test_plane_by_gauss_legendre(p, factors):
    nodes, masses = np.polynomial.legendre.leggauss(160)
    u, v = (axis.ravel() for axis in np.meshgrid(3**0.5 * nodes, 3**0.5 * nodes))
    mass = np.outer(masses, masses).ravel() / 4
    aligned = mass @ log_density(np.stack([u, v], -1), 2, p, p)
    code = np.stack([u - v, u + v], -1) / 2**0.5
    diagonal = mass @ log_density(code, 2, p, p)
    line = plane(p, factors)
    assert line["aligned"] == pytest.approx(aligned, abs=2e-4)
    assert line["diagonal"] == pytest.approx(diagonal, abs=2e-4)
    assert line["gain"] == pytest.approx(aligned - diagonal, abs=2e-4)


def test_closed_form_for_independent_coordinates_of_exponent_four(factors):
    exact = 2 * (9 / 5 - 12 / 5) * -1 / unit_scale(1, 4.0, 4.0)  # E u^4 and E ((u+v)/sqrt 2)^4
    line = gain(4.0, 4.0, CONFIG, factors)
    assert line["within"] == pytest.approx(exact, abs=1e-4)
    assert line["across"] == pytest.approx(exact, abs=1e-4)
    assert exact == pytest.approx(0.137, abs=5e-4)


@pytest.mark.parametrize(
    ("pair", "within", "across"),
    [
        ((2.1, 2.2), 0.018, 0.015),
        ((4.0, 4.0), 0.136, 0.136),
        ((2.0, 4.0), 0.114, 0.071),
        ((2.5, 3.0), 0.075, 0.063),
    ],
)
def test_values_of_the_design(pair, within, across):
    table = {(row["p0"], row["p"]): row for row in read_csv(RESULTS / "force.csv")}
    row = table[pair]
    assert row["within"] == pytest.approx(within, abs=5e-4 + 3e-3 * (within > 0.1))
    assert row["across"] == pytest.approx(across, abs=1.5e-3)
    assert max(row["within_error"], row["across_error"]) < 2e-3


def test_sign_flips_below_two():
    table = {(row["p0"], row["p"]): row for row in read_csv(RESULTS / "force.csv")}
    assert table[2.1, 1.9]["within"] == pytest.approx(-0.010, abs=5e-4)
    for (_, p), row in table.items():  # within a subspace the sign is that of p - 2
        assert row["within"] * (p - 2) >= 0
    assert abs(table[2.0, 2.0]["within"]) < 1e-12 and abs(table[2.0, 2.0]["across"]) < 1e-12


def test_committed_table_is_what_the_script_measures(factors):
    table = {(row["p0"], row["p"]): row for row in read_csv(RESULTS / "force.csv")}
    for pair in ((2.1, 2.2), (1.0, 1.5)):
        again = gain(*pair, CONFIG, factors)
        for name in ("within", "across"):
            error = math.hypot(again[f"{name}_error"], table[pair][f"{name}_error"])
            assert abs(again[name] - table[pair][name]) < 4 * error + 1e-6


def test_plane_results_are_committed():
    results = read_json(RESULTS / "force.json")
    assert [line["p"] for line in results["plane"]] == results["config"]["exponents"]
    assert {"python", "torch", "numpy", "lpnested"} == set(results["versions"])
