r"""What an :math:`L_p`-nested distribution needs to know of its radius, by dispatch on its type.

Any torch Distribution on the positive reals serves as radius. A type that registers here is exact
and fused: the powers of :math:`r` in its density and in the volume element cancel before they can
overflow. All functions return float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Exponential,
    Gamma,
    HalfCauchy,
    HalfNormal,
    LogNormal,
    MixtureSameFamily,
    Pareto,
    Weibull,
    constraints,
)

from lpnested.generalized_gamma import GeneralizedGamma, log_density_parameters
from lpnested.precision import at_most, exp, widen
from lpnested.tracing import is_transformed

__all__ = ["check_radial", "draw", "first_parameter", "generalized_gamma_parameters", "log_shell"]

# The generic fallback asks a radial for its density within the range of float32.
_LOG_SMALLEST, _LOG_LARGEST = -87.3, 88.7
_BELOW_ONE = 1 - 2.0**-22


def first_parameter(radial: Distribution) -> Tensor | None:
    """A tensor that the radial is made of, for the dtype and device of its company."""
    radial = getattr(radial, "component_distribution", radial)
    values = (getattr(radial, name, None) for name in radial.arg_constraints)
    return next((value for value in values if isinstance(value, Tensor)), None)


def draw(radial: Distribution, sample_shape: Sequence[int]) -> Tensor:
    """Draws of the radius, without making a GPU wait where it can be helped.

    torch's ``Normal.sample`` reads its scale, so that a log-normal radius would wait for the
    device; ``rsample`` does not, but fails in vmap.
    """
    pathwise = radial.has_rsample and not is_transformed()
    shape = torch.Size(sample_shape)
    result: Tensor = radial.rsample(shape) if pathwise else radial.sample(shape)
    return result


def check_radial(radial: Distribution, check_values: bool) -> None:
    """Refuse what cannot be the distribution of a radius; by its type alone or by values too."""
    if not isinstance(radial, Distribution):
        raise TypeError(
            f"radial must be a torch Distribution on the positive reals, but got {radial!r}"
        )
    if radial.event_shape:
        raise ValueError(
            f"radial must be univariate, but {radial} has event shape {tuple(radial.event_shape)}"
        )
    support: Any = radial.support
    support = getattr(support, "base_constraint", support)  # that of a mixture's components
    negative = isinstance(support, type(constraints.real))
    if check_values and not negative:
        negative = bool((torch.as_tensor(getattr(support, "lower_bound", 0.0)) < 0).any())
    if support.is_discrete or negative:
        raise ValueError(
            f"radial must be a continuous distribution on the positive reals, but torch says that "
            f"the support of {radial} is {support}"
        )


@singledispatch
def generalized_gamma_parameters(radial: Distribution) -> tuple[Tensor, Tensor, Tensor]:
    """Dimension, exponent and scale of the radials that are a :class:`GeneralizedGamma`."""
    raise NotImplementedError(f"{type(radial).__name__} is not a generalized gamma distribution")


@generalized_gamma_parameters.register
def _(radial: GeneralizedGamma) -> tuple[Tensor, Tensor, Tensor]:
    return widen(radial.dim), widen(radial.p), widen(radial.scale)


@generalized_gamma_parameters.register
def _(radial: Gamma) -> tuple[Tensor, Tensor, Tensor]:
    scale = 1 / widen(radial.rate)
    return widen(radial.concentration), torch.ones_like(scale), scale


@generalized_gamma_parameters.register
def _(radial: Exponential) -> tuple[Tensor, Tensor, Tensor]:
    scale = 1 / widen(radial.rate)
    return torch.ones_like(scale), torch.ones_like(scale), scale


@generalized_gamma_parameters.register
def _(radial: Weibull) -> tuple[Tensor, Tensor, Tensor]:
    concentration = widen(radial.concentration)
    return concentration, concentration, widen(radial.scale)


@generalized_gamma_parameters.register
def _(radial: HalfNormal) -> tuple[Tensor, Tensor, Tensor]:
    scale = math.sqrt(2) * widen(radial.scale)
    return torch.ones_like(scale), torch.full_like(scale, 2.0), scale


@singledispatch
def log_shell(radial: Distribution, log_r: Tensor, dim: int) -> Tensor:
    r"""The radial density spread over its sphere: :math:`\log\varrho(r) - (n - 1) \log r`.

    The generic fallback asks the radial for its density at :math:`r` within the range of float32:
    it is as exact and as finite as the radial's own ``log_prob``.

    Args:
        radial: The distribution of the radius, batch shape ``(*batch)``.
        log_r: The logarithm of the radius, float64, shape ``(*sample, *batch)``.
        dim: The dimension :math:`n` of the space.
    """
    log_within = torch.where(log_r < _LOG_SMALLEST, _LOG_SMALLEST, at_most(log_r, _LOG_LARGEST))
    r = log_within.exp()
    support: Any = radial.support
    inside = support.check(r)
    lower = getattr(support, "lower_bound", 0.0)
    upper = getattr(support, "upper_bound", math.inf)
    middle = (lower + upper) / 2 if hasattr(support, "upper_bound") else lower + 1.0
    # A closed upper bound may be a singularity, as that of Beta is.
    within = torch.where(inside, at_most(r, upper * _BELOW_ONE), middle)
    density = radial.log_prob(within)
    return torch.where(inside, density - (dim - 1) * log_r, -math.inf)


@log_shell.register
def _(radial: GeneralizedGamma, log_r: Tensor, dim: int) -> Tensor:
    return _generalized_gamma_shell(*radial.log_density_parameters(), log_r, dim)


@log_shell.register(Gamma)
@log_shell.register(Exponential)
@log_shell.register(Weibull)
@log_shell.register(HalfNormal)
def _(radial: Distribution, log_r: Tensor, dim: int) -> Tensor:
    parameters = log_density_parameters(*generalized_gamma_parameters(radial))
    return _generalized_gamma_shell(*parameters, log_r, dim)


def _generalized_gamma_shell(
    n: Tensor, p: Tensor, log_scale: Tensor, constant: Tensor, log_r: Tensor, dim: int
) -> Tensor:
    return constant + (n - dim) * log_r - exp(p * (log_r - log_scale))


@log_shell.register
def _(radial: LogNormal, log_r: Tensor, dim: int) -> Tensor:
    loc, scale = widen(radial.loc), widen(radial.scale)
    z = (log_r - loc) / scale
    return -0.5 * z**2 - scale.log() - 0.5 * math.log(2 * math.pi) - dim * log_r


@log_shell.register
def _(radial: HalfCauchy, log_r: Tensor, dim: int) -> Tensor:
    log_scale = widen(radial.scale).log()
    log_square = 2 * (log_r - log_scale)
    tail = torch.logaddexp(log_square, torch.zeros_like(log_square))
    return math.log(2 / math.pi) - log_scale - tail - (dim - 1) * log_r


@log_shell.register
def _(radial: Pareto, log_r: Tensor, dim: int) -> Tensor:
    log_scale, alpha = widen(radial.scale).log(), widen(radial.alpha)
    density = alpha.log() + alpha * log_scale - (alpha + dim) * log_r
    return torch.where(log_r < log_scale, -math.inf, density)


@log_shell.register
def _(radial: MixtureSameFamily, log_r: Tensor, dim: int) -> Tensor:
    log_weights = widen(radial.mixture_distribution.logits).log_softmax(-1)
    components = log_shell(radial.component_distribution, log_r.unsqueeze(-1), dim)
    terms = log_weights + components
    outside = (terms == -math.inf).all(-1)  # of every component, where logsumexp has no gradient
    inside = torch.where(outside.unsqueeze(-1), 0.0, terms).logsumexp(-1)
    return torch.where(outside, -math.inf, inside)
