"""Maximum likelihood: the same optimum by every way to it, and what scipy finds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.special import gammaln, logsumexp
from torch import Tensor
from torch.distributions import (
    Categorical,
    Cauchy,
    Distribution,
    Exponential,
    Gamma,
    Geometric,
    HalfCauchy,
    InverseGamma,
    LogNormal,
    MixtureSameFamily,
    Normal,
    StudentT,
    Weibull,
)

from lpnested import ISA, GeneralizedGamma, GeneralizedNormal, LpNested, LpNestedTree, fit
from lpnested.estimation import Progress
from lpnested.estimation.radial import em_step, log_gamma_shape
from lpnested.nn import Learnable

ROOT = (0, (1, 2), (3, (4, 5)))
TREE = LpNestedTree(ROOT)
EXPONENTS = torch.tensor([0.9, 2.5, 1.4, 3.0], dtype=torch.float64)
RADII = [LogNormal, GeneralizedGamma, Gamma, InverseGamma, Weibull, HalfCauchy, Exponential]


def drawn(num: int, radial: Distribution | None = None) -> Tensor:
    return LpNested(TREE, EXPONENTS, radial or log_normal()).sample((num,))


def log_normal(loc: float = 0.3, scale: float = 0.6) -> LogNormal:
    return LogNormal(torch.tensor(loc, dtype=torch.float64), scale)


def close(a: Any, b: Any, to: float) -> None:
    torch.testing.assert_close(a, b, rtol=to, atol=to)


def learnable_isa(learn: tuple[str, ...], p: Any = (2.0, 2.0)) -> Learnable:
    return Learnable(ISA, [2, 3], p0=2.0, p=torch.as_tensor(p), scale=1.0, learn=learn)


# Against numpy and scipy ------------------------------------------------------------------------


def likelihood_by_numpy(log_parameters: np.ndarray, x: np.ndarray) -> float:
    """Of the tree with a log-normal radius, from eq. 7 and 8, by plain recursion."""
    *logs, loc, log_scale = log_parameters
    nodes: list[Any] = [ROOT]
    for node in nodes:
        nodes.extend(child for child in node if isinstance(child, tuple))
    p = dict(zip(nodes, np.exp(logs), strict=True))

    def size(node: Any) -> int:
        return sum(map(size, node)) if isinstance(node, tuple) else 1

    def log_norm(node: Any) -> np.ndarray:
        if not isinstance(node, tuple):
            return np.log(np.abs(x[:, node]))
        return logsumexp([p[node] * log_norm(child) for child in node], axis=0) / p[node]

    area = size(ROOT) * np.log(2)
    for node in nodes:
        area -= (len(node) - 1) * np.log(p[node]) + gammaln(size(node) / p[node])
        area += sum(gammaln(size(child) / p[node]) for child in node)
    log_r, scale = log_norm(ROOT), np.exp(log_scale)
    radius = -0.5 * ((log_r - loc) / scale) ** 2 - log_r - log_scale - 0.5 * np.log(2 * np.pi)
    return float((radius - (size(ROOT) - 1) * log_r - area).sum())


def second_differences(function: Any, at: np.ndarray, step: float = 1e-3) -> np.ndarray:
    steps = step * np.eye(len(at))
    return np.array(
        [
            [
                function(at + a + b)
                - function(at + a - b)
                - function(at - a + b)
                + function(at - a - b)
                for b in steps
            ]
            for a in steps
        ]
    ) / (4 * step**2)


def test_errors_are_those_of_the_numerical_second_derivative_of_another_likelihood():
    x = drawn(1500)
    result = fit(TREE, x)
    at = result.values.clone()
    at[[0, 1, 2, 3, 5]] = at[[0, 1, 2, 3, 5]].log()  # loc is no logarithm
    value = likelihood_by_numpy(at.numpy(), x.numpy())
    close(result.log_likelihood.item(), value, 1e-10)
    information = -second_differences(lambda y: likelihood_by_numpy(y, x.numpy()), at.numpy())
    errors = torch.from_numpy(np.sqrt(np.diag(np.linalg.inv(information))))
    errors[[0, 1, 2, 3, 5]] *= result.values[[0, 1, 2, 3, 5]]
    close(result.standard_errors, errors, 1e-4)


def test_no_point_nearby_has_a_larger_likelihood():
    x = drawn(500)
    result = fit(TREE, x)
    best = result.values.clone()
    best[[0, 1, 2, 3, 5]] = best[[0, 1, 2, 3, 5]].log()
    for step in torch.randn(20, 6, dtype=torch.float64) * 1e-3:
        near = likelihood_by_numpy((best + step).numpy(), x.numpy())
        assert near < result.log_likelihood.item()


@pytest.mark.parametrize("p", [1.5, 3.0, 8.0])
def test_the_generalized_normal_has_the_likelihood_that_scipy_finds(p):
    x = GeneralizedNormal(torch.tensor(3.0, dtype=torch.float64), 2.0, p).sample((2000,))
    result = fit(GeneralizedNormal, x)
    shape, loc, scale = scipy.stats.gennorm.fit(x.numpy())
    found = dict(zip(result.parameters, result.values.tolist(), strict=True))
    for name, expected in {"loc": loc, "scale": scale, "p": shape}.items():
        assert math.isclose(found[name], expected, rel_tol=2e-3), name
    by_scipy = scipy.stats.gennorm.logpdf(x.numpy(), shape, loc, scale).sum()
    assert -1e-8 < (result.log_likelihood.item() - by_scipy) / len(x) < 1e-6
    assert isinstance(result.distribution, GeneralizedNormal) and result.converged


def test_the_generalized_gamma_has_the_likelihood_that_scipy_finds():
    x = GeneralizedGamma(torch.tensor(3.0, dtype=torch.float64), 1.5, 2.0).sample((2000,))
    result = fit(GeneralizedGamma, x)
    shape, power, _, scale = scipy.stats.gengamma.fit(x.numpy(), floc=0)
    by_scipy = scipy.stats.gengamma.logpdf(x.numpy(), shape, power, 0, scale).sum()
    assert -1e-8 < (result.log_likelihood.item() - by_scipy) / len(x) < 1e-6
    expected = torch.tensor([shape * power, power, scale], dtype=torch.float64)
    torch.testing.assert_close(result.values, expected, rtol=5e-3, atol=0)
    close(fit(GeneralizedGamma(1.0, 1.0, 1.0), x).values, result.values, 1e-6)


@pytest.mark.parametrize("family", [Gamma, LogNormal, Weibull])
def test_distributions_of_torch_have_the_likelihood_that_scipy_finds(family):
    x = Weibull(torch.tensor(2.0, dtype=torch.float64), 1.7).sample((1000,))
    like = {
        Gamma: scipy.stats.gamma,
        LogNormal: scipy.stats.lognorm,
        Weibull: scipy.stats.weibull_min,
    }[family]
    by_scipy = like.logpdf(x.numpy(), *like.fit(x.numpy(), floc=0)).sum()
    assert -1e-8 < (fit(family, x).log_likelihood.item() - by_scipy) / len(x) < 1e-6


def test_the_shape_of_a_gamma_variable_solves_its_equation():
    shape = torch.logspace(-3, 5, 30, dtype=torch.float64)
    gap = shape.log() - torch.digamma(shape)
    torch.testing.assert_close(log_gamma_shape(gap).exp(), shape, rtol=1e-9, atol=0)


# One optimum, by every way to it ----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("radial", [LogNormal, GeneralizedGamma, Gamma, InverseGamma])
def test_many_data_sets_at_once_are_as_many_fits(radial):
    x = torch.stack([drawn(400), 3 * drawn(400), drawn(400, Gamma(2.0, 1.0))], 1)
    batch = fit(TREE, x.reshape(400, 3, 1, 6), radial)
    assert batch.distribution.batch_shape == (3, 1) and batch.converged.all()
    for k in range(3):
        single = fit(TREE, x[:, k], radial)
        close(batch.values[k, 0], single.values, 1e-6)
        close(batch.covariance[k, 0], single.covariance, 1e-6)
        close(batch.log_likelihood[k, 0], single.log_likelihood, 1e-6)
        close(batch.log_likelihood_se[k, 0], single.log_likelihood_se, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("covariance", ["observed", "sandwich"])
def test_integer_weights_are_repetitions(covariance):
    x, weights = drawn(300), torch.randint(0, 4, (300,))
    weighted = fit(TREE, x, weights=weights, covariance=covariance)
    repeated = fit(TREE, x.repeat_interleave(weights, 0), covariance=covariance)
    close(weighted.values, repeated.values, 1e-10)
    close(weighted.covariance, repeated.covariance, 1e-9)
    for name in ("log_likelihood", "log_likelihood_se", "aic", "bic", "num_observations"):
        close(getattr(weighted, name), getattr(repeated, name), 1e-9)


@pytest.mark.slow
def test_every_data_set_may_have_weights_of_its_own():
    x, weights = drawn(300), torch.rand(300, 2)
    batch = fit(TREE, torch.stack([x, x], 1), weights=weights)
    for k in range(2):
        close(batch.values[k], fit(TREE, x, weights=weights[:, k]).values, 1e-6)


class Chunks:
    """Data that are made anew each time they are gone over."""

    def __init__(self, x: Tensor, weights: Tensor) -> None:
        self.x, self.weights = x, weights

    def __iter__(self) -> Any:
        return zip(self.x.split(170), self.weights.split(170), strict=True)


@pytest.mark.parametrize(
    "radial", [LogNormal, pytest.param(GeneralizedGamma, marks=pytest.mark.slow)]
)
def test_what_weighs_nothing_may_hold_anything(radial):
    x, weights = torch.stack([drawn(300), 3 * drawn(300)], 1), torch.ones(300, 2)
    weights[200:, 1] = 0.0
    for padding in (0.0, math.nan):
        x[200:, 1] = padding
        chunks = [(x[k : k + 90], weights[k : k + 90]) for k in range(0, 300, 90)]
        for data in ((x, weights), (chunks, None)):
            both = fit(TREE, data[0], radial, weights=data[1])
            for k, alone in enumerate((fit(TREE, x[:, 0], radial), fit(TREE, x[:200, 1], radial))):
                close(both.values[k], alone.values, 1e-8)
                close(both.bic[k], alone.bic, 1e-10)
            assert not any("duplicates" in note or "exactly 0" in note for note in both.notes)


@pytest.mark.slow
@pytest.mark.parametrize("radial", [LogNormal, GeneralizedGamma, InverseGamma])
def test_chunks_are_the_whole(radial):
    x, weights = drawn(500), torch.rand(500, dtype=torch.float64)
    whole = fit(TREE, x, radial, weights=weights, covariance="sandwich")
    chunks = fit(TREE, Chunks(x, weights), radial, covariance="sandwich")
    assert whole.iterations == chunks.iterations
    for name in ("values", "log_likelihood", "log_likelihood_se"):
        torch.testing.assert_close(
            getattr(whole, name), getattr(chunks, name), rtol=1e-10, atol=1e-10
        )
    close(whole.covariance, chunks.covariance, 1e-9)


@pytest.mark.slow
def test_the_loader_of_torch_gives_chunks():
    x = drawn(200)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=64)
    close(fit(TREE, loader).values, fit(TREE, x).values, 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("radial", RADII)
def test_the_scale_of_the_data_changes_nothing_but_the_scale(radial):
    x = drawn(300)
    one, *others = (fit(TREE, x * scale, radial) for scale in (1.0, 1e-30, 1e30))
    for other in others:
        assert one.converged and other.converged
        close(other.values[:4], one.values[:4], 1e-6)
        close(other.standard_errors[:4], one.standard_errors[:4], 1e-6)


@pytest.mark.parametrize("family", [GeneralizedNormal, GeneralizedGamma, InverseGamma])
def test_the_scale_of_univariate_data_changes_nothing_but_the_scale(family):
    x = LogNormal(torch.tensor(1.0, dtype=torch.float64), 0.4).sample((300,))
    one, *others = (fit(family, x * scale) for scale in (1.0, 1e-30, 1e30))
    for other, scale in zip(others, (1e-30, 1e30), strict=True):
        assert one.converged and other.converged
        expected = one.log_likelihood - len(x) * math.log(scale)
        torch.testing.assert_close(other.log_likelihood, expected, rtol=1e-12, atol=1e-7)


@pytest.mark.parametrize("family", [Normal, GeneralizedNormal, StudentT, Cauchy])
@pytest.mark.parametrize("shift", [1e2, 1e6])
def test_a_location_is_found_however_far_from_0(family, shift):
    x = StudentT(torch.tensor(6.0, dtype=torch.float64)).sample((301,))
    near, far = fit(family, x), fit(family, x + shift)
    both = fit(family, torch.stack([x, x + shift], 1))
    moved = near.values + shift * torch.tensor([name == "loc" for name in near.parameters])
    assert far.converged and both.converged.all() and both.iterations.max() < 20
    for found in (far.values, both.values[1]):
        close(found, moved, 1e-5)
    close(far.log_likelihood, near.log_likelihood, 1e-6)
    close(far.standard_errors, near.standard_errors, 1e-4)


@pytest.mark.slow
def test_a_start_far_away_or_by_an_instance_leads_to_the_same():
    x = drawn(400)
    best = fit(TREE, x)
    close(fit(TREE, x, LogNormal(-50.0, 7.0)).values, best.values, 1e-7)
    for p in (0.2, 20.0):
        start = Learnable(
            LpNested,
            TREE,
            exponents=torch.full((4,), p),
            radial=Learnable(LogNormal, loc=0.0, scale=1.0, learn=("loc", "scale")),
            learn="exponents",
        )
        close(fit(start, x).values, best.values, 1e-6)


def test_an_instance_of_generalized_gamma_keeps_its_dimension():
    result = fit(TREE, drawn(300, Gamma(2.0, 1.0)), GeneralizedGamma(2.0, 5.0, 1.0))
    assert result.distribution.radial.dim == 2 and result.converged
    assert result.parameters[-2:] == ("radial.p", "radial.scale")


# Mixtures ---------------------------------------------------------------------------------------


def mixture(loc: tuple[float, float], scale: tuple[float, float], share: float) -> Any:
    parts = LogNormal(*(torch.tensor(x, dtype=torch.float64) for x in (loc, scale)))
    probs = torch.tensor([share, 1 - share], dtype=torch.float64)
    return MixtureSameFamily(Categorical(probs), parts)


def test_a_mixture_of_radii_is_found_and_beats_one_log_normal():
    x = drawn(2000, mixture((-1.0, 1.0), (0.3, 0.5), 0.3))
    seen: list[Progress] = []
    result = fit(TREE, x, mixture((-0.3, 0.3), (1.0, 1.0), 0.5), callback=seen.append)
    assert result.converged
    likelihoods = torch.stack([step.log_likelihood for step in seen])
    assert (likelihoods.diff() > 0).all()
    assert result.log_likelihood > fit(TREE, x).log_likelihood + 100
    radial = result.distribution.radial
    close(radial.component_distribution.loc, torch.tensor([-1.0, 1.0]).double(), 0.1)
    close(radial.mixture_distribution.probs, torch.tensor([0.3, 0.7]).double(), 0.05)
    assert len(result.parameters) == 4 + 5  # one logit is no parameter
    assert (result.standard_errors > 0).all()


@pytest.mark.parametrize("family", [LogNormal, Gamma])
def test_every_step_of_expectation_and_maximisation_raises_the_likelihood(family):
    log_r = mixture((-1.0, 1.0), (0.3, 0.5), 0.3).sample((500,)).log()
    parts = family(torch.tensor([0.5, 1.0], dtype=torch.float64), torch.ones(2).double())
    dist, weights = MixtureSameFamily(Categorical(torch.ones(2).double()), parts), torch.rand(500)
    values = []
    for _ in range(30):
        found, value = em_step(dist, log_r, weights.double())
        values.append(value)
        of_parts = {
            name.split(".")[1]: x for name, x in found.items() if name.startswith("component")
        }
        logits = found["mixture_distribution.logits"]
        dist = MixtureSameFamily(Categorical(logits=logits), family(**of_parts))
    assert (torch.stack(values).diff() > 0).all()


@pytest.mark.parametrize("covariance", ["observed", "sandwich"])
def test_logits_of_a_mixture_are_log_odds_against_the_last(covariance):
    far_apart = LogNormal(torch.tensor([0.0, 9.0]).double(), torch.ones(2).double())
    start = MixtureSameFamily(Categorical(torch.tensor([0.6, 0.4]).double()), far_apart)
    first = 140  # of 200
    x = drawn(200, log_normal(0.0, 1.0))
    x[first:] *= math.exp(9.0)
    result = fit(TREE, x, start, covariance=covariance)
    place = result.parameters.index("radial.mixture_distribution.logits[0]")
    odds, error = math.log(first / (200 - first)), math.sqrt(1 / first + 1 / (200 - first))
    close(result.values[place].item(), odds, 1e-3)
    close(result.standard_errors[place].item(), error, 1e-2)


def test_the_components_of_a_mixture_keep_their_dimension():
    ones = torch.ones(2)
    start = GeneralizedGamma(6 * ones, torch.tensor([1.0, 3.0]), ones)
    result = fit(TREE, drawn(200), MixtureSameFamily(Categorical(ones), start), max_iter=3)
    assert not any("dim" in name for name in result.parameters)
    assert torch.equal(result.distribution.radial.component_distribution.dim, 6 * ones.double())


def test_counts_have_the_likelihood_that_scipy_finds():
    counts = Geometric(0.3).sample((300,)).double()
    result = fit(Geometric, counts)
    p = 1 / (1 + counts.mean())  # in closed form
    close(result.distribution.probs, p, 1e-6)
    expected = scipy.stats.geom.logpmf(counts.numpy() + 1, p.item()).sum()
    close(result.log_likelihood.item(), expected, 1e-9)


@pytest.mark.slow
def test_mixtures_of_many_data_sets_are_as_many_fits():
    x = drawn(400, mixture((-1.0, 1.0), (0.3, 0.5), 0.3))
    start = mixture((-0.5, 0.5), (1.0, 1.0), 0.5)
    batch = fit(TREE, torch.stack([x, 2 * x], 1), start)
    assert batch.converged.all()
    close(batch.values[0], fit(TREE, x, start).values, 1e-6)


# Learnables -------------------------------------------------------------------------------------


def test_only_what_a_learnable_learns_is_estimated():
    x = ISA([2, 3], 2.0, torch.tensor([1.2, 4.0])).sample((800,))
    result = fit(learnable_isa(("p",)), x)
    assert result.parameters == ("p[0]", "p[1]")
    assert result.distribution.p0 == 2 and result.distribution.scale == 1
    assert result.exponent_errors[0] == 0 and (result.exponent_errors[1:] > 0).all()


def test_a_shared_exponent_stays_shared_and_is_one_parameter():
    x = ISA([2, 3], 1.5, 3.0).sample((800,))
    module = learnable_isa(("p0", "p", "scale"), (2.0,))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    result = fit(module, x)
    assert set(result.parameters) == {"p0", "p", "scale"}
    assert isinstance(result.distribution, ISA)
    assert result.distribution.p[0] == result.distribution.p[1]
    assert all(torch.equal(before[name], x) for name, x in module.state_dict().items())
    separate = fit(learnable_isa(("p0", "p", "scale")), x)
    assert 0 < separate.log_likelihood - result.log_likelihood < 8  # chi-squared of one degree


def test_isa_is_the_tree_whose_radius_has_the_exponent_of_the_root():
    x = ISA([2, 3], 1.5, torch.tensor([3.0, 1.0])).sample((1000,)).double()
    isa = fit(learnable_isa(("p0", "p", "scale")), x)
    free = fit(LpNestedTree.isa([2, 3]), x, GeneralizedGamma)
    assert 0 < free.log_likelihood - isa.log_likelihood < 8
    given = fit(Learnable(ISA, [2, 3], p0=1.5, p=[3.0, 1.0], scale=1.0, learn="scale"), x)
    power = isa_power(x, 1.5, (3.0, 1.0))
    close(given.values[0], (1.5 / 5 * power).pow(1 / 1.5), 1e-6)


def isa_power(x: Tensor, p0: float, p: tuple[float, float]) -> Tensor:
    parts = zip(x.split([2, 3], -1), p, strict=True)
    return sum(part.norm(q, -1) ** p0 for part, q in parts).mean()


def test_a_learnable_of_fixed_variance_is_fitted_along_it():
    x = ISA.unit_variance([2, 3], 2.0, torch.tensor([1.2, 3.0])).sample((500,))
    module = Learnable(ISA.unit_variance, [2, 3], p0=2.0, p=[2.0, 2.0], learn="p")
    result = fit(module, x)
    assert result.converged and result.parameters == ("p[0]", "p[1]")
    close(result.distribution.variance.mean().item(), 1.0, 1e-5)


def test_a_radius_may_be_learned_in_part():
    x = drawn(500)
    part = fit(TREE, x, Learnable(LogNormal, loc=0.3, scale=1.0, learn="scale"))
    assert part.parameters[4:] == ("radial.scale",) and part.converged
    assert fit(TREE, x).log_likelihood > part.log_likelihood
    whole = Learnable(GeneralizedGamma, dim=2.0, p=1.0, learn=("dim", "p", "scale"), scale=1.0)
    assert fit(TREE, drawn(500, Gamma(3.0, 1.0)), whole).converged


# What comes back --------------------------------------------------------------------------------


def test_the_result_is_an_ordinary_distribution_in_the_dtype_of_the_data():
    x = drawn(300)
    single, double = fit(TREE, x.float()), fit(TREE, x)
    assert type(single.distribution) is LpNested
    assert single.distribution.exponents.dtype == torch.float32
    assert single.values.dtype == single.log_likelihood.dtype == torch.float64
    close(single.values, double.values, 1e-5)
    close(double.distribution.log_prob(x).sum(), double.log_likelihood, 1e-9)
    assert single.distribution.sample((5,)).shape == (5, 6)


def test_criteria_and_errors_are_what_they_say():
    x = drawn(400)
    result = fit(TREE, x)
    density = result.distribution.log_prob(x)
    close(result.log_likelihood_se, density.std(correction=0) * 20, 1e-9)
    close(result.aic, 12 - 2 * density.sum(), 1e-9)
    close(result.bic, 6 * math.log(400) - 2 * density.sum(), 1e-9)
    close(result.standard_errors.square(), result.covariance.diagonal(), 1e-12)
    close(result.exponent_errors, result.standard_errors[:4], 1e-12)
    assert result.parameters[:2] == ("exponents[0]", "exponents[1]")
    assert result.parameters[4:] == ("radial.loc", "radial.scale")
    assert result.gradient.abs().max() < 1e-9


def test_the_wald_statistic_is_the_difference_of_logs_over_its_error():
    result = fit(TREE, drawn(400))
    logs = result.values[:4].log()
    covariance = result.covariance[:4, :4] / result.values[:4] / result.values[:4, None]
    assert set(result.merge_z) == {(0, 1), (0, 2), (2, 3)}
    for (parent, child), z in result.merge_z.items():
        contrast = torch.zeros(4, dtype=torch.float64)
        contrast[child], contrast[parent] = 1.0, -1.0
        close(z, contrast @ logs / (contrast @ covariance @ contrast).sqrt(), 1e-9)


@pytest.mark.slow
def test_a_sandwich_is_near_the_information_for_data_of_the_model_alone():
    x = drawn(4000)
    observed, sandwich = fit(TREE, x), fit(TREE, x, covariance="sandwich")
    ratio = sandwich.standard_errors / observed.standard_errors
    assert (ratio - 1).abs().max() < 0.15
    heavy = drawn(4000, Gamma(0.5, 1.0))
    observed, sandwich = (fit(TREE, heavy, covariance=kind) for kind in ("observed", "sandwich"))
    assert sandwich.standard_errors[5] > 1.2 * observed.standard_errors[5]


def test_print_draws_the_tree_with_exponents_and_errors():
    result = fit(TREE, drawn(400))
    text = str(result)
    assert "├─ x0" in text and text.startswith("p = ") and text.count("±") == 4 + 2 + 1
    assert "radial.loc = " in text and "exponents[0]" not in text
    assert "converged after" in text and "AIC" in text and "N = 400" in text
    fixed = str(fit(learnable_isa(("p",)), ISA([2, 3], 2.0, 2.0).sample((300,))))
    assert "p = 2 (fixed)" in fixed
    many = str(fit(TREE, torch.stack([drawn(200), drawn(200)], 1)))
    assert "data sets: (2,)" in many and "2 of 2 converged" in many
    one = str(fit(GeneralizedNormal, torch.randn(200)))
    assert one.startswith("GeneralizedNormal\nloc = ") and "p = " in one


def test_a_callback_sees_each_iteration_and_may_be_a_progress_bar():
    seen: list[Progress] = []
    x = drawn(300)
    result = fit(TREE, x, callback=seen.append)
    assert [step.iteration for step in seen] == [*range(1, int(result.iterations) + 1)]
    assert seen[-1].gradient < 1e-6 < seen[0].gradient
    close(seen[-1].log_likelihood, result.log_likelihood, 1e-6)

    class Bar:
        count = 0

        def update(self, number: int = 1) -> None:
            self.count += number

    bar = Bar()
    fit(TREE, x, callback=bar)
    assert bar.count == result.iterations
    many: list[Progress] = []
    fit(TREE, torch.stack([x, 2 * x], 1), callback=many.append)
    assert many[0].log_likelihood.shape == (2,)


def test_ctrl_c_passes_through():
    def interrupt(step: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(TREE, drawn(100), callback=interrupt)


def test_a_fit_runs_where_gradients_are_off_and_leaves_none_behind():
    x = drawn(200)
    with torch.no_grad():
        result = fit(TREE, x)
    close(result.values, fit(TREE, x.requires_grad_()).values, 1e-10)
    tensors = (result.values, result.covariance, result.log_likelihood, result.gradient)
    assert not any(y.requires_grad for y in (*tensors, result.distribution.exponents))


def test_a_fit_runs_in_inference_mode_and_on_what_was_made_there():
    expected = fit(TREE, x := drawn(200), Gamma).values
    with torch.inference_mode():
        made, start = x * 1.0, Gamma(torch.ones((), dtype=torch.float64), 2.0)
        close(fit(TREE, x, Gamma).values, expected, 1e-10)
    weights = torch.ones(200)
    for data in (made, [made[:90], made[90:]], [(made[:90], weights[:90]), made[90:]]):
        close(fit(TREE, data, start).values, expected, 1e-8)
