r"""Log incomplete gamma functions P and Q with all derivatives, and their quantile function.

.. math:: P(a, x) = \frac{1}{\Gamma(a)} \int_0^x t^{a-1} e^{-t}\, dt, \qquad Q(a, x) = 1 - P(a, x)

torch's versions have eight digits for shapes of 20 to 200, no logarithm and no derivative in the
shape. Here everything is elementwise, in float64 and twice differentiable in every argument. For
shapes of 0.01 to 1000, errors relative to the logarithm are below 1e-12, however close to 0 or far
in the tail it is. For shapes of 1e-6 to 1e12, they are below the larger of 1e-12 and the effect of
rounding x, :math:`10^{-15} \sqrt a`. Where P or Q is exactly 0 or 1, all derivatives are 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lpnested.chunks import in_chunks
from lpnested.gamma_tail import direct_tail, is_lower, log_gamma_1p
from lpnested.precision import upcast

__all__ = ["log_complement", "log_gammainc", "log_gammaincc", "log_gammaincinv", "log_tails"]

_LOG_HALF = -math.log(2)
_STEPS = 2  # gives 1e-10; one more differentiable step gives 1e-15


def log_gammainc(a: Tensor, x: Tensor) -> Tensor:
    r""":math:`\log P(a, x)`, the distribution function of a gamma variable (DLMF 8.2.4).

    Args:
        a: The shape :math:`a > 0`, any shape that broadcasts with that of ``x``.
        x: The argument :math:`x \geq 0`.

    Returns:
        The result in float64; NaN outside of the domain.

    Example:
        >>> log_gammainc(torch.tensor(3.0), torch.tensor([1e-30, 1.0, 100.0]))
        tensor([-2.0902e+02, -2.5220e+00, -1.8976e-40], dtype=torch.float64)
    """
    return _tails_of_value(a, x)[0]


def log_gammaincc(a: Tensor, x: Tensor) -> Tensor:
    r""":math:`\log Q(a, x)`, the survival function of a gamma variable (DLMF 8.2.4).

    Arguments and result are those of :func:`log_gammainc`.

    Example:
        >>> log_gammaincc(torch.tensor(3.0), torch.tensor([1e-30, 1.0, 1e5]))
        tensor([-1.6667e-91, -8.3709e-02, -9.9978e+04], dtype=torch.float64)
    """
    return _tails_of_value(a, x)[1]


def log_tails(a: Tensor, log_x: Tensor) -> tuple[Tensor, Tensor]:
    r""":math:`\log P(a, x)` and :math:`\log Q(a, x)` from the logarithm of :math:`x`.

    The result is exact where :math:`x` itself underflows; where it overflows, it counts as
    infinite.

    Args:
        a: The shape :math:`a > 0`, any shape that broadcasts with that of ``log_x``.
        log_x: The logarithm of the argument.

    Returns:
        Both in float64; NaN outside of the domain.

    Example:
        >>> log_tails(torch.tensor(0.01), torch.tensor(-2000.0))
        (tensor(-19.9943, dtype=torch.float64), tensor(-2.0729e-09, dtype=torch.float64))
    """
    a, log_x = upcast(a), upcast(log_x)
    largest = math.log(torch.finfo(log_x.dtype).max)
    zero, huge = log_x == -math.inf, log_x > largest
    log_x = torch.where(zero | huge, 0.0, log_x)
    return _tails(a, torch.where(huge, math.inf, log_x.exp()), log_x, zero)


def log_complement(log_p: Tensor) -> Tensor:
    r""":math:`\log(1 - p)` from :math:`\log p`, exact for :math:`p` near 0 and near 1.

    Example:
        >>> log_complement(torch.tensor([-1e-30, -100.0], dtype=torch.float64))
        tensor([-6.9078e+01, -3.7201e-44], dtype=torch.float64)
    """
    log_p = upcast(log_p)
    near_one = log_p > _LOG_HALF
    complement = -torch.expm1(torch.where(near_one, log_p, _LOG_HALF))
    p = torch.where(near_one, _LOG_HALF, log_p).exp()
    return torch.where(near_one, complement.log(), torch.log1p(-p))


def log_gammaincinv(a: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
    r"""The quantile of a gamma variable: :math:`\log x` with :math:`P(a, x) = p`.

    Only the smaller of :math:`p` and :math:`q = 1 - p` is used, and receives the gradient, so that
    both tails are exact however far out. For :math:`p = 0` the result is -inf, for :math:`q = 0`
    inf, with derivatives 0.

    Args:
        a: The shape :math:`a > 0`.
        log_p: The logarithm of :math:`p`; it broadcasts with the others.
        log_q: The logarithm of :math:`q`; :func:`log_complement` converts one into the other.

    Returns:
        The result in float64; NaN outside of the domain. The error is a few units in the last
        place of :math:`\log x`, or the effect of those of ``log_p`` or ``log_q`` if larger.

    Example:
        >>> log_q = torch.tensor([-0.1, -1e5])
        >>> log_gammaincinv(torch.tensor(3.0), log_complement(log_q), log_q).exp()
        tensor([1.0778e+00, 1.0002e+05], dtype=torch.float64)
    """
    a, log_p, log_q = upcast(a), upcast(log_p), upcast(log_q)
    lower = (log_p < log_q) | log_p.isnan()
    target = torch.where(lower, log_p, log_q)
    a = torch.where((a > 0) & (target <= 0), a, math.nan)
    end = target == -math.inf
    target = torch.where(end, -1.0, target)
    near = in_chunks(_approximate_quantile, a.detach(), target.detach(), lower)
    quantile = in_chunks(_improved_quantile, near, a, target, lower)
    at_end = torch.where(lower, -math.inf, math.inf)
    return torch.where(end & ~a.isnan(), at_end, quantile)


def _tails_of_value(a: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    a, x = upcast(a), upcast(x)
    zero = x == 0
    positive = torch.where(zero, 1.0, x)
    return _tails(a, positive, positive.log(), zero)


def _tails(a: Tensor, x: Tensor, log_x: Tensor, zero: Tensor) -> tuple[Tensor, Tensor]:
    a = torch.where(a > 0, a, math.nan)
    zero, infinite = zero | (a == math.inf), x == math.inf
    end = zero | infinite
    undefined = torch.where(a.isnan() | (zero & infinite), math.nan, 0.0)
    inside = (torch.where(end, 1.0, a), torch.where(end, 1.0, x), torch.where(end, 0.0, log_x))
    direct = in_chunks(_log_direct_tail, *inside)
    other, lower = log_complement(direct), is_lower(a, x)
    log_p, log_q = torch.where(lower, direct, other), torch.where(lower, other, direct)
    return (
        torch.where(end, undefined + torch.where(infinite, 0.0, -math.inf), log_p),
        torch.where(end, undefined + torch.where(infinite, -math.inf, 0.0), log_q),
    )


def _log_direct_tail(a: Tensor, x: Tensor, log_x: Tensor) -> Tensor:
    return direct_tail(a, x, log_x)[0]


def _approximate_quantile(a: Tensor, target: Tensor, lower: Tensor) -> Tensor:
    log_x = _first_guess(a, target, lower)
    for _ in range(_STEPS):
        log_x = _improved_quantile(log_x, a, target, lower)
    return log_x


def _improved_quantile(log_x: Tensor, a: Tensor, target: Tensor, lower: Tensor) -> Tensor:
    r"""Take one Halley step; at the root, it has the root's first and second derivatives.

    It solves for the logarithm of the lower tail, which is nearly linear in :math:`\log x`, or for
    the logarithm of the (negative) logarithm of the upper tail.
    """
    x = log_x.exp()
    direct, log_slope = direct_tail(a, x, log_x)
    other, same = log_complement(direct), lower == is_lower(a, x)
    log_tail = torch.where(same, direct, other)
    slope = torch.where(same, log_slope, log_slope + direct - other).exp()
    upper_slope = -slope / log_tail
    difference = torch.where(lower, log_tail - target, (log_tail / target).log())
    newton = difference / torch.where(lower, slope, upper_slope)
    # The second derivative over the first.
    curvature = a - x + torch.where(lower, -slope, slope - upper_slope)
    return log_x - newton / (1 - newton * curvature / 2)


def _first_guess(a: Tensor, target: Tensor, lower: Tensor) -> Tensor:
    """Approximate the quantile by Wilson and Hilferty (1931), or by the limiting forms.

    These are P as a power of x and Q as an exponential. The normal quantile is that of Abramowitz
    and Stegun (1964), 26.2.23.
    """
    r = (-2 * target).sqrt()
    z = r - (2.515517 + r * (0.802853 + r * 0.010328)) / (
        1 + r * (1.432788 + r * (0.189269 + r * 0.001308))
    )
    root = 1 - 1 / (9 * a) + torch.where(lower, -z, z) / (3 * a.sqrt())
    log_cubic = a.log() + 3 * root.clamp_min(0.0).log()
    log_power = (torch.where(lower, target, log_complement(target)) + log_gamma_1p(a)) / a
    rate = a.log() - log_gamma_1p(a) - target
    exponential = (rate - (1 - a) * rate.clamp_min(1.0).log()).clamp_min(0.1)
    bound = a - target + (-2 * a * target).sqrt()  # an upper bound of the quantile, for a >= 1
    below = torch.where(a < 1, log_power, torch.maximum(log_power, log_cubic))
    above = torch.where(
        a < 1,
        torch.where(rate > 1, torch.maximum(log_power, exponential.log()), log_power),
        torch.minimum(log_cubic, bound.log()),
    )
    return torch.where(lower, below, above)
