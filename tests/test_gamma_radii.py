"""Torch's own radii of the generalized gamma family: one under all of their names."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions import Distribution
from torch.testing import assert_close

from lpnested import GeneralizedGamma, LpNested, LpNestedTree
from lpnested.gamma_radii import canonicalize, gamma_radius
from lpnested.radial import log_generator
from lpnested.radial_draws import log_draw
from lpnested.radial_moments import generator_mode, log_radial_moment, mean_log, radial_entropy

f32, f64 = torch.float32, torch.float64
TREE = LpNestedTree((0, (1, 2)))
EXPONENTS = torch.tensor([1.3, 2.2], dtype=f64)
FAMILY: list[tuple[type[Distribution], tuple[float, ...], tuple[float, float, float]]] = [
    (td.Gamma, (2.5, 0.5), (2.5, 1.0, 2.0)),
    (td.Chi2, (3.0,), (1.5, 1.0, 2.0)),
    (td.Exponential, (4.0,), (1.0, 1.0, 0.25)),
    (td.Weibull, (0.7, 1.6), (1.6, 1.6, 0.7)),
    (td.HalfNormal, (3.0,), (1.0, 2.0, 3.0 * math.sqrt(2))),
]
each = pytest.mark.parametrize(
    ("family", "parameters", "want"), FAMILY, ids=[family.__name__ for family, *_ in FAMILY]
)


@each
def test_the_conversion_has_the_density_torch_has(
    family: Any, parameters: Any, want: tuple[float, float, float]
) -> None:
    radial, r = family(*map(f64_of, parameters)), torch.linspace(0.01, 5, 50, dtype=f64)
    converted = canonicalize(radial)
    assert [x.item() for x in (converted.dim, converted.p, converted.scale)] == list(want)
    assert_close(converted.log_prob(r), radial.log_prob(r))


@each
def test_every_function_of_a_radial_takes_it_as_that(
    family: Any, parameters: Any, want: tuple[float, float, float]
) -> None:
    radial, same = family(*map(f64_of, parameters)), GeneralizedGamma(*map(f64_of, want))
    logs = torch.linspace(-3, 2, 11, dtype=f64)
    for function, arguments in (
        (log_generator, (logs, 3, 1e-16)),
        (log_radial_moment, (1.5,)),
        (mean_log, ()),
        (radial_entropy, ()),
        (generator_mode, (1,)),
    ):
        assert_close(function(radial, *arguments), function(same, *arguments), equal_nan=True)
    for sample in (log_draw, lambda radial, shape: nested(radial).sample(shape)):
        torch.manual_seed(3)
        ours = sample(radial, (5,))
        torch.manual_seed(3)
        assert_close(ours, sample(same, (5,)))


@each
def test_gradients_and_writes_in_place_reach_the_parameters(
    family: Any, parameters: Any, want: tuple[float, float, float]
) -> None:
    tensors = [f64_of(x).requires_grad_() for x in parameters]
    dist, x = nested(family(*tensors)), torch.randn(7, 3, dtype=f64)
    dist.log_prob(x).sum().backward()
    assert all(t.grad is not None and t.grad.isfinite() and t.grad != 0 for t in tensors)
    if family is td.Chi2:
        return  # keeps half of what it was given, as a tensor of its own
    with torch.no_grad():
        for t in tensors:
            t.mul_(1.5)
    fresh = nested(family(*(1.5 * f64_of(p) for p in parameters)))
    assert_close(dist.log_prob(x), fresh.log_prob(x))


def test_single_precision_is_widened_before_the_conversion() -> None:
    """The root of 2 times a scale, and the reciprocal of a rate, are not rounded to float32."""
    third = torch.tensor(1 / 3)
    assert canonicalize(td.HalfNormal(third)).scale.item() == third.item() * math.sqrt(2)
    assert canonicalize(td.Exponential(third)).scale.item() == 1 / third.item()


def test_others_stay_what_they_are() -> None:
    for radial in (td.LogNormal(0.0, 1.0), GeneralizedGamma(3.0, 2.0)):
        assert canonicalize(radial) is radial


class OwnGamma(td.Gamma):
    """Knows a density generator of its own."""


@log_generator.register
def _(radial: OwnGamma, log_r: Tensor, dim: int, eps: float) -> Tensor:
    return torch.full_like(log_r, 7.0)


def test_what_is_registered_for_a_subclass_is_what_counts() -> None:
    radial = OwnGamma(f64_of(3.0), f64_of(1.0))
    dist, x = nested(radial), torch.randn(4, 3, dtype=f64)
    assert gamma_radius(log_generator, radial) is None
    assert_close(dist.log_prob(x), (7.0 - dist.log_surface_area).expand(4))
    assert isinstance(gamma_radius(log_draw, radial), GeneralizedGamma)


def f64_of(x: float) -> Tensor:
    return torch.tensor(x, dtype=f64)


def nested(radial: Distribution) -> LpNested:
    return LpNested(TREE, EXPONENTS, radial)
