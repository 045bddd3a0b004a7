"""Elementwise functions of large tensors, evaluated in cache-sized chunks.

The intermediates that a function saves for its gradient can be hundreds of times the size of its
arguments. Here only the arguments are saved; the backward pass recomputes chunk by chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lpnested.tracing import is_eager, is_transformed

__all__ = ["in_chunks"]

Elementwise: TypeAlias = Callable[..., Tensor]

_CPU_CHUNK = 2**13  # elements in a chunk
_DEVICE_CHUNK = 2**18


def in_chunks(function: Elementwise, *arguments: Tensor) -> Tensor:
    """Apply an elementwise function to tensors that broadcast.

    Under tracers, function transforms and forward mode the function is called directly.
    """
    arguments = torch.broadcast_tensors(*arguments)
    shape = arguments[0].shape
    if not is_eager(*arguments) or shape.numel() <= _size(arguments):
        return function(*arguments)
    rows = [x.reshape(-1) for x in arguments]
    if torch.is_grad_enabled() and any(x.requires_grad for x in rows):
        result: Tensor = _InChunks.apply(function, *rows)
    else:
        result = _forward(function, rows)
    return result.reshape(shape)


class _InChunks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Elementwise, *arguments: Tensor) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(*arguments)
        return _forward(function, arguments)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        arguments, needed = ctx.saved_tensors, ctx.needs_input_grad[1:]
        if torch.is_grad_enabled() or is_transformed(grad):  # double backward
            return None, *_gradient(ctx.function, arguments, needed, grad)
        grads = []
        for *chunk, grad_of_chunk in _chunks((*arguments, grad)):
            leaves = [
                x.detach().requires_grad_(need) for x, need in zip(chunk, needed, strict=True)
            ]
            grads.append(_gradient(ctx.function, leaves, needed, grad_of_chunk))
        by_argument = zip(*grads, strict=True)
        return None, *(None if x[0] is None else torch.cat(x) for x in by_argument)


def _forward(function: Elementwise, arguments: Sequence[Tensor]) -> Tensor:
    return torch.cat([function(*chunk) for chunk in _chunks(arguments)])


def _gradient(
    function: Elementwise, arguments: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
) -> list[Tensor | None]:
    inputs = [x for x, need in zip(arguments, needed, strict=True) if need]
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        result = function(*arguments)
    grads = iter(torch.autograd.grad(result, inputs, grad, create_graph=create_graph))
    return [next(grads) if need else None for need in needed]


def _chunks(arguments: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(x.split(_size(arguments)) for x in arguments), strict=True)


def _size(arguments: Sequence[Tensor]) -> int:
    return _CPU_CHUNK if arguments[0].device.type == "cpu" else _DEVICE_CHUNK
