"""The operators of :mod:`lpnested.ops.calls` on a GPU, in Triton.

A value and its gradient take one launch. The backward pass of the density takes one launch for the
value and one more for the parameters; that of the norm recomputes the gradient, and takes two
more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from lpnested.ops import triton_kernels as kernels
from lpnested.ops import triton_sums as sums
from lpnested.ops.packing import RADIAL_SLOPES
from lpnested.ops.triton_structure import DeviceTree, tree_on

__all__ = ["density", "density_backward", "norm", "norm_backward"]

_LANES, _WARPS = 64, 2  # one row per lane
_COLUMNS = 8  # in float32, 32 bytes: the smallest read of a GPU
_PROGRAMS = 8  # per multiprocessor
_SCRATCH = 2**26  # bytes, about the size of the cache
# Fused multiply-add is allowed: no result here depends on whether it is used.
_OPTIONS = {"num_warps": _WARPS, "enable_fp_fusion": True}


class _Rows(NamedTuple):
    """The common arguments of all launches."""

    parameters: list[Tensor]
    """Exponents ``(batch, nodes)``, and dimension, exponent and scale ``(batch,)`` or dummies."""
    strides: list[int]
    """The strides of the parameters."""
    sizes: list[int]
    """The numbers of samples, batch columns, leaves and nodes."""
    lanes: dict[str, int]
    """The numbers of samples and of batch columns in a block."""
    blocks: int
    tiles: int
    programs: int
    """The number of programs that share the blocks of a tile."""
    tree: DeviceTree


def _rows(shape: torch.Size, code: str, exponents: Tensor, *radius: Tensor | None) -> _Rows:
    """Collect the arguments for a result of the given shape."""
    tree = tree_on(exponents.device, code)
    batch, nodes = exponents.shape[:-1].numel(), exponents.shape[-1]
    samples = shape.numel() // batch
    exponents = exponents.reshape(batch, nodes)
    others = [exponents[:, 0] if x is None else x.reshape(batch) for x in radius or [None] * 3]
    columns = min(_LANES, triton.next_power_of_2(batch))
    blocks, tiles = triton.cdiv(samples, _LANES // columns), triton.cdiv(batch, columns)
    return _Rows(
        [exponents, *others],
        [*exponents.stride(), *(x.stride(0) for x in others)],
        [samples, batch, tree.dim, nodes],
        {"SAMPLES": _LANES // columns, "BATCH": columns},
        blocks,
        tiles,
        max(1, min(blocks, _PROGRAMS * _multiprocessors(exponents.device) // tiles)),
        tree,
    )


@cache
def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":  # the interpreter
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


def _grid(rows: _Rows, dtype: torch.dtype) -> tuple[tuple[int, int], int]:
    """Return the launch grid, and the size of the scratch memory in numbers.

    The scratch memory is limited to the cache size, or to what keeps all multiprocessors busy.
    """
    _, _, leaves, nodes = rows.sizes
    each = 3 * (leaves + nodes) * _LANES
    processors = _multiprocessors(rows.tree.numbers.device)
    room = max(_SCRATCH // (each * dtype.itemsize), 2 * processors)
    grid = min(rows.tiles, room), min(rows.programs, max(1, room // rows.tiles))
    return grid, math.prod(grid) * each


def _weigh(
    rows: _Rows, weights: Tensor | None, saved: Sequence[Tensor], in_value: Tensor,
    in_parameters: Tensor, **of: bool,
) -> None:  # fmt: skip
    """Fill the gradients from the saved values of each row."""
    samples, batch, _, nodes = rows.sizes
    slopes = saved[1]
    given = slopes if weights is None else weights.reshape(samples, batch)
    strides = (0, 0) if weights is None else given.stride()
    columns = nodes + (RADIAL_SLOPES + 1 if of["RADIUS"] else 0)
    num = columns * rows.programs * batch if slopes.numel() else 0
    parts = slopes.new_empty(num, dtype=torch.float64)
    with torch.cuda.device_of(slopes):
        sums.weigh[rows.tiles, rows.programs](
            given, *saved, in_value, parts, *strides, *rows.sizes, rows.blocks,
            **rows.lanes, COLUMNS=_COLUMNS, RADIUS=of["RADIUS"], WEIGHTED=weights is not None,
            IN_VALUE=in_value.numel() > 0, SLOPES=num > 0, **_OPTIONS,
        )  # fmt: skip
        if num:
            sums.add_up[rows.tiles, in_parameters.shape[-1]](
                parts, *rows.parameters, rows.tree.numbers, in_parameters, *rows.strides,
                *rows.sizes[1:], rows.tree.most_terms, rows.programs, **rows.lanes, **of,
                **_OPTIONS,
            )  # fmt: skip


def density(
    value: Tensor,
    exponents: Tensor,
    dim: Tensor | None,
    p: Tensor,
    scale: Tensor,
    code: str,
    in_value: bool,
    slopes: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the log density and, if requested, its derivatives in value and parameters."""
    result = value.new_empty(value.shape[:-1])
    columns = exponents.shape[-1] + RADIAL_SLOPES
    gradient = value.new_empty(value.shape if in_value else (0,))
    of_rows = value.new_empty((columns, *result.shape) if slopes else (0,))
    if not result.numel():
        return result, gradient, of_rows
    rows = _rows(result.shape, code, exponents, dim, p, scale)
    grid, room = _grid(rows, value.dtype)
    value = value.reshape(rows.sizes[:3])
    with torch.cuda.device_of(value):
        kernels.density[grid](
            value, *rows.parameters, rows.tree.numbers, value.new_empty(room), result, gradient,
            of_rows, *value.stride(), *rows.strides, *rows.sizes, rows.tree.most_terms,
            rows.blocks, rows.tiles, **rows.lanes, COLUMNS=_COLUMNS, HAS_DIM=dim is not None,
            IN_VALUE=in_value, SLOPES=slopes, **_OPTIONS,
        )  # fmt: skip
    return result, gradient, of_rows


