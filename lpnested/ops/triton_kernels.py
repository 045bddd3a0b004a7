r"""The Triton kernels of the log density over a tree, and of the norm.

A program owns columns of the batch, and takes the rows of their samples block by block; a lane is a
row. The logarithms of a block's coordinates go into the program's part of the scratch memory, leaf
by leaf, and up the tree node by node as an integer and a fraction, so that :math:`p \log_2 |x|`
loses no digits at any scale. With the share :math:`s_c = (f_c / f_I)^{p_I}` of a child in its node,
and the product :math:`w` of the shares on the path from the root,

.. math:: \frac{\partial \log f}{\partial x_i} = \frac{w_i}{x_i}, \qquad
    \frac{\partial \log f}{\partial p_I} = \frac{w_I}{p_I^2} \sum_{c \in I} s_c \log s_c

Shares go down as logarithms: a gradient is formed where it is representable, whatever its factors
are. What another lane has written is read after a barrier.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lpnested.ops.triton_math import (
    FAR,
    LARGEST_32,
    LARGEST_64,
    LN2,
    exp2_fraction,
    log2_pair,
    positive,
    saturated,
    scaled,
    share,
    significand,
    split,
    times,
)
from lpnested.ops.triton_normaliser import constant_of_lanes

__all__ = ["evaluate"]

LOG2_TINY = tl.constexpr(-1022.0)  # a norm is at least 2 to this power
LOG2_HUGE = tl.constexpr(1024.0)


@triton.jit
def take(
    value: tl.tensor, along: tl.tensor, leaves: tl.tensor, room: tl.tuple, inside: tl.tensor,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """The logarithms of the coordinates of a block."""
    logs, apart = room
    lane = tl.arange(0, ROWS)[:, None]
    for start in range(0, leaves, COLUMNS):
        leaf = start + tl.arange(0, COLUMNS)[None, :]
        there = leaf < leaves
        x = tl.load(value[:, None] + leaf * along, mask=there & inside[:, None], other=1.0)
        e, f = log2_pair(x)
        tl.store(logs + leaf * ROWS + lane, e, mask=there)
        tl.store(logs + leaf * ROWS + lane + apart, f, mask=there)


@triton.jit
def logarithm(place: tl.tensor, room: tl.tuple, ROWS: tl.constexpr) -> tl.tuple:
    """log2 of the norm of a leaf or a node."""
    logs, apart = room
    at = logs + place * ROWS + tl.arange(0, ROWS)
    return tl.load(at), tl.load(at + apart)


@triton.jit
def climb(
    tree: tl.tuple, exponents: tl.tuple, room: tl.tuple, slopes: tl.tuple, inside: tl.tensor,
    ROWS: tl.constexpr, SLOPES: tl.constexpr,
) -> None:  # fmt: skip
    """The norms of the nodes, and as their slopes sum s log2 s over the shares in each.

    Shares are added with what rounding loses of their sum: near 1 its logarithm is made of that.
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
def descend(
    tree: tl.tuple, exponents: tl.tuple, room: tl.tuple, slopes: tl.tuple, factor: tl.tuple,
    inside: tl.tensor, ROWS: tl.constexpr, SLOPES: tl.constexpr,
) -> None:  # fmt: skip
    """log2 of the shares of leaves and nodes in the root; the slopes, times the factor."""
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
def leave(
    value: tl.tensor, along: tl.tensor, gradient: tl.tensor, leaves: tl.tensor, room: tl.tuple,
    factor: tl.tuple, inside: tl.tensor, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """The gradient in the value: the factor times w / x, and 0 at a zero."""
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
        x = tl.load(value[:, None] + leaf * along, mask=there, other=1.0)
        tl.store(gradient[:, None] + leaf, tl.where(x < 0.0, -size, size), mask=there)


@triton.jit
def density_at_root(
    norm: tl.tuple, constant: tl.tensor, excess: tl.tensor, p: tl.tensor, scale: tl.tensor
) -> tl.tuple:
    """The density; whether it has a slope; (f/s)^p and log(f/s); the slope in log f, in two parts.

    The slope may be larger than any number. Beyond a largest power, which leaves room for the
    gradients, the density is the lowest number.
    """
    e, f = norm
    scale_e, scale_f = log2_pair(scale)
    upper, lower = split(p)
    whole, rest, y = times(upper, lower, e - scale_e, f - scale_f)
    if e.dtype == tl.float32:
        beyond = y >= 128.0
        largest: tl.constexpr = LARGEST_32
    else:
        beyond = y >= 865.617024533378
        largest: tl.constexpr = LARGEST_64
    about_1 = exp2_fraction(rest)
    power = scaled(1.0 + e * 0.0, whole, rest)
    high = constant.to(e.dtype)
    low = (constant - high.to(tl.float64)).to(e.dtype)
    density = ((high - power) + low) + excess * ((e + f) * LN2)
    density = tl.where(beyond | (density < -largest), -largest, density)
    has_slope = (density > -largest) | (density != density)
    exponent = tl.where((excess == 0.0) | (whole > 0.0), whole, 0.0)
    slope = scaled(excess, -exponent, excess * 0.0) - p * scaled(
        about_1, whole - exponent, e * 0.0
    )
    log_ratio = ((e - scale_e) + (f - scale_f)) * LN2
    return density, has_slope, power, log_ratio, slope, exponent


@triton.jit(
    do_not_specialize=[
        *("along_samples", "along_value_batch", "along_batch", "along_dim", "along_p"),
        *("along_scale", "along_weight_samples", "along_weight_batch", "samples"),
        *("batch", "leaves", "nodes", "most_terms", "blocks", "tiles"),
    ]
)
def evaluate(
    value: tl.tensor, exponents: tl.tensor, dim: tl.tensor, p: tl.tensor, scale: tl.tensor,
    weights: tl.tensor, structure: tl.tensor, scratch: tl.tensor, result: tl.tensor,
    gradient: tl.tensor, slopes: tl.tensor, along_samples: tl.tensor,
    along_value_batch: tl.tensor, along_leaves: tl.tensor, along_batch: tl.tensor,
    along_nodes: tl.tensor, along_dim: tl.tensor, along_p: tl.tensor, along_scale: tl.tensor,
    along_weight_samples: tl.tensor, along_weight_batch: tl.tensor, samples: tl.tensor,
    batch: tl.tensor, leaves: tl.tensor, nodes: tl.tensor,
    most_terms: tl.tensor, blocks: tl.tensor, tiles: tl.tensor, SAMPLES: tl.constexpr,
    BATCH: tl.constexpr, COLUMNS: tl.constexpr, RADIUS: tl.constexpr, HAS_DIM: tl.constexpr,
    WEIGHTED: tl.constexpr, IN_VALUE: tl.constexpr, SLOPES: tl.constexpr,
) -> None:  # fmt: skip
    """The log density, where RADIUS says so, or the log norm; and its gradients.

    Those of the norm, which may have weights of any size, come times these in place of the value.
    """
    ROWS: tl.constexpr = SAMPLES * BATCH
    lane = tl.arange(0, ROWS)
    tree = (structure, leaves, nodes)
    rows = samples.to(tl.int64) * batch
    apart = (leaves + nodes) * ROWS
    program = (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)).to(tl.int64)
    room = (scratch + program * 3 * apart, apart)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        column = (tile * BATCH + lane % BATCH).to(tl.int64)
        in_batch = column < batch
        powers = (exponents + column * along_batch, along_nodes)
        if RADIUS:
            own = (tile * BATCH + tl.arange(0, BATCH)).to(tl.int64)
            constant = constant_of_lanes(
                (structure, leaves, nodes, most_terms),
                (exponents, along_batch, along_nodes),
                (dim, p, scale, along_dim, along_p, along_scale),
                own,
                own < batch,
                SAMPLES,
                BATCH,
                HAS_DIM,
            )
            q = positive(tl.load(p + column * along_p, mask=in_batch, other=1.0))
            s = positive(tl.load(scale + column * along_scale, mask=in_batch, other=1.0))
            excess = q * 0.0
            if HAS_DIM:
                excess = tl.load(dim + column * along_dim, mask=in_batch, other=1.0) - leaves
        for block in range(tl.program_id(1), blocks, tl.num_programs(1)):
            sample = (block * SAMPLES + lane // BATCH).to(tl.int64)
            inside = in_batch & (sample < samples)
            row = sample * batch + column
            here = value + sample * along_samples + column * along_value_batch
            tl.debug_barrier()
            take(here, along_leaves, leaves, room, inside, ROWS, COLUMNS)
            tl.debug_barrier()
            climb(tree, powers, room, (slopes + row, rows), inside, ROWS, SLOPES)
            e, f = logarithm(leaves, room, ROWS)
            level = e + f
            infinite = level > FAR / 2
            moves = (level > LOG2_TINY) & (level < LOG2_HUGE)
            f = tl.where((level <= LOG2_TINY) | (level >= LOG2_HUGE), 0.0, f)
            e = tl.where(level <= LOG2_TINY, LOG2_TINY, e)
            e = tl.where(level >= LOG2_HUGE, LOG2_HUGE, e)
            if RADIUS:
                density, has_slope, power, log_ratio, factor, exponent = density_at_root(
                    (e, f), constant, excess, q, s
                )
                has_slope &= infinite == 0
                factor = tl.where(moves & has_slope, factor, 0.0)
                density = tl.where(infinite, float("-inf"), density)
                tl.store(result + row, density, mask=inside)
                if SLOPES:
                    at = slopes + nodes * rows + row
                    in_p = saturated(-power * log_ratio)
                    in_scale = saturated(power * q / s)
                    tl.store(at, tl.where(has_slope, log_ratio, 0.0), mask=inside)
                    tl.store(at + rows, tl.where(has_slope, in_p, 0.0), mask=inside)
                    tl.store(at + 2 * rows, tl.where(has_slope, in_scale, 0.0), mask=inside)
            elif WEIGHTED:
                at = weights + sample * along_weight_samples + column * along_weight_batch
                weight, power = significand(tl.load(at, mask=inside, other=0.0))
                factor = tl.where(moves, weight.to(e.dtype), 0.0)
                exponent = power.to(e.dtype)
            else:
                log_norm = (e.to(tl.float64) + f.to(tl.float64)) * LN2
                log_norm = tl.where(infinite, float("inf"), log_norm)
                tl.store(result + row, log_norm, mask=inside)
            if IN_VALUE or SLOPES:
                above = (factor, exponent)
                descend(tree, powers, room, (slopes + row, rows), above, inside, ROWS, SLOPES)
                if IN_VALUE:
                    at = gradient + row * leaves
                    leave(here, along_leaves, at, leaves, room, above, inside, ROWS, COLUMNS)
