"""The log density with a generalized gamma radius, by the backend that serves its device."""

from __future__ import annotations

import torch
from torch import Tensor

from lpnested.ops import reference
from lpnested.precision import narrow, result_dtype
from lpnested.tree import LpNestedTree

__all__ = ["log_density"]


def log_density(
    value: Tensor,
    exponents: Tensor,
    dim: Tensor | float,
    p: Tensor,
    scale: Tensor,
    tree: LpNestedTree,
) -> Tensor:
    """See :func:`lpnested.ops.reference.gamma_log_density`; in the dtype of value and exponents.

    Args:
        value: Shape ``(*sample, *batch, tree.dim)``.
        exponents: Shape ``(*batch, num_nodes)``.
        dim: The dimension of the radius, a number or of shape ``(*batch)``, as p and scale.
        p: Its exponent.
        scale: Its scale.
        tree: The tree.
    """
    dim = torch.as_tensor(dim, device=p.device)
    density = reference.gamma_log_density(value, exponents, dim, p, scale, tree)
    return narrow(density, result_dtype(value, exponents))