def density_backward(
    weights: Tensor,
    in_value: Tensor,
    slopes: Tensor,
    exponents: Tensor,
    dim: Tensor | None,
    p: Tensor,
    scale: Tensor,
    code: str,
) -> tuple[Tensor, Tensor]:
    """Return the gradients in the value, and in exponents, dimension, exponent and scale."""
    columns = exponents.shape[-1] + RADIAL_SLOPES
    shape = (*exponents.shape[:-1], columns) if slopes.shape != (0,) else (0,)
    gradient, in_parameters = torch.empty_like(in_value), exponents.new_empty(shape)
    if not weights.numel():
        in_parameters.zero_()
    else:
        rows = _rows(weights.shape, code, exponents, dim, p, scale)
        of = {"RADIUS": True, "HAS_DIM": dim is not None}
        _weigh(rows, weights, (in_value, slopes), gradient, in_parameters, **of)
    return gradient, in_parameters


def norm(value: Tensor, exponents: Tensor, code: str) -> Tensor:
    """Return the logarithm of the norm, float64."""
    result = value.new_empty(value.shape[:-1], dtype=torch.float64)
    if result.numel():
        rows, nothing = _rows(result.shape, code, exponents), value.new_empty(0)
        _norm(rows, value, None, (result, nothing, nothing))
    return result


def norm_backward(
    weights: Tensor,
    value: Tensor,
    exponents: Tensor,
    code: str,
    in_value: bool,
    in_exponents: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gradients in value and exponents, for float64 weights of any magnitude."""
    gradient = value.new_empty(value.shape if in_value else (0,))
    result = exponents.new_empty(exponents.shape if in_exponents else (0,))
    if not weights.numel():
        return gradient, result.zero_()
    rows = _rows(weights.shape, code, exponents)
    slopes = value.new_empty(exponents.shape[-1] * weights.numel() if in_exponents else 0)
    _norm(rows, value, weights, (slopes, gradient, slopes))
    if in_exponents:
        nothing, of = value.new_empty(0), {"RADIUS": False, "HAS_DIM": False}
        _weigh(rows, None, (slopes, slopes), nothing, result, **of)
    return gradient, result


def _norm(rows: _Rows, value: Tensor, weights: Tensor | None, outputs: Sequence[Tensor]) -> None:
    """Fill the result or, given weights, gradient and slopes."""
    samples, batch, leaves, _ = rows.sizes
    grid, room = _grid(rows, value.dtype)
    value = value.reshape(samples, batch, leaves)
    given = outputs[0].reshape(samples, -1) if weights is None else weights.reshape(samples, batch)
    with torch.cuda.device_of(value):
        kernels.norm[grid](
            value, rows.parameters[0], given, rows.tree.numbers, value.new_empty(room), *outputs,
            *value.stride(), *rows.strides[:2], *given.stride(), *rows.sizes, rows.blocks,
            rows.tiles, **rows.lanes, COLUMNS=_COLUMNS, VALUE=weights is None,
            IN_VALUE=outputs[1].numel() > 0, SLOPES=outputs[2].numel() > 0, **_OPTIONS,
        )  # fmt: skip
