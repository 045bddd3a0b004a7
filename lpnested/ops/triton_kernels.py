r"""The Triton kernels of the one operation.

A program owns some columns of the batch, and takes the rows of their samples block after block;
a lane is a row. Forward, it brings the logarithms of a block's coordinates into its part of the
scratch memory, climbs to the root node by node, and, where a gradient is wanted, descends again.
With the share :math:`s_c = (f_c / f_I)^{p_I}` of a child :math:`c` in its node :math:`I`, the
product :math:`w` of the shares on the path from the root, and the slope :math:`a` of the density in
:math:`\log f`, it leaves

.. math:: \frac{\partial}{\partial x_i} = \frac{a\, w_i}{x_i}, \qquad
    \frac{\partial}{\partial p_I} = \frac{a\, w_I}{p_I^2} \sum_{c \in I} s_c \log s_c

Backward, these are weighted with what comes from above; the slopes are added up in each program
(:func:`weigh`), and then over the programs (:func:`add_up`), which also knows the normaliser.

The normaliser is float64: a few functions of the numbers of a batch column, dealt to the lanes
once for each program. All that is done for each row is in the dtype of the arithmetic.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lpnested.ops.triton_math import (
    FAR,
    LN2,
    digamma,
    log2_pair,
    log_gamma,
    natural_log,
    saturated,
    scaled,
    share,
    split,
    times,
)

__all__ = ["add_up", "evaluate", "weigh"]

LOG2_TINY = tl.constexpr(-1022.0)  # a norm is at least 2 to this power
LOG2_HUGE = tl.constexpr(1024.0)

# What must not make a new kernel for each of its values.
COUNTS = ["samples", "batch", "leaves", "nodes", "most_terms", "blocks", "tiles"]
STRIDES = ["value_sample", "value_batch", "exponents_batch", "dim_batch", "p_batch", "scale_batch"]


@triton.jit
def normaliser_of_nodes(
    structure: tl.tensor,
    exponents: tl.tensor,
    exponents_node: tl.tensor,
    k: tl.tensor,
    nodes: tl.tensor,
    most_terms: tl.tensor,
    inside: tl.tensor,
    SLOPE: tl.constexpr,
) -> tl.tensor:
    """What nodes contribute to -log S_f(1) + n log 2, or the derivative in their exponents."""
    children = structure + 2
    edges = tl.load(children + nodes)
    starts = children + nodes + 1 + edges
    sizes = starts + nodes + 1
    counts = sizes + tl.load(starts + nodes)
    joins = tl.load(children + k + 1, mask=inside) - tl.load(children + k, mask=inside) - 1
    joins = tl.where(inside, joins, 0).to(tl.float64)
    p = tl.load(exponents + k * exponents_node, mask=inside, other=1.0).to(tl.float64)
    first = tl.load(starts + k, mask=inside, other=0)
    last = tl.load(starts + k + 1, mask=inside, other=0)
    if SLOPE:
        total = joins / p
    else:
        total = joins * natural_log(p)
    for term in range(most_terms):
        there = first + term < last
        size = tl.load(sizes + first + term, mask=there, other=1).to(tl.float64)
        count = tl.load(counts + first + term, mask=there, other=0).to(tl.float64)
        if SLOPE:
            total += count * (size / p / p) * digamma(size / p)
        else:
            total -= count * log_gamma(size / p)
    return total


@triton.jit
def normaliser(
    structure: tl.tensor,
    exponents: tl.tensor,
    dim: tl.tensor,
    p: tl.tensor,
    scale: tl.tensor,
    exponents_batch: tl.tensor,
    exponents_node: tl.tensor,
    dim_batch: tl.tensor,
    p_batch: tl.tensor,
    scale_batch: tl.tensor,
    tile: tl.tensor,
    batch: tl.tensor,
    leaves: tl.tensor,
    nodes: tl.tensor,
    most_terms: tl.tensor,
    SAMPLES: tl.constexpr,
    BATCH: tl.constexpr,
) -> tl.tensor:
    """The logarithm of the density's constant, of each lane, in float64."""
    column = (tile * BATCH + tl.arange(0, BATCH)).to(tl.int64)
    inside = column < batch
    total = tl.zeros((SAMPLES, BATCH), tl.float64)
    for start in range(0, nodes, SAMPLES):
        k = start + tl.arange(0, SAMPLES)[:, None]
        total += normaliser_of_nodes(
            structure,
            exponents + column[None, :] * exponents_batch,
            exponents_node,
            k,
            nodes,
            most_terms,
            (k < nodes) & inside[None, :],
            False,
        )
    n = tl.load(dim + column * dim_batch, mask=inside, other=1.0).to(tl.float64)
    q = tl.load(p + column * p_batch, mask=inside, other=1.0).to(tl.float64)
    s = tl.load(scale + column * scale_batch, mask=inside, other=1.0).to(tl.float64)
    constant = tl.sum(total, axis=0) + natural_log(q) - log_gamma(n / q)
    constant -= n * natural_log(s) + leaves * LN2
    tile = tl.broadcast_to(constant[None, :], (SAMPLES, BATCH))
    return tl.reshape(tile, (SAMPLES * BATCH,))


