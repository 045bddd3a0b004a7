r"""The upward and downward pass over a tree, in Triton, for a block of rows, one per lane.

The logarithms of the coordinates are stored in scratch memory, leaf by leaf, and propagated up the
tree node by node as an integer and a fraction, so that :math:`p \log_2 |x|` loses no digits at any
scale. With the share :math:`s_c = (f_c / f_I)^{p_I}` of a child in its node, and the product
:math:`w` of the shares on the path from the root,

.. math:: \frac{\partial \log f}{\partial x_i} = \frac{w_i}{x_i}, \qquad
    \frac{\partial \log f}{\partial p_I} = \frac{w_I}{p_I^2} \sum_{c \in I} s_c \log s_c

Shares are propagated down as logarithms, so that a gradient is computed whenever it is
representable, regardless of its factors. Scratch memory has the exponents, fractions and shares of
all leaves and then all nodes, with rows contiguous. Data of other lanes is read after a barrier.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lpnested.ops.triton_math import (
    FAR,
    LN2,
    log2_pair,
    positive,
    saturated,
    scaled,
    share,
    split,
    times,
)

__all__ = ["gradient_of_block", "norm_of_block"]

LOG2_TINY = tl.constexpr(-1022.0)  # log2 of the smallest norm
LOG2_HUGE = tl.constexpr(1024.0)


@triton.jit
def load_logs(
    value: tl.tensor, along: tl.tensor, leaves: tl.tensor, room: tl.tuple, inside: tl.tensor,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Load the coordinates of a block and store their logarithms."""
    logs, apart = room
    lane = tl.arange(0, ROWS)[:, None]
    for start in range(0, leaves, COLUMNS):
        leaf = start + tl.arange(0, COLUMNS)[None, :]
        there = leaf < leaves
        x = tl.load(
            value[:, None] + leaf.to(tl.int64) * along, mask=there & inside[:, None], other=1.0
        )
        e, f = log2_pair(x)
        tl.store(logs + leaf * ROWS + lane, e, mask=there)
        tl.store(logs + leaf * ROWS + lane + apart, f, mask=there)


@triton.jit
def logarithm(place: tl.tensor, room: tl.tuple, ROWS: tl.constexpr) -> tl.tuple:
    """Return log2 of the norm of a leaf or a node."""
    logs, apart = room
    at = logs + place * ROWS + tl.arange(0, ROWS)
    return tl.load(at), tl.load(at + apart)


@triton.jit
def upward_pass(
    tree: tl.tuple, exponents: tl.tuple, room: tl.tuple, slopes: tl.tuple, inside: tl.tensor,
    ROWS: tl.constexpr, SLOPES: tl.constexpr,
) -> None:  # fmt: skip
    """Compute the norms of the nodes, and as their slopes the sum of s log2 s over their shares.

    Shares are summed with compensation, because near 1 the logarithm of the sum depends on it.
    """
    first_child, leaves, nodes = tree
    pointer, along_nodes = exponents
    logs, apart = room
    slope, rows = slopes
    child = first_child + nodes + 1
    for i in range(nodes):
        k = nodes - 1 - i
        first = tl.load(first_child + k)
        last = tl.load(first_child + k + 1)
        p = positive(tl.load(pointer + k * along_nodes, mask=inside, other=1.0))
        upper, lower = split(p)
        e, f = logarithm(tl.load(child + first), room, ROWS)
        for c in range(first + 1, last):
            other_e, other_f = logarithm(tl.load(child + c), room, ROWS)
            larger = (other_e - e) + (other_f - f) > 0.0
            e = tl.where(larger, other_e, e)
            f = tl.where(larger, other_f, f)
        total, lost, mean = e * 0.0, e * 0.0, e * 0.0
        for c in range(first, last):
            other_e, other_f = logarithm(tl.load(child + c), room, ROWS)
            whole, rest, y = times(upper, lower, other_e - e, other_f - f)
            power = share(whole, rest)
            sum_ = total + power
            added = sum_ - total
            lost += (total - (sum_ - added)) + (power - added)
            total = sum_
            mean += power * y
        total_e, total_f = log2_pair(total)
        total_f += lost / total / LN2
        steps = tl.floor((total_e + total_f) / p + 0.5)
        f += ((total_e - steps * upper) - steps * lower + total_f) / p
        carry = tl.floor(f + 0.5)
        at = logs + (leaves + k) * ROWS + tl.arange(0, ROWS)
        tl.store(at, e + (steps + carry))
        tl.store(at + apart, f - carry)
        if SLOPES:
            mean = mean / total - (total_e + total_f)
            tl.store(slope + k * rows, mean, mask=inside)
        tl.debug_barrier()


