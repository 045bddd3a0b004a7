"""Radials that are generalized gamma distributions, and dispatch that treats them alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import singledispatch, wraps
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Exponential, Gamma, HalfNormal, Weibull

from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.precision import result_dtype, upcast
from lpnested.tree import LpNestedTree

if TYPE_CHECKING:
    from functools import _SingleDispatchCallable

__all__ = [
    "canonicalize",
    "gamma_radius",
    "generalized_gamma_parameters",
    "in_float64",
    "marginal_radius",
    "radial_dispatch",
]


@singledispatch
def canonicalize(radial: Distribution) -> Distribution:
    """Convert a radial to the :class:`GeneralizedGamma` that it is equal to, if any.

    The parameters are derived differentiably in float64; any other radial is returned unchanged.
    """
    return radial


@canonicalize.register
def _(radial: Gamma) -> GeneralizedGamma:
    scale = 1 / upcast(radial.rate)
    return _generalized_gamma(upcast(radial.concentration), torch.ones_like(scale), scale)


@canonicalize.register
def _(radial: Exponential) -> GeneralizedGamma:
    scale = 1 / upcast(radial.rate)
    return _generalized_gamma(torch.ones_like(scale), torch.ones_like(scale), scale)


@canonicalize.register
def _(radial: Weibull) -> GeneralizedGamma:
    concentration = upcast(radial.concentration)
    return _generalized_gamma(concentration, concentration, upcast(radial.scale))


@canonicalize.register
def _(radial: HalfNormal) -> GeneralizedGamma:
    scale = math.sqrt(2) * upcast(radial.scale)
    return _generalized_gamma(torch.ones_like(scale), torch.full_like(scale, 2.0), scale)


def _generalized_gamma(dim: Tensor, p: Tensor, scale: Tensor) -> GeneralizedGamma:
    return GeneralizedGamma(dim, p, scale, validate_args=False)


def generalized_gamma_parameters(radial: Distribution) -> tuple[Tensor, Tensor, Tensor]:
    """Return dimension, exponent and scale, float64, of a generalized gamma radial."""
    radial = canonicalize(radial)
    if not isinstance(radial, GeneralizedGamma):
        raise NotImplementedError(
            f"{type(radial).__name__} is not a generalized gamma distribution"
        )
    return upcast(radial.dim), upcast(radial.p), upcast(radial.scale)


def in_float64(radial: GeneralizedGamma) -> GeneralizedGamma:
    """Convert to float64, so that closed forms are not rounded."""
    return _generalized_gamma(*generalized_gamma_parameters(radial))


def gamma_radius(
    function: _SingleDispatchCallable[Tensor], radial: Distribution
) -> GeneralizedGamma | None:
    """Return the radial as a generalized gamma distribution if a function handles it as one.

    A :func:`radial_dispatch` function does not if the radial's type has its own implementation.
    """
    if function.dispatch(type(radial)) is function.dispatch(object):
        radial = canonicalize(radial)
    handled = function.dispatch(type(radial)) is function.dispatch(GeneralizedGamma)
    return radial if handled and isinstance(radial, GeneralizedGamma) else None


def marginal_radius(
    radial: Distribution, exponents: Tensor, tree: LpNestedTree, place: int
) -> tuple[int, Tensor, Tensor]:
    """Return dimension, exponent and scale of the generalized gamma radius of a node's marginal.

    Raises:
        NotImplementedError: If the radius of the marginal has no closed form.
    """
    above = exponents[..., [k for k in tree.ancestors(place) if len(tree.children[k]) > 1]]
    dim = tree.subtree(place)[0].dim
    try:
        n, p, scale = generalized_gamma_parameters(radial)
        closed = (n == tree.dim) & (p.unsqueeze(-1) == above).all(-1)
    except NotImplementedError:
        closed = torch.tensor(False)
    if not closed.all():
        raise NotImplementedError(
            f"the radius of the marginal of {tree.nodes[place]} has no closed form: it needs a "
            f"generalized gamma radial of dim {tree.dim} whose p is the exponent of every node "
            f"above, but got {radial} under exponents {above}"
        )
    dtype = result_dtype(exponents)
    return dim, p.to(dtype), scale.to(dtype)


def radial_dispatch(fallback: Callable[..., Tensor]) -> _SingleDispatchCallable[Tensor]:
    """Decorate a fallback to dispatch on the type of its first argument, a radial.

    A type without its own implementation is handled as a generalized gamma if it is equal to one.
    """

    @wraps(fallback)
    def unregistered(radial: Distribution, *args: Any) -> Tensor:
        converted = canonicalize(radial)
        if converted is radial:
            return fallback(radial, *args)
        return dispatched(converted, *args)

    dispatched = singledispatch(unregistered)
    return dispatched
