"""The logarithm of the Lp-nested function of a value, by the backend that serves its device."""

from __future__ import annotations

from torch import Tensor

from lpnested.ops import reference
from lpnested.tree import LpNestedTree

__all__ = ["log_norm"]


def log_norm(value: Tensor, exponents: Tensor, tree: LpNestedTree) -> Tensor:
    """The logarithm, float64 where the device has it, shape ``(*sample, *batch)``."""
    return reference.log_norm(value, exponents, tree)
