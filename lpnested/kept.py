"""Results that an object keeps while nothing can have changed what they are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from lpnested.tracing import is_eager

__all__ = ["kept"]

T = TypeVar("T")


class _Kept:
    """A result, and the tensors and versions that it is of. Copies of it are empty."""

    def __init__(self, tensors: tuple[Tensor, ...] = (), result: Any = None) -> None:
        self.tensors, self.result = tensors, result
        self.versions = [x._version for x in tensors]

    def is_of(self, tensors: tuple[Tensor, ...]) -> bool:
        return (
            len(self.tensors) == len(tensors)
            and all(a is b for a, b in zip(self.tensors, tensors, strict=True))
            and self.versions == [x._version for x in tensors]
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> _Kept:
        return _Kept()

    def __reduce__(self) -> tuple[type[_Kept], tuple[()]]:
        return _Kept, ()


def kept(owner: object, name: str, tensors: tuple[Tensor, ...], make: Callable[[], T]) -> T:
    """What ``make`` makes of the tensors: from the last time, if nothing was written to them.

    Writes through ``.data`` or numpy go unseen, as they do for autograd. It is made anew where a
    tensor asks for a gradient, or under a tracer or transform.
    """
    # Dynamo traces no is_inference, so what kind of call this is comes first.
    if not is_eager(*tensors) or any(x.requires_grad or x.is_inference() for x in tensors):
        return make()
    last: _Kept | None = owner.__dict__.get(name)
    if last is None or not last.is_of(tensors):
        with torch.inference_mode(False):  # what is kept must serve training too
            last = _Kept(tensors, make())
        setattr(owner, name, last)
    result: T = last.result
    return result
