"""Closed forms of a radius: its moments, the mean of its logarithm, the mode of its shell.

By dispatch on its type, in float64, as :mod:`lpnested.radial`.
"""

from __future__ import annotations

import math
from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Exponential,
    Gamma,
    HalfCauchy,
    HalfNormal,
    LogNormal,
    MixtureSameFamily,
    Pareto,
    Weibull,
)

from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.precision import widen
from lpnested.radial import generalized_gamma_parameters

__all__ = ["log_radial_moment", "mean_log", "radial_entropy", "shell_mode"]


@singledispatch
def log_radial_moment(radial: Distribution, order: Tensor | float) -> Tensor:
    r"""The logarithm of :math:`\mathrm{E}\, r^k`, inf where the moment is.

    Where a type is not registered, its mean and variance serve :math:`k = 1, 2`.
    """
    orders = torch.as_tensor(order, dtype=torch.float64)
    try:
        if (orders == 1).all():
            return widen(radial.mean).log()
        if (orders == 2).all():
            return (widen(radial.variance) + widen(radial.mean) ** 2).log()
    except NotImplementedError:
        pass  # said below, with the name
    raise NotImplementedError(
        f"the moment of order {order} of {type(radial).__name__} has no closed form here: "
        f"only orders 1 and 2 can have, by its mean and variance"
    )


@log_radial_moment.register(GeneralizedGamma)
@log_radial_moment.register(Gamma)
@log_radial_moment.register(Exponential)
@log_radial_moment.register(Weibull)
@log_radial_moment.register(HalfNormal)
def _(radial: Distribution, order: Tensor | float) -> Tensor:
    n, p, scale = generalized_gamma_parameters(radial)
    finite = n + order > 0
    size = torch.where(finite, n + order, 1.0)
    log_moment = order * scale.log() + (size / p).lgamma() - (n / p).lgamma()
    return torch.where(finite, log_moment, math.inf)


@log_radial_moment.register
def _(radial: LogNormal, order: Tensor | float) -> Tensor:
    return order * widen(radial.loc) + (order * widen(radial.scale)) ** 2 / 2


@log_radial_moment.register
def _(radial: HalfCauchy, order: Tensor | float) -> Tensor:
    log_scale = widen(radial.scale).log()
    order = torch.as_tensor(order, dtype=torch.float64, device=log_scale.device)
    finite = order.abs() < 1
    cosine = (torch.where(finite, order, 0.0) * math.pi / 2).cos()
    return torch.where(finite, order * log_scale - cosine.log(), math.inf)


@log_radial_moment.register
def _(radial: Pareto, order: Tensor | float) -> Tensor:
    alpha, log_scale = widen(radial.alpha), widen(radial.scale).log()
    finite = order < alpha
    margin = torch.where(finite, alpha - order, 1.0)
    return torch.where(finite, alpha.log() - margin.log() + order * log_scale, math.inf)


@log_radial_moment.register
def _(radial: MixtureSameFamily, order: Tensor | float) -> Tensor:
    log_weights = widen(radial.mixture_distribution.logits).log_softmax(-1)
    order = order.unsqueeze(-1) if isinstance(order, Tensor) else order
    components = log_radial_moment(radial.component_distribution, order)
    return torch.logsumexp(log_weights + components, -1)


@singledispatch
def mean_log(radial: Distribution) -> Tensor:
    r"""The mean of the logarithm, :math:`\mathrm{E} \log r`."""
    raise NotImplementedError(
        f"the mean of log r has no closed form here for a radial of type {type(radial).__name__}"
    )


@mean_log.register(GeneralizedGamma)
@mean_log.register(Gamma)
@mean_log.register(Exponential)
@mean_log.register(Weibull)
@mean_log.register(HalfNormal)
def _(radial: Distribution) -> Tensor:
    n, p, scale = generalized_gamma_parameters(radial)
    return scale.log() + (n / p).digamma() / p


@mean_log.register
def _(radial: LogNormal) -> Tensor:
    return widen(radial.loc)


@mean_log.register
def _(radial: HalfCauchy) -> Tensor:
    return widen(radial.scale).log()


@mean_log.register
def _(radial: Pareto) -> Tensor:
    return widen(radial.scale).log() + 1 / widen(radial.alpha)


@singledispatch
def radial_entropy(radial: Distribution) -> Tensor:
    """The entropy of the radius itself."""
    return widen(radial.entropy())


@radial_entropy.register(GeneralizedGamma)
@radial_entropy.register(Gamma)
@radial_entropy.register(Exponential)
@radial_entropy.register(Weibull)
@radial_entropy.register(HalfNormal)
def _(radial: Distribution) -> Tensor:
    n, p, scale = generalized_gamma_parameters(radial)
    return GeneralizedGamma(n, p, scale, validate_args=False).entropy()


@singledispatch
def shell_mode(radial: Distribution, dim: int) -> Tensor:
    """The only mode of :func:`lpnested.radial.log_shell` at radius 0, or NaN.

    It is NaN where the density at 0 is unbounded, or largest on a whole sphere.
    """
    raise NotImplementedError(
        f"the mode has no closed form here for a radial of type {type(radial).__name__}"
    )


@shell_mode.register(GeneralizedGamma)
@shell_mode.register(Gamma)
@shell_mode.register(Exponential)
@shell_mode.register(Weibull)
@shell_mode.register(HalfNormal)
def _(radial: Distribution, dim: int) -> Tensor:
    n, _, _ = generalized_gamma_parameters(radial)
    return torch.zeros_like(n).masked_fill(n != dim, math.nan)


@shell_mode.register
def _(radial: HalfCauchy, dim: int) -> Tensor:
    return widen(radial.scale) * (0.0 if dim == 1 else math.nan)


@shell_mode.register(LogNormal)
@shell_mode.register(Pareto)
def _(radial: LogNormal | Pareto, dim: int) -> Tensor:
    return widen(radial.scale) * math.nan
