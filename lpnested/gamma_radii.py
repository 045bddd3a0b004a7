"""Which radials are generalized gamma variables, and functions that take them all as one."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import singledispatch, wraps
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Exponential, Gamma, HalfNormal, Weibull

from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.precision import result_dtype, widen
from lpnested.tree import LpNestedTree

if TYPE_CHECKING:
    from functools import _SingleDispatchCallable

__all__ = [
    "as_radial",
    "by_radial",
    "gamma_radius",
    "generalized_gamma_parameters",
    "in_float64",
    "parameters_under",
]


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


def gamma_radius(
    function: _SingleDispatchCallable[Tensor], radial: Distribution
) -> GeneralizedGamma | None:
    """The generalized gamma variable that a radial is, if it is and a function takes it as one.

    A function :func:`by_radial` does not where something else is registered for the radial's type.
    """
    if function.dispatch(type(radial)) is function.dispatch(object):
        radial = as_radial(radial)
    taken = function.dispatch(type(radial)) is function.dispatch(GeneralizedGamma)
    return radial if taken and isinstance(radial, GeneralizedGamma) else None


def parameters_under(
    radial: Distribution, exponents: Tensor, tree: LpNestedTree, place: int
) -> tuple[int, Tensor, Tensor]:
    """Of the radius of a node's marginal: a generalized gamma variable where it has a closed form.

    Raises:
        NotImplementedError: Where it has none.
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
