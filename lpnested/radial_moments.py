r"""Closed forms of a radial: moments, mean log radius, entropy and mode.

Functions dispatch on the radial's type, in float64, as in :mod:`lpnested.radial`.
"""

from __future__ import annotations

import math
from functools import reduce
from operator import or_

import torch
from torch import Tensor
from torch.distributions import (
    Beta,
    Distribution,
    FisherSnedecor,
    HalfCauchy,
    InverseGamma,
    Kumaraswamy,
    LogNormal,
    MixtureSameFamily,
    Pareto,
    Uniform,
)

from lpnested.gamma_radii import in_float64, radial_dispatch
from lpnested.gamma_ratio import log_gamma_ratio
from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.precision import upcast
from lpnested.radial import log_beta
from lpnested.radial_entropy import generator_mode, log_interval, mean_log, radial_entropy
from lpnested.radii import parameters_of

__all__ = ["generator_mode", "log_radial_moment", "mean_log", "radial_entropy"]

# Series coefficients of log(sinh(y) / y), in powers of y^2 from the first.
_SINHC = [1 / 6, -1 / 180, 1 / 2835, -1 / 37800, 1 / 467775, -691 / 3831077250]
_SMALL = 0.2


@radial_dispatch
def log_radial_moment(radial: Distribution, order: Tensor | float) -> Tensor:
    r"""The logarithm of :math:`\mathrm{E}\, r^k` for real k; inf where the moment is infinite.

    For an unregistered type, :math:`k = 1, 2` use its mean and variance. Some torch classes return
    NaN where these are infinite; a positive variable has every moment in :math:`[0, \infty]`.

    Args:
        radial: The distribution of the radius, batch shape ``(*batch)``.
        order: The order k, a number or of shape ``(*sample, *batch)``.

    Raises:
        NotImplementedError: If the moment has no closed form here.
    """
    orders = torch.as_tensor(order)
    known = (orders == 0) | (orders == 1) | (orders == 2)
    try:
        if known.all():
            first, second = _two_moments(radial, needs_second=bool((orders == 2).any()))
            return torch.where(orders == 0, 0.0, torch.where(orders == 1, first, second))
    except NotImplementedError:
        pass  # the error below names the type
    raise NotImplementedError(
        f"the moment of order {order} of {type(radial).__name__} has no closed form here: an "
        f"unregistered type only has orders 1 and 2, from its mean and variance"
    )


def _two_moments(radial: Distribution, needs_second: bool) -> tuple[Tensor, Tensor]:
    """Return the logarithms of the first and, if needed, the second moment."""
    unknown = [x.isnan() for x in parameters_of(radial)]
    unknown = [x if x.shape == radial.batch_shape else x.any() for x in unknown]
    known = ~reduce(or_, unknown, torch.tensor(False))
    mean = upcast(radial.mean)
    mean = torch.where(known & mean.isnan(), math.inf, mean)
    if not needs_second:
        return mean.log(), mean
    variance = upcast(radial.variance)
    infinite = variance.isnan() & known | mean.isinf()
    squares = torch.where(infinite, 0.0, variance) + torch.where(infinite, 1.0, mean) ** 2
    return mean.log(), torch.where(infinite, math.inf, squares.log())


@log_radial_moment.register
def _(radial: GeneralizedGamma, order: Tensor | float) -> Tensor:
    return in_float64(radial).log_moment(order)


@log_radial_moment.register
def _(radial: InverseGamma, order: Tensor | float) -> Tensor:
    a, rate = upcast(radial.concentration), upcast(radial.rate)
    finite, order = _between(-math.inf, order, a)
    return torch.where(finite, order * rate.log() + log_gamma_ratio(a, -order), math.inf)


@log_radial_moment.register
def _(radial: LogNormal, order: Tensor | float) -> Tensor:
    return order * upcast(radial.loc) + (order * upcast(radial.scale)) ** 2 / 2


