"""The common base of the two univariate distributions: tails, sampling and result dtypes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from lpnested.digits import parameter_repr
from lpnested.precision import LARGEST_EXPONENT, clamp_max, result_dtype, saturate_cast, upcast

__all__ = [
    "Univariate",
    "log_power",
    "log_ratio",
    "quantile_at_bounds",
    "saturating_exp",
    "scale_by_exp",
]

U = TypeVar("U", bound=Distribution)


class Univariate(Distribution):
    """A univariate distribution, elementwise in its parameters, which are its only state.

    Subclasses implement, in float64, the logarithms of both tails, the quantile function, the
    standard deviation, and sampling.
    """

    has_rsample = True
    _names: ClassVar[tuple[str, str, str]]

    def rsample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        size, dtype = self._extended_shape(torch.Size(sample_shape)), self._dtype_of()
        return saturate_cast(self._draw(size, dtype, *self._upcast_parameters()), dtype)

    def cdf(self, value: Tensor | float) -> Tensor:
        r"""Return the distribution function :math:`F(x) = \mathrm{P}(X \leq x)`.

        It is exact in both tails, with gradients in the value and in every parameter.

        Args:
            value: The point :math:`x`, shape ``(*sample, *batch)``.

        Example:
            >>> from lpnested import GeneralizedNormal
            >>> GeneralizedNormal(loc=0.0, scale=2**0.5, p=2.0).cdf(torch.tensor(-9.0))
            tensor(1.1286e-19)
        """
        value = self._validated(value)
        return self._log_tails(value)[0].exp().to(self._dtype_of(value))

    def log_cdf(self, value: Tensor | float) -> Tensor:
        r"""Return :math:`\log F(x)`, exact even where :math:`F` underflows or is nearly 1.

        In float64 it saturates at -4e260, as ``log_prob`` does.

        Args:
            value: The point :math:`x`, shape ``(*sample, *batch)``.

        Example:
            >>> from lpnested import GeneralizedNormal
            >>> GeneralizedNormal(loc=0.0, scale=1.0, p=2.0).log_cdf(torch.tensor([-100.0, 9.0]))
            tensor([-1.0006e+04, -2.0685e-37])
        """
        value = self._validated(value)
        return saturate_cast(self._log_tails(value)[0], self._dtype_of(value))

    def log_survival_function(self, value: Tensor | float) -> Tensor:
        r"""Return :math:`\log(1 - F(x))`, the log upper tail, as exact as :meth:`log_cdf`.

        Args:
            value: The point :math:`x`, shape ``(*sample, *batch)``.

        Example:
            >>> from lpnested import GeneralizedGamma
            >>> radius = GeneralizedGamma(dim=2.0, p=2.0)
            >>> radius.log_survival_function(torch.tensor([1e-3, 100.0]))
            tensor([-1.0000e-06, -1.0000e+04])
        """
        value = self._validated(value)
        return saturate_cast(self._log_tails(value)[1], self._dtype_of(value))

    def icdf(self, value: Tensor | float) -> Tensor:
        r"""Return the quantile :math:`F^{-1}(u)`, with gradients in the value and all parameters.

        Args:
            value: The probability :math:`0 \leq u \leq 1`, shape ``(*sample, *batch)``; outside
                of this range the result is NaN.

        Example:
            >>> from lpnested import GeneralizedGamma
            >>> GeneralizedGamma(dim=2.0, p=2.0).icdf(torch.tensor([1e-12, 0.5, 1.0]))
            tensor([1.0000e-06, 8.3255e-01,        inf])
        """
        value = self._as_tensor(value)
        return self._quantile(value).to(self._dtype_of(value))

    @property
    def variance(self) -> Tensor:
        return self._stddev().square().to(self._dtype_of())

    @property
    def stddev(self) -> Tensor:
        return self._stddev().to(self._dtype_of())

    def __repr__(self) -> str:
        parameters = (
            f"{name}: {parameter_repr(getattr(self, name))}" for name in self.arg_constraints
        )
        return f"{type(self).__name__}({', '.join(parameters)})"

    def _ordered_parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        """The parameters, in the order of the constructor."""
        first, second, third = self._names
        return getattr(self, first), getattr(self, second), getattr(self, third)

    def _expand_into(self, new: U, batch_shape: Sequence[int]) -> U:
        shape = torch.Size(batch_shape)
        for name in self._names:
            setattr(new, name, getattr(self, name).expand(shape))
        Distribution.__init__(new, shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _log_tails(self, value: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _quantile(self, value: Tensor) -> Tensor:
        raise NotImplementedError

    def _stddev(self) -> Tensor:
        raise NotImplementedError

    @staticmethod
    def _draw(size: torch.Size, dtype: torch.dtype, *parameters: Tensor) -> Tensor:
        raise NotImplementedError

    def _upcast_parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        first, second, third = self._ordered_parameters()
        return upcast(first), upcast(second), upcast(third)

    def _validated(self, value: Any) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return self._as_tensor(value)

    def _as_tensor(self, value: Any) -> Tensor:
        if isinstance(value, Tensor):
            return value
        return torch.as_tensor(
            value, dtype=self._dtype_of(), device=self._ordered_parameters()[0].device
        )

    def _dtype_of(self, value: Tensor | None = None) -> torch.dtype:
        """Return the dtype of a result, from the parameters and optionally a value."""
        dtype = result_dtype(*self._ordered_parameters())
        return dtype if value is None else torch.promote_types(dtype, value.dtype)


def log_ratio(x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return :math:`\log(x / s)`, and whether :math:`x` is neither 0 nor infinite nor NaN.

    For such :math:`x`, the logarithm and its gradients are finite. Dividing square roots avoids
    overflow and underflow.
    """
    inside = (x != 0) & (x < math.inf)
    return 2 * (torch.where(inside, x, 1.0).sqrt() / scale.sqrt()).log(), inside


def log_power(x: Tensor, scale: Tensor, p: Tensor) -> Tensor:
    r"""Return :math:`p \log(x / s)`, finite except at 0 and infinity, where it has no gradient."""
    log_z, inside = log_ratio(x, scale)
    end = torch.where(x == 0, -math.inf, x.detach())
    return torch.where(inside, clamp_max(p * log_z, LARGEST_EXPONENT[x.dtype]), end)


def saturating_exp(x: Tensor) -> Tensor:
    """Exponentiate, saturating at the largest number of the dtype."""
    limits = torch.finfo(x.dtype)
    return clamp_max(x, math.log(limits.max) * (1 - limits.eps)).exp()


def scale_by_exp(scale: Tensor, log_factor: Tensor) -> Tensor:
    """Multiply a scale by an exponential, which may overflow where the product does not."""
    root = (log_factor / 2).exp()
    return scale * root * root


def quantile_at_bounds(u: Tensor, lowest: float) -> Tensor:
    """Return the quantile of 0 and 1, without gradient, and NaN elsewhere."""
    u = u.detach()
    return torch.where(u == 0, lowest, torch.where(u == 1, math.inf, math.nan))
