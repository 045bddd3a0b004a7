"""Exact sampling by the backend of the device: the compiled sampler, or torch's gamma sampler."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lpnested.gamma import log_gamma_sample, symmetric_uniform
from lpnested.ops import draw_calls, reference_sampling
from lpnested.ops.inputs import uses_kernels
from lpnested.precision import exp, result_dtype, saturate_cast, upcast
from lpnested.tree import LpNestedTree

__all__ = ["gamma_nested", "log_gamma", "nested", "signed_gamma"]

_LINE = LpNestedTree.flat(1)


def log_gamma(shape: Tensor, size: Sequence[int], dtype: torch.dtype) -> Tensor:
    r"""Draw :math:`\log G`, :math:`G \sim \mathrm{Gamma}(a, 1)`, float64, without gradient.

    Args:
        shape: The shape :math:`a > 0`, float64; it broadcasts to ``size``.
        size: The shape of the result.
        dtype: The precision of the underlying uniform and normal random variables.
    """
    shape = shape.detach()
    if not uses_kernels(shape):
        return log_gamma_sample(shape, size, dtype)
    size = torch.Size(size)
    shape = shape.expand(size[len(size) - shape.dim() :])
    (own,), _ = _unexpand([shape], shape.shape)
    num = own.numel()
    rows = size.numel() // num if num else 0
    return draw_calls.log_gamma(own.reshape(num), _seed(), rows, dtype).reshape(size)  # type: ignore[no-any-return]


def nested(
    exponents: Tensor,
    tree: LpNestedTree,
    sample_shape: Sequence[int],
    log_radius: Tensor | None = None,
) -> Tensor:
    """Sample a sphere over a tree, in the dtype of the exponents, without gradient.

    Every draw that fits the dtype is exact, even if the radius or the direction does not fit.

    Args:
        exponents: Shape ``(*batch, num_nodes)``.
        tree: The tree.
        sample_shape: The shape of independent draws.
        log_radius: Shape ``(*sample_shape, *batch)``, float64; None for the unit sphere.

    Returns:
        Shape ``(*sample_shape, *batch, dim)``.
    """
    exponents, dtype = exponents.detach(), result_dtype(exponents)
    log_radius = log_radius if log_radius is None else log_radius.detach()
    if not uses_kernels(exponents):
        return reference_sampling.nested(exponents, tree, sample_shape, log_radius)
    return _kernel_draws(exponents, (), log_radius, tree, sample_shape, dtype)


def gamma_nested(
    exponents: Tensor,
    dim: Tensor | None,
    p: Tensor,
    scale: Tensor,
    tree: LpNestedTree,
    sample_shape: Sequence[int],
) -> Tensor:
    """Sample an Lp-nested distribution with a generalized gamma radius; see :func:`nested`.

    Args:
        exponents: Shape ``(*batch, num_nodes)``.
        dim: The dimension of the radius, shape ``(*batch)``; None for that of the tree.
        p: The exponent of the radius, shape ``(*batch)``.
        scale: The scale of the radius, shape ``(*batch)``.
        tree: The tree.
        sample_shape: The shape of independent draws.
    """
    radius = [x.detach() for x in ((p, scale) if dim is None else (p, scale, dim))]
    exponents, dtype = exponents.detach(), result_dtype(exponents)
    if uses_kernels(exponents, *radius):
        return _kernel_draws(exponents, radius, None, tree, sample_shape, dtype)
    batch = torch.broadcast_shapes(exponents.shape[:-1], *(x.shape for x in radius))
    log_radius = _log_radius(radius, tree.dim, (*sample_shape, *batch), dtype)
    return reference_sampling.nested(exponents.expand(*batch, -1), tree, sample_shape, log_radius)


def _log_radius(
    radius: Sequence[Tensor], dim: int, size: Sequence[int], dtype: torch.dtype
) -> Tensor:
    p, scale, *own = (upcast(x) for x in radius)
    shape = own[0] / p if own else dim / p
    return scale.log() + log_gamma_sample(shape, size, dtype) / p


def signed_gamma(
    dim: Tensor | None, p: Tensor, scale: Tensor, sample_shape: Sequence[int]
) -> Tensor:
    """Draw a generalized gamma variable with a random sign, in the promoted dtype.

    Args:
        dim: The dimension, shape ``(*batch)``; None for 1.
        p: The exponent, shape ``(*batch)``.
        scale: The scale, shape ``(*batch)``.
        sample_shape: The shape of independent draws.
    """
    radius = [x.detach() for x in ((p, scale) if dim is None else (p, scale, dim))]
    dtype = result_dtype(*radius)
    if uses_kernels(*radius):
        exponents = p.new_ones(1, dtype=dtype)  # irrelevant for a single child
        return _kernel_draws(exponents, radius, None, _LINE, sample_shape, dtype).squeeze(-1)
    size = (*sample_shape, *torch.broadcast_shapes(*(x.shape for x in radius)))
    sign = symmetric_uniform(size, dtype, p.device).sign()
    return saturate_cast(sign * exp(_log_radius(radius, 1, size, dtype)), dtype)


def _kernel_draws(
    exponents: Tensor,
    radius: Sequence[Tensor],
    log_radius: Tensor | None,
    tree: LpNestedTree,
    sample_shape: Sequence[int],
    dtype: torch.dtype,
) -> Tensor:
    batch, rows = exponents.shape[:-1], [exponents, *radius]
    if any(x.shape != batch for x in radius):
        batch = torch.broadcast_shapes(batch, *(x.shape for x in radius))
        rows = [exponents.expand(*batch, -1), *(x.expand(batch) for x in radius)]
    if any(x.dtype != dtype for x in rows):
        given = result_dtype(*rows)
        rows = [x.to(given) for x in rows]
    rows, batch_of_rows = _unexpand(rows, batch)
    num = batch_of_rows.numel()
    exponents, *radius = rows
    p, scale, dim = (*(x.reshape(num) for x in radius), None, None, None)[:3]
    samples = math.prod(sample_shape) * batch.numel() // num if num else 0
    if log_radius is not None:
        log_radius = log_radius.to(torch.float64).reshape(samples, num)
    exponents = exponents.reshape(num, exponents.shape[-1])
    draws = draw_calls.nested(
        exponents, dim, p, scale, log_radius, _seed(), samples, tree.code, dtype
    )
    return draws.reshape(*sample_shape, *batch, tree.dim)  # type: ignore[no-any-return]


def _unexpand(tensors: list[Tensor], batch: torch.Size) -> tuple[list[Tensor], torch.Size]:
    """Drop leading batch dimensions along which all tensors repeat; return the remaining batch."""
    while batch and (batch[0] == 1 or (batch[0] > 0 and all(x.stride(0) == 0 for x in tensors))):
        tensors, batch = [x[0] for x in tensors], batch[1:]
    return tensors, batch


def _seed() -> Tensor:
    """Draw a seed from torch's default generator, once per call."""
    return torch.randint(2**63 - 1, (1,), dtype=torch.int64, device="cpu")
