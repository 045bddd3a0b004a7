"""Whether the compiled kernels serve some tensors, and these as the kernels take them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lpnested.ops import library
from lpnested.precision import widen
from lpnested.tracing import is_transformed

__all__ = ["differentiable_gradient", "in_batch", "served_by_kernels"]


def served_by_kernels(value: Tensor, *parameters: Tensor) -> bool:
    """Whether there are kernels for these; transforms and `torch.jit` take plain operations."""
    return (
        bool(library.in_use(value.device.type))
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
        and not is_transformed(value, *parameters)
    )


def in_batch(
    value: Tensor, exponents: Tensor, parameters: Sequence[Tensor], dtype: torch.dtype
) -> list[Tensor]:
    """All in one dtype, exponents and parameters in one batch shape, which the value ends with."""
    batch, rows = exponents.shape[:-1], value.shape[:-1]
    if rows[len(rows) - len(batch) :] != batch:
        rows = torch.broadcast_shapes(rows, batch)
        value = value.expand(*rows, value.shape[-1])
        batch = rows[len(rows) - len(batch) :]
        exponents = exponents.expand(*batch, exponents.shape[-1])
    parameters = [x if x.shape == batch else x.expand(batch) for x in parameters]
    return [_cast(x, dtype) for x in (value, exponents, *parameters)]


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Its gradient saturates where the tensor's own dtype has no larger number."""
    return x if x.dtype == dtype else widen(x).to(dtype)


def differentiable_gradient(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor | None],
    needed: Sequence[bool],
    grad: Tensor,
) -> list[Tensor | None]:
    """The gradient of a function in the inputs that need one, which has gradients itself."""
    wanted = [x for x, need in zip(inputs, needed, strict=True) if need and x is not None]
    with torch.enable_grad():
        result = function(*inputs)
    grads = iter(torch.autograd.grad(result, wanted, grad, create_graph=torch.is_grad_enabled()))
    return [next(grads) if need else None for need in needed]
