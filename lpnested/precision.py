"""The working precision inside, the caller's dtype outside.

A float32 norm raised to the power 200 keeps four or five correct digits, so the mathematics runs
in float64 where a device has it. At the border a tensor is widened, and its gradient comes back
saturated at the largest finite number instead of infinite; a result is rounded, saturated in the
same way.
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
    "at_most",
    "check_finite",
    "default_dtype",
    "exp",
    "fitted",
    "is_number",
    "result_dtype",
    "rounded_to",
    "spacing",
    "widen",
    "without_repetition",
    "working_dtype",
]

_HALF = (torch.float16, torch.bfloat16)
_WITHOUT_FLOAT64 = {"mps"}
LARGEST_EXPONENT = {torch.float64: 600.0, torch.float32: 70.0}
"""Where :func:`exp` saturates."""


def working_dtype(device: torch.device) -> torch.dtype:
    """The precision of the arithmetic on a device: float64, or float32 where it has no other."""
    return torch.float32 if device.type in _WITHOUT_FLOAT64 else torch.float64


class _Widen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.dtype = x.dtype
        return x.to(working_dtype(x.device))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _saturated(grad, ctx.dtype)


class _WidenTransformed(torch.autograd.Function):
    """The same for function transforms and forward mode: slower, and not for Dynamo."""

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


def widen(x: Tensor) -> Tensor:
    """To the working precision, with a gradient that saturates where it would overflow."""
    if is_transformed(x) and x.is_floating_point():
        return x if x.dtype == torch.float64 else _WidenTransformed.apply(x)
    if x.requires_grad and torch.is_grad_enabled() and not torch.jit.is_tracing():  # type: ignore[attr-defined]
        return _Widen.apply(x)  # type: ignore[no-any-return]
    return x.to(working_dtype(x.device))


def without_repetition(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors of one number of dimensions, without what ``expand`` repeats in all of them.

    Where somebody differentiates they are as they were: each row may have its own gradient.
    """
    if not is_eager(*tensors) or (
        torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    ):
        return tensors
    for k in range(tensors[0].dim()):
        if all(x.stride(k) == 0 and x.shape[k] > 1 for x in tensors):
            tensors = tuple(x.narrow(k, 0, 1) for x in tensors)
    return tensors


def rounded_to(x: Tensor, dtype: torch.dtype) -> Tensor:
    """From the working precision to a result's: what overflows saturates, infinities stay."""
    return x if x.dtype == dtype else torch.where(x.isinf(), x, _saturated(x, dtype)).to(dtype)


def _saturated(x: Tensor, dtype: torch.dtype) -> Tensor:
    """To a dtype, as its largest number where it has no larger one."""
    bound = torch.finfo(dtype).max
    if dtype != x.dtype:
        bound = math.nextafter(bound, math.inf)  # rounds to it, and leaves it its gradient
    return x.clamp(-bound, bound).to(dtype)


def at_most(x: Tensor, bound: Tensor | float) -> Tensor:
    """``x.clamp_max(bound)`` with gradient 1 at the bound itself, where torch's own is 1 or 0."""
    return torch.where(x > bound, bound, x)


def exp(x: Tensor) -> Tensor:
    """The exponential, saturated at 4e260 (3e30 in float32): its gradients are finite too."""
    return at_most(x, LARGEST_EXPONENT[x.dtype]).exp()


def default_dtype() -> torch.dtype:
    """What a Python number becomes: torch's default, or float32 where that has fewer digits."""
    dtype = torch.get_default_dtype()
    return torch.float32 if dtype in _HALF else dtype


def result_dtype(*tensors: Tensor) -> torch.dtype:
    """What tensors promote to; integers count as Python numbers do."""
    first = tensors[0].dtype
    if first in LARGEST_EXPONENT and all(x.dtype == first for x in tensors):
        return first
    dtypes = [x.dtype if x.is_floating_point() else default_dtype() for x in tensors]
    dtype = reduce(torch.promote_types, dtypes)
    return torch.float32 if dtype in _HALF else dtype


def spacing(*tensors: Tensor) -> float:
    """The relative distance of neighbouring numbers in the coarsest of their dtypes."""
    return max(
        torch.finfo(x.dtype if x.is_floating_point() else default_dtype()).eps for x in tensors
    )


def as_parameter(name: str, value: Any, like: Sequence[Tensor] = ()) -> Tensor:
    """A distribution's parameter as a tensor; numbers take dtype and device of ``like``.

    A tensor is returned as it is, an array as a tensor of the same memory. Numbers are copied, and
    so are lists, of numbers or tensors; numbers keep their value, in float32 at least. Tensors in
    half precision are refused: an exponent of 2.1 is 2.094 in bfloat16, which is another
    distribution.
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
            "pass a Python number, or a tensor of dtype torch.float32 from the start (values, "
            "unlike parameters, may be in half precision)"
        )
    return parameter


def _of_number(name: str, number: float, like: Sequence[Tensor]) -> Tensor:
    if number in (math.inf, -math.inf):
        raise ValueError(f"{name} must be finite, but got {number}")
    dtype, device = _kind(like) if like else (default_dtype(), None)
    try:  # filled in on the device: no copy waits for it
        return torch.full((), number, dtype=dtype, device=device)
    except (TypeError, RuntimeError, ValueError) as error:
        raise TypeError(f"{name} must be a number or a tensor, but got {number!r}") from error


def _of_list(name: str, numbers: Sequence[Any], like: Sequence[Tensor]) -> Tensor:
    others = [x for x in _leaves(numbers) if not is_number(x)]
    if others:
        like = [as_parameter(name, x) for x in others]
        return torch.stack([as_parameter(name, x, like) for x in numbers])
    dtype, device = _kind(like) if like else (default_dtype(), None)
    try:
        return torch.tensor(numbers, dtype=dtype, device=device)
    except (TypeError, RuntimeError, ValueError) as error:
        raise TypeError(f"{name} must be a number or a tensor, but got {numbers!r}") from error


def _kind(like: Sequence[Tensor]) -> tuple[torch.dtype, torch.device | None]:
    """Dtype and device of a number in the company of tensors."""
    return result_dtype(*like), next((x.device for x in like if x.device.type != "cpu"), None)


def is_number(value: Any) -> bool:
    """Whether it is a Python number, whose dtype is up to its company."""
    return isinstance(value, (int, float))


def _leaves(numbers: Any) -> Iterator[Any]:
    if isinstance(numbers, (list, tuple)):
        for part in numbers:
            yield from _leaves(part)
    else:
        yield numbers


def fitted(x: Tensor, shape: Sequence[int]) -> Tensor:
    """A tensor in a shape that it broadcasts to; the tensor itself where it has that shape.

    So a tensor that was passed can be moved or replaced in place, as by `nn.Module.double`.
    """
    return x if x.shape == torch.Size(shape) else x.expand(*shape)


def as_parameters(**values: Any) -> tuple[Tensor, ...]:
    """Named parameters as tensors of one shape, each a view of what was passed.

    Dtypes stay as they are, as in torch's ``broadcast_all``, so that what is written into the
    memory of one is a new value of the parameter.
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
    """Refuse infinite exponents and scales (the maximum norm is not among these distributions)."""
    if parameter.isinf().any():
        raise ValueError(
            f"{name} must be finite, but got {parameter}: the limit p = inf is not supported"
        )
