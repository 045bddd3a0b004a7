r"""The norm of values in single precision: in place, in little memory, with its own gradient.

It gives what plain differentiable operations give, and the tests hold it to that. It works on
:math:`\log_2 |x|`, whose 53 bits are plenty for a value of 24 and too few for one of 53, so
float64 takes the plain way. Rows are worked on in chunks that fit a cache.

With the share :math:`s_c = (f_c / f_I)^{p_I}` of a child :math:`c` in its node :math:`I`, and the
product :math:`w` of the shares on a path from the root, the gradient is

.. math:: \frac{\partial \log f}{\partial x_i} = \frac{w_i}{x_i}, \qquad
    \frac{\partial \log f}{\partial p_I} = \frac{w_I}{p_I^2} \sum_{c \in I} s_c \log s_c
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from lpnested.layout import Layout
from lpnested.tracing import is_eager, is_transformed
from lpnested.traversal import climb, in_layout_order

__all__ = ["applies", "log_norm"]

Plain: TypeAlias = Callable[[Tensor, Tensor], Tensor]

_LOG2_ZERO = -1e30  # of a zero: finite, so that no inf meets inf, and 2 ** (p * this) is 0
_LOG2_INFINITE = 1e30  # of an infinity, likewise
_LOG2_TINY, _LOG2_HUGE = -1022.0, 1024.0  # of what float64 holds
_NEGLIGIBLE = 1e-300
_PER_THREAD = 2**17  # numbers in a chunk: 1 MiB in float64. Each costs about 0.1 ms of calls
_PER_GPU = 2**26
_FEWEST_ROWS = 64  # in a chunk: reductions run over rows


def applies(value: Tensor, exponents: Tensor) -> bool:
    """Whether the arguments are of the kind that this module is for.

    Tracers, function transforms and forward mode need plain operations.
    """
    return (
        value.is_floating_point()
        and value.numel() > 0
        and exponents.dim() == 1
        and torch.promote_types(value.dtype, exponents.dtype) != torch.float64
        and is_eager(value, exponents)
    )


def log_norm(value: Tensor, exponents: Tensor, layout: Layout, plain: Plain) -> Tensor:
    """The logarithm of the norm, float64.

    Args:
        value: Shape ``(*sample, dim)``.
        exponents: In float64, shape ``(num_nodes,)``.
        layout: The layout of the tree.
        plain: The same function of value and exponents, of plain operations, for what a gradient
            with a gradient of its own needs.
    """
    rows = value.reshape(-1, value.shape[-1])
    result: Tensor
    if torch.is_grad_enabled() and (value.requires_grad or exponents.requires_grad):
        result = _LogNorm.apply(rows, exponents, layout, plain)
    else:
        result = exponents.new_empty(len(rows))
        _forward(rows, exponents, layout, result)
    return result.reshape(value.shape[:-1])


class _LogNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, value: Tensor, exponents: Tensor, layout: Layout, plain: Plain
    ) -> Tensor:
        num, _ = value.shape
        in_value, in_exponents, *_ = ctx.needs_input_grad
        result = exponents.new_empty(num)
        roots = value.new_empty(value.shape, dtype=torch.float32) if in_value else None
        # In float64: what the exponents get from here and from the radius nearly cancels.
        slopes = exponents.new_empty(len(exponents), num) if in_exponents else None
        _forward(value, exponents, layout, result, roots, slopes)
        ctx.layout, ctx.plain = layout, plain
        ctx.save_for_backward(value, exponents, roots, slopes)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        value, exponents, roots, slopes = ctx.saved_tensors
        if torch.is_grad_enabled() or is_transformed(grad):
            in_value, in_exponents = _differentiable_backward(ctx, value, exponents, grad)
        else:
            in_value = None if roots is None else _in_value(value, roots, grad)
            in_exponents = None if slopes is None else _in_exponents(slopes, grad, ctx.layout)
        return in_value, in_exponents, None, None


def _differentiable_backward(
    ctx: Any, value: Tensor, exponents: Tensor, grad: Tensor
) -> list[Tensor | None]:
    """The gradient as a function that has gradients, as of plain operations."""
    needed = ctx.needs_input_grad[:2]
    inputs = [x for x, need in zip((value, exponents), needed, strict=True) if need]
    with torch.enable_grad():
        result = ctx.plain(value, exponents)
    grads = iter(torch.autograd.grad(result, inputs, grad, create_graph=torch.is_grad_enabled()))
    return [next(grads) if need else None for need in needed]


def _chunks(value: Tensor) -> list[tuple[int, int]]:
    """The first row and the number of rows of each chunk."""
    num, dim = value.shape
    numbers = _PER_THREAD * torch.get_num_threads() if value.device.type == "cpu" else _PER_GPU
    rows = max(_FEWEST_ROWS, numbers // dim)
    return [(start, min(rows, num - start)) for start in range(0, num, rows)]


class _Block(NamedTuple):
    """What the way down needs to know of a block of nodes."""

    roots: Tensor
    """The fourth roots of the shares, up to :attr:`scale`, shape ``(count, width, rows)``."""
    scale: Tensor
    """Shape ``(count, rows)``."""
    slope: Tensor | None
    """The derivative of the logarithm of the node's norm in its exponent."""


