"""The compiled sampler as torch operators, with argument checks and fake implementations.

The operators in ``torch.ops.lpnested`` are below autograd. Samples depend only on the seed, one
integer on the CPU, and not on the number of threads.
"""

from __future__ import annotations

from ast import literal_eval

import torch
from torch import Tensor

from lpnested.ops import library
from lpnested.ops.structure import structure_of

__all__ = ["log_gamma", "nested"]

_FLOATS = (torch.float32, torch.float64)

_ops = torch.library.Library("lpnested", "FRAGMENT")
_ops.define(
    "draw_nested(Tensor exponents, Tensor? dim, Tensor? p, Tensor? scale, Tensor? log_radius, "
    "Tensor seed, SymInt samples, str tree, ScalarType dtype) -> Tensor"
)
_ops.define("draw_log_gamma(Tensor shape, Tensor seed, SymInt rows, ScalarType dtype) -> Tensor")
nested = torch.ops.lpnested.draw_nested.default
log_gamma = torch.ops.lpnested.draw_log_gamma.default


def _nested(
    exponents: Tensor,
    dim: Tensor | None,
    p: Tensor | None,
    scale: Tensor | None,
    log_radius: Tensor | None,
    seed: Tensor,
    samples: int,
    tree: str,
    dtype: torch.dtype,
) -> Tensor:
    """Draw ``(samples, batch, dim)`` in a dtype, for exponents ``(batch, num_nodes)``.

    Given p and scale, ``(batch,)`` in the dtype of the exponents, the radius is a generalized
    gamma variable, with the tree's dimension if dim is None. Otherwise its logarithm is
    ``log_radius``, ``(samples, batch)`` in float64, or the radius is 1 if that is None.
    """
    structure, batch = structure_of(tree), len(exponents)
    _check(exponents, (batch, structure.num_nodes), exponents.dtype)
    for x in (dim, p, scale):
        _check(x, (batch,), exponents.dtype)
    _check(log_radius, (samples, batch), torch.float64)
    _check(seed, (1,), torch.int64)
    if {exponents.dtype, dtype} - {*_FLOATS} or (p is None) != (scale is None):
        raise ValueError(f"expected float32 or float64, and p and scale together, but got {dtype}")
    result = exponents.new_empty((samples, batch, structure.dim), dtype=dtype)
    if result.numel():
        radius = [None if log_radius is None else log_radius.contiguous()]
        library.call(
            "lpnested_draw_nested",
            library.parallel_for,
            structure.address,
            samples * batch,
            batch,
            exponents.dtype == torch.float64,
            exponents.data_ptr(),
            *exponents.stride(),
            *_address_and_stride(dim),
            *_address_and_stride(p),
            *_address_and_stride(scale),
            *(None if x is None else x.data_ptr() for x in (*radius, seed)),
            dtype == torch.float64,
            result.data_ptr(),
        )
    return result


def _log_gamma(shape: Tensor, seed: Tensor, rows: int, dtype: torch.dtype) -> Tensor:
    """Draw logarithms of gamma variables, float64, ``(rows, batch)`` for shapes ``(batch,)``.

    The underlying random variables are drawn in the given dtype.
    """
    _check(shape, (len(shape),), torch.float64)
    _check(seed, (1,), torch.int64)
    if dtype not in _FLOATS:
        raise ValueError(f"expected float32 or float64, but got {dtype}")
    shape = shape.contiguous()
    result = shape.new_empty((rows, len(shape)))
    if result.numel():
        library.call(
            "lpnested_draw_log_gamma",
            library.parallel_for,
            result.numel(),
            len(shape),
            shape.data_ptr(),
            seed.data_ptr(),
            dtype == torch.float64,
            result.data_ptr(),
        )
    return result


def _address_and_stride(x: Tensor | None) -> tuple[int | None, int]:
    return (None, 0) if x is None else (x.data_ptr(), x.stride(0))


def _check(x: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if x is None:
        return
    if x.shape != shape or x.dtype != dtype or x.device.type != "cpu":
        raise ValueError(
            f"expected shape {shape} in {dtype} on the CPU, "
            f"but got {tuple(x.shape)}, {x.dtype}, {x.device}"
        )


_ops.impl("draw_nested", _nested, "CPU")
_ops.impl("draw_log_gamma", _log_gamma, "CPU")


@torch.library.register_fake("lpnested::draw_nested", lib=_ops)
def _(exponents, dim, p, scale, log_radius, seed, samples, tree, dtype):  # type: ignore[no-untyped-def]
    children = literal_eval(tree)  # structure_of needs an address, which a fake tensor lacks
    coordinates = sum(map(len, children)) - len(children) + 1
    shape = (samples, exponents.shape[0], coordinates)
    return exponents.new_empty(shape, dtype=dtype)


@torch.library.register_fake("lpnested::draw_log_gamma", lib=_ops)
def _(shape, seed, rows, dtype):  # type: ignore[no-untyped-def]
    return shape.new_empty((rows, shape.shape[0]))