@triton.jit
def downward_pass(
    tree: tl.tuple, exponents: tl.tuple, room: tl.tuple, slopes: tl.tuple, factor: tl.tuple,
    inside: tl.tensor, ROWS: tl.constexpr, SLOPES: tl.constexpr,
) -> None:  # fmt: skip
    """Compute log2 of the shares of leaves and nodes in the root; scale slopes by the factor."""
    first_child, leaves, nodes = tree
    pointer, along_nodes = exponents
    logs, apart = room
    slope, rows = slopes
    about_1, exponent = factor
    child = first_child + nodes + 1
    weights = logs + 2 * apart + tl.arange(0, ROWS)
    tl.store(weights + leaves * ROWS, about_1 * 0.0)
    for k in range(nodes):
        tl.debug_barrier()
        e, f = logarithm(leaves + k, room, ROWS)
        weight = tl.load(weights + (leaves + k) * ROWS)
        p = positive(tl.load(pointer + k * along_nodes, mask=inside, other=1.0))
        if SLOPES:
            mean = tl.load(slope + k * rows, mask=inside, other=0.0)
            mean *= tl.where(e < -FAR / 2, 0.0, LN2 / p / p)
            whole = tl.floor(weight + 0.5)
            mean = saturated(scaled(mean * about_1, whole + exponent, weight - whole))
            tl.store(slope + k * rows, mean, mask=inside)
        for c in range(tl.load(first_child + k), tl.load(first_child + k + 1)):
            place = tl.load(child + c)
            other_e, other_f = logarithm(place, room, ROWS)
            tl.store(weights + place * ROWS, weight + p * ((other_e - e) + (other_f - f)))
    tl.debug_barrier()


@triton.jit
def store_gradient(
    value: tl.tensor, along: tl.tensor, gradient: tl.tensor, leaves: tl.tensor, room: tl.tuple,
    factor: tl.tuple, inside: tl.tensor, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Store the gradient in the value: the factor times w / x, and 0 at zeros."""
    logs, apart = room
    about_1, exponent = factor
    lane = tl.arange(0, ROWS)[:, None]
    for start in range(0, leaves, COLUMNS):
        leaf = start + tl.arange(0, COLUMNS)[None, :]
        there = (leaf < leaves) & inside[:, None]
        at = logs + leaf * ROWS + lane
        e = tl.load(at, mask=there, other=0.0)
        y = tl.load(at + 2 * apart, mask=there, other=0.0)
        y -= tl.load(at + apart, mask=there, other=0.0)
        whole = tl.floor(y + 0.5)
        size = scaled(about_1[:, None], whole - e + exponent[:, None], y - whole)
        size = tl.where(e < -FAR / 2, 0.0, saturated(size))
        x = tl.load(value[:, None] + leaf.to(tl.int64) * along, mask=there, other=1.0)
        tl.store(gradient[:, None] + leaf, tl.where(x < 0.0, -size, size), mask=there)


@triton.jit
def norm_of_block(
    value: tl.tensor, along: tl.tensor, tree: tl.tuple, exponents: tl.tuple, room: tl.tuple,
    slopes: tl.tuple, inside: tl.tensor, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    SLOPES: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """Return the log norm as a pair, whether it is within bounds, and whether it is infinite."""
    _, leaves, _ = tree
    tl.debug_barrier()
    load_logs(value, along, leaves, room, inside, ROWS, COLUMNS)
    tl.debug_barrier()
    upward_pass(tree, exponents, room, slopes, inside, ROWS, SLOPES)
    e, f = logarithm(leaves, room, ROWS)
    level = e + f
    below, above = level <= LOG2_TINY, level >= LOG2_HUGE
    bounded_e = tl.where(below, LOG2_TINY, tl.where(above, LOG2_HUGE, e))
    moves = (level > LOG2_TINY) & (level < LOG2_HUGE)
    return bounded_e, tl.where(below | above, 0.0, f), moves, level > FAR / 2


@triton.jit
def gradient_of_block(
    value: tl.tensor, along: tl.tensor, gradient: tl.tensor, tree: tl.tuple, exponents: tl.tuple,
    room: tl.tuple, slopes: tl.tuple, factor: tl.tuple, inside: tl.tensor, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, IN_VALUE: tl.constexpr, SLOPES: tl.constexpr,
) -> None:  # fmt: skip
    """Compute the gradients of log f times a factor, given as significand and exponent."""
    if IN_VALUE or SLOPES:
        downward_pass(tree, exponents, room, slopes, factor, inside, ROWS, SLOPES)
    if IN_VALUE:
        _, leaves, _ = tree
        store_gradient(
            value, along, gradient, leaves, room, factor, inside, ROWS, COLUMNS
        )  # fmt: skip
