"""Detect eager, traced or transformed calls."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["is_eager", "is_fake", "is_transformed"]


def is_fake() -> bool:
    """Return whether new tensors are fake tensors, which must not outlive or leave their tracer.

    Dynamo uses fake tensors too, but hides them from the code it traces.
    """
    fake = torch._C._TorchDispatchModeKey.FAKE
    return not torch.compiler.is_dynamo_compiling() and (
        torch._C._get_dispatch_mode(fake) is not None
    )


def is_transformed(*tensors: Tensor) -> bool:
    """Return whether vmap, grad or another transform is active, or a tensor has a tangent."""
    return not torch.compiler.is_compiling() and (
        torch._C._are_functorch_transforms_active()
        or any(torch._C._functorch.is_legacy_batchedtensor(x) for x in tensors)  # is_grads_batched
        or (
            forward_ad._current_level >= 0  # within a dual_level
            and any(forward_ad.unpack_dual(x).tangent is not None for x in tensors)
        )
    )


def is_eager(*tensors: Tensor) -> bool:
    """Return whether operations run eagerly, on concrete numbers."""
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined]
        or is_transformed(*tensors)
        or is_fake()
    )
