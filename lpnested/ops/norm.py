"""The logarithm of the Lp-nested function, by the backend of the value's device."""

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
from lpnested.precision import result_dtype
from lpnested.tracing import is_transformed
from lpnested.tree import LpNestedTree

__all__ = ["log_norm"]


def log_norm(value: Tensor, exponents: Tensor, tree: LpNestedTree) -> Tensor:
    """Return the logarithm, float64 where the device has it, shape ``(*sample, *batch)``."""
    if not uses_kernels(value, exponents):
        return reference.log_norm(value, exponents, tree)
    inputs, shared = align_batch(value, exponents, (), result_dtype(value, exponents))
    value, exponents = inputs
    if torch.is_grad_enabled() and (value.requires_grad or exponents.requires_grad):
        result = _LogNorm.apply(value, exponents, tree)
    else:
        result = calls.norm(value, exponents, tree.code)
    return restore_order(result, shared)


class _LogNorm(torch.autograd.Function):
    """Recompute from the values in the backward pass, with the incoming gradient as weights."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, exponents: Tensor, tree: LpNestedTree) -> Tensor:
        ctx.tree = tree
        ctx.save_for_backward(value, exponents)
        return calls.norm(value, exponents, tree.code)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        value, exponents = ctx.saved_tensors
        needed = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled() or is_transformed(grad):
            function = partial(reference.log_norm, tree=ctx.tree)
            return (*differentiable_gradient(function, (value, exponents), needed, grad), None)
        grads = calls.norm_backward(grad, value, exponents, ctx.tree.code, *needed)
        in_value, in_exponents = (
            x if need else None for x, need in zip(grads, needed, strict=True)
        )
        return in_value, in_exponents, None
