"""The one operation by Triton: shapes, launches, and the gradient.

A call is one launch, which also forms the gradient where one is wanted; a backward pass is one
more for the value and another for parameters. What has derivatives of its own is the reference's.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import accumulate
from typing import Any, NamedTuple, TypeAlias

import torch
import triton
import triton.language as tl
from torch import Tensor

from lpnested.ops import reference
from lpnested.ops.triton_kernels import add_up, evaluate, weigh
from lpnested.precision import narrow, result_dtype
from lpnested.tracing import is_transformed
from lpnested.tree import LpNestedTree

__all__ = ["log_density", "log_norm"]

Plain: TypeAlias = Callable[..., Tensor]

_TRITON = {torch.float32: tl.float32, torch.float64: tl.float64}

_LANES = 64
_WARPS = 2
_COLUMNS = 8  # 32 bytes of float32, the least that a card reads
_PROGRAMS = 8  # for each multiprocessor
_SCRATCH = 2**26  # bytes: a cache holds it


class _Structure(NamedTuple):
    """The tree on a device."""

    integers: Tensor
    """Of :func:`_integers`."""
    most_terms: int
    """Of a node in the normaliser."""


_STRUCTURES: dict[tuple[str, torch.device], _Structure] = {}


def _structure_of(tree: LpNestedTree, device: torch.device) -> _Structure:
    key = tree.code, device
    if key not in _STRUCTURES:
        integers, most_terms = _integers(tree)
        with torch.inference_mode(False):
            on_device = torch.tensor(integers, dtype=torch.int32).to(device)
        _STRUCTURES[key] = _Structure(on_device, most_terms)
    return _STRUCTURES[key]


def _integers(tree: LpNestedTree) -> tuple[list[int], int]:
    """Children and normaliser of each node, and the most terms that one has in it.

    They are the number of leaves, that of nodes, where the children of each node start, and the
    children, leaf i as i and node k as dim + k; then where the terms of each node start, and for
    each term a number of leaves and how often log Gamma of it occurs.
    """
    sizes, terms = [0] * tree.num_nodes, [[(0, 0)]] * tree.num_nodes
    for k, row in reversed(list(enumerate(tree.children))):
        counts = Counter(1 if child >= 0 else sizes[~child] for child in row)
        sizes[k] = sum(size * count for size, count in counts.items())
        counts[sizes[k]] -= 1
        terms[k] = [(size, count) for size, count in counts.items() if count]
    integers = [tree.dim, tree.num_nodes, *_starts(tree.children)]
    integers += [c if c >= 0 else tree.dim + ~c for row in tree.children for c in row]
    integers += _starts(terms)
    integers += [size for of_node in terms for size, _ in of_node]
    integers += [count for of_node in terms for _, count in of_node]
    return integers, max(len(of_node) for of_node in terms)


def _starts(groups: Sequence[Sequence[object]]) -> list[int]:
    return [0, *accumulate(len(group) for group in groups)]


class _Arguments(NamedTuple):
    """What a launch takes: values ``(samples, batch, dim)``, parameters ``(batch, ...)``."""

    value: Tensor
    exponents: Tensor
    radius: tuple[Tensor, ...]
    """The dimension, exponent and scale of the radius; nothing for a norm."""
    shape: torch.Size
    """Of the result."""
    batch: torch.Size
    """The last dimensions of that, in which parameters differ."""


def _arguments(value: Tensor, exponents: Tensor, *radius: Tensor) -> _Arguments:
    batch = torch.broadcast_shapes(exponents.shape[:-1], *(x.shape for x in radius))
    shape = torch.broadcast_shapes(value.shape[:-1], batch)
    batch = shape[len(shape) - len(batch) :] if batch.numel() > 1 else torch.Size()
    num, leaves, nodes = batch.numel(), value.shape[-1], exponents.shape[-1]
    if not batch:  # one row of parameters, whatever the number of its dimensions
        exponents, radius = exponents.reshape(nodes), tuple(x.reshape(()) for x in radius)
    return _Arguments(
        value.expand(*shape, leaves).reshape(shape.numel() // num, num, leaves),
        exponents.expand(*batch, nodes).reshape(num, nodes),
        tuple(x.expand(batch).reshape(num) for x in radius),
        shape,
        batch,
    )


class _Grid(NamedTuple):
    """How rows are shared out: each program has columns of the batch and blocks of samples."""

    samples: int
    """Of a block, times the batch columns a number of lanes."""
    batch: int
    blocks: int
    tiles: int
    programs: tuple[int, int]

    @classmethod
    def of(cls, value: Tensor, most: int) -> _Grid:
        samples, batch, _ = value.shape
        columns = min(_LANES, triton.next_power_of_2(batch))
        blocks, tiles = triton.cdiv(samples, _LANES // columns), triton.cdiv(batch, columns)
        across = min(tiles, most)
        return cls(
            _LANES // columns, columns, blocks, tiles, (across, min(blocks, most // across))
        )


@cache
def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":  # the interpreter: more than one, so that there is something to add
        return 2
    return torch.cuda.get_device_properties(device).multi_processor_count


def _most_programs(device: torch.device, bytes_each: int) -> int:
    """At most what fits the scratch memory, and as many at least as keep the device busy."""
    processors = _multiprocessors(device)
    return max(2 * processors, min(_PROGRAMS * processors, _SCRATCH // bytes_each))


def _launch_forward(
    tree: LpNestedTree, arguments: _Arguments, *, with_gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The result, its gradient in the value, and the slopes of each row in the parameters."""
    value, exponents, radius, shape, _ = arguments
    dtype = result_dtype(value, exponents, *radius[1:])
    structure = _structure_of(tree, value.device)
    samples, batch, leaves = value.shape
    nodes, rows = exponents.shape[-1], samples * batch
    new = partial(torch.empty, device=value.device)
    each = 3 * (leaves + nodes) * _LANES
    grid = _Grid.of(value, _most_programs(value.device, each * dtype.itemsize))
    result = new(shape, dtype=result_dtype(value, exponents) if radius else torch.float64)
    gradient = new((rows, leaves) if with_gradient else 0, dtype=dtype)
    slopes = new((_num_slopes(nodes, radius), rows) if with_gradient else 0, dtype=dtype)
    dim, p, scale = radius or (exponents,) * 3
    with torch.cuda.device_of(value):
        evaluate[grid.programs](
            value, exponents, dim, p, scale, structure.integers,
            new(math.prod(grid.programs) * each, dtype=dtype), result, gradient, slopes,
            *value.stride(), *exponents.stride(), dim.stride(0), p.stride(0), scale.stride(0),
            samples, batch, leaves, nodes, structure.most_terms, grid.blocks, grid.tiles,
            DTYPE=_TRITON[dtype], SAMPLES=grid.samples, BATCH=grid.batch, COLUMNS=_COLUMNS,
            RADIUS=bool(radius), GRADIENT=with_gradient, num_warps=_WARPS,
        )  # fmt: skip
    return result, gradient, slopes


