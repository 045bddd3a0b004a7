"""Independent draws, many at a time, in pieces that fit a cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from lpnested.precision import narrow, widen
from lpnested.tracing import is_eager

__all__ = ["draw_elementwise"]

Draw: TypeAlias = Callable[..., Tensor]

# Below 2**15 torch works on one thread. Several would round differently where their parts meet.
_ON_CPU = 2**15 - 2**10
_ELSEWHERE = 2**20


def draw_elementwise(
    draw: Draw, size: Sequence[int], dtype: torch.dtype, parameters: Sequence[Tensor]
) -> Tensor:
    """Independent draws of an elementwise distribution, saturated at the largest finite number.

    Args:
        draw: Makes draws of a size from the precision of the variables behind them, and the
            parameters in float64.
        size: The shape of the result, ``(*sample, *batch)``.
        dtype: The dtype of the result.
        parameters: Each of shape ``(*batch)``.

    Returns:
        In ``dtype``. Where nobody needs a gradient it takes little memory beside the result.
    """
    size = torch.Size(size)
    gradient = torch.is_grad_enabled() and any(x.requires_grad for x in parameters)
    if gradient or not is_eager(*parameters):
        return narrow(draw(size, dtype, *map(widen, parameters)), dtype)
    result = torch.empty(size, dtype=dtype, device=parameters[0].device)
    if result.numel():
        _fill(result.view(-1, parameters[0].numel()), draw, parameters)
    return result


def _fill(table: Tensor, draw: Draw, parameters: Sequence[Tensor]) -> None:
    """Each column has its own parameters."""
    largest = torch.finfo(table.dtype).max
    piece = _ON_CPU if table.device.type == "cpu" else _ELSEWHERE
    start = 0
    for own in _parts(parameters, piece):
        columns = table[:, start : start + len(own[0])]
        widened = [widen(x) for x in own]
        for rows in columns.split(max(1, piece // len(own[0]))):
            rows.copy_(draw(rows.shape, table.dtype, *widened).clamp_(-largest, largest))
        start += len(own[0])


def _parts(tensors: Sequence[Tensor], piece: int) -> Iterator[list[Tensor]]:
    """Copies of parts of tensors of one shape, flat and in order, whatever their strides."""
    shape = tensors[0].shape
    if shape.numel() <= piece:
        yield [x.reshape(-1).contiguous() for x in tensors]
    elif shape[0] == 1:
        yield from _parts([x[0] for x in tensors], piece)
    else:
        rows = max(1, piece // shape[1:].numel())
        for part in zip(*(x.split(rows) for x in tensors), strict=True):
            yield from _parts(part, piece)
