"""The generalized normal (exponential power) distribution: one coordinate with exponent p."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from lpnested.gamma import symmetric_uniform
from lpnested.gamma_ratio import log_gamma_ratio
from lpnested.gamma_tail import log_gamma_1p
from lpnested.generalized_gamma import log_density
from lpnested.incomplete_gamma import log_gammaincinv, log_tails
from lpnested.ops.sampling import signed_gamma
from lpnested.precision import as_parameters, exp, saturate_cast, upcast
from lpnested.univariate import (
    Univariate,
    log_power,
    quantile_at_bounds,
    saturating_exp,
    scale_by_exp,
)
from lpnested.validation import initialize

__all__ = ["GeneralizedNormal"]

_LOG_2 = math.log(2)
_LOG_SMALL = -40.0  # below it P equals the first term of its series in float64


class GeneralizedNormal(Univariate):
    r"""Generalized normal distribution, also called exponential power (eq. 5, ``tau = scale**p``).

    .. math:: \rho(x) = \frac{p}{2 s\, \Gamma(1/p)} \exp\big(-(|x - \mu|/s)^p\big)

    It equals ``scipy.stats.gennorm(p, loc, scale)``: the Laplace distribution at p = 1, the normal
    distribution of variance :math:`s^2/2` at p = 2, nearly uniform on :math:`\mu \pm s` at large
    p. ``rsample`` is pathwise in all parameters, like that of torch's Gamma. The gradient at
    :math:`x = \mu` is 0. The log density is -inf only at infinite values.

    Args:
        loc: The mean and mode :math:`\mu`, shape ``(*batch)``.
        scale: The scale :math:`s > 0`, shape ``(*batch)``.
        p: The exponent :math:`p > 0`, shape ``(*batch)``.
        validate_args: Whether to validate arguments, as in torch.

    Raises:
        ValueError: If a scale or exponent is not positive and finite.
        TypeError: If a parameter is float16 or bfloat16.

    Example:
        >>> GeneralizedNormal(loc=0.0, scale=2**0.5, p=2.0).log_prob(torch.tensor(1.0))
        tensor(-1.4189)
    """

    arg_constraints: ClassVar = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "p": constraints.positive,
    }
    support = constraints.real
    _names = ("loc", "scale", "p")

    def __init__(
        self,
        loc: Tensor | float,
        scale: Tensor | float,
        p: Tensor | float,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.scale, self.p = as_parameters(loc=loc, scale=scale, p=p)
        initialize(self, self.loc.shape, torch.Size(), validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> GeneralizedNormal:
        new: GeneralizedNormal = self._get_checked_instance(GeneralizedNormal, _instance)
        return self._expand_into(new, batch_shape)

    def log_prob(self, value: Tensor | float) -> Tensor:
        value = self._validated(value)
        loc, scale, p = self._upcast_parameters()
        distance = (upcast(value) - loc).abs()  # a generalized gamma variable of dimension 1
        density = log_density(distance, torch.ones_like(p), p, scale) - _LOG_2
        return saturate_cast(density, self._dtype_of(value))

    def entropy(self) -> Tensor:
        _, scale, p = self._upcast_parameters()
        return saturate_cast(1 / p + _LOG_2 + scale.log() + log_gamma_1p(1 / p), self._dtype_of())

    @property
    def mean(self) -> Tensor:
        return self.loc.to(self._dtype_of())

    @property
    def mode(self) -> Tensor:
        return self.mean

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        return self.loc.detach() + signed_gamma(None, self.p, self.scale, sample_shape)

    def _stddev(self) -> Tensor:
        r""":math:`s\, (\Gamma(3/p) / \Gamma(1/p))^{1/2}`."""
        _, scale, p = self._upcast_parameters()
        return scale_by_exp(scale, log_gamma_ratio(1 / p, 2 / p) / 2)

    def _log_tails(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Use the tail Q of the power: Q / 2 on one side, and 1 - Q / 2 on the other."""
        loc, scale, p = self._upcast_parameters()
        shift = upcast(value) - loc
        log_x = log_power(shift.abs(), scale, p)
        small = log_x < _LOG_SMALL  # P equals its first term, which is smooth at 0
        near = torch.where(small, shift, 0.0) / scale * exp(-log_gamma_1p(1 / p))
        _, log_q = log_tails(1 / p, torch.where(small, 0.0, log_x))
        tail, rest = log_q - _LOG_2, torch.log1p(-log_q.exp() / 2)
        below = shift < 0
        lower = torch.where(below, tail, rest)
        upper = torch.where(below, rest, tail)
        return (
            torch.where(small, torch.log1p(near) - _LOG_2, lower),
            torch.where(small, torch.log1p(-near) - _LOG_2, upper),
        )

    def _quantile(self, value: Tensor) -> Tensor:
        loc, scale, p = self._upcast_parameters()
        value = upcast(value)
        inside = (value > 0) & (value < 1)
        u = torch.where(inside, value, 0.5)
        signed = 2 * u - 1
        near = signed * exp(log_gamma_1p(1 / p))
        middle = u == 0.5
        small = middle | (p * torch.where(middle, 1.0, near).abs().log() < _LOG_SMALL)
        log_p = torch.where(small, 0.5, signed).abs().log()
        log_q = torch.where(small, 0.5, 2 * torch.where(u < 0.5, u, 1 - u)).log()
        far = scale_by_exp(scale, log_gammaincinv(1 / p, log_p, log_q) / p)
        quantile = torch.where(small, scale * near, torch.where(u < 0.5, -far, far))
        return torch.where(inside, loc + quantile, quantile_at_bounds(value, -math.inf))

    @staticmethod
    def _draw(size: torch.Size, dtype: torch.dtype, *parameters: Tensor) -> Tensor:
        r"""Draw :math:`\mu + s V G^{1/p}`, V uniform on (-1, 1) and G gamma of shape 1 + 1/p."""
        loc, scale, p = parameters
        uniform = symmetric_uniform(size, dtype, loc.device)
        log_g = torch._standard_gamma((1 / p + 1).expand(size)).log()
        return loc + uniform * saturating_exp(log_g / p + scale.log())