@log_radial_moment.register
def _(radial: HalfCauchy, order: Tensor | float) -> Tensor:
    log_scale = upcast(radial.scale).log()
    finite, order = _between(-torch.ones_like(log_scale), order, 1.0)
    return torch.where(finite, order * log_scale - (order * math.pi / 2).cos().log(), math.inf)


@log_radial_moment.register
def _(radial: FisherSnedecor, order: Tensor | float) -> Tensor:
    one, two = upcast(radial.df1) / 2, upcast(radial.df2) / 2
    finite, order = _between(-one, order, two)
    ratios = log_gamma_ratio(one, order) + log_gamma_ratio(two, -order)
    return torch.where(finite, order * (two / one).log() + ratios, math.inf)


@log_radial_moment.register
def _(radial: Pareto, order: Tensor | float) -> Tensor:
    alpha, log_scale = upcast(radial.alpha), upcast(radial.scale).log()
    finite, order = _between(-math.inf, order, alpha)
    return torch.where(finite, order * log_scale - torch.log1p(-order / alpha), math.inf)


@log_radial_moment.register
def _(radial: Uniform, order: Tensor | float) -> Tensor:
    r"""Use the midpoint m and half width y of [log low, log high].

    .. math:: \log \mathrm{E}\, r^k = k m + L((k + 1) y) - L(y), \quad L(y) = \log(\sinh(y) / y)
    """
    middle, half, is_positive, log_high = log_interval(radial)
    finite, order = _between(torch.where(is_positive, -math.inf, -torch.ones_like(half)), order)
    from_low = order * middle + _log_sinhc((order + 1) * half) - _log_sinhc(half)
    from_zero = order * log_high - torch.where(is_positive, 1.0, order + 1).log()
    return torch.where(finite, torch.where(is_positive, from_low, from_zero), math.inf)


@log_radial_moment.register
def _(radial: Beta, order: Tensor | float) -> Tensor:
    a, b = upcast(radial.concentration1), upcast(radial.concentration0)
    finite, order = _between(-a, order)
    log_moment = log_gamma_ratio(a, order) - log_gamma_ratio(a + b, order)
    return torch.where(finite, log_moment, math.inf)


@log_radial_moment.register
def _(radial: Kumaraswamy, order: Tensor | float) -> Tensor:
    a, b = upcast(radial.concentration1), upcast(radial.concentration0)
    finite, order = _between(-a, order)
    return torch.where(finite, b.log() + log_beta(1 + order / a, b), math.inf)


@log_radial_moment.register
def _(radial: MixtureSameFamily, order: Tensor | float) -> Tensor:
    log_weights = upcast(radial.mixture_distribution.logits).log_softmax(-1)
    order = order.unsqueeze(-1) if isinstance(order, Tensor) else order
    moments = log_radial_moment(radial.component_distribution, order)
    absent = log_weights == -math.inf  # whatever the moment of the component
    terms = torch.where(absent, -math.inf, log_weights + torch.where(absent, 0.0, moments))
    infinite = (terms == math.inf).any(-1)  # where logsumexp has no gradient
    finite_terms = torch.where(infinite.unsqueeze(-1), 0.0, terms)
    return torch.where(infinite, math.inf, finite_terms.logsumexp(-1))


def _between(
    low: Tensor | float, order: Tensor | float, high: Tensor | float = math.inf
) -> tuple[Tensor, Tensor]:
    """Return whether an order is between bounds (or NaN), and the order there, 0 elsewhere."""
    like = next(x for x in (low, high) if isinstance(x, Tensor))
    order = torch.as_tensor(order, dtype=like.dtype, device=like.device)
    finite = ~((order <= low) | (order >= high))
    return finite, torch.where(finite, order, 0.0)


def _log_sinhc(y: Tensor) -> Tensor:
    """Return the logarithm of sinh(y) / y, an even function."""
    small = y.abs() < _SMALL
    square = torch.where(small, y, 0.0) ** 2
    series = square * sum(c * square**k for k, c in enumerate(_SINHC))
    y = torch.where(small, 1.0, y).abs()
    return torch.where(small, series, y + (-torch.expm1(-2 * y) / (2 * y)).log())
