r"""Kullback-Leibler divergences in one dimension, and the closed form behind all of them.

:class:`~lpnested.GeneralizedGamma` and :class:`~lpnested.GeneralizedNormal` are each registered
with themselves and with torch's special cases of them.
"""

from __future__ import annotations

import math
from functools import singledispatch
from itertools import product
from typing import TypeAlias

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Exponential,
    Gamma,
    HalfNormal,
    Laplace,
    LogNormal,
    Normal,
    Weibull,
    register_kl,
)

from lpnested.first_order import is_differentiated
from lpnested.gamma_radii import generalized_gamma_parameters
from lpnested.gamma_ratio import digamma, log_gamma_ratio
from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.generalized_normal import GeneralizedNormal
from lpnested.precision import clamp_max, exp, result_dtype, upcast
from lpnested.radii import parameters_of

__all__ = [
    "ALTERNATIVE",
    "dtype_of_both",
    "generalized_gamma_kl",
    "generalized_normal_parameters",
    "log_normal_kl",
]

Parameters: TypeAlias = tuple[Tensor, Tensor, Tensor]

ALTERNATIVE = (
    "Otherwise use one sample: z = p.sample() (or rsample() where p has it), "
    "p.log_prob(z) - q.log_prob(z), as the tutorial 'A prior in your VAE' does"
)
_LARGEST = 709.7  # the largest argument of exp
_SMALL, _TERMS = 0.25, 13  # range and number of terms of a series in u


def generalized_gamma_kl(p: Parameters, q: Parameters, log_factor: Tensor | float = 0.0) -> Tensor:
    r"""KL divergence of generalized gammas (dimension, exponent, scale), in float64.

    With :math:`a_i = n_i / p_i`, :math:`L = \log(s_1 / s_2)`,
    :math:`D = \log\Gamma(a_1 + p_2/p_1) - \log\Gamma(a_1 + 1)` and :math:`u = p_2 L + D`,

    .. math:: \log\frac{p_1}{p_2} + \log\frac{\Gamma(a_2)}{\Gamma(a_1)} - (a_2 - a_1) p_2 L
        + \frac{n_1 - n_2}{p_1} \psi(a_1) + a_1 (D + e^u - 1 - u).

    This is the formula of Bauckhage (2014), arranged so that each term, and so the divergence, is
    exactly 0 for equal distributions.

    Args:
        p: The distribution under which the expectation is taken.
        q: The other distribution.
        log_factor: The logarithm of a factor that scales the variable of ``p``.
    """
    (n1, p1, s1), (n2, p2, s2) = p, q
    a, log_scale = n1 / p1, _log_ratio(s1, s2) + log_factor
    step = (n2 * (p1 - p2) + (n2 - n1) * p2) / (p1 * p2)
    constants = _log_ratio(p1, p2) + _log_gamma_difference(a, n2 / p2, step)
    growth = _log_gamma_difference(a + 1, (n1 + p2) / p1, (p2 - p1) / p1)
    power = a * _excess(p2 * log_scale, growth)
    return constants - step * p2 * log_scale + (n1 - n2) / p1 * digamma(a) + power


def log_normal_kl(p: LogNormal, q: LogNormal, log_factor: Tensor | float = 0.0) -> Tensor:
    """KL divergence of log-normals; see :func:`generalized_gamma_kl`."""
    log_scale = _log_ratio(upcast(p.scale), upcast(q.scale))
    shift = upcast(p.loc) - upcast(q.loc) + log_factor
    return (_excess(2 * log_scale, 0.0) + (shift / upcast(q.scale)) ** 2) / 2


def dtype_of_both(p: Distribution, q: Distribution) -> torch.dtype:
    """Return the promoted dtype of the parameters of two distributions."""
    return result_dtype(*parameters_of(p), *parameters_of(q))


def _log_ratio(a: Tensor, b: Tensor) -> Tensor:
    """Return the logarithm of a / b, exact for a near b."""
    near = (a - b).abs() < b / 2
    ratio = torch.where(near, a - b, 0.0) / b
    return torch.where(near, ratio.log1p(), a.log() - b.log())


