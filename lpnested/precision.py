"""Conversion between the caller's dtype and the working precision.

A float32 norm raised to the power 200 keeps four or five correct digits, so the computation runs
in float64 where the device has it. Inputs are upcast, with gradients that saturate at the largest
finite number instead of becoming infinite; results are cast back and saturate in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from lpnested.tracing import is_eager, is_transformed

__all__ = [
    "LARGEST_EXPONENT",
    "as_parameter",
    "as_parameters",
    "broadcast_to",
    "check_finite",
    "clamp_max",
    "default_dtype",
    "exp",
    "is_number",
    "result_dtype",
    "saturate_cast",
    "spacing",
    "unexpand",
    "upcast",
    "working_dtype",
]

_HALF = (torch.float16, torch.bfloat16)
_WITHOUT_FLOAT64 = {"mps"}
LARGEST_EXPONENT = {torch.float64: 600.0, torch.float32: 70.0}
"""The argument at which :func:`exp` saturates."""


def working_dtype(device: torch.device) -> torch.dtype:
    """Return the precision of the arithmetic on a device: float64 if available, else float32."""
    return torch.float32 if device.type in _WITHOUT_FLOAT64 else torch.float64


class _Upcast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.dtype = x.dtype
        return x.to(working_dtype(x.device))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _saturated(grad, ctx.dtype)


class _UpcastTransformed(torch.autograd.Function):
    """A variant for function transforms and forward mode: slower, and unsupported by Dynamo."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.to(working_dtype(x.device))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _saturated(grad, ctx.dtype)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent.to(working_dtype(tangent.device))


def upcast(x: Tensor) -> Tensor:
    """Convert to the working precision, with a gradient that saturates instead of overflowing."""
    if is_transformed(x) and x.is_floating_point():
        return x if x.dtype == torch.float64 else _UpcastTransformed.apply(x)
    if x.requires_grad and torch.is_grad_enabled() and not torch.jit.is_tracing():  # type: ignore[attr-defined]
        return _Upcast.apply(x)  # type: ignore[no-any-return]
    return x.to(working_dtype(x.device))


