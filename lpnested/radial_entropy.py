r"""Closed forms of a radius: the mean of its logarithm, its entropy, the mode of its generator.

By dispatch on its type, in float64, as :mod:`lpnested.radial`; to be had from
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

from lpnested.gamma_radii import by_radial, generalized_gamma_parameters, in_float64
from lpnested.gamma_ratio import digamma, log_gamma_entropy
from lpnested.generalized_gamma import GeneralizedGamma, mean_log_ratio
from lpnested.precision import widen, working_dtype
from lpnested.radii import parameters_of

__all__ = ["generator_mode", "in_logs", "mean_log", "radial_entropy"]

_SMALL = 0.05


@by_radial
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
    return widen(radial.rate).log() - digamma(widen(radial.concentration))


@mean_log.register
def _(radial: LogNormal) -> Tensor:
    return widen(radial.loc)


@mean_log.register
def _(radial: HalfCauchy) -> Tensor:
    return widen(radial.scale).log()


@mean_log.register
def _(radial: FisherSnedecor) -> Tensor:
    one, two = widen(radial.df1) / 2, widen(radial.df2) / 2
    return (two / one).log() + digamma(one) - digamma(two)


@mean_log.register
def _(radial: Pareto) -> Tensor:
    return widen(radial.scale).log() + 1 / widen(radial.alpha)


@mean_log.register
def _(radial: Uniform) -> Tensor:
    middle, half, is_positive, log_high = in_logs(radial)
    small = half < _SMALL
    y = torch.where(small, half, 0.0)
    series = y**2 / 3 - y**4 / 45 + y**6 * (2 / 945) - y**8 / 4725
    y = torch.where(small, 1.0, half)
    slope = torch.where(small, series, y / y.tanh() - 1)  # y coth(y) - 1
    return torch.where(is_positive, middle + slope, log_high - 1)


@mean_log.register
def _(radial: Beta) -> Tensor:
    a, b = widen(radial.concentration1), widen(radial.concentration0)
    return digamma(a) - digamma(a + b)


@mean_log.register
def _(radial: Kumaraswamy) -> Tensor:
    return -_harmonic_number(radial) / widen(radial.concentration1)


def in_logs(radial: Uniform) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of log low and log high, middle and half distance; whether low is above 0; log high."""
    low, high = widen(radial.low), widen(radial.high)
    is_positive = low != 0
    low, log_high = torch.where(is_positive, low, high / 2), high.log()
    half = torch.log1p((high - low) / low) / 2
    return log_high - half, half, is_positive, log_high


def _harmonic_number(radial: Kumaraswamy) -> Tensor:
    return digamma(widen(radial.concentration0) + 1) + euler_constant


@by_radial
def radial_entropy(radial: Distribution) -> Tensor:
    """The entropy of the radius itself; where a type is not registered, by its own ``entropy``."""
    return widen(radial.entropy())


@radial_entropy.register
def _(radial: GeneralizedGamma) -> Tensor:
    return in_float64(radial).entropy()


@radial_entropy.register
def _(radial: InverseGamma) -> Tensor:
    return log_gamma_entropy(widen(radial.concentration)) + mean_log(radial)


@radial_entropy.register
def _(radial: LogNormal) -> Tensor:
    loc, scale = widen(radial.loc), widen(radial.scale)
    return loc + scale.log() + 0.5 * math.log(2 * math.pi * math.e)


@radial_entropy.register
def _(radial: HalfCauchy) -> Tensor:
    return widen(radial.scale).log() + math.log(2 * math.pi)


@radial_entropy.register
def _(radial: FisherSnedecor) -> Tensor:
    one, two = widen(radial.df1) / 2, widen(radial.df2) / 2
    gammas = log_gamma_entropy(one) + log_gamma_entropy(two) - log_gamma_entropy(one + two)
    return gammas + mean_log(radial)


@radial_entropy.register
def _(radial: Pareto) -> Tensor:
    scale, alpha = widen(radial.scale), widen(radial.alpha)
    return scale.log() - alpha.log() + 1 + 1 / alpha


@radial_entropy.register
def _(radial: Uniform) -> Tensor:
    return (widen(radial.high) - widen(radial.low)).log()


@radial_entropy.register
def _(radial: Beta) -> Tensor:
    a, b = widen(radial.concentration1), widen(radial.concentration0)
    gammas = log_gamma_entropy(a) + log_gamma_entropy(b) - log_gamma_entropy(a + b)
    return gammas + digamma(a) + digamma(b) - 2 * digamma(a + b)


@radial_entropy.register
def _(radial: Kumaraswamy) -> Tensor:
    a, b = widen(radial.concentration1), widen(radial.concentration0)
    return 1 - 1 / b + (1 - 1 / a) * _harmonic_number(radial) - a.log() - b.log()


@by_radial
def generator_mode(radial: Distribution, dim: int) -> Tensor:
    """The only mode of :func:`lpnested.radial.log_generator` at radius 0, or NaN.

    It is NaN where the density at 0 is unbounded, or largest on a whole sphere.
    """
    raise NotImplementedError(
        f"the mode has no closed form here for a radial of type {type(radial).__name__}"
    )


@generator_mode.register
def _(radial: GeneralizedGamma, dim: int) -> Tensor:
    return _zero_where(radial.dim == dim)


@generator_mode.register
def _(radial: FisherSnedecor, dim: int) -> Tensor:
    return _zero_where(widen(radial.df1) / 2 == dim)


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
