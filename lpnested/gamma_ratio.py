r"""Differences and derivatives of :math:`\log\Gamma`, without cancellation at any shape.

:math:`\log\Gamma(10^{12})` has three decimals in float64, and nearly always only a difference is
needed. The difference is computed from Stirling's series at z = a + 9,

.. math:: \log\Gamma(z) = (z - 1/2) \log z - z + \tfrac12 \log 2\pi + q(1/z),

and from the nine factors below z. All functions are plain differentiable operations in float64,
so derivatives of every order are equally exact (torch's own second derivative has nine digits).
"""

from __future__ import annotations

import math
from itertools import chain

import torch
from torch import Tensor

from lpnested.gamma_tail import STIRLING

__all__ = [
    "digamma",
    "log_gamma_entropy",
    "log_gamma_ratio",
    "log_gamma_second_difference",
    "scaled_log_gamma_entropy",
]

_SHIFT = 9
_HALF_LOG_2_PI = math.log(2 * math.pi) / 2


def log_gamma_ratio(a: Tensor, h: Tensor | float) -> Tensor:
    r""":math:`\log\Gamma(a + h) - \log\Gamma(a)` for :math:`a > 0` and :math:`a + h > 0`.

    The result is 0 for :math:`h = 0` and has h as a factor.

    Args:
        a: The shape, float64.
        h: The step; it broadcasts with the shape.

    Example:
        >>> log_gamma_ratio(torch.tensor(1e12, dtype=torch.float64), 0.5)
        tensor(13.8155, dtype=torch.float64)
    """
    h = torch.as_tensor(h, dtype=a.dtype, device=a.device)
    z = a + _SHIFT
    end = z + h
    stirling = (z - 0.5) * torch.log1p(h / z) + h * end.log() - h
    r, s = 1 / z, 1 / end
    value, slope = torch.full_like(r, STIRLING[-1]), torch.zeros_like(r)
    for coefficient in reversed(STIRLING[:-1]):  # q and its divided difference, by Horner's rule
        slope = slope * (s * s) + value
        value = value * (r * r) + coefficient
    series = -h * r * s * (value + s * (r + s) * slope)  # the difference of r q(r^2)
    factors = [torch.log1p(h / (a + k)) for k in range(_SHIFT)]
    return stirling + series - torch.stack(factors).sum(0)


def log_gamma_second_difference(a: Tensor, h: Tensor) -> Tensor:
    r""":math:`\log\Gamma(a + 2h) - 2 \log\Gamma(a + h) + \log\Gamma(a)` for :math:`a, h > 0`.

    The result is the logarithm of :math:`\mathrm{E}\, Y^2 / (\mathrm{E}\, Y)^2` for the power
    :math:`Y = X^h` of a gamma variable of shape a; it approaches :math:`h^2 / a` for large a.

    Example:
        >>> log_gamma_second_difference(*torch.tensor([1e12, 2.0], dtype=torch.float64)) * 1e12
        tensor(4.0000, dtype=torch.float64)
    """
    z = [a + _SHIFT, a + _SHIFT + h, a + _SHIFT + 2 * h]
    main = h * torch.log1p(2 * h / z[0]) - (z[1] - 0.5) * torch.log1p(h / z[0] * (h / z[2]))
    r = [1 / x for x in z]
    series = 2 * (h * r[0]) * (h * r[1]) * r[2] * _second_divided_difference(r)
    factors = [torch.log1p(h / (a + k) * (h / (a + k + 2 * h))) for k in range(_SHIFT)]
    return main + series + torch.stack(factors).sum(0)


def _second_divided_difference(r: list[Tensor]) -> Tensor:
    """Compute that of the even polynomial r q(r) at three points, by Horner and Leibniz' rules."""
    value, first = torch.full_like(r[2], STIRLING[-1]), torch.zeros_like(r[2])
    second = torch.zeros_like(first)
    for coefficient in chain(reversed(STIRLING[:-1]), [0.0]):
        second = second * (r[0] * r[0]) + first * (r[0] + r[1]) + value
        first = first * (r[1] * r[1]) + value * (r[1] + r[2])
        value = value * (r[2] * r[2]) + coefficient
    return second


def digamma(a: Tensor) -> Tensor:
    r""":math:`\psi(a)`, the derivative of :math:`\log\Gamma(a)`, for :math:`a > 0`.

    Example:
        >>> a = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
        >>> torch.autograd.grad(digamma(a), a)[0]  # pi^2 / 6 - 1
        tensor(0.6449, dtype=torch.float64)
    """
    z = a + _SHIFT
    terms = [1 / (a + k) for k in range(_SHIFT)]
    return z.log() - 1 / (2 * z) + _stirling_slope(z) - torch.stack(terms).sum(0)


def log_gamma_entropy(a: Tensor) -> Tensor:
    r""":math:`\log\Gamma(a) + a - a\, \psi(a)`: the entropy of :math:`\log X` of a gamma variable.

    For large a it is about :math:`\tfrac12 \log(2 \pi e / a)`, while its terms grow like
    :math:`a \log a`.

    Example:
        >>> log_gamma_entropy(torch.tensor([1.0, 1e12], dtype=torch.float64))
        tensor([  1.5772, -12.3966], dtype=torch.float64)
    """
    return scaled_log_gamma_entropy(a) - a.log()


def scaled_log_gamma_entropy(a: Tensor) -> Tensor:
    r""":math:`\log\Gamma(a + 1) + a - a\, \psi(a)`: the entropy of :math:`a \log X`, 1 at a = 0.

    Example:
        >>> scaled_log_gamma_entropy(torch.tensor([1e-9, 1.0], dtype=torch.float64))
        tensor([1.0000, 1.5772], dtype=torch.float64)
    """
    z = a + _SHIFT
    main = _HALF_LOG_2_PI + z.log() / 2 + a / (2 * z)
    series = _polynomial(1 / (z * z)) / z - a * _stirling_slope(z)
    factors = [k / (a + k) + ((a + k) / z).log() for k in range(1, _SHIFT)]
    return main + series - torch.stack(factors).sum(0)


def _stirling_slope(z: Tensor) -> Tensor:
    """The derivative of q(1 / z) in z."""
    square = 1 / (z * z)
    total = torch.zeros_like(z)
    for k in reversed(range(len(STIRLING))):
        total = total * square - (2 * k + 1) * STIRLING[k]
    return total * square


def _polynomial(x: Tensor) -> Tensor:
    total = torch.zeros_like(x)
    for coefficient in reversed(STIRLING):
        total = total * x + coefficient
    return total
