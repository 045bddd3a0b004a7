"""torch's contract: rsample, gradients and function transforms."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.testing import assert_close

from cases import NESTED, UNIVARIATE, Case, each, named

pytestmark = pytest.mark.usefixtures("backend")

f64 = torch.float64


# Samples and gradients ---------------------------------------------------------------------------


@each(NESTED)
def test_nested_distributions_have_no_rsample_and_say_why(case: Case) -> None:
    dist = case.make()
    assert dist.has_rsample is False
    with pytest.raises(NotImplementedError, match=r"(?s)sample.*"):
        dist.rsample()
    with pytest.raises(NotImplementedError) as caught:
        dist.rsample((2,))
    text = str(caught.value)
    assert all(word in text for word in ("sample()", "log_prob()", "NestedRadialFactorization"))


@each()
def test_sample_carries_no_gradient(case: Case) -> None:
    assert not case.make(requires_grad=True).sample((2,)).requires_grad


@each(UNIVARIATE)
def test_rsample_is_pathwise_for_every_parameter(case: Case) -> None:
    tensors = case.tensors(requires_grad=True)
    dist = case.build(**tensors)
    assert dist.has_rsample is True
    value = dist.rsample((3,))
    assert value.shape == (3, *case.batch)
    grads = torch.autograd.grad(value.sum(), list(tensors.values()))
    assert all(grad.isfinite().all() and (grad != 0).all() for grad in grads)


@each(UNIVARIATE)
def test_rsample_gradients_are_the_derivatives_of_the_moments(case: Case) -> None:
    """d/dtheta E g(x) by the pathwise estimator against the derivative of the closed form."""
    tensors = case.tensors(requires_grad=True)
    dist = case.build(**tensors)
    x = dist.rsample((20_000,))
    closed = dist.variance + dist.mean.square()
    for name, tensor in tensors.items():
        (exact,) = torch.autograd.grad(closed.sum(), tensor, retain_graph=True)
        halves = [
            torch.autograd.grad(part.square().mean(0).sum(), tensor, retain_graph=True)[0]
            for part in x.split(1000)
        ]
        estimate = torch.stack(halves)
        error = estimate.std(0) / math.sqrt(len(halves))
        assert ((estimate.mean(0) - exact).abs() < 4.5 * error + 1e-9).all(), name


@each(UNIVARIATE)
def test_cdf_is_the_share_of_samples_below_and_icdf_its_inverse(case: Case) -> None:
    dist = case.make()
    x = dist.sample((20_000,))
    at = x[:5]
    share = (x.unsqueeze(0) <= at.unsqueeze(1)).double().mean(1)
    cdf = dist.cdf(at)
    assert ((share - cdf).abs() < 4.5 * (cdf * (1 - cdf) / len(x)).sqrt() + 1e-4).all()
    assert_close(dist.icdf(cdf), at)


@each(UNIVARIATE)
def test_density_is_the_slope_of_the_cdf(case: Case) -> None:
    dist = case.make()
    x, step = dist.sample((20,)), 1e-5
    slope = (
        dist.cdf(x + step)
        - dist.cdf((x - step).clamp_min(0.0) if case.name[0] == "r" else x - step)
    ) / (2 * step)
    usable = (x - dist.mode).abs() > 0.01
    assert_close(slope[usable], dist.log_prob(x).exp()[usable], rtol=1e-4, atol=1e-6)


# functorch ---------------------------------------------------------------------------------------


def log_prob_of(case: Case) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
    return lambda tensors, value: case.build(**tensors).log_prob(value)


@each()
def test_vmap_over_values_is_the_batched_call(case: Case) -> None:
    Distribution.set_default_validate_args(False)
    dist, value = case.make(), case.draw(4)
    assert_close(torch.vmap(dist.log_prob)(value), dist.log_prob(value), rtol=1e-12, atol=1e-12)


@each()
def test_vmap_over_parameters_is_the_loop(case: Case) -> None:
    Distribution.set_default_validate_args(False)
    value, tensors = case.draw(), case.tensors()
    stacked = {name: torch.stack([t, 1.1 * t, 1.3 * t]) for name, t in tensors.items()}
    together = torch.vmap(log_prob_of(case), in_dims=(0, None))(stacked, value)
    apart = [log_prob_of(case)({n: t[i] for n, t in stacked.items()}, value) for i in range(3)]
    assert_close(together, torch.stack(apart), rtol=1e-12, atol=1e-12)


@each(named("normal", "radius_batch", "isa", "isa_batch", "cube", "ragged", "spherical"))
def test_vmap_samples_with_different_randomness(case: Case) -> None:
    Distribution.set_default_validate_args(False)
    stacked = {name: torch.stack([t, t]) for name, t in case.tensors().items()}
    draw = torch.vmap(lambda tensors: case.build(**tensors).sample(), randomness="different")
    value = draw(stacked)
    assert value.shape == (2, *case.batch, *case.event)
    assert value.isfinite().all() and not torch.equal(value[0], value[1])


@each()
def test_func_grad_and_jvp_agree_with_autograd(case: Case) -> None:
    Distribution.set_default_validate_args(False)
    value, tensors = case.draw(), case.tensors()

    def total(tensors: dict[str, Tensor], value: Tensor) -> Tensor:
        return log_prob_of(case)(tensors, value).sum()

    in_params, in_value = torch.func.grad(total, argnums=(0, 1))(tensors, value)
    leaves = {name: t.clone().requires_grad_() for name, t in tensors.items()}
    point = value.clone().requires_grad_()
    expected = torch.autograd.grad(total(leaves, point), [*leaves.values(), point])
    for ours, theirs in zip([*in_params.values(), in_value], expected, strict=True):
        assert_close(ours, theirs, rtol=1e-11, atol=1e-12)
    direction = torch.ones_like(value)
    _, slope = torch.func.jvp(lambda v: total(tensors, v), (value,), (direction,))
    assert_close(slope, (in_value * direction).sum(), rtol=1e-10, atol=1e-11)


@each()
def test_func_hessian_is_the_derivative_of_the_gradient(case: Case) -> None:
    Distribution.set_default_validate_args(False)
    dist = case.make()
    value = case.draw()

    def total(v: Tensor) -> Tensor:
        return dist.log_prob(v).sum()

    size = value.numel()
    hessian = torch.func.hessian(total)(value).reshape(size, size)
    assert_close(hessian, hessian.T, rtol=1e-9, atol=1e-9)
    step = 1e-6
    for i, unit in enumerate(torch.eye(size, dtype=f64)):
        shift = (step * unit).reshape(value.shape)
        gradient = torch.func.grad(total)
        finite = (gradient(value + shift) - gradient(value - shift)) / (2 * step)
        scale = 1.0 + hessian[i].abs().max().item()
        assert_close(finite.reshape(-1), hessian[i], rtol=1e-4, atol=1e-5 * scale)


@each([case for case in NESTED if case.smooth])
def test_func_hessian_is_finite_at_zeros(case: Case) -> None:
    Distribution.set_default_validate_args(False)
    dist, value = case.make(), case.draw()
    value[..., 0] = 0.0
    for point in (value, torch.zeros_like(value)):
        assert torch.func.hessian(lambda v: dist.log_prob(v).sum())(point).isfinite().all()
