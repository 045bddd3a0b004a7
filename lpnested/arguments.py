"""Argument checks of the functions of a tree."""

from __future__ import annotations

from collections.abc import Sequence
from reprlib import repr

import torch
from torch import Tensor

from lpnested.layout import Layout, layout_of
from lpnested.precision import as_parameter, upcast
from lpnested.tree import LpNestedTree

__all__ = ["check_exponents", "check_value", "common_shape", "prepare", "rows_of"]


def check_exponents(exponents: Tensor | Sequence[float], tree: LpNestedTree) -> Tensor:
    exponents = as_parameter("exponents", exponents)
    if exponents.dim() == 0 or exponents.shape[-1] != tree.num_nodes:
        raise ValueError(
            f"{repr(tree)} has {tree.num_nodes} inner nodes, so exponents must have shape "
            f"(*batch, {tree.num_nodes}), but got {tuple(exponents.shape)}"
        )
    return exponents


def prepare(exponents: Tensor, tree: LpNestedTree) -> tuple[Tensor, Layout]:
    """Return upcast exponents as rows ``(num_nodes, *batch)``, and the layout of their tree."""
    exponents = check_exponents(exponents, tree)
    return upcast(exponents).movedim(-1, 0), layout_of(tree, exponents.device)


def rows_of(value: Tensor, tree: LpNestedTree, name: str = "value") -> Tensor:
    """Upcast values to contiguous rows ``(dim, *sample, *batch)``; reductions run over rows."""
    check_value(value, tree, name)
    return upcast(value.movedim(-1, 0).clone(memory_format=torch.contiguous_format))


def common_shape(*shapes: torch.Size) -> torch.Size:
    """Return the broadcast shape; ``torch.broadcast_shapes`` is slower than a constructor."""
    alike = shapes.count(shapes[0]) == len(shapes)
    return shapes[0] if alike else torch.broadcast_shapes(*shapes)


def check_value(value: Tensor, tree: LpNestedTree, name: str) -> None:
    if value.dim() == 0 or value.shape[-1] != tree.dim:
        raise ValueError(
            f"{repr(tree)} has {tree.dim} coordinates, so {name} must have shape "
            f"(*sample, *batch, {tree.dim}), but got {tuple(value.shape)}"
        )
