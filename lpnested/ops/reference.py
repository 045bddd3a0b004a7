r"""What every backend must equal: plain differentiable operations of torch.

They run on any device and under any tracer, transform and derivative. Shapes are natural:
``value`` ``(*sample, *batch, dim)``, ``exponents`` ``(*batch, num_nodes)``, a result
``(*sample, *batch)``, in the working precision of its device.

The largest coordinate of a row is divided out, and norms of nodes are held as base-2 logarithms,
so that neither overflows. As the norm does not depend on what is divided out, that number carries
no gradient, and all derivatives are still right.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lpnested.arguments import prepare, rows_of
from lpnested.precision import at_most, exp, widen
from lpnested.traversal import LOG2_ZERO, align, climb, column, log2_p_norm
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
    log2_ratio = at_most(log2_ratio, math.log2(highest) - largest.log2())
    # Where the largest coordinate is tiny, the ratio may overflow, and the norm not.
    half = (log2_ratio.detach() / 2).floor()
    result = largest * half.exp2() * (log2_ratio - half).exp2()
    return result.masked_fill(result > highest, highest).masked_fill(infinite, math.inf)


def log_surface_area(exponents: Tensor, tree: LpNestedTree) -> Tensor:
    """See :func:`lpnested.functional.log_surface_area`."""
    p, layout = prepare(exponents, tree)
    p_edge = p.index_select(0, layout.parents)
    nodes = (
        -(column(layout.arities, p) - 1) * p.log() - (column(layout.node_sizes, p) / p).lgamma()
    )
    edges = (column(layout.edge_sizes, p) / p_edge).lgamma()
    return tree.dim * math.log(2) + nodes.sum(0) + edges.sum(0)


def gamma_log_density(
    value: Tensor,
    exponents: Tensor,
    dim: Tensor | None,
    p: Tensor,
    scale: Tensor,
    tree: LpNestedTree,
) -> Tensor:
    r"""The log density where the radius is a generalized gamma variable.

    .. math:: \log p - \log\Gamma(n/p) - n \log s - \log S_f(1) + (n - d) \log f(x)
        - (f(x)/s)^p

    with the dimension :math:`d` of the tree, and n that of the radius, or d where it is None.
    """
    log_r = log_norm(value, exponents, tree)
    infinite = log_r == math.inf
    log_r = log_r.masked_fill(infinite, 0.0)
    p, log_scale = widen(p), widen(scale).log()
    n = torch.full_like(p, tree.dim) if dim is None else widen(dim)
    constant = p.log() - (n / p).lgamma() - n * log_scale - log_surface_area(exponents, tree)
    density = constant + (n - tree.dim) * log_r - exp(p * (log_r - log_scale))
    return density.masked_fill(infinite, -math.inf)


def _norm_and_largest(
    value: Tensor, exponents: Tensor, tree: LpNestedTree
) -> tuple[Tensor, Tensor, Tensor]:
    """log2 of f over the largest coordinate, that coordinate, and whether it is infinite.

    Where all coordinates are 0, and where one is infinite, 1 stands for the largest.
    """
    p, layout = prepare(exponents, tree)
    rows, p = align(rows_of(value, tree).abs(), p)
    largest = rows.detach().amax(0)  # NaN where one is
    infinite = largest == math.inf
    largest = largest.masked_fill(infinite | (largest == 0), 1.0)
    ratios = _log2_ratios(rows.masked_fill(infinite, 1.0), largest)
    return climb(ratios, p, layout, log2_p_norm, LOG2_ZERO)[0][1].squeeze(0), largest, infinite


def _log2_ratios(rows: Tensor, largest: Tensor) -> Tensor:
    """log2 of rows over the largest of them; of zeros without gradient."""
    zero, ratios = rows == 0, rows / largest
    far = ratios < torch.finfo(rows.dtype).tiny  # too small a number for all its digits
    logs = torch.where(far, rows, ratios).masked_fill(zero, 1.0).log2()
    return torch.where(far, logs - largest.log2(), logs).masked_fill(zero, LOG2_ZERO)
