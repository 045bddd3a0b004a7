r"""The gamma tail that can be computed without cancellation: lower for small x, otherwise upper.

Both are integrals of one function. Substituting :math:`t = x e^u` in Euler's integral gives

.. math:: \frac{\Gamma(a, x)}{x^a e^{-x}} = \int_0^\infty g(u)\, du, \quad
    \frac{\gamma(a, x)}{x^a e^{-x}} = \int_{-\infty}^0 g(u)\, du, \quad
    g(u) = \exp\big(a u - x (e^u - 1)\big).

On the corresponding side of :math:`x = a`, :math:`g` decays away from 0 like an exponential, a
half normal or something in between, so that a single rule of 43 nodes covers all cases. Its terms
are positive, and so are those of its derivatives. For :math:`x < 1` the power series is used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

__all__ = ["STIRLING", "direct_tail", "is_lower", "log_gamma_1p"]

_SHIFT = 9  # z = a + 9, where Stirling's series has 16 digits
_LOG_FACTORIAL = math.lgamma(_SHIFT)
# Coefficients of Stirling's series of log Gamma(z), in odd powers of 1 / z.
STIRLING = [1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156]
_AT_SHIFT = [c * math.pow(_SHIFT, -2 * k - 1) for k, c in enumerate(STIRLING)]
_TAIL_SUMS = list(accumulate(reversed(_AT_SHIFT)))[::-1]  # of the terms from each one on
_NEAR = 0.3  # the distance of x / z from 1 within which a series is used
_NUM_ATANH = 11  # terms of a series in (0.3 / 1.7)^2
_NUM_POWERS = 17  # terms of a series in x < 1
_INTERVALS = 42
_DROP = 37.0  # the decrease of log g at which the integral is truncated
_CLUSTERING = 0.6  # of nodes near 0: their spacing grows by a factor of 1.6 / 0.4


def is_lower(a: Tensor, x: Tensor) -> Tensor:
    """Return whether the direct tail is the lower one, P."""
    return (x < 1) | (x < a)


def direct_tail(a: Tensor, x: Tensor, log_x: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the log of the direct tail, and the log of its absolute slope in :math:`\log x`.

    Args:
        a: The shape :math:`a > 0`.
        x: The argument, positive and finite, or 0 where it underflows.
        log_x: The logarithm of ``x``.
    """
    small = x < 1
    x_below, x_above = torch.where(small, x, 1.0), torch.where(small, 1.0, x)
    power = a * torch.where(small, log_x, 0.0) - log_gamma_1p(a)
    log_series = torch.log1p(a * _series(a, x_below))
    log_integral = _log_integral(a, x_above)
    log_a = a.log()
    above = _log_poisson(a, x_above) + log_a + log_integral
    log_tail = torch.where(small, power + log_series, above)
    return log_tail, torch.where(small, log_a - x_below - log_series, -log_integral)


def _series(a: Tensor, x: Tensor) -> Tensor:
    r"""Return :math:`s = \sum_{k > 0} (-x)^k / (k!\, (a + k))`; 1 + a s is P / its first term."""
    total = 1 / (a + _NUM_POWERS)
    for k in range(_NUM_POWERS, 1, -1):
        total = torch.addcmul(1 / (a + (k - 1)), x, total, value=-1 / k)
    return -x * total


def _log_integral(a: Tensor, x: Tensor) -> Tensor:
    """Return the logarithm of the integral of g, by Clenshaw-Curtis quadrature (1960)."""
    lower = is_lower(a, x)
    end = _end(a.detach(), x.detach(), lower)
    nodes, weights = _rule(x)
    u = torch.where(lower, -end, end).unsqueeze(-1) * nodes
    log_g = torch.addcmul(a.unsqueeze(-1) * u, x.unsqueeze(-1), torch.expm1(u), value=-1)
    g = log_g.exp_()  # in place, as memory traffic dominates
    return (end * (g @ weights)).log()