def _num_slopes(nodes: int, radius: tuple[Tensor, ...]) -> int:
    return nodes + (len(radius) + 1 if radius else 0)


def _launch_backward(
    tree: LpNestedTree,
    arguments: _Arguments,
    above: Tensor,
    gradient: Tensor,
    slopes: Tensor,
    needed: Sequence[bool],
) -> tuple[Tensor, ...]:
    """The gradients in value, exponents, and dimension, exponent and scale of the radius."""
    value, exponents, radius, shape, trailing = arguments
    samples, batch, leaves = value.shape
    nodes, count = exponents.shape[-1], len(slopes)
    structure = _structure_of(tree, value.device)
    grid = _Grid.of(value, _most_programs(value.device, 1))
    parts = grid.programs[1]
    above = above.reshape(samples, batch)
    in_value = torch.empty(value.shape if needed[0] else 0, dtype=value.dtype, device=value.device)
    parameters = any(needed[1:])
    sums = gradient.new_empty(parts * count * batch if parameters else 0, dtype=torch.float64)
    results = [torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (exponents, *radius)]
    with torch.cuda.device_of(value):
        weigh[grid.tiles, parts](
            above, gradient, slopes, in_value, sums, *above.stride(),
            samples, batch, leaves, count, grid.blocks,
            SAMPLES=grid.samples, BATCH=grid.batch, COLUMNS=_COLUMNS,
            IN_VALUE=needed[0], IN_PARAMETERS=parameters, num_warps=_WARPS,
        )  # fmt: skip
        if parameters:
            dim, p, scale = radius or (exponents,) * 3
            in_exponents, in_dim, in_p, in_scale = results if radius else results * 4
            add_up[grid.tiles, nodes + len(radius)](
                sums, exponents, dim, p, scale, structure.integers,
                in_exponents, in_dim, in_p, in_scale,
                *exponents.stride(), dim.stride(0), p.stride(0), scale.stride(0),
                batch, nodes, structure.most_terms, parts,
                SAMPLES=grid.samples, BATCH=grid.batch, RADIUS=bool(radius), num_warps=_WARPS,
            )  # fmt: skip
    return (
        in_value.reshape(*shape, leaves) if needed[0] else in_value,
        results[0].reshape(*trailing, nodes),
        *(x.reshape(trailing) for x in results[1:]),
    )


