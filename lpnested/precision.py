"""Float64 inside, the caller's dtype outside.

A float32 norm raised to the power 200 keeps four or five correct digits, so the mathematics runs
in float64. At the border a tensor is widened, and its gradient comes back saturated at the
largest finite number instead of infinite; a result is narrowed, saturated in the same way.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from lpnested.tracing import is_transformed

__all__ = ["as_parameter", "as_parameters", "at_most", "check_finite", "exp", "narrow", "widen"]

_LARGEST_EXPONENT = 600.0


class _Widen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.dtype = x.dtype
        return x.to(torch.float64)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return narrow(grad, ctx.dtype)


class _WidenTransformed(torch.autograd.Function):
    """The same for function transforms and forward mode: slower, and not for Dynamo."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.to(torch.float64)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return narrow(grad, ctx.dtype)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent.to(torch.float64)


def widen(x: Tensor) -> Tensor:
    """To float64, with a gradient that saturates where the narrower type would overflow."""
    if x.dtype == torch.float64:
        return x
    if not x.is_floating_point():
        return x.to(torch.float64)
    if is_transformed(x):
        return _WidenTransformed.apply(x)  # type: ignore[no-any-return]
    if x.requires_grad and torch.is_grad_enabled():
        return _Widen.apply(x)  # type: ignore[no-any-return]
    return x.to(torch.float64)


def narrow(x: Tensor, dtype: torch.dtype) -> Tensor:
    """From float64 to a result's dtype: what overflows saturates, true infinities stay."""
    if dtype == torch.float64:
        return x
    bound = math.nextafter(torch.finfo(dtype).max, math.inf)  # still rounds to the largest number
    return torch.where(x.isinf(), x, x.clamp(-bound, bound)).to(dtype)


def at_most(x: Tensor, bound: Tensor | float) -> Tensor:
    """``x.clamp_max(bound)`` with gradient 1 at the bound itself, where torch's own is 1 or 0."""
    return torch.where(x > bound, bound, x)


def exp(x: Tensor) -> Tensor:
    """The exponential, saturated at 4e260 so that its gradients are finite too."""
    return at_most(x, _LARGEST_EXPONENT).exp()


def as_parameter(name: str, value: Any, like: Tensor | None = None) -> Tensor:
    """A distribution's parameter as a floating tensor; numbers take dtype and device of ``like``.

    float16 and bfloat16 are refused: an exponent of 2.1 is 2.094 in bfloat16, which is another
    distribution.
    """
    dtype = torch.get_default_dtype() if like is None else like.dtype
    device = None if like is None else like.device
    if isinstance(value, (int, float)):
        if math.isinf(value):
            raise ValueError(f"{name} must be finite, but got {value}")
        return torch.full((), value, dtype=dtype, device=device)
    if isinstance(value, (list, tuple)):
        return torch.stack([as_parameter(name, part, like) for part in value])
    try:
        parameter: Tensor = torch.as_tensor(value)
    except (TypeError, RuntimeError, ValueError) as error:
        raise TypeError(f"{name} must be a number or a tensor, but got {value!r}") from error
    if parameter.is_complex() or parameter.dtype in (torch.float16, torch.bfloat16):
        raise TypeError(
            f"{name} must be float32 or float64, but got {parameter.dtype}: convert it with "
            f"{name}.float() (values, unlike parameters, may be in half precision)"
        )
    return parameter if parameter.is_floating_point() else parameter.to(dtype)


def as_parameters(**values: Any) -> tuple[Tensor, ...]:
    """Named parameters as tensors of one dtype and shape, as torch's ``broadcast_all``."""
    numbers = {name: x for name, x in values.items() if isinstance(x, (int, float))}
    others = {name: as_parameter(name, x) for name, x in values.items() if name not in numbers}
    like = None
    if others:
        dtype = reduce(torch.promote_types, (x.dtype for x in others.values()))
        others = {name: x.to(dtype) for name, x in others.items()}
        like = next((x for x in others.values() if x.device.type != "cpu"), None)
        like = next(iter(others.values())) if like is None else like
    parameters = others | {name: as_parameter(name, x, like) for name, x in numbers.items()}
    return tuple(torch.broadcast_tensors(*(parameters[name] for name in values)))


def check_finite(name: str, parameter: Tensor) -> None:
    """Refuse infinite exponents and scales (the maximum norm is not among these distributions)."""
    if parameter.isinf().any():
        raise ValueError(
            f"{name} must be finite, but got {parameter}: the limit p = inf is not supported"
        )
