"""Differences of log Gamma, its derivative, and entropies against 60 digits, at any shape."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
import torch
from torch import Tensor, autograd, func
from torch.testing import assert_close

from gamma_oracle import Real, mp
from lpnested import gamma_ratio as gr

f64 = torch.float64
U = torch.finfo(f64).eps
Exact = Callable[..., Real]


def psi(order: int, x: Real) -> Real:
    return mp.psi(order, x)


def ratio(a: Real, h: Real) -> tuple[Real, ...]:
    value = mp.loggamma(a + h) - mp.loggamma(a)
    return value, psi(0, a + h) - psi(0, a), psi(0, a + h)


def second_difference(a: Real, h: Real) -> tuple[Real, ...]:
    value = mp.loggamma(a + 2 * h) - 2 * mp.loggamma(a + h) + mp.loggamma(a)
    in_a = psi(0, a + 2 * h) - 2 * psi(0, a + h) + psi(0, a)
    return value, in_a, 2 * psi(0, a + 2 * h) - 2 * psi(0, a + h)


def shapes_and_steps() -> list[tuple[float, float]]:
    rng = Random(0)
    shapes = [10 ** rng.uniform(-6, 12) for _ in range(150)]
    return [
        (a, a * 10 ** rng.uniform(-3, 3) if k % 3 else 10 ** rng.uniform(-3, 2))
        for k, a in enumerate(shapes)
    ]


@pytest.mark.parametrize(
    ("function", "exact"),
    [(gr.log_gamma_ratio, ratio), (gr.log_gamma_second_difference, second_difference)],
)
def test_differences_and_their_slopes_are_exact_in_units_of_the_condition(
    function: Callable[..., Tensor], exact: Exact
) -> None:
    points = shapes_and_steps()
    a, h = (x.requires_grad_() for x in torch.tensor(points, dtype=f64).unbind(1))
    value = function(a, h)
    slopes = autograd.grad(value.sum(), (a, h))
    for k, point in enumerate(points):
        with mp.extradps(20):
            a_, h_ = (mp.mpf(x) for x in point)
            of_value, in_a, in_h = exact(a_, h_)
        condition = abs(of_value) + abs(a_ * in_a) + abs(h_ * in_h)
        assert abs(value[k].item() - of_value) < 6 * U * condition
        assert abs(slopes[0][k].item() * a_ - in_a * a_) < 8 * U * condition
        assert abs(slopes[1][k].item() * h_ - in_h * h_) < 8 * U * condition


@pytest.mark.slow
def test_a_step_of_nothing_makes_no_difference() -> None:
    a = torch.tensor([1e-6, 1.0, 1e12], dtype=f64)
    assert gr.log_gamma_ratio(a, 0.0).tolist() == [0.0, 0.0, 0.0]
    assert_close(gr.log_gamma_ratio(a, 1.0), a.log(), rtol=1e-15, atol=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("low", [-6, 0, 6])
def test_digamma_and_its_two_next_derivatives_are_exact(low: float) -> None:
    rng = Random(low)
    points = [10 ** rng.uniform(low, low + 6) for _ in range(50)]
    a = torch.tensor(points, dtype=f64)
    slope = func.grad(gr.digamma)
    derivatives = gr.digamma(a), func.vmap(slope)(a), func.vmap(func.grad(slope))(a)
    for order, got in enumerate(derivatives):
        exact = [psi(order, mp.mpf(x)) for x in points]
        for g, e in zip(got.tolist(), exact, strict=True):
            assert abs(g - e) < 4 * U * (abs(e) + (order == 0))


@pytest.mark.parametrize("function", [gr.log_gamma_entropy, gr.scaled_log_gamma_entropy])
def test_entropies_of_a_logarithm_are_exact(function: Callable[[Tensor], Tensor]) -> None:
    points = [10 ** Random(k).uniform(-6, 12) for k in range(60)]
    a = torch.tensor(points, dtype=f64, requires_grad=True)
    value = function(a)
    (slope,) = autograd.grad(value.sum(), a)
    scaled = function is gr.scaled_log_gamma_entropy
    for got, got_slope, x in zip(value.tolist(), slope.tolist(), points, strict=True):
        x = mp.mpf(x)
        exact = mp.loggamma(x) + x - x * psi(0, x) + (mp.log(x) if scaled else 0)
        assert abs(got - exact) < 8 * U * (abs(exact) + 1)
        terms = [1, -x * psi(1, x), 1 / x if scaled else 0]
        with mp.extradps(20):
            assert abs(got_slope - sum(terms)) * x < 32 * U * (1 + abs(x * sum(terms)))
