"""The generalized normal (exponential power) distribution: one coordinate with exponent p."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from lpnested.gamma import log_gamma_sample
from lpnested.precision import as_parameters, check_finite, exp, narrow, widen

__all__ = ["GeneralizedNormal"]

_LOG_SMALL = -40.0  # of a power whose incomplete gamma function is the first term of its series


class GeneralizedNormal(Distribution):
    r"""Generalized normal distribution, also called exponential power (eq. 5, ``tau = scale**p``).

    .. math:: \rho(x) = \frac{p}{2 s\, \Gamma(1/p)} \exp\big(-(|x - \mu|/s)^p\big)

    It is ``scipy.stats.gennorm(p, loc, scale)``: the Laplace distribution at p = 1, the normal of
    variance :math:`s^2/2` at p = 2, nearly uniform on :math:`\mu \pm s` at large p. ``rsample`` is
    pathwise in all parameters, as torch's Gamma. The gradient at :math:`x = \mu` is 0.

    Args:
        loc: The mean and mode :math:`\mu`, shape ``(*batch)``.
        scale: The scale :math:`s > 0`, shape ``(*batch)``.
        p: The exponent :math:`p > 0`, shape ``(*batch)``.
        validate_args: Whether to check arguments, as in torch.

    Raises:
        ValueError: Where a scale or exponent is not positive and finite.
        TypeError: Where a parameter is float16 or bfloat16.

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
    has_rsample = True

    def __init__(
        self,
        loc: Tensor | float,
        scale: Tensor | float,
        p: Tensor | float,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.scale, self.p = as_parameters(loc=loc, scale=scale, p=p)
        super().__init__(self.loc.shape, validate_args=validate_args)
        if self._validate_args:
            check_finite("scale", self.scale)
            check_finite("p", self.p)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> GeneralizedNormal:
        new: GeneralizedNormal = self._get_checked_instance(GeneralizedNormal, _instance)
        batch_shape = torch.Size(batch_shape)
        for name in self.arg_constraints:
            setattr(new, name, getattr(self, name).expand(batch_shape))
        super(GeneralizedNormal, new).__init__(batch_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        loc, scale, p = self._parameters()
        constant = p.log() - math.log(2) - scale.log() - (1 / p).lgamma()
        return self._narrow(constant - _power((widen(value) - loc) / scale, p), value)

    def rsample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        loc, scale, p = self._parameters()
        magnitude = scale * exp(log_gamma_sample(1 / p, shape, self.p.dtype) / p)
        signs = torch.rand_like(magnitude, dtype=torch.float32) - 0.5
        return self._narrow(loc + torch.copysign(magnitude, signs))

    def cdf(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        loc, scale, p = self._parameters()
        z = (widen(value) - loc) / scale
        small = p * torch.where(z == 0, 1e-300, z).abs().log() < _LOG_SMALL
        near = z * exp(-(1 / p + 1).lgamma())  # the first term of the series
        power = _power(torch.where(small, 1.0, z), p)
        half = torch.where(small, near, z.sign() * torch.special.gammainc(1 / p, power))
        return self._narrow(0.5 + 0.5 * half, value)

    def entropy(self) -> Tensor:
        _, scale, p = self._parameters()
        return self._narrow(1 / p - p.log() + math.log(2) + scale.log() + (1 / p).lgamma())

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        r"""The variance :math:`s^2\, \Gamma(3/p) / \Gamma(1/p)`."""
        _, scale, p = self._parameters()
        return self._narrow(scale**2 * exp((3 / p).lgamma() - (1 / p).lgamma()))

    def _parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        return widen(self.loc), widen(self.scale), widen(self.p)

    def _narrow(self, result: Tensor, value: Tensor | None = None) -> Tensor:
        dtypes = [self.loc.dtype] + ([] if value is None else [value.dtype])
        return narrow(result, torch.promote_types(dtypes[0], dtypes[-1]))


def _power(z: Tensor, p: Tensor) -> Tensor:
    """The power of the magnitude, saturated; at zero it is 0 with gradient 0 for every p."""
    zero = z == 0
    log_power = p * torch.where(zero, 1.0, z).abs().log()
    return torch.where(zero, 0.0, exp(log_power))
