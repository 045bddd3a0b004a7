"""Results that an object keeps while nothing can have changed what they are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from lpnested.tracing import is_eager

__all__ = ["kept"]

T = TypeVar("T")


def kept(owner: object, name: str, tensors: tuple[Tensor, ...], make: Callable[[], T]) -> T:
    """What ``make`` makes of the tensors: from the last time, if nothing was written to them.

    It is made anew where a tensor asks for a gradient, or under a tracer or transform.
    """
    # Dynamo traces no is_inference, so what kind of call this is comes first.
    if not is_eager(*tensors) or any(x.requires_grad or x.is_inference() for x in tensors):
        return make()
    state = [(id(x), x._version) for x in tensors]  # a copy of the owner has other tensors
    last: tuple[list[tuple[int, int]], T] | None = owner.__dict__.get(name)
    if last is None or last[0] != state:
        with torch.inference_mode(False):  # what is kept must serve training too
            last = state, make()
        setattr(owner, name, last)
    return last[1]
