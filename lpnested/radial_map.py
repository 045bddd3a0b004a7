r"""Maps of one radius to another: the tails and the quantile of a radial, by dispatch on its type.

Radii go in and out as logarithms, and so do probabilities, each with that of its complement: the
smaller of the two has all its digits, however far out in a tail. A type registered here is
accurate to the ends of the range; any other is asked for its ``cdf`` and ``icdf``.
"""

from __future__ import annotations

import math
from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import Distribution, HalfCauchy, InverseGamma, LogNormal

from lpnested import incomplete_gamma
from lpnested.gamma_radii import canonicalize
from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.incomplete_gamma import log_complement, log_gammaincinv
from lpnested.precision import LARGEST_EXPONENT, clamp_max, upcast
from lpnested.radii import check_radial, dtype_of, is_bounded

__all__ = ["check_bijective", "log_quantile", "log_tails", "radial_map"]

_LOG_RIGHT_ANGLE = math.log(math.pi / 2)
_LOG_SMALL = -19.0  # of an angle that is its tangent
_LOG_LARGE = 40.0  # of the tangent of what is a right angle in float64
_ROOT_2 = math.sqrt(2)
_FAR = -1e4  # where the normal density by its tail differs little from its asymptote


def radial_map(source: Distribution, target: Distribution, log_r: Tensor) -> Tensor:
    r"""The logarithm of :math:`g = F_t^{-1}(F_s(r))`: a radius of the source becomes the target's.

    It is differentiable in the radius and in the parameters of both.

    Args:
        source: The distribution of :math:`r`, batch shape ``(*batch)``.
        target: The distribution of :math:`g`, batch shape ``(*batch)``.
        log_r: The logarithm of the radius, float64, shape ``(*sample, *batch)``.

    Example:
        >>> from torch.distributions import Exponential, Weibull
        >>> log_r = torch.tensor([-1e3, 0.5, 1e2], dtype=torch.float64)
        >>> radial_map(Exponential(1.0), Weibull(1.0, 2.0), log_r)  # the square root
        tensor([-5.0000e+02,  2.5000e-01,  5.0000e+01], dtype=torch.float64)
    """
    return log_quantile(canonicalize(target), *log_tails(canonicalize(source), log_r))


@singledispatch
def log_tails(radial: Distribution, log_r: Tensor) -> tuple[Tensor, Tensor]:
    r""":math:`\log F(r)` and :math:`\log(1 - F(r))`.

    The fallback asks the radial for its ``cdf``, within the range of the dtype of its parameters.
    Where that is rounded to 0 or 1, it is the number next to it.
    """
    log_r = upcast(log_r)
    limits = torch.finfo(dtype_of(radial))
    r = log_r.clamp(math.log(limits.tiny), math.log(limits.max) * (1 - limits.eps)).exp()
    p = _inside(upcast(radial.cdf(r)))
    return p.log(), torch.log1p(-p)


@singledispatch
def log_quantile(radial: Distribution, log_p: Tensor, log_q: Tensor) -> Tensor:
    r"""The logarithm of :math:`F^{-1}(p)`, by the smaller of :math:`p` and :math:`q = 1 - p`.

    The fallback asks the radial for its ``icdf``, whose argument has no digits for a small q.
    """
    p = torch.where(log_p < log_q, log_p.exp(), -torch.expm1(log_q))
    r = upcast(radial.icdf(_inside(p)))
    limits = torch.finfo(r.dtype)
    return r.clamp(limits.tiny, limits.max).log()


def _inside(p: Tensor) -> Tensor:
    limits = torch.finfo(p.dtype)
    return p.clamp(limits.tiny, 1 - limits.eps / 2)


@log_tails.register
def _(radial: GeneralizedGamma, log_r: Tensor) -> tuple[Tensor, Tensor]:
    n, p, scale = upcast(radial.dim), upcast(radial.p), upcast(radial.scale)
    log_x = p * (log_r - scale.log())
    return incomplete_gamma.log_tails(n / p, clamp_max(log_x, LARGEST_EXPONENT[log_x.dtype]))


@log_quantile.register
def _(radial: GeneralizedGamma, log_p: Tensor, log_q: Tensor) -> Tensor:
    n, p, scale = upcast(radial.dim), upcast(radial.p), upcast(radial.scale)
    return scale.log() + log_gammaincinv(n / p, log_p, log_q) / p


@log_tails.register
def _(radial: InverseGamma, log_r: Tensor) -> tuple[Tensor, Tensor]:
    a, log_x = upcast(radial.concentration), upcast(radial.rate).log() - log_r
    upper, lower = incomplete_gamma.log_tails(a, clamp_max(log_x, LARGEST_EXPONENT[log_x.dtype]))
    return lower, upper


@log_quantile.register
def _(radial: InverseGamma, log_p: Tensor, log_q: Tensor) -> Tensor:
    a, log_rate = upcast(radial.concentration), upcast(radial.rate).log()
    return log_rate - log_gammaincinv(a, log_q, log_p)