def _forward(
    value: Tensor,
    exponents: Tensor,
    layout: Layout,
    result: Tensor,
    roots: Tensor | None = None,
    slopes: Tensor | None = None,
) -> None:
    """Write the result, and what its gradient will need."""
    p = exponents.unsqueeze(1)
    for start, count in _chunks(value):
        _forward_chunk(
            value.narrow(0, start, count),
            p,
            layout,
            result.narrow(0, start, count),
            roots if roots is None else roots.narrow(0, start, count),
            slopes if slopes is None else slopes.narrow(1, start, count),
        )


def _forward_chunk(
    value: Tensor,
    p: Tensor,
    layout: Layout,
    result: Tensor,
    roots: Tensor | None,
    slopes: Tensor | None,
) -> None:
    """Write the result of a chunk, and what its gradient will need."""
    logs = value.t().to(torch.float64, memory_format=torch.contiguous_format)
    logs = logs.abs_().log2_().clamp_(_LOG2_ZERO, _LOG2_INFINITE)
    blocks: list[_Block] = []

    def combine(children: Tensor, p: Tensor) -> Tensor:
        node, block = _log_norm_and_shares(children, p, slopes is not None)
        blocks.append(block)
        return node

    gradient = roots is not None or slopes is not None
    root = climb(logs, p, layout, combine if gradient else _log_norm, _LOG2_ZERO)[0][1]
    infinite = root.squeeze(0) > _LOG2_INFINITE / 2
    torch.mul(root.squeeze(0).clamp_(_LOG2_TINY, _LOG2_HUGE), math.log(2), out=result)
    result.masked_fill_(infinite, math.inf)
    if gradient:
        # The norm is constant where it is the smallest or the largest number.
        inside = (root > _LOG2_TINY) & (root < _LOG2_HUGE)
        leaves = _descend(inside.to(torch.float64), blocks, layout, slopes)
        if roots is not None:
            roots.copy_(leaves.t())


def _log_norm(children: Tensor, p: Tensor) -> Tensor:
    """Of the base-2 logarithms of children, which it overwrites, that of their p-norm."""
    largest = children.amax(1)
    total = children.sub_(largest.unsqueeze(1)).mul_(p.unsqueeze(1)).exp2_().sum(1)
    return largest.add_(total.log2_().div_(p))


def _log_norm_and_shares(children: Tensor, p: Tensor, slope: bool) -> tuple[Tensor, _Block]:
    """The same, and what it means for the gradient.

    Shares are kept as fourth roots: these fit float32 down to shares of 1e-150, which even the
    steepest radius that float32 holds does not lift into the range of a gradient.
    """
    largest = children.amax(1)
    quarters = children.sub_(largest.unsqueeze(1)).mul_(p.unsqueeze(1) / 4)
    roots = quarters.exp2()
    powers = roots.square().square_()
    total = powers.sum(1)
    log_total = total.log2()
    derivative = None
    if slope:
        mean = powers.mul_(quarters).sum(1).mul_(4).div_(total)
        derivative = mean.sub_(log_total).mul_(math.log(2)).div_(p * p)
    node = largest.add_(log_total / p)
    return node, _Block(roots, log_total.mul_(-0.25).exp2_(), derivative)


def _descend(
    inside: Tensor, blocks: list[_Block], layout: Layout, slopes: Tensor | None
) -> Tensor:
    """The fourth roots of the shares of every leaf in the whole; writes the slopes."""
    node_roots, leaves = inside, []
    for level in layout.levels:
        mine, blocks = blocks[-len(level.blocks) :], blocks[: -len(level.blocks)]
        edges = []
        for place, block in zip(level.blocks, mine, strict=True):
            of_nodes = node_roots.narrow(0, place.start, place.num_nodes)
            edges.append(block.roots.mul_((of_nodes * block.scale).unsqueeze(1)).flatten(0, 1))
            if slopes is not None and block.slope is not None:
                slope = block.slope.mul_(of_nodes.square().square_())
                slopes.narrow(0, level.start + place.start, place.num_nodes).copy_(slope)
        roots = torch.cat(edges) if len(edges) > 1 else edges[0]
        roots = in_layout_order(roots, level.edge_slots)
        if level.num_leaves:
            leaves.append(roots.narrow(0, 0, level.num_leaves))
        node_roots = roots.narrow(0, level.num_leaves, level.num_edges - level.num_leaves)
    return in_layout_order(torch.cat(leaves) if len(leaves) > 1 else leaves[0], layout.places)


def _in_value(value: Tensor, roots: Tensor, grad: Tensor) -> Tensor:
    """The gradient in the value, saturated at the largest finite number."""
    result = torch.empty_like(value)
    largest = torch.finfo(value.dtype).max
    for start, count in _chunks(value):
        x = value.narrow(0, start, count).to(torch.float64)
        share = roots.narrow(0, start, count).to(torch.float64).square_().square_()
        # Where x is 0 so is its share; no other x of single precision feels what is added.
        share.mul_(grad.narrow(0, start, count).unsqueeze(1)).div_(x.add_(_NEGLIGIBLE))
        result.narrow(0, start, count).copy_(share.clamp_(-largest, largest))
    return result


def _in_exponents(slopes: Tensor, grad: Tensor, layout: Layout) -> Tensor:
    """The gradient in the exponents, float64, in the order of the tree."""
    parts = [
        slopes.narrow(1, start, count).mv(grad.narrow(0, start, count))
        for start, count in _chunks(slopes.t())
    ]
    result = torch.stack(parts).sum(0)
    if layout.nodes is None:
        return result
    return torch.empty_like(result).index_copy_(0, layout.nodes, result)
