"""Checking and packing of tensors, with sizes and strides, for the compiled library."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import torch
from torch import Tensor

from lpnested.ops import library
from lpnested.ops.structure import Structure

__all__ = [
    "RADIAL_SLOPES",
    "address",
    "arguments",
    "check_saved",
    "describe",
    "weights_and_stride",
]

RADIAL_SLOPES = 3  # derivatives in the dimension, the exponent and the scale of the radius

_DTYPES = (torch.float32, torch.float64)
# `struct Arguments` in interface.cpp: addresses, sizes and strides.
_pack = struct.Struct("17q").pack


def arguments(
    structure: Structure, value: Tensor | None, exponents: Tensor, radius: Sequence[Tensor | None]
) -> tuple[bytes, int, list[Tensor | None]]:
    """Return packed arguments, the number of rows, and tensors to keep alive during the call."""
    dtype, batch_shape = exponents.dtype, exponents.shape[:-1]
    if dtype not in _DTYPES or exponents.shape[-1] != structure.num_nodes:
        raise ValueError(
            f"expected exponents of {structure.num_nodes} nodes in float32 or float64, "
            f"but got {describe(exponents)}"
        )
    rows = value if value is None else _rows(value, structure.dim, batch_shape)
    for x in radius:
        if x is not None and x.shape != batch_shape:
            raise ValueError(f"expected shape {tuple(batch_shape)}, but got {describe(x)}")
    if len(batch_shape) > 1:
        exponents = exponents.flatten(0, -2)
        radius = [x if x is None else x.flatten() for x in radius]
    keepalive = [rows, exponents, *radius]
    for x in keepalive:
        if x is not None and (x.dtype != dtype or x.device.type != "cpu"):
            raise ValueError(f"expected {dtype} on the CPU, but got {describe(x)}")
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
    return packed, num, keepalive


def _of_batch(x: Tensor | None, has_batch: bool) -> tuple[int, int]:
    """Return the address of a tensor and its batch stride."""
    return (0, 0) if x is None else (x.data_ptr(), x.stride(0) if has_batch else 0)


def _rows(value: Tensor, dim: int, batch_shape: torch.Size) -> Tensor:
    """Reshape a value to ``(samples, batch, dim)``, or ``(samples, dim)`` without a batch."""
    samples = value.dim() - 1 - len(batch_shape)
    if samples < 0 or value.shape[samples:] != (*batch_shape, dim):
        raise ValueError(
            f"expected a value (*sample, {', '.join(map(str, (*batch_shape, dim)))}), "
            f"but got {describe(value)}"
        )
    batch = (batch_shape.numel(),) if batch_shape else ()
    if samples != 1 or len(batch_shape) > 1:
        value = value.reshape(value.shape[:samples].numel(), *batch, dim)
    return value if dim == 1 or value.stride(-1) == 1 else value.contiguous()


def weights_and_stride(weights: Tensor, dtype: torch.dtype) -> tuple[Tensor, int]:
    """Flatten an incoming gradient and return its stride, which is 0 for the gradient of a sum."""
    if weights.dtype != dtype or weights.device.type != "cpu":
        raise ValueError(f"expected weights in {dtype} on the CPU, but got {describe(weights)}")
    weights = weights.reshape(-1)
    return weights, weights.stride(0)


def check_saved(
    in_value: Tensor, slopes: Tensor, weights: Tensor, structure: Structure, dtype: torch.dtype
) -> None:
    rows = weights.numel()
    columns = structure.num_nodes + RADIAL_SLOPES
    for x, numbers in ((in_value, rows * structure.dim), (slopes, rows * columns)):
        if x.numel() not in (0, numbers) or x.dtype != dtype or not x.is_contiguous():
            raise ValueError(f"expected {numbers} contiguous numbers, but got {describe(x)}")


def address(x: Tensor) -> int | None:
    return x.data_ptr() if x.numel() else None


def describe(x: Tensor) -> str:
    return f"shape {tuple(x.shape)}, {x.dtype}, {x.device}"
