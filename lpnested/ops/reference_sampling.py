"""The reference sampler, based on torch's gamma sampler: for any device and under any tracer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lpnested.arguments import prepare
from lpnested.gamma import symmetric_uniform
from lpnested.precision import result_dtype
from lpnested.traversal import leaves_of, log2_totals, path_sums, unsqueeze_like
from lpnested.tree import LpNestedTree

__all__ = ["nested"]

_LOG2_E = math.log2(math.e)
_BEYOND = 2.0**20  # no dtype holds 2 to this power


def nested(
    exponents: Tensor, tree: LpNestedTree, sample_shape: Sequence[int], log_radius: Tensor | None
) -> Tensor:
    """See :func:`lpnested.ops.sampling.nested`."""
    dtype, (p, layout) = result_dtype(exponents), prepare(exponents, tree)
    batch = p.shape[1:]
    p = p.reshape(len(p), *(1,) * len(sample_shape), *batch).index_select(0, layout.parents)
    sizes, inner = unsqueeze_like(layout.edge_sizes, p), unsqueeze_like(layout.inner, p)
    size = (len(p), *sample_shape, *batch)
    # Gamma(a) is Gamma(a + 1) U^(1/a), as in gamma.py. For a leaf, U also provides the sign.
    uniform = symmetric_uniform(size, dtype, p.device)
    log_uniform = uniform.abs().log2()
    log_g = torch._standard_gamma((sizes / p + 1).expand(size)).log2().to(dtype)
    totals = log2_totals(log_g + log_uniform * (p / sizes).to(dtype), layout)
    shares = (log_g - totals) * (1 / p).to(dtype) + log_uniform * (inner / sizes).to(dtype)
    paths, draws = path_sums(shares, layout), leaves_of(uniform, layout)
    draws = draws * paths.exp2() if log_radius is None else _at_radius(draws, paths, log_radius)
    return draws.movedim(0, -1).clone(memory_format=torch.contiguous_format)


def _at_radius(draws: Tensor, paths: Tensor, log_radius: Tensor) -> Tensor:
    """Scale by the radius and 2**paths, which may overflow even if the result does not."""
    log2_radius = log_radius * _LOG2_E
    whole = log2_radius.clamp(-_BEYOND, _BEYOND).floor()
    fraction = (log2_radius - whole).clamp(0, 1).exp2().to(draws.dtype)
    root = (0.5 * (paths + whole.to(draws.dtype))).exp2()
    largest = torch.finfo(draws.dtype).max
    return (draws * fraction * root * root).clamp(-largest, largest)
