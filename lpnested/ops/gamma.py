"""The log density with a generalized gamma radius, by the backend of its device."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from lpnested.ops import calls, reference
from lpnested.ops.inputs import (
    align_batch,
    differentiable_gradient,
    restore_order,
    uses_kernels,
)
from lpnested.precision import result_dtype, saturate_cast
from lpnested.tracing import is_transformed
from lpnested.tree import LpNestedTree

__all__ = ["log_density"]


def log_density(
    value: Tensor,
    exponents: Tensor,
    dim: Tensor | None,
    p: Tensor,
    scale: Tensor,
    tree: LpNestedTree,
) -> Tensor:
    """See :func:`lpnested.ops.reference.gamma_log_density`; in the dtype of value and exponents.

    Args:
        value: Shape ``(*sample, *batch, tree.dim)``.
        exponents: Shape ``(*batch, num_nodes)``.
        dim: The dimension of the radius, shape ``(*batch)``; None for that of the tree.
        p: The exponent of the radius, shape ``(*batch)``.
        scale: The scale of the radius, shape ``(*batch)``.
        tree: The tree.
    """
    radius = (p, scale) if dim is None else (p, scale, dim)
    if not uses_kernels(value, exponents, *radius):
        return _reference_density(value, exponents, dim, p, scale, tree)
    dtype = result_dtype(value, exponents)
    working = result_dtype(value, exponents, *radius)
    inputs, shared = align_batch(value, exponents, radius, working)
    value, exponents, p, scale = inputs[:4]
    dim = dim if dim is None else inputs[4]
    if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
        result = _Density.apply(value, exponents, dim, p, scale, tree)
    else:
        result = calls.density(value, exponents, dim, p, scale, tree.code, False, False)[0]
    result = restore_order(result, shared)
    return result if working == dtype else saturate_cast(result, dtype)


def _reference_density(
    value: Tensor,
    exponents: Tensor,
    dim: Tensor | None,
    p: Tensor,
    scale: Tensor,
    tree: LpNestedTree,
) -> Tensor:
    density = reference.gamma_log_density(value, exponents, dim, p, scale, tree)
    return saturate_cast(density, result_dtype(value, exponents))


class _Density(torch.autograd.Function):
    """Compute the gradient together with the value; the backward pass only scales it."""

    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        exponents: Tensor,
        dim: Tensor | None,
        p: Tensor,
        scale: Tensor,
        tree: LpNestedTree,
    ) -> Tensor:
        in_value, *in_parameters, _ = ctx.needs_input_grad
        result, gradient, slopes = calls.density(
            value, exponents, dim, p, scale, tree.code, in_value, any(in_parameters)
        )
        ctx.tree = tree
        ctx.save_for_backward(gradient, slopes, value, exponents, dim, p, scale)
        return result  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradient, slopes, *inputs = ctx.saved_tensors
        if torch.is_grad_enabled() or is_transformed(grad):  # double backward
            function = partial(_reference_density, tree=ctx.tree)
            needed = ctx.needs_input_grad[:-1]
            return (*differentiable_gradient(function, inputs, needed, grad), None)
        in_value, in_parameters = calls.density_backward(
            grad, gradient, slopes, *inputs[1:], ctx.tree.code
        )
        needed = ctx.needs_input_grad
        grads: list[Tensor | None] = [in_value if needed[0] else None, *(None,) * 5]
        if any(needed[1:]):
            nodes = inputs[1].shape[-1]
            in_radius = in_parameters[..., nodes:].unbind(-1)
            split = (in_parameters[..., :nodes], *in_radius)
            grads[1:5] = (x if need else None for x, need in zip(split, needed[1:5], strict=True))
        return tuple(grads)
