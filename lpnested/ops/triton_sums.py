"""Triton kernels of the backward pass, which weight and sum the saved derivatives of each row."""

from __future__ import annotations

import triton
import triton.language as tl

from lpnested.ops.triton_math import LARGEST_32, bounded, saturated
from lpnested.ops.triton_normaliser import slope_in_exponent, slopes_in_radius

__all__ = ["add_up", "weigh"]


@triton.jit
def weight_of(
    weights: tl.tuple, sample: tl.tensor, column: tl.tensor, inside: tl.tensor,
    WEIGHTED: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    pointer, along_samples, along_batch = weights
    if WEIGHTED:
        at = pointer + sample * along_samples + column * along_batch
        weight = tl.load(at, mask=inside, other=0.0)
    else:
        weight = tl.where(inside, 1.0, 0.0)
    return weight


@triton.jit
def weigh_gradient(
    weight: tl.tensor, row: tl.tensor, inside: tl.tensor, gradient: tl.tensor,
    in_value: tl.tensor, leaves: tl.tensor, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Weight the gradients of a block."""
    for start in range(0, leaves, COLUMNS):
        leaf = start + tl.arange(0, COLUMNS)[None, :]
        there = (leaf < leaves) & inside[:, None]
        at = row[:, None] * leaves + leaf
        product = weight[:, None] * tl.load(gradient + at, mask=there, other=0.0)
        tl.store(in_value + at, saturated(product), mask=there)


@triton.jit
def slopes_of_block(
    slopes: tl.tensor, rows: tl.tensor, which: tl.tensor, nodes: tl.tensor, inside: tl.tensor,
    RADIUS: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Load some slopes of some rows; the one after those of the radius is 1 if the row has slopes.

    A density without slopes is saturated, and the slopes of its constant must not count.
    """
    if RADIUS:
        there = (which < nodes + 3) & inside
        in_dim = tl.load(slopes + nodes * rows, mask=inside, other=0.0)
        in_scale = tl.load(slopes + (nodes + 2) * rows, mask=inside, other=0.0)
        last = tl.where((in_dim != 0.0) | (in_scale != 0.0), 1.0, 0.0)
        found = tl.load(slopes + which * rows, mask=there, other=0.0)
        found = tl.where(which == nodes + 3, last, found)
    else:
        there = (which < nodes) & inside
        found = tl.load(slopes + which * rows, mask=there, other=0.0)
    return found


@triton.jit(do_not_specialize=["samples", "batch", "leaves", "nodes", "blocks"])
def weigh(
    weights: tl.tensor, gradient: tl.tensor, slopes: tl.tensor, in_value: tl.tensor,
    sums: tl.tensor, along_samples: tl.tensor, along_batch: tl.tensor, samples: tl.tensor,
    batch: tl.tensor, leaves: tl.tensor, nodes: tl.tensor, blocks: tl.tensor,
    SAMPLES: tl.constexpr, BATCH: tl.constexpr, COLUMNS: tl.constexpr, RADIUS: tl.constexpr,
    WEIGHTED: tl.constexpr, IN_VALUE: tl.constexpr, SLOPES: tl.constexpr,
) -> None:  # fmt: skip
    """Weight the gradient in the value, and sum the weighted slopes per program."""
    lane = tl.arange(0, SAMPLES * BATCH)
    first, step = tl.program_id(1), tl.num_programs(1)
    column = (tl.program_id(0) * BATCH + lane % BATCH).to(tl.int64)
    given = (weights, along_samples, along_batch)
    if IN_VALUE:
        for block in range(first, blocks, step):
            sample = (block * SAMPLES + lane // BATCH).to(tl.int64)
            inside = (column < batch) & (sample < samples)
            weight = weight_of(given, sample, column, inside, WEIGHTED)
            row = sample * batch + column
            weigh_gradient(weight, row, inside, gradient, in_value, leaves, COLUMNS)
    if SLOPES:
        rows = samples.to(tl.int64) * batch
        count = nodes + 4 if RADIUS else nodes
        own = (tl.program_id(0) * BATCH + tl.arange(0, BATCH)).to(tl.int64)[None, :]
        for start in range(0, count, COLUMNS):
            which = start + tl.arange(0, COLUMNS)[:, None]
            total = tl.zeros((COLUMNS, SAMPLES * BATCH), slopes.dtype.element_ty)
            for block in range(first, blocks, step):
                sample = (block * SAMPLES + lane // BATCH).to(tl.int64)
                inside = (column < batch) & (sample < samples)
                weight = weight_of(given, sample, column, inside, WEIGHTED)[None, :]
                at = (slopes + sample * batch + column)[None, :]
                found = slopes_of_block(at, rows, which, nodes, inside[None, :], RADIUS)
                total = saturated(total + weight * found)
            parts = tl.reshape(total.to(tl.float64), (COLUMNS, SAMPLES, BATCH))
            at = sums + (first * count + which).to(tl.int64) * batch + own
            tl.store(at, tl.sum(parts, axis=1), mask=(which < count) & (own < batch))


@triton.jit
def over_programs(
    sums: tl.tensor, which: tl.tensor, count: tl.tensor, programs: tl.tensor, batch: tl.tensor,
    column: tl.tensor, SAMPLES: tl.constexpr, BATCH: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    total = tl.zeros((SAMPLES, BATCH), tl.float64)
    for start in range(0, programs, SAMPLES):
        program = start + tl.arange(0, SAMPLES)[:, None]
        there = (program < programs) & (column < batch)[None, :]
        at = sums + (program * count + which).to(tl.int64) * batch + column[None, :]
        total += tl.load(at, mask=there, other=0.0)
    return tl.sum(total, axis=0)


@triton.jit(
    do_not_specialize=[
        *("along_batch", "along_dim", "along_p", "along_scale", "batch", "leaves", "nodes"),
        *("most_terms", "programs"),
    ]
)
def add_up(
    sums: tl.tensor, exponents: tl.tensor, dim: tl.tensor, p: tl.tensor, scale: tl.tensor,
    structure: tl.tensor, in_parameters: tl.tensor, along_batch: tl.tensor,
    along_nodes: tl.tensor, along_dim: tl.tensor, along_p: tl.tensor, along_scale: tl.tensor,
    batch: tl.tensor, leaves: tl.tensor, nodes: tl.tensor, most_terms: tl.tensor,
    programs: tl.tensor, SAMPLES: tl.constexpr, BATCH: tl.constexpr, RADIUS: tl.constexpr,
    HAS_DIM: tl.constexpr,
) -> None:  # fmt: skip
    """Compute the gradient in one exponent or parameter of the radius, including the constant."""
    which = tl.program_id(1)
    column = (tl.program_id(0) * BATCH + tl.arange(0, BATCH)).to(tl.int64)
    inside = column < batch
    tree = (structure, leaves, nodes, most_terms)
    if RADIUS:
        total = over_programs(sums, which, nodes + 4, programs, batch, column, SAMPLES, BATCH)
        weight = over_programs(sums, nodes + 3, nodes + 4, programs, batch, column, SAMPLES, BATCH)
        if which < nodes:
            powers = (exponents, along_batch, along_nodes)
            total += weight * slope_in_exponent(tree, powers, which, column, inside)
        else:
            radius = (dim, p, scale, along_dim, along_p, along_scale)
            in_dim, in_p, in_scale = slopes_in_radius(tree, radius, column, inside, HAS_DIM)
            if which == nodes + 2:
                total /= tl.load(scale + column * along_scale, mask=inside, other=1.0)
            slope = tl.where(which == nodes, in_dim, tl.where(which == nodes + 1, in_p, in_scale))
            total += weight * slope
        at = in_parameters + column * (nodes + 3) + which
    else:
        total = over_programs(sums, which, nodes, programs, batch, column, SAMPLES, BATCH)
        at = in_parameters + column * nodes + which
    if in_parameters.dtype.element_ty == tl.float32:
        total = bounded(total, LARGEST_32)
    tl.store(at, saturated(total), mask=inside)
