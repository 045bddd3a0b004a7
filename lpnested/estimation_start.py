"""From what a user passes to the model that is fitted, and to where the optimiser begins."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    MixtureSameFamily,
    constraints,
    transform_to,
)

from lpnested.estimation_data import Data
from lpnested.estimation_likelihood import Likelihood
from lpnested.estimation_model import Model
from lpnested.estimation_radial import log_radius
from lpnested.gamma_radii import as_radial
from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.lp_nested import LpNested
from lpnested.nn import Learnable
from lpnested.radii import is_bounded
from lpnested.tree import LpNestedTree

__all__ = ["check_support", "module_of", "starting_vector"]

_P = 2.0  # the exponent that everything begins with


def module_of(target: Any, radial: Any) -> Learnable:
    """The module whose learned parameters are to be estimated."""
    if isinstance(target, LpNestedTree):
        exponents = torch.full((target.num_nodes,), _P, dtype=torch.float64)
        of_radius = _radial_module(radial, target.dim)
        _refuse_bounds(of_radius())
        batch = of_radius().batch_shape
        return Learnable(
            LpNested,
            target,
            exponents=exponents.expand(*batch, -1),
            radial=of_radius,
            learn="exponents",
        )
    if radial is not None:
        raise ValueError("radial goes with a tree: the other forms have their radius already")
    if isinstance(target, Learnable):
        if isinstance(target(), LpNested):
            _refuse_bounds(target().radial)
        return target
    module = _univariate_module(target)
    if module is None:
        raise TypeError(
            f"expected an LpNestedTree, a Learnable such as Learnable(ISA, [4, 4], p0=2.0, p=2.0, "
            f"learn=('p0', 'p', 'scale')), or a univariate distribution, but got {target!r}"
        )
    return module


def _univariate_module(target: Any) -> Learnable | None:
    if isinstance(target, type) and issubclass(target, Distribution):
        return None if issubclass(target, LpNested) else _of_class(target)
    if isinstance(target, Distribution) and not target.event_shape:
        return _of_instance(target)
    return None


def _radial_module(radial: Any, dim: int) -> Learnable:
    learn = ("p", "scale")
    if isinstance(radial, Learnable):
        return radial
    if radial is GeneralizedGamma:
        start = _in_float64({"dim": dim, "p": _P, "scale": 1.0})
        return Learnable(GeneralizedGamma, learn=learn, **start)
    if isinstance(radial, GeneralizedGamma):
        start = _in_float64({"dim": radial.dim, "p": radial.p, "scale": radial.scale})
        return Learnable(GeneralizedGamma, learn=learn, **start)
    if isinstance(radial, type) and issubclass(radial, Distribution):
        return _of_class(radial)
    if isinstance(radial, Distribution):
        return _of_instance(radial)
    raise TypeError(
        f"radial must be a distribution on the positive reals, by its class such as LogNormal or "
        f"an instance to start from, but got {radial!r}"
    )


def _of_class(family: type[Distribution]) -> Learnable:
    """All parameters from where ``transform_to`` has its 0: 1 if positive, 0 if real."""
    known: Any = getattr(family, "arg_constraints", {})
    known = known if isinstance(known, dict) else {}
    wanted = inspect.signature(family).parameters
    start = {
        name: _P if name == "p" else _middle(constraint)
        for name, constraint in known.items()
        if name in wanted
    }
    needed = [name for name, x in wanted.items() if x.default is inspect.Parameter.empty]
    if not start or any(x is None for x in start.values()) or not set(needed) <= set(start):
        raise ValueError(
            f"{family.__name__} does not say what to start from: pass an instance in place of the "
            f"class, or a Learnable"
        )
    return Learnable(family, learn=tuple(start), **_in_float64(start))


def _middle(constraint: constraints.Constraint) -> float | None:
    try:
        return float(transform_to(constraint)(torch.zeros(())))
    except (NotImplementedError, RuntimeError, ValueError):
        return None


def _of_instance(dist: Distribution) -> Learnable:
    if isinstance(dist, MixtureSameFamily):
        logits = dist.mixture_distribution.logits.detach().double()
        return Learnable(
            MixtureSameFamily,
            mixture_distribution=Learnable(Categorical, logits=logits, learn="logits"),
            component_distribution=_of_instance(dist.component_distribution),
        )
    wanted = inspect.signature(type(dist)).parameters
    known: Any = dist.arg_constraints
    names = [name for name in known if name in wanted and isinstance(getattr(dist, name), Tensor)]
    if not names:
        raise ValueError(f"{type(dist).__name__} has no parameters to estimate: pass a Learnable")
    start = {name: getattr(dist, name).detach() for name in names}
    return Learnable(type(dist), learn=names, **_in_float64(start))


def _in_float64(values: dict[str, Any]) -> dict[str, Tensor]:
    return {name: torch.as_tensor(x, dtype=torch.float64) for name, x in values.items()}


def _refuse_bounds(radial: Distribution) -> None:
    if is_bounded(radial):
        raise ValueError(
            f"the support of {type(radial).__name__} ends at a bound, where maximum likelihood "
            f"would put the largest radius, whatever the exponents: take a radial on all positive "
            f"reals, such as LogNormal, Gamma or GeneralizedGamma"
        )


def check_support(model: Model, data: Data) -> None:
    """Refuse observations that have no density, or an infinite one, whatever the parameters."""
    dist = model(model.start)
    if isinstance(dist, LpNested):
        radius = as_radial(dist.radial)
        finite = isinstance(radius, GeneralizedGamma) and bool((radius.dim == dist.tree.dim).all())
        if data.zero_rows.any() and not finite:
            raise ValueError(
                f"{int(data.zero_rows.sum())} observations are 0 in all coordinates, where the "
                f"density with a {type(dist.radial).__name__} radius is 0 or infinite: leave them "
                f"out, or take radial=GeneralizedGamma, whose density there is finite"
            )
        return
    for value, _ in data:
        support: Any = dist.support
        inside = support.check(value) & dist.log_prob(value).isfinite()
        if not inside.all():
            raise ValueError(
                f"{int((~inside).sum())} observations, the first of them "
                f"{value[~inside][0].item():g}, are outside of the support of "
                f"{type(dist).__name__}, or where its density is 0 or infinite: leave them out"
            )


def starting_vector(likelihood: Likelihood, data: Data) -> Tensor:
    """The model's own start, in units of the data.

    Where the radius has no closed form, a scale or rate among its parameters is brought to the
    data: each positive one is tried that many times larger and smaller.
    """
    model = likelihood.model
    if likelihood.profiled:
        return model.start
    size, start = _size(model, data), model.start
    best, least = start, likelihood(start)[0]
    for slot in model.slots:
        if slot.constraint is not constraints.positive:
            continue
        for sign in (1, -1):
            vector = start.clone()
            vector[..., slot.start : slot.stop] += sign * size.unsqueeze(-1)
            loss = likelihood(vector)[0]
            better = loss < least
            least = torch.where(better, loss, least)
            best = torch.where(better.unsqueeze(-1), vector, best)
    return best


@torch.no_grad()
def _size(model: Model, data: Data) -> Tensor:
    """The mean of the logarithm of the radius, or of the distance from the location."""
    dist = model(model.start)
    total = torch.zeros_like(data.total)
    for value, weights in data:
        if not isinstance(dist, LpNested):
            value = (value - getattr(dist, "loc", 0.0)).abs() if _is_real(dist) else value
            log_r = value.clamp_min(torch.finfo(value.dtype).tiny).log()
        else:
            log_r = log_radius(dist, value)
        total += (weights * log_r).sum(0)
    return total / data.total


def _is_real(dist: Distribution) -> bool:
    return dist.support is constraints.real


def locate(model: Model, data: Data) -> None:
    """Begin a location at the median, in units of the mean distance from it."""
    dist = model(model.start)
    if isinstance(dist, LpNested) or not _is_real(dist) or not model.places("loc"):
        return
    values = torch.cat([value for value, _ in data])
    centre = values.median(0).values
    spread = (values - centre).abs().mean(0)
    model.measure("loc", centre, spread.clamp_min(torch.finfo(spread.dtype).tiny))
