"""Make the module whose learned parameters are fitted from what the user passes."""

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

from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.lp_nested import LpNested
from lpnested.nn import Learnable
from lpnested.radii import check_radial, is_bounded
from lpnested.tree import LpNestedTree

__all__ = ["module_of"]

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
    if isinstance(radial, Learnable):
        return radial
    if radial is GeneralizedGamma:
        start = _in_float64({"dim": dim, "p": _P, "scale": 1.0})
        return Learnable(GeneralizedGamma, learn=("p", "scale"), **start)
    if isinstance(radial, type) and issubclass(radial, Distribution):
        return _of_class(radial)
    if isinstance(radial, Distribution):
        check_radial(radial, True)
        _refuse_bounds(radial)
        return _of_instance(radial, fixed="dim")
    raise TypeError(
        f"radial must be a distribution on the positive reals, by its class such as LogNormal or "
        f"an instance to start from, but got {radial!r}"
    )


def _of_class(family: type[Distribution]) -> Learnable:
    """All parameters from where ``transform_to`` has its 0: 1 if positive, 0 if real."""
    wanted = inspect.signature(family).parameters
    start = {
        name: _P if name == "p" else _middle(constraint)
        for name, constraint in _constraints_of(family).items()
    }
    needed = [name for name, x in wanted.items() if x.default is inspect.Parameter.empty]
    if not start or any(x is None for x in start.values()) or not set(needed) <= set(start):
        raise ValueError(
            f"{family.__name__} does not say what to start from: pass an instance in place of the "
            f"class, or a Learnable"
        )
    return Learnable(family, learn=tuple(start), **_in_float64(start))


def _constraints_of(family: type[Distribution]) -> dict[str, constraints.Constraint]:
    """The constraints of its arguments; logits and probs exclude each other, so logits only."""
    known: Any = getattr(family, "arg_constraints", {})
    if not isinstance(known, dict):  # a property, of an instance alone
        return {}
    wanted = inspect.signature(family).parameters
    return {
        name: constraint
        for name, constraint in known.items()
        if name in wanted and not (name == "probs" and "logits" in known)
    }


def _middle(constraint: constraints.Constraint) -> float | None:
    try:
        return float(transform_to(constraint)(torch.zeros(())))
    except (NotImplementedError, RuntimeError, ValueError):
        return None


def _of_instance(dist: Distribution, fixed: str = "") -> Learnable:
    if isinstance(dist, MixtureSameFamily):
        logits = dist.mixture_distribution.logits.detach().double()
        logits = logits - logits[..., -1:]  # so that the others are log odds against the last
        return Learnable(
            MixtureSameFamily,
            mixture_distribution=Learnable(Categorical, logits=logits, learn="logits"),
            component_distribution=_of_instance(dist.component_distribution, fixed),
        )
    names = [x for x in _constraints_of(type(dist)) if isinstance(getattr(dist, x), Tensor)]
    if not names:
        raise ValueError(f"{type(dist).__name__} has no parameters to estimate: pass a Learnable")
    start = {name: getattr(dist, name).detach() for name in names}
    learn = [name for name in names if name != fixed]
    return Learnable(type(dist), learn=learn, **_in_float64(start))


def _in_float64(values: dict[str, Any]) -> dict[str, Tensor]:
    return {name: torch.as_tensor(x, dtype=torch.float64) for name, x in values.items()}


def _refuse_bounds(radial: Distribution) -> None:
    if is_bounded(radial):
        raise ValueError(
            f"the support of {type(radial).__name__} ends at a bound, where maximum likelihood "
            f"would put the largest radius, whatever the exponents: take a radial on all positive "
            f"reals, such as LogNormal, Gamma or GeneralizedGamma"
        )
