"""The generalized gamma distribution: the radius of ISA."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from lpnested.gamma import log_gamma_sample
from lpnested.kept import kept
from lpnested.precision import as_parameters, at_most, check_finite, exp, narrow, widen

__all__ = ["GeneralizedGamma"]

# Below this logarithm the first term of the series of the incomplete gamma function is exact, and
# the power itself may underflow.
_LOG_SMALL = -40.0


class GeneralizedGamma(Distribution):
    r"""Generalized gamma distribution (Stacy 1962), the radius of ISA (eq. 11, ``scale**p = s``).

    .. math:: \varrho(r) = \frac{p\, r^{n-1}}{\Gamma(n/p)\, s^n} \exp\big(-(r/s)^p\big), \quad
        r \geq 0

    so that :math:`(r/s)^p \sim \mathrm{Gamma}(n/p, 1)`. It is ``scipy.stats.gengamma(n / p, p,
    scale=s)``. ``rsample`` is pathwise in all parameters, as torch's Gamma. At :math:`r = 0` the
    log density is -inf for :math:`n > 1` and inf for :math:`n < 1`, with gradient 0.

    Args:
        dim: The dimension :math:`n > 0`, not necessarily an integer, shape ``(*batch)``.
        p: The exponent :math:`p > 0`, shape ``(*batch)``.
        scale: The scale :math:`s > 0`, shape ``(*batch)``.
        validate_args: Whether to check arguments, as in torch.

    Raises:
        ValueError: Where a parameter is not positive and finite.
        TypeError: Where a parameter is float16 or bfloat16.

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
    has_rsample = True

    def __init__(
        self,
        dim: Tensor | float,
        p: Tensor | float,
        scale: Tensor | float = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        self.dim, self.p, self.scale = as_parameters(dim=dim, p=p, scale=scale)
        super().__init__(self.dim.shape, validate_args=validate_args)
        if self._validate_args:
            for name in self.arg_constraints:
                check_finite(name, getattr(self, name))

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> GeneralizedGamma:
        new: GeneralizedGamma = self._get_checked_instance(GeneralizedGamma, _instance)
        batch_shape = torch.Size(batch_shape)
        for name in self.arg_constraints:
            setattr(new, name, getattr(self, name).expand(batch_shape))
        super(GeneralizedGamma, new).__init__(batch_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        n, p, log_scale, constant = self.log_density_parameters()
        r = widen(value)
        zero = r == 0
        log_r = torch.where(zero, 1.0, r).log()
        at_zero = torch.xlogy(n.detach() - 1, torch.zeros_like(r))
        shape_of_r = (n - 1) * log_r - exp(p * (log_r - log_scale))
        return self._narrow(constant + torch.where(zero, at_zero, shape_of_r), value)

    def rsample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        n, p, scale = self._parameters()
        return self._narrow(scale * exp(log_gamma_sample(n / p, shape, self.p.dtype) / p))

    def cdf(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        n, p, scale = self._parameters()
        r = widen(value)
        zero = r == 0
        log_z = torch.where(zero, 1.0, r).log() - scale.log()
        small, a = p * log_z < _LOG_SMALL, n / p
        series = exp(torch.where(small, n * log_z, 0.0) - (a + 1).lgamma())
        cdf = torch.special.gammainc(a, exp(torch.where(small, 0.0, p * log_z)))
        return self._narrow(torch.where(zero, 0.0, torch.where(small, series, cdf)), value)

    def entropy(self) -> Tensor:
        n, p, scale = self._parameters()
        a = n / p
        return self._narrow(scale.log() - p.log() + a.lgamma() + a + (1 - n) / p * a.digamma())

    def log_moment(self, order: Tensor | float) -> Tensor:
        r"""The logarithm of :math:`\mathrm{E}\, r^k = s^k\, \Gamma((n + k)/p) / \Gamma(n/p)`.

        It is inf where the moment is, :math:`k \leq -n`.
        """
        n, p, scale = self._parameters()
        finite = n + order > 0
        size = torch.where(finite, n + order, 1.0)
        log_moment = order * scale.log() + (size / p).lgamma() - (n / p).lgamma()
        return self._narrow(torch.where(finite, log_moment, torch.inf))

    @property
    def mean(self) -> Tensor:
        n, p, scale = self._parameters()
        return self._narrow(scale * exp(((n + 1) / p).lgamma() - (n / p).lgamma()))

    @property
    def variance(self) -> Tensor:
        n, p, scale = self._parameters()
        log_first = ((n + 1) / p).lgamma() - (n / p).lgamma()
        # E r^2 - (E r)^2 = (E r)^2 (E r^2 / (E r)^2 - 1), which loses no digits.
        ratio = _second_difference_of_lgamma(n, p)
        return self._narrow(scale**2 * exp(2 * log_first) * torch.expm1(at_most(ratio, 600.0)))

    @property
    def mode(self) -> Tensor:
        r"""The mode :math:`s\,((n-1)/p)^{1/p}`.

        It is NaN for :math:`n < 1`, where the density at 0 is unbounded. Its gradient at
        :math:`n = 1` is 0.
        """
        n, p, scale = self._parameters()
        mode = scale * (torch.where(n > 1, n - 1, 1.0) / p) ** (1 / p)
        at_zero = torch.zeros_like(mode).masked_fill(n < 1, torch.nan)
        return self._narrow(torch.where(n > 1, mode, at_zero))

    def log_density_parameters(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        r"""In float64: :math:`n`, :math:`p`, :math:`\log s`, and the logarithm of the constant."""

        def make() -> tuple[Tensor, Tensor, Tensor, Tensor]:
            return log_density_parameters(*self._parameters())

        return kept(self, "_kept_parameters", (self.dim, self.p, self.scale), make)

    def _parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        return widen(self.dim), widen(self.p), widen(self.scale)

    def _narrow(self, result: Tensor, value: Tensor | None = None) -> Tensor:
        dtypes = [self.dim.dtype] + ([] if value is None else [value.dtype])
        return narrow(result, torch.promote_types(dtypes[0], dtypes[-1]))


def log_density_parameters(
    n: Tensor, p: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""With :math:`\log s` and :math:`\log p - \log\Gamma(n/p) - n \log s`."""
    log_scale = scale.log()
    return n, p, log_scale, p.log() - (n / p).lgamma() - n * log_scale


def _second_difference_of_lgamma(n: Tensor, p: Tensor) -> Tensor:
    """That of lgamma at n/p, (n+1)/p, (n+2)/p; for large n by its Taylor series."""
    a, h = n / p, 1 / p
    direct = (a + 2 * h).lgamma() - 2 * (a + h).lgamma() + a.lgamma()
    orders = (2, 4, 6, 8)
    terms = [2 * h**k / math.factorial(k) * torch.polygamma(k - 1, a + h) for k in orders]
    return torch.where(n > 50, torch.stack(terms).sum(0), direct)
