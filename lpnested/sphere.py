r"""Exact draws from the unit sphere of an :math:`L_p`-nested function."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lpnested.arguments import check_exponents, prepare
from lpnested.gamma import log_standard_gamma, symmetric_uniform
from lpnested.layout import Layout
from lpnested.precision import result_dtype
from lpnested.tracing import is_eager
from lpnested.traversal import column, leaves_of, log2_totals, path_sums
from lpnested.tree import LpNestedTree

__all__ = ["sample_scaled", "sample_sphere"]

# In a chunk: it fits a cache, and torch gives no operation on it to several threads, where the
# last digit of a logarithm would depend on their number.
_DRAWS = 2**15 - 1
_LOG2_E = math.log2(math.e)
_BEYOND = 2.0**20  # no dtype holds 2 to this power


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
    return _draws(exponents, tree, sample_shape, None)


def sample_scaled(
    log_radius: Tensor, exponents: Tensor, tree: LpNestedTree, sample_shape: Sequence[int]
) -> Tensor:
    """The same at a radius of shape ``(*sample_shape, *batch)``, whose logarithm is given.

    What the dtype holds is right, also where it does not hold the radius or the direction.
    """
    return _draws(exponents, tree, sample_shape, log_radius * _LOG2_E)


def _draws(
    exponents: Tensor, tree: LpNestedTree, sample_shape: Sequence[int], log2_radius: Tensor | None
) -> Tensor:
    exponents = check_exponents(exponents, tree).detach()
    dtype, (p, layout) = result_dtype(exponents), prepare(exponents, tree)
    batch, shape = p.shape[1:], tuple(sample_shape)
    if p.device.type == "cpu" and is_eager(p):
        return _in_chunks(p, layout, shape, dtype, log2_radius)
    factors = _factors(p.reshape(len(p), *(1,) * len(shape), *batch), layout, dtype)
    return _one_chunk(factors, layout, (*shape, *batch), log2_radius)


def _in_chunks(
    p: Tensor,
    layout: Layout,
    sample_shape: tuple[int, ...],
    dtype: torch.dtype,
    log2_radius: Tensor | None,
) -> Tensor:
    """As one chunk, in chunks of samples and batch, so that what is worked on fits a cache."""
    batch, dim = p.shape[1:], sum(level.num_leaves for level in layout.levels)
    num, width, edges = math.prod(sample_shape), batch.numel(), len(layout.parents)
    factors = _factors(p.reshape(len(p), 1, width), layout, dtype)
    radius = None if log2_radius is None else log2_radius.reshape(num, width)
    result = torch.empty(num, width, dim, dtype=dtype)
    columns = max(1, min(width, _DRAWS // edges))
    rows = max(1, _DRAWS // (edges * columns))
    for start in range(0, num, rows):
        for first in range(0, width, columns):
            part = (slice(start, start + rows), slice(first, first + columns))
            mine = _Factors(*(x[:, :, part[1]] for x in factors))
            scale = None if radius is None else radius[part]
            result[part] = _one_chunk(mine, layout, result[part].shape[:2], scale)
    return result.reshape(*sample_shape, *batch, dim)


class _Factors(NamedTuple):
    """What a draw takes of the exponents, for each edge, shape ``(num_edges, ...)``."""

    shapes: Tensor
    """Of gamma variables, plus 1, float64."""
    uniform_in_gamma: Tensor
    rest: Tensor
    uniform_in_rest: Tensor


def _factors(p: Tensor, layout: Layout, dtype: torch.dtype) -> _Factors:
    p = p.index_select(0, layout.parents)
    sizes, inner = column(layout.edge_sizes, p), column(layout.inner, p)
    factors = (x.to(dtype).expand(p.shape) for x in (p / sizes, 1 / p, inner / sizes))
    return _Factors(sizes / p + 1, *factors)


def _one_chunk(
    factors: _Factors, layout: Layout, shape: Sequence[int], log2_radius: Tensor | None
) -> Tensor:
    """Draws of shape ``(*shape, dim)``."""
    shapes, uniform_in_gamma, rest, uniform_in_rest = factors
    dtype, size = rest.dtype, (len(shapes), *shape)
    # Gamma(a) is Gamma(a + 1) U^(1/a), as in gamma.py. To a leaf, U brings the sign along.
    uniform = symmetric_uniform(size, dtype, shapes.device)
    log_uniform = uniform.abs().log2()
    log_g = log_standard_gamma(shapes, size, dtype).to(dtype) * _LOG2_E
    totals = log2_totals(log_g + log_uniform * uniform_in_gamma, layout)
    paths = path_sums((log_g - totals) * rest + log_uniform * uniform_in_rest, layout)
    draws = leaves_of(uniform, layout)
    if log2_radius is None:
        draws = draws * paths.exp2()
    else:
        whole = log2_radius.clamp(-_BEYOND, _BEYOND).floor()
        fraction = (log2_radius - whole).clamp(0, 1).exp2().to(dtype)
        root = (0.5 * (paths + whole.to(dtype))).exp2()  # the factor itself may overflow
        draws = draws * fraction * root * root
    return draws.movedim(0, -1).clone(memory_format=torch.contiguous_format)