def _end(a: Tensor, x: Tensor, lower: Tensor) -> Tensor:
    """Return where to truncate g, or slightly beyond, as roots of quadratic bounds of log g."""
    slope = (a - x).abs()
    bound = _DROP / (slope / 2 + torch.hypot(slope / 2, math.sqrt(_DROP / 2) * x.sqrt()))
    upper_end = torch.minimum(bound, torch.log1p((_DROP + a * bound) / x))
    b = 2 * slope - _DROP
    lower_end = 4 * _DROP / (b + torch.hypot(b, math.sqrt(8 * _DROP) * a.sqrt()))
    return torch.where(lower, lower_end, upper_end)


def _rule(like: Tensor) -> tuple[Tensor, Tensor]:
    """Create nodes in [0, 1], denser near 0, and weights, directly on the device."""
    n = _INTERVALS
    angle = torch.arange(n + 1, dtype=like.dtype, device=like.device) * (math.pi / n)
    even = torch.arange(2, n + 1, 2, dtype=like.dtype, device=like.device)
    half = torch.where(even == n, 1.0, 2.0) / (even * even - 1)
    weights = (1 - torch.cos(angle.unsqueeze(-1) * even) @ half) / n
    weights = torch.where(angle == 0, weights / 2, weights)  # at the other end g is negligible
    s = (angle / 2).sin().square()
    derivative = 1 - _CLUSTERING + 2 * _CLUSTERING * s
    return s * (1 - _CLUSTERING + _CLUSTERING * s), weights * derivative


def _log_poisson(a: Tensor, x: Tensor) -> Tensor:
    r"""Return :math:`\log(x^a e^{-x} / \Gamma(a + 1))` for :math:`x \geq 1`, exact for x near a.

    With z = a + 9 it is z (log(x / z) - x / z + 1) plus terms that grow only logarithmically.
    """
    z = a + _SHIFT
    excess, log_ratio, log_z = x - z, (x / z).log(), z.log()
    near = excess.abs() < _NEAR * z
    series = z * _log1p_minus(torch.where(near, excess / z, 0.0))
    main = torch.where(near, series, z * log_ratio - excess)
    stirling = _polynomial(1 / (z * z), STIRLING) / z
    constant = _LOG_FACTORIAL - math.log(2 * math.pi) / 2
    factors = _log_factors(a) - (_SHIFT - 0.5) * log_z
    return main - _SHIFT * log_ratio + factors + constant - stirling


def _log1p_minus(y: Tensor) -> Tensor:
    """Return log(1 + y) - y for small y, from log(1 + y) = 2 atanh(s)."""
    s = y / (2 + y)
    square = s * s
    coefficients = [2 / (2 * k + 3) for k in range(_NUM_ATANH)]
    return s * (square * _polynomial(square, coefficients) - y)


def log_gamma_1p(a: Tensor) -> Tensor:
    r"""Return :math:`\log\Gamma(1 + a)`, exact for small :math:`a`, with exact derivatives.

    It is the difference of log Gamma(9 + a) and log Gamma(9) by Stirling's series, in powers of
    r = 9 / (9 + a), with a factor of r - 1.
    """
    z = a + _SHIFT
    r, log_ratio = _SHIFT / z, torch.log1p(a / _SHIFT)
    terms = _TAIL_SUMS[0] + r * (r + 1) * _polynomial(r * r, _TAIL_SUMS[1:])
    result = (_SHIFT - 0.5) * log_ratio + a * (z.log() - 1) - a / z * terms
    return result - _log_factors(a)


def _log_factors(a: Tensor) -> Tensor:
    """Return the logarithm of (1 + a) (1 + a/2) ... (1 + a/8)."""
    # The bound keeps a^4 finite; for larger a this term is negligible beside the others.
    bounded = a.clamp_max(math.pow(torch.finfo(a.dtype).max, 0.24))
    first, second = (
        torch.log1p(bounded * _polynomial(bounded, _product(factors)[1:]))
        for factors in (range(1, 5), range(5, _SHIFT))
    )
    return first + second


def _product(factors: range) -> list[float]:
    """Return the coefficients of the product of 1 + a/j."""
    coefficients = [1.0]
    for j in factors:
        shifted = [0.0, *(c / j for c in coefficients)]
        coefficients = [c + d for c, d in zip([*coefficients, 0.0], shifted, strict=True)]
    return coefficients


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Evaluate a polynomial by Horner's rule, constant term first."""
    total = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total
