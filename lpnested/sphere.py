r"""Exact draws from the unit sphere of an :math:`L_p`-nested function."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lpnested.arguments import check_exponents, prepare
from lpnested.gamma import log_standard_gamma, symmetric_uniform
from lpnested.layout import Layout
from lpnested.tracing import is_eager
from lpnested.traversal import column, leaves_of, log2_totals, path_sums
from lpnested.tree import LpNestedTree

__all__ = ["sample_sphere"]

_DRAWS = 2**18  # in a chunk, which fits a cache
_LOG2_E = math.log2(math.e)


@torch.no_grad()
def sample_sphere(
    exponents: Tensor, tree: LpNestedTree, sample_shape: Sequence[int] = ()
) -> Tensor:
    r"""Exact draws from the uniform distribution on the unit sphere (Algorithm 1).

    Uniform in the sense of eq. 7: the direction of any :math:`L_p`-nested symmetric variable.

    .. math:: \log |u_i| = \sum_{I \text{ on the path to } i}
        \frac{1}{p_I} \Big( \log g_c - \log \sum_{c' \in I} g_{c'} \Big), \quad
        g_c \sim \mathrm{Gamma}\Big(\frac{n_c}{p_I}\Big)

    Args:
        exponents: Shape ``(*batch, num_nodes)``.
        tree: The tree.
        sample_shape: The shape of independent draws.

    Returns:
        Shape ``(*sample_shape, *batch, dim)``, without gradient.

    Example:
        >>> u = sample_sphere(torch.tensor([1.5]), LpNestedTree.flat(3), (1000,))
        >>> u.abs().pow(1.5).sum(-1).allclose(torch.ones(1000))
        True
    """
    p, layout = prepare(exponents, tree)
    dtype, num = check_exponents(exponents, tree).dtype, math.prod(sample_shape)
    rows = max(num, 1)
    if p.device.type == "cpu" and is_eager(p):
        rows = max(1, _DRAWS // max(1, p[0].numel() * tree.dim))  # what fits a cache
    parts = [
        _sample_sphere(p, layout, min(rows, num - start), dtype)
        for start in range(0, max(num, 1), rows)
    ]
    draws = torch.cat(parts) if len(parts) > 1 else parts[0]
    return draws.reshape(*sample_shape, *p.shape[1:], tree.dim)


def _sample_sphere(p: Tensor, layout: Layout, num: int, dtype: torch.dtype) -> Tensor:
    """``num`` draws, shape ``(num, *batch, dim)``."""
    p = p.index_select(0, layout.parents).unsqueeze(1)
    sizes, inner = column(layout.edge_sizes, p), column(layout.inner, p)
    size = (len(p), num, *p.shape[2:])
    # Gamma(a) is Gamma(a + 1) U^(1/a), as in gamma.py. To a leaf, U brings the sign along.
    uniform = symmetric_uniform(size, dtype, p.device)
    log_uniform = uniform.abs().log2()
    log_g = log_standard_gamma(sizes / p + 1, size, dtype).to(dtype) * _LOG2_E
    totals = log2_totals(log_g + log_uniform * (p / sizes).to(dtype), layout)
    rest = (log_g - totals) * (1 / p).to(dtype) + log_uniform * (inner / sizes).to(dtype)
    draws = leaves_of(uniform, layout) * path_sums(rest, layout).exp2()
    return draws.movedim(0, -1).clone(memory_format=torch.contiguous_format)
