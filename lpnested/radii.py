r"""Which distributions can be that of a radius, and what they are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import singledispatch, wraps
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Exponential,
    Gamma,
    HalfNormal,
    Weibull,
    constraints,
)

from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.precision import default_dtype, result_dtype, widen

if TYPE_CHECKING:
    from functools import _SingleDispatchCallable

__all__ = [
    "as_radial",
    "by_radial",
    "check_radial",
    "checked_parameters",
    "dtype_of",
    "generalized_gamma_parameters",
    "in_float64",
    "is_bounded",
    "parameters_of",
]


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
    support = _support(radial)
    negative = isinstance(support, type(constraints.real))
    if check_values and not negative:
        negative = bool((torch.as_tensor(getattr(support, "lower_bound", 0.0)) < 0).any())
    if support.is_discrete or negative:
        raise ValueError(
            f"radial must be a continuous distribution on the positive reals, but torch says that "
            f"the support of {radial} is {support}"
        )


def checked_parameters(radial: Distribution, validate_args: bool | None) -> list[Tensor]:
    """The parameters of a radius, once it is known to be one."""
    check_radial(radial, Distribution._validate_args if validate_args is None else validate_args)
    return parameters_of(radial)


def is_bounded(radial: Distribution) -> bool:
    """Whether the density can jump at a radius other than 0, by the kind of its support."""
    support = _support(radial)
    lower = getattr(support, "lower_bound", 0.0)
    return hasattr(support, "upper_bound") or isinstance(lower, Tensor) or lower != 0


def _support(radial: Distribution) -> Any:
    """A constraint; that of a mixture's components for a mixture."""
    return getattr(radial.support, "base_constraint", radial.support)


def parameters_of(radial: Distribution) -> list[Tensor]:
    """The tensors that a radial is made of, for the dtype and device of its company.

    Those of a mixture are its components', those of a transformed distribution its base's where
    it has none of its own.
    """
    radial = getattr(radial, "component_distribution", radial)
    values = [getattr(radial, name, None) for name in radial.arg_constraints]
    tensors = [value for value in values if isinstance(value, Tensor)]
    base = getattr(radial, "base_dist", None)
    return tensors if tensors or base is None else parameters_of(base)


def dtype_of(radial: Distribution) -> torch.dtype:
    """The dtype of a radial's parameters, or float32 where that is wider."""
    parameters = parameters_of(radial)
    dtype = result_dtype(*parameters) if parameters else default_dtype()
    return torch.promote_types(dtype, torch.float32)


@singledispatch
def as_radial(radial: Distribution) -> Distribution:
    """A radial, as a :class:`GeneralizedGamma` where it is one under another name.

    The parameters of that are derived from those of the radial, in float64 and differentiably.
    """
    return radial


@as_radial.register
def _(radial: Gamma) -> GeneralizedGamma:
    scale = 1 / widen(radial.rate)
    return _generalized_gamma(widen(radial.concentration), torch.ones_like(scale), scale)


@as_radial.register
def _(radial: Exponential) -> GeneralizedGamma:
    scale = 1 / widen(radial.rate)
    return _generalized_gamma(torch.ones_like(scale), torch.ones_like(scale), scale)


@as_radial.register
def _(radial: Weibull) -> GeneralizedGamma:
    concentration = widen(radial.concentration)
    return _generalized_gamma(concentration, concentration, widen(radial.scale))


@as_radial.register
def _(radial: HalfNormal) -> GeneralizedGamma:
    scale = math.sqrt(2) * widen(radial.scale)
    return _generalized_gamma(torch.ones_like(scale), torch.full_like(scale, 2.0), scale)


def _generalized_gamma(dim: Tensor, p: Tensor, scale: Tensor) -> GeneralizedGamma:
    return GeneralizedGamma(dim, p, scale, validate_args=False)


def generalized_gamma_parameters(radial: Distribution) -> tuple[Tensor, Tensor, Tensor]:
    """Dimension, exponent and scale, float64, of a radial that is a generalized gamma variable."""
    radial = as_radial(radial)
    if not isinstance(radial, GeneralizedGamma):
        raise NotImplementedError(
            f"{type(radial).__name__} is not a generalized gamma distribution"
        )
    return widen(radial.dim), widen(radial.p), widen(radial.scale)


def in_float64(radial: GeneralizedGamma) -> GeneralizedGamma:
    """The same in float64, whose closed forms are not rounded."""
    return _generalized_gamma(*generalized_gamma_parameters(radial))


def by_radial(fallback: Callable[..., Tensor]) -> _SingleDispatchCallable[Tensor]:
    """``singledispatch`` on the type of a radial.

    What has no function of its own is asked for as the generalized gamma that it is, if it is.
    """

    @wraps(fallback)
    def of_unregistered(radial: Distribution, *args: Any) -> Tensor:
        converted = as_radial(radial)
        if converted is radial:
            return fallback(radial, *args)
        return dispatched(converted, *args)

    dispatched = singledispatch(of_unregistered)
    return dispatched