def unexpand(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Undo ``expand`` along the dimensions that it repeats in all of the tensors.

    The tensors have the same number of dimensions. Those that require a gradient are returned
    unchanged, since each row may have its own.
    """
    if not is_eager(*tensors) or (
        torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    ):
        return tensors
    for k in range(tensors[0].dim()):
        if all(x.stride(k) == 0 and x.shape[k] > 1 for x in tensors):
            tensors = tuple(x.narrow(k, 0, 1) for x in tensors)
    return tensors


def saturate_cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert from the working precision; overflow saturates, infinities are preserved."""
    return x if x.dtype == dtype else torch.where(x.isinf(), x, _saturated(x, dtype)).to(dtype)


def _saturated(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert to a dtype, clamped to its finite range."""
    bound = torch.finfo(dtype).max
    if dtype != x.dtype:
        bound = math.nextafter(bound, math.inf)  # rounds to max, whose gradient must not vanish
    return x.clamp(-bound, bound).to(dtype)


def clamp_max(x: Tensor, bound: Tensor | float) -> Tensor:
    """Clamp from above, with gradient 1 at the bound itself, where torch's own is 1 or 0."""
    return torch.where(x > bound, bound, x)


def exp(x: Tensor) -> Tensor:
    """Exponentiate, saturating at 4e260 (3e30 in float32) so that gradients are finite too."""
    return clamp_max(x, LARGEST_EXPONENT[x.dtype]).exp()


def default_dtype() -> torch.dtype:
    """Return the dtype of a Python number: torch's default, but at least float32."""
    dtype = torch.get_default_dtype()
    return torch.float32 if dtype in _HALF else dtype


def result_dtype(*tensors: Tensor) -> torch.dtype:
    """Return the promoted dtype of tensors; integer tensors count as Python numbers."""
    first = tensors[0].dtype
    if first in LARGEST_EXPONENT and all(x.dtype == first for x in tensors):
        return first
    dtypes = [x.dtype if x.is_floating_point() else default_dtype() for x in tensors]
    dtype = reduce(torch.promote_types, dtypes)
    return torch.float32 if dtype in _HALF else dtype


def spacing(*tensors: Tensor) -> float:
    """Return the relative spacing of adjacent numbers in the coarsest of the tensors' dtypes."""
    return max(
        torch.finfo(x.dtype if x.is_floating_point() else default_dtype()).eps for x in tensors
    )


def as_parameter(name: str, value: Any, like: Sequence[Tensor] = ()) -> Tensor:
    """Convert a distribution's parameter to a tensor; numbers take dtype and device of ``like``.

    Tensors are returned unchanged, and arrays share their memory. Numbers and lists (of numbers or
    tensors) are copied; numbers become float32 at least. Half-precision tensors are rejected: an
    exponent of 2.1 is 2.094 in bfloat16, which is another distribution.
    """
    if is_number(value):
        return _of_number(name, value, like)
    if isinstance(value, (list, tuple)):
        return _of_list(name, value, like)
    try:
        parameter: Tensor = torch.as_tensor(value)
    except (TypeError, RuntimeError, ValueError) as error:
        raise TypeError(f"{name} must be a number or a tensor, but got {value!r}") from error
    if parameter.is_complex() or parameter.dtype in _HALF:
        raise TypeError(
            f"{name} must be float32 or float64, but got {parameter.dtype}, which has rounded it: "
            "pass a Python number or a torch.float32 tensor from the start (values, unlike "
            "parameters, may be in half precision)"
        )
    return parameter


def _of_number(name: str, number: float, like: Sequence[Tensor]) -> Tensor:
    if number in (math.inf, -math.inf):
        raise ValueError(f"{name} must be finite, but got {number}")
    dtype, device = _dtype_and_device(like) if like else (default_dtype(), None)
    try:  # filled on the device: no synchronising copy
        return torch.full((), number, dtype=dtype, device=device)
    except (TypeError, RuntimeError, ValueError) as error:
        raise TypeError(f"{name} must be a number or a tensor, but got {number!r}") from error


def _of_list(name: str, numbers: Sequence[Any], like: Sequence[Tensor]) -> Tensor:
    others = [x for x in _leaves(numbers) if not is_number(x)]
    if others:
        like = [as_parameter(name, x) for x in others]
        return torch.stack([as_parameter(name, x, like) for x in numbers])
    dtype, device = _dtype_and_device(like) if like else (default_dtype(), None)
    try:
        return torch.tensor(numbers, dtype=dtype, device=device)
    except (TypeError, RuntimeError, ValueError) as error:
        raise TypeError(f"{name} must be a number or a tensor, but got {numbers!r}") from error


def _dtype_and_device(like: Sequence[Tensor]) -> tuple[torch.dtype, torch.device | None]:
    """Return the dtype and device of a number that is combined with tensors."""
    return result_dtype(*like), next((x.device for x in like if x.device.type != "cpu"), None)


def is_number(value: Any) -> bool:
    """Return whether a value is a Python number, which adopts the dtype of other parameters."""
    return isinstance(value, (int, float))


def _leaves(numbers: Any) -> Iterator[Any]:
    if isinstance(numbers, (list, tuple)):
        for item in numbers:
            yield from _leaves(item)
    else:
        yield numbers


def broadcast_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Expand a tensor to a shape; return the tensor itself if it has that shape already.

    The tensor can then be moved or replaced in place, as ``nn.Module.double`` does.
    """
    return x if x.shape == torch.Size(shape) else x.expand(*shape)


def as_parameters(**values: Any) -> tuple[Tensor, ...]:
    """Broadcast named parameters to one shape, each a view of the tensor that was passed.

    Dtypes are preserved, as in torch's ``broadcast_all``, so that an in-place write to a passed
    tensor updates the parameter.
    """
    numbers = {name for name, x in values.items() if isinstance(x, (int, float, list, tuple))}
    others = {name: as_parameter(name, x) for name, x in values.items() if name not in numbers}
    like = list(others.values())
    parameters = {
        name: others[name] if name in others else as_parameter(name, x, like)
        for name, x in values.items()
    }
    return tuple(torch.broadcast_tensors(*parameters.values()))


def check_finite(name: str, parameter: Tensor) -> None:
    """Reject infinite exponents and scales (the maximum norm is not supported)."""
    if parameter.isinf().any():
        raise ValueError(
            f"{name} must be finite, but got {parameter}: the limit p = inf is not supported"
        )
