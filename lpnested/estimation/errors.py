"""Standard errors and Wald statistics of a tree's exponents, from the covariance of a fit."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributions import Distribution

from lpnested.estimation.model import Model
from lpnested.lp_nested import LpNested
from lpnested.tree import LpNestedTree

__all__ = ["carried", "exponent_slopes", "wald"]


def exponent_slopes(model: Model, vector: Tensor) -> Tensor | None:
    """The derivatives of the logarithms of a tree's exponents, shape ``(*batch, nodes, free)``.

    None for a distribution without a tree.
    """
    vector = vector.detach().requires_grad_()
    dist = model(vector)
    if not isinstance(dist, LpNested):
        return None
    logs = dist.exponents.log()
    if not logs.requires_grad:
        return vector.new_zeros(*logs.shape, len(model.free))
    rows = [
        torch.autograd.grad(logs[..., k].sum(), vector, retain_graph=True)[0]
        for k in range(logs.shape[-1])
    ]
    slopes = torch.stack(rows, -2)[..., model.free]
    several = [len(row) > 1 for row in dist.tree.children]
    return slopes * torch.tensor(several, device=slopes.device).unsqueeze(-1)


def carried(slopes: Tensor, covariance: Tensor) -> Tensor:
    """The covariance of what has these slopes; NaN where it depends on what has none."""
    result = slopes @ covariance.nan_to_num() @ slopes.mT
    unknown = covariance.diagonal(dim1=-2, dim2=-1).isnan()
    lost = ((slopes != 0) & unknown.unsqueeze(-2)).any(-1)
    return result.masked_fill(lost.unsqueeze(-1) | lost.unsqueeze(-2), torch.nan)


def wald(dist: Distribution, covariance: Tensor) -> dict[tuple[int, int], Tensor]:
    """The Wald statistic of every inner node against its parent, by their places.

    It is the difference of their log exponents over its standard error, which is standard normal
    if they are equal; then both levels can be merged.

    Args:
        dist: The distribution.
        covariance: That of the log exponents, shape ``(*batch, nodes, nodes)``.
    """
    if not isinstance(dist, LpNested):
        return {}
    logs, result = dist.exponents.double().log(), {}
    for parent, child in _edges(dist.tree):
        variance = (
            covariance[..., child, child]
            + covariance[..., parent, parent]
            - 2 * covariance[..., child, parent]
        )
        if (variance != 0).any():  # it is where both are fixed, or tied
            result[parent, child] = (logs[..., child] - logs[..., parent]) / variance.sqrt()
    return result


def _edges(tree: LpNestedTree) -> Iterator[tuple[int, int]]:
    """Nodes with several children, and the next such node above each."""
    above = {
        ~child: place for place, row in enumerate(tree.children) for child in row if child < 0
    }
    for child in range(1, tree.num_nodes):
        parent: int | None = above[child]
        while parent is not None and len(tree.children[parent]) == 1:
            parent = above.get(parent)
        if parent is not None and len(tree.children[child]) > 1:
            yield parent, child