def _log_gamma_difference(a: Tensor, b: Tensor, step: Tensor) -> Tensor:
    """Return log Gamma(b) - log Gamma(a) for b = a + step."""
    near = step.abs() < a / 2
    return torch.where(
        near, log_gamma_ratio(a, torch.where(near, step, 0.0)), b.lgamma() - a.lgamma()
    )


def _excess(slope: Tensor, growth: Tensor | float) -> Tensor:
    """Return exp(u) - 1 - slope for u = slope + growth, which is growth + (exp(u) - 1 - u)."""
    u = slope + growth
    small = u.abs() < _SMALL
    near = torch.where(small, u, 0.0)
    series = torch.ones_like(u)
    for k in range(_TERMS, 2, -1):
        series = 1 + near / k * series
    far = torch.where(small, 1.0, clamp_max(u, _LARGEST)).expm1() - slope
    far = torch.where(u > _LARGEST, math.inf, far)
    return torch.where(small, growth + near**2 / 2 * series, far)


def _kl_generalized_gamma(p: Distribution, q: Distribution) -> Tensor:
    kl = generalized_gamma_kl(generalized_gamma_parameters(p), generalized_gamma_parameters(q))
    return kl.to(dtype_of_both(p, q))


@singledispatch
def generalized_normal_parameters(dist: Distribution) -> Parameters:
    """Return location, scale and exponent, float64, of a generalized normal distribution."""
    raise NotImplementedError(f"{type(dist).__name__} is not a generalized normal distribution")


@generalized_normal_parameters.register
def _(dist: GeneralizedNormal) -> Parameters:
    return upcast(dist.loc), upcast(dist.scale), upcast(dist.p)


@generalized_normal_parameters.register
def _(dist: Normal) -> Parameters:
    scale = math.sqrt(2) * upcast(dist.scale)
    return upcast(dist.loc), scale, torch.full_like(scale, 2.0)


@generalized_normal_parameters.register
def _(dist: Laplace) -> Parameters:
    scale = upcast(dist.scale)
    return upcast(dist.loc), scale, torch.ones_like(scale)


def _kl_generalized_normal(p: Distribution, q: Distribution) -> Tensor:
    """Add the divergence of the distances to the mean and, if q is normal, a squared shift."""
    loc1, s1, p1 = generalized_normal_parameters(p)
    loc2, s2, p2 = generalized_normal_parameters(q)
    shift = loc1 - loc2
    if ((shift != 0) & ((p2 != 2) | is_differentiated(p2))).any():
        raise NotImplementedError(
            "KL(p || q) of generalized normals has a closed form for equal locations, or a fixed "
            f"exponent 2 of q, but got locations {loc1} and {loc2} with exponent {p2}. "
            f"{ALTERNATIVE}"
        )
    one = torch.ones_like(p1)
    kl = generalized_gamma_kl((one, p1, s1), (torch.ones_like(p2), p2, s2))
    kl = kl + (shift / s2) ** 2 * _curvature((p1, s1), (p2, s2))
    return kl.to(dtype_of_both(p, q))


def _curvature(p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor]) -> Tensor:
    """Return half the second derivative in the shift at 0, times the squared scale of q.

    It is 1 if q has exponent 2; the divergence is then quadratic in the shift.
    """
    (p1, s1), (p2, s2) = p, q
    finite = p1 + p2 > 1
    size = torch.where(finite, 1 + (p2 - 1) / p1, 1.0)
    log_moment = size.lgamma() - (1 / p1).lgamma() + (p2 - 2) * _log_ratio(s1, s2)
    curvature = p1 * p2 / 2 * exp(torch.where(finite, log_moment, math.inf))
    return torch.where(p2 == 2, 1.0, curvature)


for _family, _others, _kl in (
    (GeneralizedGamma, (Gamma, Exponential, Weibull, HalfNormal), _kl_generalized_gamma),
    (GeneralizedNormal, (Normal, Laplace), _kl_generalized_normal),
):
    register_kl(_family, _family)(_kl)
    for _one, _two in [*product([_family], _others), *product(_others, [_family])]:
        register_kl(_one, _two)(_kl)
