r"""What an :math:`L_p`-nested distribution needs to know of its radius, by dispatch on its type.

Any torch Distribution on the positive reals serves as radius. A type that registers here is exact
and fused: the powers of :math:`r` in its density and in the volume element cancel before they can
overflow. All functions return float64.
"""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Any

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
    constraints,
)

from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.precision import exp, widen

__all__ = [
    "check_radial",
    "log_radial_moment",
    "log_shell",
    "mean_log",
    "shell_mode",
]

# The generic fallback asks a radial for its density within the range of float32.
_LOG_SMALLEST, _LOG_LARGEST = -87.3, 88.7


def check_radial(radial: Distribution, check_values: bool) -> None:
    """Refuse what cannot be the distribution of a radius; by its type alone or by values too."""
    if not isinstance(radial, Distribution):
        raise TypeError(
            f"radial must be a torch Distribution on the positive reals, but got {radial!r}"
        )
    if radial.event_shape:
        raise ValueError(
            f"radial must be univariate, but {radial} has event shape {tuple(radial.event_shape)}"
        )
    support: Any = radial.support
    support = getattr(support, "base_constraint", support)  # that of a mixture's components
    negative = isinstance(support, type(constraints.real))
    if check_values and not negative:
        negative = bool((torch.as_tensor(getattr(support, "lower_bound", 0.0)) < 0).any())
    if support.is_discrete or negative:
        raise ValueError(
            f"radial must be a continuous distribution on the positive reals, but the support of "
            f"{radial} is {support}"
        )


@singledispatch
def _generalized_gamma_parameters(radial: Distribution) -> tuple[Tensor, Tensor, Tensor]:
    """Dimension, exponent and scale of the radials that are a :class:`GeneralizedGamma`."""
    raise NotImplementedError(f"{type(radial).__name__} is not a generalized gamma distribution")


@_generalized_gamma_parameters.register
def _(radial: GeneralizedGamma) -> tuple[Tensor, Tensor, Tensor]:
    return widen(radial.dim), widen(radial.p), widen(radial.scale)


@_generalized_gamma_parameters.register
def _(radial: Gamma) -> tuple[Tensor, Tensor, Tensor]:
    scale = 1 / widen(radial.rate)
    return widen(radial.concentration), torch.ones_like(scale), scale


@_generalized_gamma_parameters.register
def _(radial: Exponential) -> tuple[Tensor, Tensor, Tensor]:
    scale = 1 / widen(radial.rate)
    return torch.ones_like(scale), torch.ones_like(scale), scale


@_generalized_gamma_parameters.register
def _(radial: Weibull) -> tuple[Tensor, Tensor, Tensor]:
    concentration = widen(radial.concentration)
    return concentration, concentration, widen(radial.scale)


@_generalized_gamma_parameters.register
def _(radial: HalfNormal) -> tuple[Tensor, Tensor, Tensor]:
    scale = math.sqrt(2) * widen(radial.scale)
    return torch.ones_like(scale), torch.full_like(scale, 2.0), scale


@singledispatch
def log_shell(radial: Distribution, log_r: Tensor, dim: int) -> Tensor:
    r"""The radial density spread over its sphere: :math:`\log\varrho(r) - (n - 1) \log r`.

    The generic fallback keeps :math:`r` within the range of float32, so that it is finite.

    Args:
        radial: The distribution of the radius, batch shape ``(*batch)``.
        log_r: The logarithm of the radius, float64, shape ``(*sample, *batch)``.
        dim: The dimension :math:`n` of the space.
    """
    log_r = log_r.clamp(_LOG_SMALLEST, _LOG_LARGEST)
    r = log_r.exp()
    support: Any = radial.support
    inside = support.check(r)
    lower = getattr(support, "lower_bound", 0.0)
    upper = getattr(support, "upper_bound", lower + 2.0)
    density = radial.log_prob(torch.where(inside, r, (lower + upper) / 2))
    return torch.where(inside, density - (dim - 1) * log_r, -math.inf)


