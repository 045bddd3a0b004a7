"""What the parameters of a distribution are checked for, in few operations where all is well."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from lpnested.precision import check_finite

__all__ = ["POSITIVE_ROW", "initialize"]

POSITIVE_ROW = constraints.independent(constraints.positive, 1)

_ABOVE = {constraints.positive: 0.0, POSITIVE_ROW: 0.0, constraints.real: -math.inf}


def initialize(
    dist: Distribution,
    batch_shape: torch.Size,
    event_shape: torch.Size,
    validate_args: bool | None,
) -> None:
    """``Distribution.__init__``, which refuses infinite exponents and scales as well."""
    Distribution.__init__(dist, batch_shape, event_shape, validate_args=False)
    if validate_args is None:
        del dist._validate_args  # it is that of the class, also when that changes
    else:
        dist._validate_args = validate_args
    if dist._validate_args and not _are_inside(dist):
        Distribution.__init__(dist, batch_shape, event_shape)  # says what is wrong
        for name, constraint in dist.arg_constraints.items():
            if _ABOVE.get(constraint) == 0.0:
                check_finite(name, getattr(dist, name))


def _are_inside(dist: Distribution) -> bool:
    """Whether all parameters are finite and fulfil constraints that are known here."""
    return all(
        constraint in _ABOVE and _is_between(_ABOVE[constraint], getattr(dist, name))
        for name, constraint in dist.arg_constraints.items()
    )


def _is_between(low: float, parameter: Tensor) -> bool:
    """Whether all is above a bound, and finite."""
    if not parameter.numel():
        return True
    smallest, largest = parameter.aminmax()
    return low < smallest.item() and largest.item() < math.inf
