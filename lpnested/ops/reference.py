r"""What every backend must equal: plain differentiable operations of torch.

They run on any device and under any tracer, transform and derivative. Shapes are natural:
``value`` ``(*sample, *batch, dim)``, ``exponents`` ``(*batch, num_nodes)``, a result
``(*sample, *batch)``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lpnested.arguments import prepare
from lpnested.plain_norm import plain_log_norm
from lpnested.precision import exp, widen
from lpnested.traversal import column
from lpnested.tree import LpNestedTree

__all__ = ["gamma_log_density", "log_norm", "log_surface_area"]

log_norm = plain_log_norm


def log_surface_area(exponents: Tensor, tree: LpNestedTree) -> Tensor:
    """See :func:`lpnested.functional.log_surface_area`; not narrowed."""
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
    r"""The log density where the radius is a generalized gamma variable; not narrowed.

    .. math:: \log p - \log\Gamma(n/p) - n \log s - \log S_f(1) + (n - d) \log f(x)
        - (f(x)/s)^p

    with the dimension :math:`d` of the tree, and n that of the radius, or d where it is None.
    """
    log_r = log_norm(value, exponents, tree)
    infinite = log_r == math.inf
    log_r = torch.where(infinite, 0.0, log_r)
    p, log_scale = widen(p), widen(scale).log()
    n = torch.full_like(p, tree.dim) if dim is None else widen(dim)
    constant = p.log() - (n / p).lgamma() - n * log_scale - log_surface_area(exponents, tree)
    density = constant + (n - tree.dim) * log_r - exp(p * (log_r - log_scale))
    return torch.where(infinite, -math.inf, density)
