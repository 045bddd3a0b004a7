"""Validation of a distribution's parameters, with few operations in the valid case."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from lpnested.precision import check_finite

__all__ = ["POSITIVE_ROW", "initialize"]

POSITIVE_ROW = constraints.independent(constraints.positive, 1)

_LOWER_BOUNDS = {constraints.positive: 0.0, POSITIVE_ROW: 0.0, constraints.real: -math.inf}


def initialize(
    dist: Distribution,
    batch_shape: torch.Size,
    event_shape: torch.Size,
    validate_args: bool | None,
) -> None:
    """Do what ``Distribution.__init__`` does, and reject infinite exponents and scales as well."""
    dist._batch_shape, dist._event_shape = batch_shape, event_shape
    if validate_args is not None:  # else the class attribute counts, even if it changes later
        dist._validate_args = validate_args
    if dist._validate_args and not _satisfies_constraints(dist):
        Distribution.__init__(dist, batch_shape, event_shape)  # raises torch's own error
        for name, constraint in dist.arg_constraints.items():
            if _LOWER_BOUNDS.get(constraint) == 0.0:
                check_finite(name, getattr(dist, name))


def _satisfies_constraints(dist: Distribution) -> bool:
    """Return whether all parameters are finite and satisfy constraints that are known here."""
    return all(
        constraint in _LOWER_BOUNDS
        and _is_finite_above(_LOWER_BOUNDS[constraint], getattr(dist, name))
        for name, constraint in dist.arg_constraints.items()
    )


def _is_finite_above(low: float, parameter: Tensor) -> bool:
    """Return whether all elements are finite and above a bound."""
    if not parameter.numel():
        return True
    smallest, largest = parameter.detach().aminmax()  # torch 2.11 has no forward mode of it
    return low < smallest.item() and largest.item() < math.inf