def _differentiable_backward(
    plain: Plain, inputs: Sequence[Tensor], above: Tensor, needed: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients as functions that have gradients, as of plain operations."""
    with torch.enable_grad():
        result = plain(*inputs)
    wanted = [x for x, need in zip(inputs, needed, strict=True) if need]
    grads = torch.autograd.grad(result, wanted, above, create_graph=torch.is_grad_enabled())
    formed = iter(grads)
    return [next(formed) if need else None for need in needed]


def _in_shape_of(gradient: Tensor, x: Tensor) -> Tensor:
    if gradient.numel() == x.numel():
        return gradient.reshape(x.shape)
    return gradient.sum_to_size(x.shape)


class _Evaluate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tree: LpNestedTree, plain: Plain, *inputs: Tensor) -> Tensor:
        result, *formed = _launch_forward(tree, _arguments(*inputs), with_gradient=True)
        ctx.tree, ctx.plain = tree, plain
        ctx.save_for_backward(*formed, *inputs)
        return result

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        gradient, slopes, *inputs = ctx.saved_tensors
        needed = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled() or is_transformed(above):
            return None, None, *_differentiable_backward(ctx.plain, inputs, above, needed)
        arguments = _arguments(*inputs)
        grads = _launch_backward(ctx.tree, arguments, above, gradient, slopes, needed)
        each = zip(grads, inputs, needed, strict=True)
        return None, None, *(_in_shape_of(g, x) if need else None for g, x, need in each)


def _evaluated(tree: LpNestedTree, plain: Plain, *inputs: Tensor) -> Tensor:
    if not all(x.numel() for x in inputs):
        return plain(*inputs)
    if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
        return _Evaluate.apply(tree, plain, *inputs)  # type: ignore[no-any-return]
    return _launch_forward(tree, _arguments(*inputs), with_gradient=False)[0]


def log_norm(value: Tensor, exponents: Tensor, tree: LpNestedTree) -> Tensor:
    """See :func:`lpnested.ops.norm.log_norm`."""
    return _evaluated(tree, partial(reference.log_norm, tree=tree), value, exponents)


def log_density(
    value: Tensor, exponents: Tensor, dim: Tensor, p: Tensor, scale: Tensor, tree: LpNestedTree
) -> Tensor:
    """See :func:`lpnested.ops.gamma.log_density`."""
    return _evaluated(tree, partial(_plain, tree=tree), value, exponents, dim, p, scale)


def _plain(value: Tensor, exponents: Tensor, *radius: Tensor, tree: LpNestedTree) -> Tensor:
    density = reference.gamma_log_density(value, exponents, *radius, tree)
    return narrow(density, result_dtype(value, exponents))