@log_tails.register
def _(radial: LogNormal, log_r: Tensor) -> tuple[Tensor, Tensor]:
    z = (log_r - upcast(radial.loc)) / upcast(radial.scale)
    return _log_ndtr(z), _log_ndtr(-z)


@log_quantile.register
def _(radial: LogNormal, log_p: Tensor, log_q: Tensor) -> Tensor:
    lower = log_p < log_q
    z = _log_ndtri(torch.where(lower, log_p, log_q))
    return upcast(radial.loc) + upcast(radial.scale) * torch.where(lower, z, -z)


def _log_ndtri(log_p: Tensor) -> Tensor:
    r"""The normal quantile of :math:`p \leq 1/2`: :math:`z^2 / 2` is a gamma variable.

    One step of Halley at the root has its first and second derivatives, at :math:`z = 0` too.
    """
    double = clamp_max(log_p.detach() + math.log(2), 0.0)
    half = torch.full_like(double, 0.5)
    log_half_square = log_gammaincinv(half, log_complement(double), double)
    z = -_ROOT_2 * (log_half_square / 2).exp()
    newton = (_log_ndtr(z) - log_p) * _mills(z)
    bend = torch.where(z < _FAR, -1 / z, z + 1 / _mills(z))
    halley: Tensor = newton / (1 + newton * bend / 2)
    return z - halley


def _log_ndtr(z: Tensor) -> Tensor:
    """The logarithm of the normal distribution function; that of torch has no batching rule."""
    far = z < -1
    below, above = torch.where(far, z, -1.0), torch.where(far, 0.0, z)
    log_tail = _mills(below).log() - below * below / 2 - math.log(2 * math.pi) / 2
    return torch.where(far, log_tail, torch.log1p(-torch.erfc(above / _ROOT_2) / 2))


def _mills(z: Tensor) -> Tensor:
    """The normal tail below z by the density."""
    scaled: Tensor = torch.special.erfcx(-z / _ROOT_2)
    return math.sqrt(math.pi / 2) * scaled


@log_tails.register
def _(radial: HalfCauchy, log_r: Tensor) -> tuple[Tensor, Tensor]:
    log_z = log_r - upcast(radial.scale).log()
    return _log_atan(log_z) - _LOG_RIGHT_ANGLE, _log_atan(-log_z) - _LOG_RIGHT_ANGLE


@log_quantile.register
def _(radial: HalfCauchy, log_p: Tensor, log_q: Tensor) -> Tensor:
    lower = log_p < log_q
    log_z = _log_tan(torch.where(lower, log_p, log_q) + _LOG_RIGHT_ANGLE)
    return upcast(radial.scale).log() + torch.where(lower, log_z, -log_z)


def _log_atan(log_z: Tensor) -> Tensor:
    """The logarithm of the arctangent of z, which is z where that is small."""
    small = log_z < _LOG_SMALL
    z = clamp_max(torch.where(small, 0.0, log_z), _LOG_LARGE).exp()
    return torch.where(small, log_z, z.atan().log())


def _log_tan(log_angle: Tensor) -> Tensor:
    small = log_angle < _LOG_SMALL
    return torch.where(small, log_angle, torch.where(small, 0.0, log_angle).exp().tan().log())


def check_bijective(name: str, radial: Distribution) -> None:
    """Refuse a radial whose distribution function is not a bijection of the positive reals.

    Raises:
        TypeError: Where it is not a torch Distribution.
        ValueError: Where its support is not the positive reals, or its ``icdf`` does not invert
            its ``cdf``.
        NotImplementedError: Where it has no ``cdf`` or no ``icdf``.
    """
    check_radial(radial, Distribution._validate_args)
    if is_bounded(radial):
        raise ValueError(
            f"a radial transform maps the whole space to itself, so the support of {name} must be "
            f"all positive reals, but that of {radial} is {radial.support}"
        )
    for function in (log_tails, log_quantile):
        if function.dispatch(type(canonicalize(radial))) is function.dispatch(object):
            _check_inverse(name, radial)


def _check_inverse(name: str, radial: Distribution) -> None:
    dtype = dtype_of(radial)
    u = torch.linspace(0.05, 0.95, 19, dtype=dtype)
    u = u.reshape(-1, *(1,) * len(radial.batch_shape)).expand(-1, *radial.batch_shape)
    try:
        difference = (radial.cdf(radial.icdf(u)) - u).abs()
    except (NotImplementedError, AttributeError) as error:
        raise NotImplementedError(
            f"a radial transform needs the distribution function and the quantile of {name}, "
            f"but {radial} lacks cdf or icdf"
        ) from error
    if Distribution._validate_args and not (difference < torch.finfo(dtype).eps ** 0.5).all():
        raise ValueError(
            f"the distribution function of {name} must be continuous and increasing, but icdf "
            f"does not invert cdf of {radial}: it has an atom or a gap, or one of them is wrong"
        )