@log_shell.register(GeneralizedGamma)
@log_shell.register(Gamma)
@log_shell.register(Exponential)
@log_shell.register(Weibull)
@log_shell.register(HalfNormal)
def _(radial: Distribution, log_r: Tensor, dim: int) -> Tensor:
    n, p, scale = _generalized_gamma_parameters(radial)
    log_scale = scale.log()
    constant = p.log() - (n / p).lgamma() - n * log_scale
    return constant + (n - dim) * log_r - exp(p * (log_r - log_scale))


@log_shell.register
def _(radial: LogNormal, log_r: Tensor, dim: int) -> Tensor:
    loc, scale = widen(radial.loc), widen(radial.scale)
    z = (log_r - loc) / scale
    return -0.5 * z**2 - scale.log() - 0.5 * math.log(2 * math.pi) - dim * log_r


@log_shell.register
def _(radial: HalfCauchy, log_r: Tensor, dim: int) -> Tensor:
    log_scale = widen(radial.scale).log()
    tail = torch.nn.functional.softplus(2 * (log_r - log_scale))  # log(1 + (r / scale)^2)
    return math.log(2 / math.pi) - log_scale - tail - (dim - 1) * log_r


@log_shell.register
def _(radial: Pareto, log_r: Tensor, dim: int) -> Tensor:
    log_scale, alpha = widen(radial.scale).log(), widen(radial.alpha)
    density = alpha.log() + alpha * log_scale - (alpha + dim) * log_r
    return torch.where(log_r < log_scale, -math.inf, density)


@log_shell.register
def _(radial: MixtureSameFamily, log_r: Tensor, dim: int) -> Tensor:
    log_weights = widen(radial.mixture_distribution.logits).log_softmax(-1)
    components = log_shell(radial.component_distribution, log_r.unsqueeze(-1), dim)
    return torch.logsumexp(log_weights + components, -1)


@singledispatch
def log_radial_moment(radial: Distribution, order: Tensor | float) -> Tensor:
    r"""The logarithm of :math:`\mathrm{E}\, r^k`, inf where the moment is.

    Where a type is not registered, its mean and variance serve :math:`k = 1, 2`.
    """
    orders = torch.as_tensor(order, dtype=torch.float64)
    if (orders == 1).all():
        return widen(radial.mean).log()
    if (orders == 2).all():
        return (widen(radial.variance) + widen(radial.mean) ** 2).log()
    raise NotImplementedError(
        f"the moment of order {order} of {type(radial).__name__} has no closed form here: "
        f"only orders 1 and 2 have, by its mean and variance"
    )


@log_radial_moment.register(GeneralizedGamma)
@log_radial_moment.register(Gamma)
@log_radial_moment.register(Exponential)
@log_radial_moment.register(Weibull)
@log_radial_moment.register(HalfNormal)
def _(radial: Distribution, order: Tensor | float) -> Tensor:
    n, p, scale = _generalized_gamma_parameters(radial)
    log_moment = order * scale.log() + ((n + order) / p).lgamma() - (n / p).lgamma()
    return torch.where(n + order > 0, log_moment, math.inf)


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
    n, p, scale = _generalized_gamma_parameters(radial)
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
def shell_mode(radial: Distribution, dim: int) -> Tensor:
    """The only mode of :func:`log_shell` at radius 0, or NaN.

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
    n, _, _ = _generalized_gamma_parameters(radial)
    return torch.where(n == dim, 0.0, math.nan)


@shell_mode.register
def _(radial: HalfCauchy, dim: int) -> Tensor:
    return widen(radial.scale) * (0.0 if dim == 1 else math.nan)


@shell_mode.register(LogNormal)
@shell_mode.register(Pareto)
def _(radial: LogNormal | Pareto, dim: int) -> Tensor:
    return widen(radial.scale) * math.nan
