r"""The reference backend, which defines the others: plain differentiable torch operations.

It runs on any device and under any tracer, transform and derivative. Shapes are ``value``
``(*sample, *batch, dim)``, ``exponents`` ``(*batch, num_nodes)`` and result ``(*sample, *batch)``,
in the working precision of the device.

The largest coordinate of a row is divided out, and norms of nodes are stored as base-2
logarithms, so that neither overflows. The norm does not depend on the divisor, so the divisor is
detached without affecting any derivative.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lpnested.arguments import prepare, rows_of
from lpnested.precision import clamp_max, exp, upcast
from lpnested.traversal import LOG2_ZERO, align, log2_p_norm, reduce_tree, unsqueeze_like
from lpnested.tree import LpNestedTree

__all__ = ["gamma_log_density", "log_norm", "log_surface_area", "norm"]


def log_norm(value: Tensor, exponents: Tensor, tree: LpNestedTree) -> Tensor:
    """See :func:`lpnested.functional.log_norm`."""
    log2_ratio, largest, infinite = _norm_and_largest(value, exponents, tree)
    limits = torch.finfo(largest.dtype)
    lowest, highest = math.log(limits.tiny), math.log(limits.max)
    result = largest.log() + math.log(2) * log2_ratio
    result = result.masked_fill(result > highest, highest)
    return result.masked_fill(result < lowest, lowest).masked_fill(infinite, math.inf)


def norm(value: Tensor, exponents: Tensor, tree: LpNestedTree) -> Tensor:
    """See :func:`lpnested.functional.norm`."""
    log2_ratio, largest, infinite = _norm_and_largest(value, exponents, tree)
    highest = torch.finfo(largest.dtype).max
    log2_ratio = clamp_max(log2_ratio, math.log2(highest) - largest.log2())
    # For a tiny largest coordinate, the ratio may overflow although the norm does not.
    half = (log2_ratio.detach() / 2).floor()
    result = largest * half.exp2() * (log2_ratio - half).exp2()
    return result.masked_fill(result > highest, highest).masked_fill(infinite, math.inf)


def log_surface_area(exponents: Tensor, tree: LpNestedTree) -> Tensor:
    """See :func:`lpnested.functional.log_surface_area`."""
    p, layout = prepare(exponents, tree)
    p_edge = p.index_select(0, layout.parents)
    nodes = (
        -(unsqueeze_like(layout.arities, p) - 1) * p.log()
        - (unsqueeze_like(layout.node_sizes, p) / p).lgamma()
    )
    edges = (unsqueeze_like(layout.edge_sizes, p) / p_edge).lgamma()
    return tree.dim * math.log(2) + nodes.sum(0) + edges.sum(0)


def gamma_log_density(
    value: Tensor,
    exponents: Tensor,
    dim: Tensor | None,
    p: Tensor,
    scale: Tensor,
    tree: LpNestedTree,
) -> Tensor:
    r"""Return the log density for a generalized gamma radius.

    .. math:: \log p - \log\Gamma(n/p) - n \log s - \log S_f(1) + (n - d) \log f(x)
        - (f(x)/s)^p

    where :math:`d` is the dimension of the tree and n that of the radius, or d if it is None.
    """
    log_r = log_norm(value, exponents, tree)
    infinite = log_r == math.inf
    log_r = log_r.masked_fill(infinite, 0.0)
    p, log_scale = upcast(p), upcast(scale).log()
    n = torch.full_like(p, tree.dim) if dim is None else upcast(dim)
    constant = p.log() - (n / p).lgamma() - n * log_scale - log_surface_area(exponents, tree)
    density = constant + (n - tree.dim) * log_r - exp(p * (log_r - log_scale))
    return density.masked_fill(infinite, -math.inf)


def _norm_and_largest(
    value: Tensor, exponents: Tensor, tree: LpNestedTree
) -> tuple[Tensor, Tensor, Tensor]:
    """Return log2 of f / largest coordinate, that coordinate, and whether it is infinite.

    If all coordinates are 0 or one is infinite, the largest is replaced by 1.
    """
    p, layout = prepare(exponents, tree)
    rows, p = align(rows_of(value, tree).abs(), p)
    largest = rows.detach().amax(0)  # propagates NaN
    infinite = largest == math.inf
    largest = largest.masked_fill(infinite | (largest == 0), 1.0)
    ratios = _log2_ratios(rows.masked_fill(infinite, 1.0), largest)
    return (
        reduce_tree(ratios, p, layout, log2_p_norm, LOG2_ZERO)[0][1].squeeze(0),
        largest,
        infinite,
    )


def _log2_ratios(rows: Tensor, largest: Tensor) -> Tensor:
    """Return log2 of rows / their largest, without gradient at zeros."""
    zero, ratios = rows == 0, rows / largest
    far = ratios < torch.finfo(rows.dtype).tiny  # subnormal ratios lose digits
    logs = torch.where(far, rows, ratios).masked_fill(zero, 1.0).log2()
    return torch.where(far, logs - largest.log2(), logs).masked_fill(zero, LOG2_ZERO)
