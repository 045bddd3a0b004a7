"""Kernel dispatch, and conversion of tensors to the layout that the kernels expect."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lpnested.ops import library
from lpnested.precision import upcast
from lpnested.tracing import is_transformed

__all__ = ["align_batch", "differentiable_gradient", "restore_order", "uses_kernels"]


def uses_kernels(value: Tensor, *parameters: Tensor) -> bool:
    """Return whether kernels apply; transforms and ``torch.jit`` use plain operations instead."""
    return (
        bool(library.in_use(value.device.type))
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
        and not is_transformed(value, *parameters)
    )


def align_batch(
    value: Tensor, exponents: Tensor, parameters: Sequence[Tensor], dtype: torch.dtype
) -> tuple[list[Tensor], tuple[int, ...]]:
    """Convert to one dtype, and to one batch shape that the shape of the value ends with.

    Batch dimensions along which all rows of the value share their parameters are moved to the
    front, as sample dimensions. They are returned as well, for :func:`restore_order`.
    """
    batch, rows = exponents.shape[:-1], value.shape[:-1]
    parameters = [x if x.shape == batch else x.expand(batch) for x in parameters]
    shared: tuple[int, ...] = ()
    if rows[len(rows) - len(batch) :] != batch:
        rows = torch.broadcast_shapes(rows, batch)
        value = value.expand(*rows, value.shape[-1])
        shared = tuple(k for k in range(-len(batch), 0) if batch[k] == 1 != rows[k])
        value = value.movedim([k - 1 for k in shared], [*range(len(shared))])
        exponents = exponents.squeeze([k - 1 for k in shared])
        parameters = [x.squeeze(shared) for x in parameters]
    return [_cast(x, dtype) for x in (value, exponents, *parameters)], shared


def restore_order(result: Tensor, shared: tuple[int, ...]) -> Tensor:
    """Move the dimensions of a result to where they were in the value."""
    return result.movedim([*range(len(shared))], shared) if shared else result


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert to a dtype, with a gradient that saturates in the tensor's own dtype."""
    return x if x.dtype == dtype else upcast(x).to(dtype)


def differentiable_gradient(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor | None],
    needed: Sequence[bool],
    grad: Tensor,
) -> list[Tensor | None]:
    """Return a differentiable gradient of a function in the inputs that need one."""
    with torch.enable_grad():
        # Views, since one input may depend on another, whose gradient must not include it.
        views = [x if x is None else x.view_as(x) for x in inputs]
        result = function(*views)
    wanted = [x for x, need in zip(views, needed, strict=True) if need and x is not None]
    grads = iter(torch.autograd.grad(result, wanted, grad, create_graph=torch.is_grad_enabled()))
    return [next(grads) if need else None for need in needed]
