"""torch's contract: moments, entropy and mode, against Monte Carlo."""

import math

import pytest
import torch
from torch.testing import assert_close

from cases import CASES, NESTED, Case, each, named
from lpnested import ISA, GeneralizedGamma, GeneralizedNormal

pytestmark = pytest.mark.usefixtures("backend")

f64 = torch.float64


@each([case for case in CASES if case.finite_moments])
def test_mean_variance_and_stddev_match_monte_carlo(case: Case) -> None:
    dist = case.make()
    x = dist.sample((40_000,))
    sd = x.std(0)
    assert ((x.mean(0) - dist.mean).abs() < 4.5 * sd / math.sqrt(len(x))).all()
    squares = (x - dist.mean).square()
    assert ((squares.mean(0) - dist.variance).abs() < 5 * squares.std(0) / math.sqrt(len(x))).all()
    assert_close(dist.stddev, dist.variance.sqrt())
    assert dist.mean.shape == dist.variance.shape == (*case.batch, *case.event)


def test_moments_that_do_not_exist_are_not_invented() -> None:
    dist = named("half_cauchy")[0].make()
    assert not dist.variance.isfinite().any()


@each([case for case in NESTED if case.finite_moments])
def test_covariance_is_diagonal_and_matches_monte_carlo(case: Case) -> None:
    dist = case.make()
    matrix = dist.covariance_matrix
    assert matrix.shape == (*case.batch, *case.event, *case.event)
    assert_close(matrix, torch.diag_embed(dist.variance))
    x = dist.sample((20_000,))
    products = x.unsqueeze(-1) * x.unsqueeze(-2)
    assert ((products.mean(0) - matrix).abs() < 5 * products.std(0) / math.sqrt(len(x))).all()


@each([case for case in CASES if case.entropy])
def test_entropy_is_the_mean_of_minus_log_prob(case: Case) -> None:
    dist = case.make()
    information = -dist.log_prob(dist.sample((40_000,)))
    error = information.std(0) / math.sqrt(len(information))
    assert dist.entropy().shape == case.batch
    assert ((information.mean(0) - dist.entropy()).abs() < 4.5 * error).all()


@each([case for case in CASES if not case.entropy])
def test_entropy_without_closed_form_is_refused(case: Case) -> None:
    with pytest.raises(NotImplementedError):
        case.make().entropy()


@each()
def test_perplexity_follows_entropy(case: Case) -> None:
    if case.entropy:
        dist = case.make()
        assert_close(dist.perplexity(), dist.entropy().exp())


@each()
def test_no_sample_is_more_likely_than_the_mode(case: Case) -> None:
    dist = case.make()
    if not case.entropy:
        with pytest.raises(NotImplementedError):
            dist.mode  # noqa: B018
        return
    mode = dist.mode
    assert mode.shape == (*case.batch, *case.event)
    known = ~mode.isnan()
    if known.all():
        assert (dist.log_prob(dist.sample((2000,))) <= dist.log_prob(mode) + 1e-9).all()
    if isinstance(dist, ISA | GeneralizedNormal | GeneralizedGamma):
        assert known.all()


def test_moments_without_closed_form_are_refused() -> None:
    with pytest.raises(NotImplementedError):
        named("unregistered")[0].make().moment([1.0, 2.0, 0.5])


@each([case for case in NESTED if case.finite_moments and case.name != "unregistered"])
def test_mixed_absolute_moments_match_monte_carlo(case: Case) -> None:
    dist = case.make()
    x = dist.sample((40_000,)).abs()
    for orders in ([1.0, 2.0, *[0.0] * (case.event[0] - 2)], [0.5] * case.event[0]):
        draws = (x ** torch.tensor(orders, dtype=f64)).prod(-1)
        exact = dist.moment(torch.tensor(orders, dtype=f64))
        assert exact.shape == case.batch
        assert ((draws.mean(0) - exact).abs() < 5 * draws.std(0) / math.sqrt(len(x))).all()


@each(NESTED)
def test_norm_is_the_radius_of_the_density(case: Case) -> None:
    """Points of equal norm are equally likely; norm is homogeneous of degree one."""
    dist = case.make()
    x = dist.sample((5,))
    r = dist.norm(x)
    assert_close(dist.norm(-3.0 * x), 3.0 * r, rtol=1e-13, atol=0.0)
    axis = torch.zeros_like(x)
    axis[..., 0] = r  # f is |x_0| on the axis
    assert_close(dist.norm(axis), r, rtol=1e-13, atol=0.0)
    assert_close(dist.log_prob(axis), dist.log_prob(x), rtol=1e-11, atol=1e-11)
    assert_close(dist.log_volume, dist.log_surface_area - math.log(case.event[0]))
