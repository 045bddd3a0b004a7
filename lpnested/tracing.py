"""What kind of call this is: plain eager execution, or under a tracer or transform."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["is_eager", "is_faked", "is_transformed"]


def is_faked() -> bool:
    """Whether new tensors are a tracer's fakes: these die with it and mix with no others.

    Dynamo has fakes too, and hides them from the code that it traces.
    """
    fake = torch._C._TorchDispatchModeKey.FAKE
    return not torch.compiler.is_dynamo_compiling() and (
        torch._C._get_dispatch_mode(fake) is not None
    )


def is_transformed(*tensors: Tensor) -> bool:
    """Whether vmap, grad or the like are at work, or a tensor carries a tangent."""
    return not torch.compiler.is_compiling() and (
        torch._C._are_functorch_transforms_active()
        or any(torch._C._functorch.is_legacy_batchedtensor(x) for x in tensors)  # is_grads_batched
        or (
            forward_ad._current_level >= 0  # within a dual_level
            and any(forward_ad.unpack_dual(x).tangent is not None for x in tensors)
        )
    )


def is_eager(*tensors: Tensor) -> bool:
    """Whether operations run as they are called, one by one, on the numbers themselves."""
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined]
        or is_transformed(*tensors)
        or is_faked()
    )
