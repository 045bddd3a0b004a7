"""The log density with a generalized gamma radius, by the backend that serves its device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lpnested.ops import calls, reference
from lpnested.ops.inputs import in_batch, served_by_kernels
from lpnested.precision import narrow, result_dtype
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
        dim: The dimension of the radius, shape ``(*batch)`` as p and scale; None for the tree's.
        p: Its exponent.
        scale: Its scale.
        tree: The tree.
    """
    radius = (p, scale) if dim is None else (p, scale, dim)
    if not served_by_kernels(value, exponents, *radius):
        return _by_reference(value, exponents, dim, p, scale, tree)
    inputs = in_batch(value, exponents, radius, result_dtype(value, exponents))
    value, exponents, p, scale = inputs[:4]
    dim = dim if dim is None else inputs[4]
    if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
        return _Density.apply(value, exponents, dim, p, scale, tree)  # type: ignore[no-any-return]
    return calls.density(value, exponents, dim, p, scale, tree.code, False, False)[0]  # type: ignore[no-any-return]


def _by_reference(value: Tensor, exponents: Tensor, *rest: Any) -> Tensor:
    density = reference.gamma_log_density(value, exponents, *rest)
    return narrow(density, result_dtype(value, exponents))


class _Density(torch.autograd.Function):
    """The gradient is formed together with the value, and multiplied by what comes back."""

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
        if torch.is_grad_enabled() or is_transformed(grad):  # it must have a gradient itself
            return (*_differentiable(ctx, inputs, grad), None)
        in_value, in_parameters = calls.density_backward(
            grad, gradient, slopes, *inputs[1:], ctx.tree.code
        )
        nodes = inputs[1].shape[-1]
        grads = (in_value, in_parameters[..., :nodes], *in_parameters[..., nodes:].unbind(-1))
        return tuple(
            x if needed else None
            for x, needed in zip((*grads, None), ctx.needs_input_grad, strict=True)
        )


def _differentiable(ctx: Any, inputs: list[Tensor | None], grad: Tensor) -> list[Tensor | None]:
    """The gradient of the reference, which has gradients."""
    needed = ctx.needs_input_grad[: len(inputs)]
    with torch.enable_grad():
        result = _by_reference(*inputs, ctx.tree)
    wanted = [x for x, need in zip(inputs, needed, strict=True) if need]
    grads = iter(torch.autograd.grad(result, wanted, grad, create_graph=torch.is_grad_enabled()))
    return [next(grads) if need else None for need in needed]
