r"""Validation and properties of radials, the distributions of a radius."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from lpnested.precision import default_dtype, result_dtype

__all__ = [
    "check_radial",
    "checked_parameters",
    "dtype_of",
    "is_bounded",
    "parameters_of",
]


def check_radial(radial: Distribution, check_values: bool) -> None:
    """Raise unless a distribution can be a radial, judged by its type or by values as well."""
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
            f"radial must be a continuous distribution on the positive reals, but the support of "
            f"{radial} is {support}"
        )


def checked_parameters(radial: Distribution, validate_args: bool | None) -> list[Tensor]:
    """Validate a radial and return its parameters."""
    check_radial(radial, Distribution._validate_args if validate_args is None else validate_args)
    return parameters_of(radial)


def is_bounded(radial: Distribution) -> bool:
    """Return whether the density can jump at a radius other than 0, judging by the support."""
    support = _support(radial)
    lower = getattr(support, "lower_bound", 0.0)
    return hasattr(support, "upper_bound") or isinstance(lower, Tensor) or lower != 0


def _support(radial: Distribution) -> Any:
    """Return the support as a constraint; for a mixture, that of its components."""
    return getattr(radial.support, "base_constraint", radial.support)


def parameters_of(radial: Distribution) -> list[Tensor]:
    """Return the tensor parameters of a radial, which determine dtype and device.

    For a mixture these are the parameters of the components; for a transformed distribution
    without parameters, those of its base.
    """
    radial = getattr(radial, "component_distribution", radial)
    values = [getattr(radial, name, None) for name in radial.arg_constraints]
    tensors = [value for value in values if isinstance(value, Tensor)]
    base = getattr(radial, "base_dist", None)
    return tensors if tensors or base is None else parameters_of(base)


def dtype_of(radial: Distribution) -> torch.dtype:
    """Return the dtype of a radial's parameters, but at least float32."""
    parameters = parameters_of(radial)
    dtype = result_dtype(*parameters) if parameters else default_dtype()
    return torch.promote_types(dtype, torch.float32)