@triton.jit
def take_logs(
    value: tl.tensor,
    value_leaf: tl.tensor,
    logs: tl.tensor,
    apart: tl.tensor,
    leaves: tl.tensor,
    inside: tl.tensor,
    DTYPE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """The logarithms of a block's coordinates into the scratch memory, leaf by leaf."""
    lane = tl.arange(0, ROWS)
    for start in range(0, leaves, COLUMNS):
        leaf = start + tl.arange(0, COLUMNS)[None, :]
        there = inside[:, None] & (leaf < leaves)
        x = tl.load(value[:, None] + leaf * value_leaf, mask=there, other=1.0).to(DTYPE)
        exponent, fraction = log2_pair(x)
        at = logs + leaf * ROWS + lane[:, None]
        tl.store(at, exponent, mask=leaf < leaves)
        tl.store(at + apart, fraction, mask=leaf < leaves)


@triton.jit
def climb(
    children: tl.tensor,
    exponents: tl.tensor,
    exponents_node: tl.tensor,
    logs: tl.tensor,
    apart: tl.tensor,
    slopes: tl.tensor,
    rows: tl.tensor,
    leaves: tl.tensor,
    nodes: tl.tensor,
    inside: tl.tensor,
    DTYPE: tl.constexpr,
    ROWS: tl.constexpr,
    GRADIENT: tl.constexpr,
) -> None:
    """The logarithms of the norms of all nodes, and sum s log2 s over each node's shares.

    Shares are added with what their sum has lost: the derivative needs its logarithm near 0.
    """
    lane = tl.arange(0, ROWS)
    child = children + nodes + 1
    for i in range(nodes):
        k = nodes - 1 - i
        first = tl.load(children + k)
        last = tl.load(children + k + 1)
        p = tl.load(exponents + k * exponents_node, mask=inside, other=1.0).to(DTYPE)
        upper, lower = split(p)
        at = logs + tl.load(child + first) * ROWS + lane
        e = tl.load(at)
        f = tl.load(at + apart)
        for c in range(first + 1, last):
            at = logs + tl.load(child + c) * ROWS + lane
            other_e = tl.load(at)
            other_f = tl.load(at + apart)
            larger = (other_e - e) + (other_f - f) > 0.0
            e = tl.where(larger, other_e, e)
            f = tl.where(larger, other_f, f)
        total = tl.zeros((ROWS,), DTYPE)
        lost = tl.zeros((ROWS,), DTYPE)
        mean = tl.zeros((ROWS,), DTYPE)
        for c in range(first, last):
            at = logs + tl.load(child + c) * ROWS + lane
            whole, rest, y = times(upper, lower, tl.load(at) - e, tl.load(at + apart) - f)
            s = share(whole, rest)
            larger_total = total + s
            added = larger_total - total
            lost += (total - (larger_total - added)) + (s - added)
            total = larger_total
            mean += s * y
        total_e, total_f = log2_pair(total)
        total_f += lost / total / LN2
        whole = tl.floor((total_e + total_f) / p + 0.5)
        f += ((total_e - whole * upper) - whole * lower + total_f) / p
        carry = tl.floor(f + 0.5)
        at = logs + (leaves + k) * ROWS + lane
        tl.store(at, e + (whole + carry))
        tl.store(at + apart, f - carry)
        if GRADIENT:
            mean = mean / total - (total_e + total_f)
            tl.store(slopes + k * rows, mean, mask=inside)
        tl.debug_barrier()


@triton.jit
def descend(
    children: tl.tensor,
    exponents: tl.tensor,
    exponents_node: tl.tensor,
    logs: tl.tensor,
    apart: tl.tensor,
    slopes: tl.tensor,
    rows: tl.tensor,
    leaves: tl.tensor,
    nodes: tl.tensor,
    slope: tl.tensor,
    inside: tl.tensor,
    DTYPE: tl.constexpr,
    ROWS: tl.constexpr,
) -> None:
    """The logarithms of the shares of all leaves in the root, and the slopes in the exponents."""
    lane = tl.arange(0, ROWS)
    child = children + nodes + 1
    weights = logs + 2 * apart + lane
    tl.store(weights + leaves * ROWS, tl.zeros((ROWS,), DTYPE))
    for k in range(nodes):
        tl.debug_barrier()
        at = logs + (leaves + k) * ROWS + lane
        e = tl.load(at)
        f = tl.load(at + apart)
        weight = tl.load(weights + (leaves + k) * ROWS)
        p = tl.load(exponents + k * exponents_node, mask=inside, other=1.0).to(DTYPE)
        whole = tl.floor(weight + 0.5)
        through = scaled(tl.where(e < -FAR / 2, 0.0, slope), whole, weight - whole)
        mean = tl.load(slopes + k * rows, mask=inside, other=0.0)
        in_exponent = saturated(through * (mean * LN2 / p / p), DTYPE)
        tl.store(slopes + k * rows, in_exponent, mask=inside)
        for c in range(tl.load(children + k), tl.load(children + k + 1)):
            place = tl.load(child + c) * ROWS
            at = logs + place + lane
            y = p * ((tl.load(at) - e) + (tl.load(at + apart) - f))
            tl.store(weights + place, weight + y)
    tl.debug_barrier()


@triton.jit
def leave_gradient(
    value: tl.tensor,
    value_leaf: tl.tensor,
    gradient: tl.tensor,
    logs: tl.tensor,
    apart: tl.tensor,
    leaves: tl.tensor,
    slope: tl.tensor,
    inside: tl.tensor,
    DTYPE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """The gradient in the value, of a block: 0 at a zero."""
    lane = tl.arange(0, ROWS)
    for start in range(0, leaves, COLUMNS):
        leaf = start + tl.arange(0, COLUMNS)[None, :]
        there = inside[:, None] & (leaf < leaves)
        at = logs + leaf * ROWS + lane[:, None]
        e = tl.load(at, mask=there, other=0.0)
        y = tl.load(at + 2 * apart, mask=there, other=0.0)
        y -= tl.load(at + apart, mask=there, other=0.0)
        whole = tl.floor(y + 0.5)
        size = saturated(scaled(slope[:, None], whole - e, y - whole), DTYPE)
        size = tl.where(e < -FAR / 2, 0.0, size)
        x = tl.load(value[:, None] + leaf * value_leaf, mask=there, other=1.0)
        tl.store(gradient[:, None] + leaf, tl.where(x < 0.0, -size, size), mask=there)


@triton.jit(do_not_specialize=COUNTS + STRIDES)
def evaluate(
    value: tl.tensor,
    exponents: tl.tensor,
    dim: tl.tensor,
    p: tl.tensor,
    scale: tl.tensor,
    structure: tl.tensor,
    scratch: tl.tensor,
    result: tl.tensor,
    gradient: tl.tensor,
    slopes: tl.tensor,
    value_sample: tl.tensor,
    value_batch: tl.tensor,
    value_leaf: tl.tensor,
    exponents_batch: tl.tensor,
    exponents_node: tl.tensor,
    dim_batch: tl.tensor,
    p_batch: tl.tensor,
    scale_batch: tl.tensor,
    samples: tl.tensor,
    batch: tl.tensor,
    leaves: tl.tensor,
    nodes: tl.tensor,
    most_terms: tl.tensor,
    blocks: tl.tensor,
    tiles: tl.tensor,
    DTYPE: tl.constexpr,
    SAMPLES: tl.constexpr,
    BATCH: tl.constexpr,
    COLUMNS: tl.constexpr,
    RADIUS: tl.constexpr,
    GRADIENT: tl.constexpr,
) -> None:
    """The log density with a generalized gamma radius, or without RADIUS the log norm."""
    ROWS: tl.constexpr = SAMPLES * BATCH
    lane = tl.arange(0, ROWS)
    children = structure + 2
    rows = samples.to(tl.int64) * batch
    apart = (leaves + nodes) * ROWS
    program = (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)).to(tl.int64)
    logs = scratch + program * 3 * apart
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        column = (tile * BATCH + lane % BATCH).to(tl.int64)
        in_batch = column < batch
        exponents_here = exponents + column * exponents_batch
        if RADIUS:
            constant = normaliser(
                structure,
                exponents,
                dim,
                p,
                scale,
                exponents_batch,
                exponents_node,
                dim_batch,
                p_batch,
                scale_batch,
                tile,
                batch,
                leaves,
                nodes,
                most_terms,
                SAMPLES,
                BATCH,
            )
            large = constant.to(DTYPE)
            small = (constant - large.to(tl.float64)).to(DTYPE)
            n = tl.load(dim + column * dim_batch, mask=in_batch, other=1.0).to(DTYPE) - leaves
            q = tl.load(p + column * p_batch, mask=in_batch, other=1.0).to(DTYPE)
            s = tl.load(scale + column * scale_batch, mask=in_batch, other=1.0).to(DTYPE)
            q_upper, q_lower = split(q)
            s_e, s_f = log2_pair(s)
        for block in range(tl.program_id(1), blocks, tl.num_programs(1)):
            sample = (block * SAMPLES + lane // BATCH).to(tl.int64)
            inside = in_batch & (sample < samples)
            row = sample * batch + column
            here = value + sample * value_sample + column * value_batch
            tl.debug_barrier()
            take_logs(here, value_leaf, logs, apart, leaves, inside, DTYPE, ROWS, COLUMNS)
            tl.debug_barrier()
            climb(
                children,
                exponents_here,
                exponents_node,
                logs,
                apart,
                slopes + row,
                rows,
                leaves,
                nodes,
                inside,
                DTYPE,
                ROWS,
                GRADIENT,
            )
            at = logs + leaves * ROWS + lane
            e = tl.load(at)
            f = tl.load(at + apart)
            level = e + f
            infinite = level > FAR / 2
            moves = (level > LOG2_TINY) & (level < LOG2_HUGE)
            e = tl.where(level <= LOG2_TINY, LOG2_TINY, tl.where(level >= LOG2_HUGE, LOG2_HUGE, e))
            f = tl.where((level <= LOG2_TINY) | (level >= LOG2_HUGE), 0.0, f)
            if RADIUS:
                log_ratio = ((e - s_e) + (f - s_f)) * LN2
                whole, rest, _ = times(q_upper, q_lower, e - s_e, f - s_f)
                power = scaled(q * 0.0 + 1.0, whole, rest)
                density = ((large - power) + small) + n * ((e + f) * LN2)
                narrowed = saturated(density, result.dtype.element_ty)
                lowest = saturated(density * 0.0 - float("inf"), result.dtype.element_ty)
                counts = (narrowed > lowest) & (infinite == 0)
                narrowed = tl.where(infinite, float("-inf"), narrowed)
                tl.store(result + row, narrowed, mask=inside)
            else:
                log_norm = (e.to(tl.float64) + f.to(tl.float64)) * LN2
                log_norm = tl.where(infinite, float("inf"), log_norm)
                tl.store(result + row, log_norm, mask=inside)
            if GRADIENT:
                if RADIUS:
                    moves = moves & counts
                    in_p = saturated(-power * log_ratio, DTYPE)
                    in_scale = saturated(power * q / s, DTYPE)
                    at = slopes + nodes * rows + row
                    tl.store(at, tl.where(counts, in_p, 0.0), mask=inside)
                    tl.store(at + rows, tl.where(counts, in_scale, 0.0), mask=inside)
                    tl.store(at + 2 * rows, tl.where(counts, log_ratio, 0.0), mask=inside)
                    tl.store(at + 3 * rows, tl.where(counts, q * 0.0 + 1.0, 0.0), mask=inside)
                    slope = tl.where(moves, saturated(n - q * power, DTYPE), 0.0)
                else:
                    slope = tl.where(moves, e * 0.0 + 1.0, 0.0)
                descend(
                    children,
                    exponents_here,
                    exponents_node,
                    logs,
                    apart,
                    slopes + row,
                    rows,
                    leaves,
                    nodes,
                    slope,
                    inside,
                    DTYPE,
                    ROWS,
                )
                leave_gradient(
                    here,
                    value_leaf,
                    gradient + row * leaves,
                    logs,
                    apart,
                    leaves,
                    slope,
                    inside,
                    DTYPE,
                    ROWS,
                    COLUMNS,
                )




@triton.jit(do_not_specialize=["samples", "batch", "leaves", "count", "blocks"])
def weigh(
    above: tl.tensor,
    gradient: tl.tensor,
    slopes: tl.tensor,
    in_value: tl.tensor,
    partial: tl.tensor,
    above_sample: tl.tensor,
    above_batch: tl.tensor,
    samples: tl.tensor,
    batch: tl.tensor,
    leaves: tl.tensor,
    count: tl.tensor,
    blocks: tl.tensor,
    SAMPLES: tl.constexpr,
    BATCH: tl.constexpr,
    COLUMNS: tl.constexpr,
    IN_VALUE: tl.constexpr,
    IN_PARAMETERS: tl.constexpr,
) -> None:
    """The gradient in the value, and each program's sums of the slopes, weighted from above."""
    DTYPE: tl.constexpr = gradient.dtype.element_ty
    ROWS: tl.constexpr = SAMPLES * BATCH
    lane = tl.arange(0, ROWS)
    first, step = tl.program_id(1), tl.num_programs(1)
    rows = samples.to(tl.int64) * batch
    column = (tl.program_id(0) * BATCH + lane % BATCH).to(tl.int64)
    if IN_VALUE:
        for block in range(first, blocks, step):
            sample = (block * SAMPLES + lane // BATCH).to(tl.int64)
            inside = (column < batch) & (sample < samples)
            at = above + sample * above_sample + column * above_batch
            weight = saturated(tl.load(at, mask=inside, other=0.0), DTYPE)
            row = (sample * batch + column)[:, None]
            for start in range(0, leaves, COLUMNS):
                leaf = start + tl.arange(0, COLUMNS)[None, :]
                there = inside[:, None] & (leaf < leaves)
                of = tl.load(gradient + row * leaves + leaf, mask=there, other=0.0)
                product = saturated(weight[:, None] * of, in_value.dtype.element_ty)
                tl.store(in_value + row * leaves + leaf, product, mask=there)
    if IN_PARAMETERS:
        for start in range(0, count, COLUMNS):
            which = start + tl.arange(0, COLUMNS)[:, None]
            total = tl.zeros((COLUMNS, ROWS), DTYPE)
            for block in range(first, blocks, step):
                sample = (block * SAMPLES + lane // BATCH).to(tl.int64)
                inside = (column < batch) & (sample < samples)
                at = above + sample * above_sample + column * above_batch
                weight = saturated(tl.load(at, mask=inside, other=0.0), DTYPE)
                there = (which < count) & inside[None, :]
                row = (sample * batch + column)[None, :]
                of = tl.load(slopes + which * rows + row, mask=there, other=0.0)
                total = saturated(total + weight[None, :] * of, DTYPE)
            parts = tl.reshape(total.to(tl.float64), (COLUMNS, SAMPLES, BATCH))
            columns = (tl.program_id(0) * BATCH + tl.arange(0, BATCH)).to(tl.int64)[None, :]
            at = partial + (first * count + which).to(tl.int64) * batch + columns
            there = (which < count) & (columns < batch)
            tl.store(at, tl.sum(parts, axis=1), mask=there)


@triton.jit
def sum_of(
    partial: tl.tensor,
    which: tl.tensor,
    count: tl.tensor,
    parts: tl.tensor,
    batch: tl.tensor,
    column: tl.tensor,
    SAMPLES: tl.constexpr,
    BATCH: tl.constexpr,
) -> tl.tensor:
    """Of one slope, over the programs."""
    total = tl.zeros((SAMPLES, BATCH), tl.float64)
    for start in range(0, parts, SAMPLES):
        part = start + tl.arange(0, SAMPLES)[:, None]
        there = (part < parts) & (column < batch)[None, :]
        at = partial + (part * count + which).to(tl.int64) * batch + column[None, :]
        total += tl.load(at, mask=there, other=0.0)
    return tl.sum(total, axis=0)


@triton.jit(do_not_specialize=["batch", "nodes", "most_terms", "parts", *STRIDES[2:]])
def add_up(
    partial: tl.tensor,
    exponents: tl.tensor,
    dim: tl.tensor,
    p: tl.tensor,
    scale: tl.tensor,
    structure: tl.tensor,
    in_exponents: tl.tensor,
    in_dim: tl.tensor,
    in_p: tl.tensor,
    in_scale: tl.tensor,
    exponents_batch: tl.tensor,
    exponents_node: tl.tensor,
    dim_batch: tl.tensor,
    p_batch: tl.tensor,
    scale_batch: tl.tensor,
    batch: tl.tensor,
    nodes: tl.tensor,
    most_terms: tl.tensor,
    parts: tl.tensor,
    SAMPLES: tl.constexpr,
    BATCH: tl.constexpr,
    RADIUS: tl.constexpr,
) -> None:
    """One parameter's gradient in each program: an exponent's, or that in p, scale or dim."""
    which = tl.program_id(1)
    column = (tl.program_id(0) * BATCH + tl.arange(0, BATCH)).to(tl.int64)
    inside = column < batch
    count = nodes
    if RADIUS:
        count = nodes + 4
    total = sum_of(partial, which, count, parts, batch, column, SAMPLES, BATCH)
    if RADIUS:
        weight = sum_of(partial, nodes + 3, count, parts, batch, column, SAMPLES, BATCH)
        n = tl.load(dim + column * dim_batch, mask=inside, other=1.0).to(tl.float64)
        q = tl.load(p + column * p_batch, mask=inside, other=1.0).to(tl.float64)
        s = tl.load(scale + column * scale_batch, mask=inside, other=1.0).to(tl.float64)
        if which == nodes:
            total += weight * (1.0 / q + n / q / q * digamma(n / q))
            tl.store(in_p + column, saturated(total, in_p.dtype.element_ty), mask=inside)
        if which == nodes + 1:
            total -= weight * n / s
            tl.store(in_scale + column, saturated(total, in_scale.dtype.element_ty), mask=inside)
        if which == nodes + 2:
            total -= weight * (digamma(n / q) / q)
            tl.store(in_dim + column, saturated(total, in_dim.dtype.element_ty), mask=inside)
    if which < nodes:
        if RADIUS:
            total += weight * normaliser_of_nodes(
                structure,
                exponents + column * exponents_batch,
                exponents_node,
                which + tl.zeros((BATCH,), tl.int32),
                nodes,
                most_terms,
                inside,
                True,
            )
        at = in_exponents + column * nodes + which
        tl.store(at, saturated(total, in_exponents.dtype.element_ty), mask=inside)
