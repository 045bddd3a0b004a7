r"""Closed forms of a radial: mean log radius, entropy, and mode of the density generator.

Functions dispatch on the radial's type, in float64, as in :mod:`lpnested.radial`. Import them from
:mod:`lpnested.radial_moments`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import (
    Beta,
    Distribution,
    FisherSnedecor,
    HalfCauchy,
    InverseGamma,
    Kumaraswamy,
    LogNormal,
    Pareto,
    Uniform,
)
from torch.distributions.utils import euler_constant

from lpnested.gamma_radii import generalized_gamma_parameters, in_float64, radial_dispatch
from lpnested.gamma_ratio import digamma, log_gamma_entropy
from lpnested.generalized_gamma import GeneralizedGamma, mean_log_ratio
from lpnested.precision import upcast, working_dtype
from lpnested.radii import parameters_of

__all__ = ["generator_mode", "log_interval", "mean_log", "radial_entropy"]

_SMALL = 0.05


@radial_dispatch
def mean_log(radial: Distribution) -> Tensor:
    r"""The mean of the logarithm, :math:`\mathrm{E} \log r`."""
    raise NotImplementedError(
        f"the mean of log r has no closed form here for a radial of type {type(radial).__name__}"
    )


@mean_log.register
def _(radial: GeneralizedGamma) -> Tensor:
    n, p, scale = generalized_gamma_parameters(radial)
    return scale.log() + mean_log_ratio(n, p)


@mean_log.register
def _(radial: InverseGamma) -> Tensor:
    return upcast(radial.rate).log() - digamma(upcast(radial.concentration))


@mean_log.register
def _(radial: LogNormal) -> Tensor:
    return upcast(radial.loc)


@mean_log.register
def _(radial: HalfCauchy) -> Tensor:
    return upcast(radial.scale).log()


@mean_log.register
def _(radial: FisherSnedecor) -> Tensor:
    one, two = upcast(radial.df1) / 2, upcast(radial.df2) / 2
    return (two / one).log() + digamma(one) - digamma(two)


@mean_log.register
def _(radial: Pareto) -> Tensor:
    return upcast(radial.scale).log() + 1 / upcast(radial.alpha)


@mean_log.register
def _(radial: Uniform) -> Tensor:
    middle, half, is_positive, log_high = log_interval(radial)
    small = half < _SMALL
    y = torch.where(small, half, 0.0)
    series = y**2 / 3 - y**4 / 45 + y**6 * (2 / 945) - y**8 / 4725
    y = torch.where(small, 1.0, half)
    slope = torch.where(small, series, y / y.tanh() - 1)  # y coth(y) - 1
    return torch.where(is_positive, middle + slope, log_high - 1)


@mean_log.register
def _(radial: Beta) -> Tensor:
    a, b = upcast(radial.concentration1), upcast(radial.concentration0)
    return digamma(a) - digamma(a + b)


@mean_log.register
def _(radial: Kumaraswamy) -> Tensor:
    return -_harmonic_number(radial) / upcast(radial.concentration1)


def log_interval(radial: Uniform) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the midpoint and half width of [log low, log high], whether low > 0, and log high."""
    low, high = upcast(radial.low), upcast(radial.high)
    is_positive = low != 0
    low, log_high = torch.where(is_positive, low, high / 2), high.log()
    half = torch.log1p((high - low) / low) / 2
    return log_high - half, half, is_positive, log_high


def _harmonic_number(radial: Kumaraswamy) -> Tensor:
    return digamma(upcast(radial.concentration0) + 1) + euler_constant


@radial_dispatch
def radial_entropy(radial: Distribution) -> Tensor:
    """The entropy of the radius; an unregistered type uses its own ``entropy``."""
    return upcast(radial.entropy())


@radial_entropy.register
def _(radial: GeneralizedGamma) -> Tensor:
    return in_float64(radial).entropy()


@radial_entropy.register
def _(radial: InverseGamma) -> Tensor:
    return log_gamma_entropy(upcast(radial.concentration)) + mean_log(radial)


@radial_entropy.register
def _(radial: LogNormal) -> Tensor:
    loc, scale = upcast(radial.loc), upcast(radial.scale)
    return loc + scale.log() + 0.5 * math.log(2 * math.pi * math.e)


@radial_entropy.register
def _(radial: HalfCauchy) -> Tensor:
    return upcast(radial.scale).log() + math.log(2 * math.pi)


@radial_entropy.register
def _(radial: FisherSnedecor) -> Tensor:
    one, two = upcast(radial.df1) / 2, upcast(radial.df2) / 2
    gammas = log_gamma_entropy(one) + log_gamma_entropy(two) - log_gamma_entropy(one + two)
    return gammas + mean_log(radial)


@radial_entropy.register
def _(radial: Pareto) -> Tensor:
    scale, alpha = upcast(radial.scale), upcast(radial.alpha)
    return scale.log() - alpha.log() + 1 + 1 / alpha


@radial_entropy.register
def _(radial: Uniform) -> Tensor:
    return (upcast(radial.high) - upcast(radial.low)).log()


@radial_entropy.register
def _(radial: Beta) -> Tensor:
    a, b = upcast(radial.concentration1), upcast(radial.concentration0)
    gammas = log_gamma_entropy(a) + log_gamma_entropy(b) - log_gamma_entropy(a + b)
    return gammas + digamma(a) + digamma(b) - 2 * digamma(a + b)


@radial_entropy.register
def _(radial: Kumaraswamy) -> Tensor:
    a, b = upcast(radial.concentration1), upcast(radial.concentration0)
    return 1 - 1 / b + (1 - 1 / a) * _harmonic_number(radial) - a.log() - b.log()


@radial_dispatch
def generator_mode(radial: Distribution, dim: int) -> Tensor:
    """Zero if :func:`lpnested.radial.log_generator` has its only mode at radius 0, else NaN.

    It is NaN where the density is unbounded at 0, or largest on a whole sphere.
    """
    raise NotImplementedError(
        f"the mode has no closed form here for a radial of type {type(radial).__name__}"
    )


@generator_mode.register
def _(radial: GeneralizedGamma, dim: int) -> Tensor:
    return _zero_where(radial.dim == dim)


@generator_mode.register
def _(radial: FisherSnedecor, dim: int) -> Tensor:
    return _zero_where(upcast(radial.df1) / 2 == dim)


@generator_mode.register
def _(radial: HalfCauchy, dim: int) -> Tensor:
    return _zero_where(torch.full_like(radial.scale, dim) == 1)


@generator_mode.register(Beta)
@generator_mode.register(Kumaraswamy)
def _(radial: Beta | Kumaraswamy, dim: int) -> Tensor:
    return _zero_where((radial.concentration1 == dim) & (radial.concentration0 > 1))


@generator_mode.register(InverseGamma)
@generator_mode.register(LogNormal)
@generator_mode.register(Pareto)
@generator_mode.register(Uniform)
def _(radial: Distribution, dim: int) -> Tensor:
    return _zero_where(torch.zeros_like(parameters_of(radial)[0], dtype=torch.bool))


def _zero_where(condition: Tensor) -> Tensor:
    zero = torch.zeros_like(condition, dtype=working_dtype(condition.device))
    return zero.masked_fill(~condition, math.nan)
