r"""Samples of :math:`\log G`, :math:`G \sim \mathrm{Gamma}(a, 1)`, from torch, at any scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["log_gamma_sample", "symmetric_uniform"]


def log_gamma_sample(shape: Tensor, size: Sequence[int], dtype: torch.dtype) -> Tensor:
    r"""Draw :math:`\log G`, float64, with a pathwise gradient in the shape :math:`a`.

    The result is exact even where :math:`G` itself underflows, :math:`a \ll 1`, because
    :math:`G(a)` has the distribution of :math:`G(a + 1)\, U^{1/a}`.

    Args:
        shape: The shape :math:`a > 0`, float64; it broadcasts to ``size``.
        size: The shape of the result.
        dtype: The precision of the uniform random variable.
    """
    size = torch.Size(size)
    uniform = symmetric_uniform(size, dtype, shape.device).abs().to(shape.dtype)
    return torch._standard_gamma((shape + 1).expand(size)).log() + uniform.log() / shape


def symmetric_uniform(size: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Draw uniformly from (-1, 1): odd multiples of the smallest step, so never 0."""
    steps = 2 / torch.finfo(dtype).eps  # on some devices torch.rand has finer steps near 0
    cell = torch.rand(torch.Size(size), dtype=dtype, device=device).mul_(steps).floor_()
    return cell.mul_(2).add_(1 - steps).mul_(1 / steps)
