"""Values with a known first derivative; the second raises instead of being silently wrong."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["first_order", "is_differentiated", "zero_with_gradient"]


def first_order(x: Tensor) -> Tensor:
    """Return the tensor itself, with second derivatives that raise.

    Raises:
        NotImplementedError: In double backward, when the first derivative is differentiated.
    """
    return _FirstOrder.apply(x)  # type: ignore[no-any-return]


def zero_with_gradient(x: Tensor) -> Tensor:
    """Return zero, with the first derivative of x."""
    return first_order(x - x.detach())


def is_differentiated(*tensors: Tensor) -> bool:
    """Return whether a derivative may be requested, in reverse or forward mode."""
    return any(
        (x.requires_grad and torch.is_grad_enabled())
        or forward_ad.unpack_dual(x).tangent is not None
        for x in tensors
    )


class _FirstOrder(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _Final.apply(grad)  # type: ignore[no-any-return]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return _Final.apply(tangent)  # type: ignore[no-any-return]


class _Final(torch.autograd.Function):
    """A first derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        raise NotImplementedError(
            "the second derivative in a parameter that is restricted to certain values, such as "
            "the exponents of a KL divergence, has no closed form"
        )

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return _Final.backward(ctx, tangent)
