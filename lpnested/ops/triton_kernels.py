"""Triton kernels of the log density over a tree, and of the norm.

A program owns tiles of batch columns and processes their samples block by block, one row per lane.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lpnested.ops.triton_math import (
    LARGEST_32,
    LARGEST_64,
    LN2,
    exp2_fraction,
    log2_pair,
    positive,
    saturated,
    scaled,
    significand,
    split,
    times,
)
from lpnested.ops.triton_normaliser import constant_of_lanes
from lpnested.ops.triton_tree import gradient_of_block, norm_of_block

__all__ = ["density", "norm"]

# Arguments that do not trigger recompilation for special values.
SIZES = ["samples", "batch", "leaves", "nodes", "most_terms", "blocks", "tiles"]
STRIDES = ["along_samples", "along_value_batch", "along_batch"]


@triton.jit
def program_scratch(
    scratch: tl.tensor, leaves: tl.tensor, nodes: tl.tensor, ROWS: tl.constexpr
) -> tl.tuple:
    """Return the program's section of the scratch memory, and the stride between its arrays."""
    program = (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)).to(tl.int64)
    apart = (leaves + nodes) * ROWS
    return scratch + program * 3 * apart, apart


@triton.jit
def rows_of_block(
    block: tl.tensor, column: tl.tensor, samples: tl.tensor, batch: tl.tensor,
    SAMPLES: tl.constexpr, BATCH: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """Return the samples of the lanes, their rows, and a mask of valid rows."""
    sample = (block * SAMPLES + tl.arange(0, SAMPLES * BATCH) // BATCH).to(tl.int64)
    return sample, sample * batch + column, (column < batch) & (sample < samples)


@triton.jit
def density_at_root(
    norm: tl.tuple, constant: tl.tuple, excess: tl.tensor, p: tl.tensor, scale: tl.tensor
) -> tl.tuple:
    """Return density, whether it has a slope, (f/s)^p, log(f/s), and d/d log f as two numbers.

    The slope is split into factor and exponent, as it may exceed the range of the dtype. Above a
    maximum power, which keeps gradients finite, the density is the lowest finite number.
    """
    e, f = norm
    scale_e, scale_f = log2_pair(scale)
    upper, lower = split(p)
    whole, rest, y = times(upper, lower, e - scale_e, f - scale_f)
    beyond = y >= (128.0 if e.dtype == tl.float32 else 865.617024533378)
    largest = LARGEST_32 if e.dtype == tl.float32 else LARGEST_64
    about_1 = exp2_fraction(rest)
    power = scaled(1.0 + e * 0.0, whole, rest)
    high, low = constant
    density = ((high - power) + low) + excess * ((e + f) * LN2)
    density = tl.where(beyond | (density < -largest), -largest, density)
    has_slope = (density > -largest) | (density != density)
    exponent = tl.where((excess == 0.0) | (whole > 0.0), whole, 0.0)
    nothing = e * 0.0
    slope = scaled(excess, -exponent, nothing) - p * scaled(about_1, whole - exponent, nothing)
    log_ratio = ((e - scale_e) + (f - scale_f)) * LN2
    return density, has_slope, power, log_ratio, slope, exponent


@triton.jit
def store_slopes(
    slopes: tl.tensor, rows: tl.tensor, has_slope: tl.tensor, log_ratio: tl.tensor,
    power: tl.tensor, p: tl.tensor, inside: tl.tensor,
) -> None:  # fmt: skip
    """Store the slopes in dimension, exponent and log scale of the radius, less the constant's."""
    in_p, in_scale = saturated(-power * log_ratio), saturated(power * p)
    tl.store(slopes, tl.where(has_slope, log_ratio, 0.0), mask=inside)
    tl.store(slopes + rows, tl.where(has_slope, in_p, 0.0), mask=inside)
    tl.store(slopes + 2 * rows, tl.where(has_slope, in_scale, 0.0), mask=inside)


@triton.jit(do_not_specialize=[*SIZES, *STRIDES, "along_dim", "along_p", "along_scale"])
def density(
    value: tl.tensor, exponents: tl.tensor, dim: tl.tensor, p: tl.tensor, scale: tl.tensor,
    structure: tl.tensor, scratch: tl.tensor, result: tl.tensor, gradient: tl.tensor,
    slopes: tl.tensor, along_samples: tl.tensor, along_value_batch: tl.tensor,
    along_leaves: tl.tensor, along_batch: tl.tensor, along_nodes: tl.tensor,
    along_dim: tl.tensor, along_p: tl.tensor, along_scale: tl.tensor, samples: tl.tensor,
    batch: tl.tensor, leaves: tl.tensor, nodes: tl.tensor, most_terms: tl.tensor,
    blocks: tl.tensor, tiles: tl.tensor, SAMPLES: tl.constexpr, BATCH: tl.constexpr,
    COLUMNS: tl.constexpr, HAS_DIM: tl.constexpr, IN_VALUE: tl.constexpr, SLOPES: tl.constexpr,
) -> None:  # fmt: skip
    """Compute the log density with a generalized gamma radius, its gradient and its slopes."""
    ROWS: tl.constexpr = SAMPLES * BATCH
    rows = samples.to(tl.int64) * batch
    tree, room = (structure, leaves, nodes), program_scratch(scratch, leaves, nodes, ROWS)
    radius = (dim, p, scale, along_dim, along_p, along_scale)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        column = (tile * BATCH + tl.arange(0, ROWS) % BATCH).to(tl.int64)
        own = (tile * BATCH + tl.arange(0, BATCH)).to(tl.int64)
        constant = constant_of_lanes(
            (structure, leaves, nodes, most_terms), (exponents, along_batch, along_nodes),
            radius, own, own < batch, SAMPLES, BATCH, HAS_DIM,
        )  # fmt: skip
        q = positive(tl.load(p + column * along_p, mask=column < batch, other=1.0))
        s = positive(tl.load(scale + column * along_scale, mask=column < batch, other=1.0))
        high = constant.to(q.dtype)
        low = (constant - high.to(tl.float64)).to(q.dtype)
        excess = q * 0.0
        if HAS_DIM:
            excess = tl.load(dim + column * along_dim, mask=column < batch, other=1.0) - leaves
        powers = (exponents + column * along_batch, along_nodes)
        for block in range(tl.program_id(1), blocks, tl.num_programs(1)):
            sample, row, inside = rows_of_block(block, column, samples, batch, SAMPLES, BATCH)
            here = value + sample * along_samples + column * along_value_batch
            e, f, moves, infinite = norm_of_block(
                here, along_leaves, tree, powers, room, (slopes + row, rows), inside, ROWS,
                COLUMNS, SLOPES,
            )  # fmt: skip
            found, has_slope, power, log_ratio, slope, exponent = density_at_root(
                (e, f), (high, low), excess, q, s
            )
            tl.store(result + row, tl.where(infinite, float("-inf"), found), mask=inside)
            has_slope &= infinite == 0
            if SLOPES:
                at = slopes + nodes * rows + row
                store_slopes(at, rows, has_slope, log_ratio, power, q, inside)
            gradient_of_block(
                here, along_leaves, gradient + row * leaves, tree, powers, room,
                (slopes + row, rows), (tl.where(moves & has_slope, slope, 0.0), exponent),
                inside, ROWS, COLUMNS, IN_VALUE, SLOPES,
            )  # fmt: skip


@triton.jit(do_not_specialize=[*SIZES, *STRIDES, "along_weight_samples", "along_weight_batch"])
def norm(
    value: tl.tensor, exponents: tl.tensor, weights: tl.tensor, structure: tl.tensor,
    scratch: tl.tensor, result: tl.tensor, gradient: tl.tensor, slopes: tl.tensor,
    along_samples: tl.tensor, along_value_batch: tl.tensor, along_leaves: tl.tensor,
    along_batch: tl.tensor, along_nodes: tl.tensor, along_weight_samples: tl.tensor,
    along_weight_batch: tl.tensor, samples: tl.tensor, batch: tl.tensor, leaves: tl.tensor,
    nodes: tl.tensor, blocks: tl.tensor, tiles: tl.tensor, SAMPLES: tl.constexpr,
    BATCH: tl.constexpr, COLUMNS: tl.constexpr, VALUE: tl.constexpr, IN_VALUE: tl.constexpr,
    SLOPES: tl.constexpr,
) -> None:  # fmt: skip
    """Compute the log norm in float64, or its gradient and slopes times weights of any size."""
    ROWS: tl.constexpr = SAMPLES * BATCH
    rows = samples.to(tl.int64) * batch
    tree, room = (structure, leaves, nodes), program_scratch(scratch, leaves, nodes, ROWS)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        column = (tile * BATCH + tl.arange(0, ROWS) % BATCH).to(tl.int64)
        powers = (exponents + column * along_batch, along_nodes)
        for block in range(tl.program_id(1), blocks, tl.num_programs(1)):
            sample, row, inside = rows_of_block(block, column, samples, batch, SAMPLES, BATCH)
            here = value + sample * along_samples + column * along_value_batch
            e, f, moves, infinite = norm_of_block(
                here, along_leaves, tree, powers, room, (slopes + row, rows), inside, ROWS,
                COLUMNS, SLOPES,
            )  # fmt: skip
            if VALUE:
                log_norm = (e.to(tl.float64) + f.to(tl.float64)) * LN2
                tl.store(result + row, tl.where(infinite, float("inf"), log_norm), mask=inside)
            else:
                at = weights + sample * along_weight_samples + column * along_weight_batch
                about_1, exponent = significand(tl.load(at, mask=inside, other=0.0))
                factor = (tl.where(moves, about_1.to(e.dtype), 0.0), exponent.to(e.dtype))
                gradient_of_block(
                    here, along_leaves, gradient + row * leaves, tree, powers, room,
                    (slopes + row, rows), factor, inside, ROWS, COLUMNS, IN_VALUE, SLOPES,
                )  # fmt: skip
