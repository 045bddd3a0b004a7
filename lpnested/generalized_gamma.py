"""The generalized gamma distribution: the radius of ISA."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from lpnested.gamma import log_gamma_sample
from lpnested.gamma_ratio import (
    digamma,
    log_gamma_ratio,
    log_gamma_second_difference,
    scaled_log_gamma_entropy,
)
from lpnested.incomplete_gamma import log_gammaincinv, log_tails
from lpnested.ops.sampling import signed_gamma
from lpnested.precision import as_parameters, exp, saturate_cast, upcast
from lpnested.univariate import (
    Univariate,
    log_power,
    log_ratio,
    quantile_at_bounds,
    saturating_exp,
    scale_by_exp,
)
from lpnested.validation import initialize

__all__ = ["GeneralizedGamma", "log_density", "mean_log_ratio"]


class GeneralizedGamma(Univariate):
    r"""Generalized gamma distribution (Stacy 1962), the radius of ISA (eq. 11, ``scale**p = s``).

    .. math:: \varrho(r) = \frac{p\, r^{n-1}}{\Gamma(n/p)\, s^n} \exp\big(-(r/s)^p\big), \quad
        r \geq 0

    so that :math:`(r/s)^p \sim \mathrm{Gamma}(n/p, 1)`. It equals ``scipy.stats.gengamma(n / p, p,
    scale=s)``. ``rsample`` is pathwise in all parameters, like that of torch's Gamma. At
    :math:`r = 0` the log density is -inf for :math:`n > 1` and inf for :math:`n < 1`; at infinity
    it is -inf. The gradient is 0 there.

    Args:
        dim: The dimension :math:`n > 0`, not necessarily an integer, shape ``(*batch)``.
        p: The exponent :math:`p > 0`, shape ``(*batch)``.
        scale: The scale :math:`s > 0`, shape ``(*batch)``.
        validate_args: Whether to validate arguments, as in torch.

    Raises:
        ValueError: If a parameter is not positive and finite.
        TypeError: If a parameter is float16 or bfloat16.

    Example:
        >>> radius = GeneralizedGamma(dim=4, p=2.0, scale=2**0.5)  # of a normal in 4 dimensions
        >>> radius.log_prob(torch.tensor(1.0)), radius.variance
        (tensor(-1.1931), tensor(0.4657))
    """

    arg_constraints: ClassVar = {
        "dim": constraints.positive,
        "p": constraints.positive,
        "scale": constraints.positive,
    }
    support = constraints.nonnegative
    _names = ("dim", "p", "scale")

    def __init__(
        self,
        dim: Tensor | float,
        p: Tensor | float,
        scale: Tensor | float = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        self.dim, self.p, self.scale = as_parameters(dim=dim, p=p, scale=scale)
        initialize(self, self.dim.shape, torch.Size(), validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> GeneralizedGamma:
        new: GeneralizedGamma = self._get_checked_instance(GeneralizedGamma, _instance)
        return self._expand_into(new, batch_shape)

    def log_prob(self, value: Tensor | float) -> Tensor:
        value = self._validated(value)
        return saturate_cast(
            log_density(upcast(value), *self._upcast_parameters()), self._dtype_of(value)
        )

    def entropy(self) -> Tensor:
        n, p, scale = self._upcast_parameters()
        entropy = scaled_log_gamma_entropy(n / p) + (scale / n).log() + mean_log_ratio(n, p)
        return saturate_cast(entropy, self._dtype_of())

    def log_moment(self, order: Tensor | float) -> Tensor:
        r"""The logarithm of :math:`\mathrm{E}\, r^k = s^k\, \Gamma((n + k)/p) / \Gamma(n/p)`.

        It is inf where the moment is infinite, for :math:`k \leq -n`.

        Args:
            order: The order :math:`k`, shape ``(*sample, *batch)``.

        Example:
            >>> GeneralizedGamma(dim=4.0, p=2.0).log_moment(torch.tensor([2.0, 1000.0, -4.0]))
            tensor([6.9315e-01, 2.6175e+03,        inf])
        """
        n, p, scale = self._upcast_parameters()
        order = torch.as_tensor(order, dtype=n.dtype, device=n.device)
        infinite = (order <= -n) | (order == math.inf)
        order = torch.where(infinite, 0.0, order)
        log_moment = order * scale.log() + log_gamma_ratio(n / p, order / p)
        return saturate_cast(torch.where(infinite, math.inf, log_moment), self._dtype_of())

    @property
    def mean(self) -> Tensor:
        n, p, scale = self._upcast_parameters()
        return scale_by_exp(scale, log_gamma_ratio(n / p, 1 / p)).to(self._dtype_of())

    @property
    def mode(self) -> Tensor:
        r"""The mode :math:`s\,((n-1)/p)^{1/p}`.

        It is NaN for :math:`n < 1`, where the density at 0 is unbounded. Its gradient at
        :math:`n = 1` is 0.
        """
        n, p, scale = self._upcast_parameters()
        mode = scale_by_exp(scale, (torch.where(n > 1, n - 1, 1.0) / p).log() / p)
        at_zero = torch.zeros_like(mode).masked_fill(n < 1, torch.nan)
        return torch.where(n > 1, mode, at_zero).to(self._dtype_of())

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        return signed_gamma(self.dim, self.p, self.scale, sample_shape).abs_()

    def _stddev(self) -> Tensor:
        r"""Use :math:`\mathrm{E}\, r^2 / (\mathrm{E}\, r)^2 = e^D`, which avoids cancellation."""
        n, p, scale = self._upcast_parameters()
        a, h = n / p, 1 / p
        difference = log_gamma_second_difference(a, h)
        root_of_second_moment = scale_by_exp(scale, log_gamma_ratio(a, h) + difference / 2)
        return root_of_second_moment * (-torch.expm1(-difference)).sqrt()

    def _log_tails(self, value: Tensor) -> tuple[Tensor, Tensor]:
        n, p, scale = self._upcast_parameters()
        r = upcast(value)
        return log_tails(n / p, log_power(torch.where(r < 0, 0.0, r), scale, p))

    def _quantile(self, value: Tensor) -> Tensor:
        n, p, scale = self._upcast_parameters()
        value = upcast(value)
        inside = (value > 0) & (value < 1)
        u = torch.where(inside, value, 0.5)
        quantile = scale_by_exp(scale, log_gammaincinv(n / p, u.log(), torch.log1p(-u)) / p)
        return torch.where(inside, quantile, quantile_at_bounds(value, 0.0))

    @staticmethod
    def _draw(size: torch.Size, dtype: torch.dtype, *parameters: Tensor) -> Tensor:
        n, p, scale = parameters
        log_power = log_gamma_sample(n / p, size, dtype)
        return saturating_exp(log_power / p + scale.log())


def log_density(r: Tensor, n: Tensor, p: Tensor, scale: Tensor) -> Tensor:
    """Return the generalized gamma log density, in float64, with gradient 0 at 0 and infinity."""
    constant, slope = p.log() - scale.log() - (n / p).lgamma(), n - 1
    log_z, inside = log_ratio(r, scale)
    end = torch.where(r < 1, torch.xlogy(slope.detach(), 0.0), -r.detach())
    return constant + torch.where(inside, slope * log_z - exp(p * log_z), end)


def mean_log_ratio(n: Tensor, p: Tensor) -> Tensor:
    r""":math:`\mathrm{E} \log(r / s) = \psi(n / p) / p`."""
    return digamma(n / p + 1) / p - 1 / n
