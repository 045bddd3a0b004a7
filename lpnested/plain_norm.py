"""The norm by plain differentiable operations: any dtype, device, transform and derivative."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lpnested.arguments import check_value, prepare
from lpnested.precision import at_most, widen
from lpnested.traversal import Combine, align, climb, log_p_norm, p_norm
from lpnested.tree import LpNestedTree

__all__ = ["plain_log_norm", "plain_norm", "rows_of"]

_LOG_TINY, _HUGE = math.log(torch.finfo(torch.float64).tiny), torch.finfo(torch.float64).max


def rows_of(value: Tensor, tree: LpNestedTree, name: str = "value") -> Tensor:
    """Values as contiguous float64 rows ``(dim, *sample, *batch)``: reductions run over rows."""
    check_value(value, tree, name)
    return widen(value.movedim(-1, 0).clone(memory_format=torch.contiguous_format))


def plain_norm(value: Tensor, exponents: Tensor, tree: LpNestedTree) -> Tensor:
    """The function f itself; see :func:`lpnested.functional.norm`."""
    root, largest, infinite = _at_root(value, exponents, tree, p_norm)
    return torch.where(infinite, math.inf, at_most(largest * root, _HUGE))


def plain_log_norm(value: Tensor, exponents: Tensor, tree: LpNestedTree) -> Tensor:
    """Its logarithm; see :func:`lpnested.functional.log_norm`."""
    root, largest, infinite = _at_root(value, exponents, tree, log_p_norm)
    result = at_most(largest.log() + root, math.log(_HUGE))
    result = torch.where(result < _LOG_TINY, _LOG_TINY, result)
    return torch.where(infinite, math.inf, result)


def _at_root(
    value: Tensor, exponents: Tensor, tree: LpNestedTree, function: Combine
) -> tuple[Tensor, Tensor, Tensor]:
    """What a function makes of the norms of the root's children, in float64.

    The largest coordinate is divided out, so that no node overflows before the root, and has no
    gradient, as in :func:`p_norm`. Where a coordinate is infinite, and none NaN, is said beside.
    """
    p, layout = prepare(exponents, tree)
    rows, p = align(rows_of(value, tree).abs(), p)
    largest = rows.detach().amax(0)  # NaN where one is
    infinite = largest == math.inf
    largest = torch.where(infinite | (largest == 0), 1.0, largest)
    rows = torch.where(infinite, 1.0, rows / largest)
    return climb(rows, p, layout, p_norm, at_root=function)[0][1].squeeze(0), largest, infinite
