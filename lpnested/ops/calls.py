"""The compiled kernels as operations of torch: checked, called, and known to its tracers.

``torch.ops.lpnested``, below autograd. A value is ``(*sample, *batch, dim)``, where the parameters
have the batch shape ``(*batch)``; all have one dtype, float32 or float64. A tree is its code. A
tensor that is not asked for is empty.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import torch
from torch import Tensor

from lpnested.ops import library
from lpnested.ops.structure import Structure, structure_of

__all__ = ["density", "density_backward", "norm", "norm_backward"]

_DTYPES = (torch.float32, torch.float64)
_NO_RADIUS = (None, None, None)
RADIAL_SLOPES = 3  # in the dimension, the exponent and the scale of the radius


# `struct Arguments` in interface.cpp: addresses, sizes and strides.
_pack = struct.Struct("17q").pack


_ops = torch.library.Library("lpnested", "DEF")
_ops.define(
    "density(Tensor value, Tensor exponents, Tensor? dim, Tensor p, Tensor scale, str tree, "
    "bool in_value, bool slopes) -> (Tensor, Tensor, Tensor)"
)
_ops.define(
    "density_backward(Tensor weights, Tensor in_value, Tensor slopes, Tensor exponents, "
    "Tensor? dim, Tensor p, Tensor scale, str tree) -> (Tensor, Tensor)"
)
_ops.define("norm(Tensor value, Tensor exponents, str tree) -> Tensor")
_ops.define(
    "norm_backward(Tensor weights, Tensor value, Tensor exponents, str tree, bool in_value, "
    "bool in_exponents) -> (Tensor, Tensor)"
)
density = torch.ops.lpnested.density.default
density_backward = torch.ops.lpnested.density_backward.default
norm = torch.ops.lpnested.norm.default
norm_backward = torch.ops.lpnested.norm_backward.default


def _density(
    value: Tensor,
    exponents: Tensor,
    dim: Tensor | None,
    p: Tensor,
    scale: Tensor,
    tree: str,
    in_value: bool,
    slopes: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    structure = structure_of(tree)
    given, rows, kept = _arguments(structure, value, exponents, (dim, p, scale))
    outputs = _density_outputs(value, exponents, in_value, slopes)
    if rows:
        library.call("lpnested_density", given, *map(_address, outputs))
    del kept
    return outputs


def _density_outputs(
    value: Tensor, exponents: Tensor, in_value: bool, slopes: bool
) -> tuple[Tensor, Tensor, Tensor]:
    result = value.new_empty(value.shape[:-1])
    gradient = value.new_empty(value.shape if in_value else (0,))
    rows = exponents.shape[-1] + RADIAL_SLOPES
    return result, gradient, value.new_empty((rows, *result.shape) if slopes else (0,))


def _density_backward(
    weights: Tensor,
    in_value: Tensor,
    slopes: Tensor,
    exponents: Tensor,
    dim: Tensor | None,
    p: Tensor,
    scale: Tensor,
    tree: str,
) -> tuple[Tensor, Tensor]:
    structure = structure_of(tree)
    given, _, kept = _arguments(structure, None, exponents, (dim, p, scale))
    weights, stride = _weights(weights, p.dtype)
    _check_saved(in_value, slopes, weights, structure, p.dtype)
    outputs = _density_backward_outputs(weights, in_value, slopes, exponents)
    if weights.numel():
        pointers = [_address(x) for x in (in_value, slopes, *outputs)]
        library.call(
            "lpnested_density_backward",
            given,
            weights.numel(),
            weights.data_ptr(),
            stride,
            *pointers,
        )
    else:
        outputs[1].zero_()
    del kept
    return outputs


def _density_backward_outputs(
    weights: Tensor, in_value: Tensor, slopes: Tensor, exponents: Tensor
) -> tuple[Tensor, Tensor]:
    rows = exponents.shape[-1] + RADIAL_SLOPES
    shape = (*exponents.shape[:-1], rows) if slopes.shape[0] else (0,)
    return torch.empty_like(in_value), exponents.new_empty(shape)


def _norm(value: Tensor, exponents: Tensor, tree: str) -> Tensor:
    given, rows, kept = _arguments(structure_of(tree), value, exponents, _NO_RADIUS)
    result = value.new_empty(value.shape[:-1], dtype=torch.float64)
    if rows:
        library.call("lpnested_norm", given, result.data_ptr())
    del kept
    return result


def _norm_backward(
    weights: Tensor,
    value: Tensor,
    exponents: Tensor,
    tree: str,
    in_value: bool,
    in_exponents: bool,
) -> tuple[Tensor, Tensor]:
    given, rows, kept = _arguments(structure_of(tree), value, exponents, _NO_RADIUS)
    weights = weights.contiguous()
    if weights.dtype != torch.float64 or weights.numel() != rows or weights.device.type != "cpu":
        raise ValueError(f"expected {rows} weights in float64, but got {_shown(weights)}")
    outputs = _norm_backward_outputs(value, exponents, in_value, in_exponents)
    if rows:
        room = value.new_empty((exponents.shape[-1], rows) if in_exponents else (0,))
        pointers = [_address(x) for x in (outputs[0], room, outputs[1])]
        library.call("lpnested_norm_backward", given, weights.data_ptr(), *pointers)
    else:
        outputs[1].zero_()
    del kept
    return outputs


def _norm_backward_outputs(
    value: Tensor, exponents: Tensor, in_value: bool, in_exponents: bool
) -> tuple[Tensor, Tensor]:
    in_exponents_shape = exponents.shape if in_exponents else (0,)
    gradient = value.new_empty(value.shape if in_value else (0,))
    return gradient, exponents.new_empty(in_exponents_shape)


def _arguments(
    structure: Structure, value: Tensor | None, exponents: Tensor, radius: Sequence[Tensor | None]
) -> tuple[bytes, int, list[Tensor | None]]:
    """What the library is given, the number of rows, and what must live until it is done."""
    dtype, batch_shape = exponents.dtype, exponents.shape[:-1]
    if dtype not in _DTYPES or exponents.shape[-1] != structure.num_nodes:
        raise ValueError(
            f"expected exponents of {structure.num_nodes} nodes in float32 or float64, "
            f"but got {_shown(exponents)}"
        )
    rows = value if value is None else _rows(value, structure.dim, batch_shape)
    for x in radius:
        if x is not None and x.shape != batch_shape:
            raise ValueError(f"expected shape {tuple(batch_shape)}, but got {_shown(x)}")
    if len(batch_shape) > 1:
        exponents = exponents.flatten(0, -2)
        radius = [x if x is None else x.flatten() for x in radius]
    kept = [rows, exponents, *radius]
    for x in kept:
        if x is not None and (x.dtype != dtype or x.device.type != "cpu"):
            raise ValueError(f"expected {dtype} on the CPU, but got {_shown(x)}")
    batch, has_batch = batch_shape.numel(), bool(batch_shape)
    num = 0 if rows is None else rows.shape[0] * batch
    packed = _pack(
        library.parallel_for,
        structure.address,
        dtype == torch.float64,
        num,
        batch,
        *((0, 0) if rows is None else (rows.data_ptr(), rows.stride(0))),
        rows.stride(1) if rows is not None and has_batch else 0,
        *_of_batch(exponents, has_batch),
        exponents.stride(-1),
        *(number for x in radius for number in _of_batch(x, has_batch)),
    )
    return packed, num, kept


def _of_batch(x: Tensor | None, has_batch: bool) -> tuple[int, int]:
    """The address of a tensor and its stride over the batch."""
    return (0, 0) if x is None else (x.data_ptr(), x.stride(0) if has_batch else 0)


def _rows(value: Tensor, dim: int, batch_shape: torch.Size) -> Tensor:
    """A value as ``(samples, batch, dim)``, or without batch where there is none."""
    samples = value.dim() - 1 - len(batch_shape)
    if samples < 0 or value.shape[samples:] != (*batch_shape, dim):
        raise ValueError(
            f"expected a value (*sample, {', '.join(map(str, (*batch_shape, dim)))}), "
            f"but got {_shown(value)}"
        )
    batch = (batch_shape.numel(),) if batch_shape else ()
    if samples != 1 or len(batch_shape) > 1:
        value = value.reshape(value.shape[:samples].numel(), *batch, dim)
    return value if dim == 1 or value.stride(-1) == 1 else value.contiguous()


def _weights(weights: Tensor, dtype: torch.dtype) -> tuple[Tensor, int]:
    """A gradient as one row of numbers, and its stride, which is 0 for that of a sum."""
    if weights.dtype != dtype or weights.device.type != "cpu":
        raise ValueError(f"expected weights in {dtype} on the CPU, but got {_shown(weights)}")
    weights = weights.reshape(-1)
    return weights, weights.stride(0)


def _check_saved(
    in_value: Tensor, slopes: Tensor, weights: Tensor, structure: Structure, dtype: torch.dtype
) -> None:
    rows = weights.numel()
    columns = structure.num_nodes + RADIAL_SLOPES
    for x, numbers in ((in_value, rows * structure.dim), (slopes, rows * columns)):
        if x.numel() not in (0, numbers) or x.dtype != dtype or not x.is_contiguous():
            raise ValueError(f"expected {numbers} contiguous numbers, but got {_shown(x)}")


def _address(x: Tensor) -> int | None:
    return x.data_ptr() if x.numel() else None


def _shown(x: Tensor) -> str:
    return f"shape {tuple(x.shape)}, {x.dtype}, {x.device}"


_ops.impl("density", _density, "CPU")
_ops.impl("density_backward", _density_backward, "CPU")
_ops.impl("norm", _norm, "CPU")
_ops.impl("norm_backward", _norm_backward, "CPU")


@torch.library.register_fake("lpnested::density", lib=_ops)
def _(value, exponents, dim, p, scale, tree, in_value, slopes):  # type: ignore[no-untyped-def]
    return _density_outputs(value, exponents, in_value, slopes)


@torch.library.register_fake("lpnested::density_backward", lib=_ops)
def _(weights, in_value, slopes, exponents, dim, p, scale, tree):  # type: ignore[no-untyped-def]
    return _density_backward_outputs(weights, in_value, slopes, exponents)


@torch.library.register_fake("lpnested::norm", lib=_ops)
def _(value, exponents, tree):  # type: ignore[no-untyped-def]
    return value.new_empty(value.shape[:-1], dtype=torch.float64)


@torch.library.register_fake("lpnested::norm_backward", lib=_ops)
def _(weights, value, exponents, tree, in_value, in_exponents):  # type: ignore[no-untyped-def]
    return _norm_backward_outputs(value, exponents, in_value, in_exponents)
