"""Over-complete ICA against adaptive quadrature and Monte Carlo that share no code."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm, t

from ica import between_longest, smallest_norm
from ica_fit import Config, draw, fit, maximise, true_weights
from ica_model import best_weights, entropy, expected_log_prior, free_energy, log_likelihood
from ica_model import reconstruction as expected_log_likelihood
from records import RESULTS, read_csv, read_json

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
NU, NOISE_STD = 3.0, 0.4
SMALL = Config(num=40, em_steps=12, noise_std=NOISE_STD)


@pytest.fixture(scope="module")
def problem():
    generator = np.random.default_rng(0)
    x, weights = generator.normal(size=(4, 2)), generator.normal(size=(2, 3))
    mean, std = generator.normal(size=(4, 3)), np.exp(0.5 * generator.normal(size=(4, 3)) - 0.7)
    return x, weights, mean, std


def tensors(problem):
    x, weights, mean, std = (torch.from_numpy(array) for array in problem)
    return x, weights, mean, std.log()


def test_expected_log_prior_is_the_integral(problem):
    _, _, mean, std = problem
    expected = np.zeros(4)
    for n, k in np.ndindex(4, 3):
        m, s = mean[n, k], std[n, k]
        expected[n] += quad(
            lambda z, m=m, s=s: norm.pdf(z, m, s) * t.logpdf(z, NU), m - 9 * s, m + 9 * s
        )[0]
    got = expected_log_prior(*tensors(problem)[2:], NU)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_entropy(problem):
    expected = norm.entropy(scale=problem[3]).sum(-1)
    np.testing.assert_allclose(entropy(tensors(problem)[3]), expected, rtol=1e-12)


def test_expected_log_likelihood_by_monte_carlo(problem):
    x, weights, mean, std = problem
    z = mean + std * np.random.default_rng(1).normal(size=(200_000, 4, 3))
    values = norm.logpdf(x, z @ weights.T, NOISE_STD).sum(-1)
    got = expected_log_likelihood(*tensors(problem), NOISE_STD).numpy()
    errors = values.std(0) / len(values) ** 0.5
    assert (np.abs(got - values.mean(0)) < 4 * errors).all()


@pytest.mark.slow
@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_free_energy_by_monte_carlo(problem, beta):
    x, weights, mean, std = problem
    z = mean + std * np.random.default_rng(2).normal(size=(200_000, 4, 3))
    divergence = norm.logpdf(z, mean, std).sum(-1) - t.logpdf(z, NU).sum(-1)
    values = (norm.logpdf(x, z @ weights.T, NOISE_STD).sum(-1) - beta * divergence).sum(-1)
    got = free_energy(*tensors(problem), NU, NOISE_STD, beta).item()
    assert abs(got - values.mean()) < 4 * values.std() / len(values) ** 0.5


def test_best_weights_have_no_gradient_and_no_better_neighbours(problem):
    x, _, mean, log_std = tensors(problem)
    best = best_weights(x, mean, log_std).requires_grad_()
    value = free_energy(x, best, mean, log_std, NU, NOISE_STD)
    assert torch.autograd.grad(value, best)[0].abs().max() < 1e-9
    for _ in range(5):
        near = best + 0.01 * torch.randn_like(best)
        assert free_energy(x, near, mean, log_std, NU, NOISE_STD) < value


def test_log_likelihood_by_monte_carlo():
    config = Config(num=6, noise_std=NOISE_STD)
    x, weights = draw(config, 0), true_weights(config)
    sources = np.random.default_rng(3).standard_t(NU, (400_000, 3)) @ weights.numpy().T
    total, variance = 0.0, 0.0
    for datum in x.numpy():
        density = norm.pdf(datum, sources, NOISE_STD).prod(-1)
        total += np.log(density.mean())
        variance += density.var() / density.mean() ** 2 / len(density)
    got = log_likelihood(x, weights, NU, NOISE_STD).item()
    assert abs(got - total) < 4 * variance**0.5


def test_log_likelihood_without_a_third_component_is_that_of_two():
    config = Config(num=5, noise_std=1e-4)  # so small that the noise can be left out
    x = draw(config, 0)
    weights = torch.tensor([[1.0, 0.0, 0.5], [0.0, 0.0, 1.5]], dtype=torch.float64)
    square = weights[:, [0, 2]].numpy()
    sources = x.numpy() @ np.linalg.inv(square).T
    expected = t.logpdf(sources, NU).sum() - len(x) * np.log(abs(np.linalg.det(square)))
    assert log_likelihood(x, weights, NU, 1e-4).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_only_improving_steps_are_taken(beta):
    path = fit(draw(SMALL, 0), SMALL, beta)
    values = [point.free_energy for point in path]
    assert [point.stage for point in path] == ["truth", "em", "em", "converged"]
    assert [point.em_step for point in path] == [0, 10, 12, 12]
    assert values == sorted(values)
    assert path[-1].gradient < 1e-4


def test_free_energy_of_vi_is_a_bound_at_every_stage():
    x = draw(SMALL, 1)
    for point in fit(x, SMALL, 1.0):
        assert point.free_energy < log_likelihood(x, point.weights, NU, NOISE_STD)


def test_a_climb_that_gets_worse_is_undone():
    parameter = torch.zeros(1, dtype=torch.float64)
    calls = iter([3.0, -1e6])  # the value before and after, without a gradient between

    def value(p):
        return (next(calls) if not p.requires_grad else 0.0) + p.sum()

    assert maximise(value, [parameter], 3) == 3.0
    assert torch.equal(parameter, torch.zeros_like(parameter))


def test_draws_have_the_true_directions_and_depend_on_the_seed():
    config = Config(num=20_000, noise_std=0.01, nu=30.0)
    x = draw(config, 0)
    covariance = x.T @ x / len(x)  # of three directions at 60 degrees: a multiple of identity
    expected = 1.5 * 30 / 28 * torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(covariance, expected, atol=0.05, rtol=0)
    assert torch.equal(x, draw(config, 0)) and not torch.equal(x, draw(config, 1))


def test_committed_results_hold_every_seed_and_say_what_they_show():
    rows, results = read_csv(RESULTS / "ica.csv"), read_json(RESULTS / "ica.json")
    config = results["config"]
    for stage, step in (
        ("truth", 0),
        ("em", config["em_steps"]),
        ("converged", config["em_steps"]),
    ):
        for beta in config["betas"]:
            group = [
                r for r in rows if (r["stage"], r["em_step"], r["beta"]) == (stage, step, beta)
            ]
            assert [r["seed"] for r in group] == list(range(config["seeds"]))
            line = next(r for r in results["overview"] if (r["beta"], r["stage"]) == (beta, stage))
            pruned = sum(smallest_norm(r) < results["pruned_below"] for r in group)
            assert stage != "converged" or line["largest_gradient"] < 1e-3
            assert (line["fits"], line["pruned"]) == (config["seeds"], pruned)


def test_em_alone_gets_to_the_maxima_that_the_climb_finds():
    def maxima(folder):
        rows = [r for r in read_csv(folder / "ica.csv") if r["beta"] == 1]
        return [r["free_energy"] for r in rows if r["stage"] == "converged"]

    after = [
        smallest_norm(r)
        for r in read_csv(RESULTS / "vi_500_steps" / "ica.csv")
        if r["em_step"] == 500
    ]
    assert len(after) == 20 and max(after) < 0.001
    assert maxima(RESULTS / "vi_500_steps") == pytest.approx(maxima(RESULTS), abs=0.02)


def test_angle_between_the_longest_weights_is_that_of_lines():
    line = {"norm_0": 1.0, "norm_1": 0.1, "norm_2": 2.0}
    degrees = {"degrees_0": 175.0, "degrees_1": 90.0, "degrees_2": 15.0}
    assert between_longest({**line, **degrees}) == pytest.approx(20.0)
