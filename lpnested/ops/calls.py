"""The compiled kernels as torch operators, with argument checks and fake implementations.

The operators in ``torch.ops.lpnested`` are below autograd. A value is ``(*sample, *batch, dim)``,
for parameters with batch shape ``(*batch)``; all have one dtype, float32 or float64. A tree is
passed as its code. An output that is not requested is empty.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lpnested.ops import library
from lpnested.ops.packing import (
    RADIAL_SLOPES,
    address,
    arguments,
    check_saved,
    describe,
    weights_and_stride,
)
from lpnested.ops.structure import structure_of

__all__ = ["density", "density_backward", "norm", "norm_backward", "register_backend"]

_NO_RADIUS = (None, None, None)


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
    given, rows, keepalive = arguments(structure, value, exponents, (dim, p, scale))
    outputs = _density_outputs(value, exponents, in_value, slopes)
    if rows:
        library.call("lpnested_density", given, *map(address, outputs))
    del keepalive
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
    given, _, keepalive = arguments(structure, None, exponents, (dim, p, scale))
    weights, stride = weights_and_stride(weights, p.dtype)
    check_saved(in_value, slopes, weights, structure, p.dtype)
    outputs = _density_backward_outputs(weights, in_value, slopes, exponents)
    if weights.numel():
        pointers = [address(x) for x in (in_value, slopes, *outputs)]
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
    del keepalive
    return outputs


def _density_backward_outputs(
    weights: Tensor, in_value: Tensor, slopes: Tensor, exponents: Tensor
) -> tuple[Tensor, Tensor]:
    rows = exponents.shape[-1] + RADIAL_SLOPES
    shape = (*exponents.shape[:-1], rows) if slopes.shape[0] else (0,)
    return torch.empty_like(in_value), exponents.new_empty(shape)


def _norm(value: Tensor, exponents: Tensor, tree: str) -> Tensor:
    given, rows, keepalive = arguments(structure_of(tree), value, exponents, _NO_RADIUS)
    result = value.new_empty(value.shape[:-1], dtype=torch.float64)
    if rows:
        library.call("lpnested_norm", given, result.data_ptr())
    del keepalive
    return result


def _norm_backward(
    weights: Tensor,
    value: Tensor,
    exponents: Tensor,
    tree: str,
    in_value: bool,
    in_exponents: bool,
) -> tuple[Tensor, Tensor]:
    given, rows, keepalive = arguments(structure_of(tree), value, exponents, _NO_RADIUS)
    weights = weights.contiguous()
    if weights.dtype != torch.float64 or weights.numel() != rows or weights.device.type != "cpu":
        raise ValueError(f"expected {rows} weights in float64, but got {describe(weights)}")
    outputs = _norm_backward_outputs(value, exponents, in_value, in_exponents)
    if rows:
        room = value.new_empty((exponents.shape[-1], rows) if in_exponents else (0,))
        pointers = [address(x) for x in (outputs[0], room, outputs[1])]
        library.call("lpnested_norm_backward", given, weights.data_ptr(), *pointers)
    else:
        outputs[1].zero_()
    del keepalive
    return outputs


def _norm_backward_outputs(
    value: Tensor, exponents: Tensor, in_value: bool, in_exponents: bool
) -> tuple[Tensor, Tensor]:
    in_exponents_shape = exponents.shape if in_exponents else (0,)
    gradient = value.new_empty(value.shape if in_value else (0,))
    return gradient, exponents.new_empty(in_exponents_shape)


def register_backend(backend: Any, device: str) -> None:
    """Register a module, with a function for each operator, as the backend of a device type."""
    for name in ("density", "density_backward", "norm", "norm_backward"):
        _ops.impl(name, getattr(backend, name), device)


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
