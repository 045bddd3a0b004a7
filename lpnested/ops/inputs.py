"""Whether the compiled kernels serve some tensors, and these as the kernels take them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lpnested.ops import library
from lpnested.precision import widen
from lpnested.tracing import is_transformed

__all__ = ["differentiable_gradient", "in_batch", "in_order", "served_by_kernels"]


def served_by_kernels(value: Tensor, *parameters: Tensor) -> bool:
    """Whether there are kernels for these; transforms and `torch.jit` take plain operations."""
    return (
        bool(library.in_use(value.device.type))
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
        and not is_transformed(value, *parameters)
    )


def in_batch(
    value: Tensor, exponents: Tensor, parameters: Sequence[Tensor], dtype: torch.dtype
) -> tuple[list[Tensor], tuple[int, ...]]:
    """All in one dtype, exponents and parameters in one batch shape, which the value ends with.

    Dimensions of the batch in which all rows of the value share their parameters come first, as
    further samples; they are returned beside, and :func:`in_order` puts those of a result back.
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


def in_order(result: Tensor, shared: tuple[int, ...]) -> Tensor:
    """A result with its dimensions where those of the value were."""
    return result.movedim([*range(len(shared))], shared) if shared else result


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
    with torch.enable_grad():
        # Of views: one input may be made of another one, whose gradient is not to be had here.
        views = [x if x is None else x.view_as(x) for x in inputs]
        result = function(*views)
    wanted = [x for x, need in zip(views, needed, strict=True) if need and x is not None]
    grads = iter(torch.autograd.grad(result, wanted, grad, create_graph=torch.is_grad_enabled()))
    return [next(grads) if need else None for need in needed]
