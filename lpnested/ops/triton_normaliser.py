r"""The constant of the log density over a tree, in Triton: in float64, whatever the values are.

.. math:: \log p - \log\Gamma(n/p) - n \log s - \log S_f(1)

It is worked out once by each program for its columns of the batch, node by node, and the nodes are
dealt to the lanes: a few operations beside those for the rows, even where float64 is slow.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lpnested.ops.triton_math import LN2, digamma, log_gamma, natural_log, positive

__all__ = ["constant_of_lanes", "slope_in_exponent", "slopes_in_radius"]


@triton.jit
def of_nodes(
    tree: tl.tuple, k: tl.tensor, p: tl.tensor, inside: tl.tensor, SLOPE: tl.constexpr
) -> tl.tensor:
    """What nodes contribute to n log 2 - log S_f(1), or the derivative of that in an exponent."""
    first_child, leaves, nodes, most_terms = tree
    first_term = first_child + nodes + 1 + tl.load(first_child + nodes)
    sizes = first_term + nodes + 1
    counts = sizes + tl.load(first_term + nodes)
    children = tl.load(first_child + k + 1, mask=inside, other=1)
    children -= tl.load(first_child + k, mask=inside, other=0)
    if SLOPE:
        total = (children - 1).to(tl.float64) / p
    else:
        total = (children - 1).to(tl.float64) * natural_log(p)
    first = tl.load(first_term + k, mask=inside, other=0)
    last = tl.load(first_term + k + 1, mask=inside, other=0)
    for i in range(most_terms):
        there = first + i < last
        size = tl.load(sizes + first + i, mask=there, other=1).to(tl.float64)
        count = tl.load(counts + first + i, mask=there, other=0).to(tl.float64)
        if SLOPE:
            total += count * (size / p) * (digamma(size / p) / p)
        else:
            total -= count * log_gamma(size / p)
    return tl.where(inside, total, 0.0)


@triton.jit
def parameter(pointer: tl.tensor, inside: tl.tensor) -> tl.tensor:
    """In float64, and NaN where it is not a positive number."""
    return positive(tl.load(pointer, mask=inside, other=1.0).to(tl.float64))


@triton.jit
def constant_of_lanes(
    tree: tl.tuple,
    exponents: tl.tuple,
    radius: tl.tuple,
    column: tl.tensor,
    inside: tl.tensor,
    SAMPLES: tl.constexpr,
    BATCH: tl.constexpr,
    HAS_DIM: tl.constexpr,
) -> tl.tensor:
    """For columns of the batch, repeated for each sample of a block."""
    first_child, leaves, nodes, most_terms = tree
    pointer, along_batch, along_nodes = exponents
    total = tl.zeros((SAMPLES, BATCH), tl.float64)
    for start in range(0, nodes, SAMPLES):
        k = start + tl.arange(0, SAMPLES)[:, None]
        there = (k < nodes) & inside[None, :]
        p = parameter(pointer + column[None, :] * along_batch + k * along_nodes, there)
        total += of_nodes(tree, k, p, there, False)
    dim, p, scale, along_dim, along_p, along_scale = radius
    of_tree = tl.zeros((BATCH,), tl.float64) + leaves
    n = of_tree
    if HAS_DIM:
        n = parameter(dim + column * along_dim, inside)
    q = parameter(p + column * along_p, inside)
    s = parameter(scale + column * along_scale, inside)
    constant = tl.sum(total, axis=0) - of_tree * LN2
    constant += natural_log(q) - log_gamma(n / q) - n * natural_log(s)
    repeated = tl.broadcast_to(constant[None, :], (SAMPLES, BATCH))
    return tl.reshape(repeated, (SAMPLES * BATCH,))


@triton.jit
def slope_in_exponent(
    tree: tl.tuple, exponents: tl.tuple, k: tl.tensor, column: tl.tensor, inside: tl.tensor
) -> tl.tensor:
    """The derivative of the constant in the exponent of node k, for columns of the batch."""
    pointer, along_batch, along_nodes = exponents
    p = parameter(pointer + column * along_batch + k * along_nodes, inside)
    return of_nodes(tree, k + tl.zeros_like(column), p, inside, True)


@triton.jit
def slopes_in_radius(
    tree: tl.tuple,
    radius: tl.tuple,
    column: tl.tensor,
    inside: tl.tensor,
    HAS_DIM: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """The derivatives of the constant and n log s in dimension, exponent and scale."""
    first_child, leaves, nodes, most_terms = tree
    dim, p, scale, along_dim, along_p, along_scale = radius
    n = tl.zeros_like(column).to(tl.float64) + leaves
    if HAS_DIM:
        n = parameter(dim + column * along_dim, inside)
    q = parameter(p + column * along_p, inside)
    s = parameter(scale + column * along_scale, inside)
    of_shape = digamma(n / q) / q
    return -of_shape, 1.0 / q + (n / q) * of_shape, -n / s
