r"""Draws of :math:`\log G`, :math:`G \sim \mathrm{Gamma}(a, 1)`, many at a time, at any scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lpnested.tracing import is_eager

__all__ = ["log_gamma_sample", "log_standard_gamma", "symmetric_uniform"]

_WORTH_IT = 1024  # draws from which vectorised rejection beats torch's loop


def log_gamma_sample(shape: Tensor, size: Sequence[int], dtype: torch.dtype) -> Tensor:
    r"""A draw of :math:`\log G`, float64, with a pathwise gradient in the shape :math:`a`.

    It is exact where :math:`G` itself underflows, :math:`a \ll 1`: :math:`G(a)` has the law of
    :math:`G(a + 1)\, U^{1/a}`.

    Args:
        shape: The shape :math:`a > 0`, float64; it broadcasts to ``size``.
        size: The shape of the result.
        dtype: The precision of the uniform and normal variables that are drawn.
    """
    uniform = symmetric_uniform(size, dtype, shape.device).abs().to(torch.float64)
    return log_standard_gamma(shape + 1, size, dtype).to(torch.float64) + uniform.log() / shape


def symmetric_uniform(size: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Uniform on (-1, 1): the odd multiples of the smallest step, so never 0."""
    steps = 2 / torch.finfo(dtype).eps  # on some devices torch.rand has finer ones near 0
    cell = torch.rand(torch.Size(size), dtype=dtype, device=device).mul_(steps).floor_()
    return cell.mul_(2).add_(1 - steps).mul_(1 / steps)


def log_standard_gamma(shape: Tensor, size: Sequence[int], dtype: torch.dtype) -> Tensor:
    r"""The same for :math:`a \geq 1`, in the precision of ``dtype`` where nobody needs a gradient.

    Then it is by rejection, all draws at once.
    """
    size = torch.Size(size)
    rejection = (
        is_eager(shape)
        and shape.device.type == "cpu"  # elsewhere, counting what was rejected would wait for it
        and size.numel() >= _WORTH_IT
        and not (shape.requires_grad and torch.is_grad_enabled())
    )
    if rejection:
        return _marsaglia_tsang(shape, size, dtype)
    return torch._standard_gamma(shape.expand(size)).log()


def _marsaglia_tsang(shape: Tensor, size: torch.Size, dtype: torch.dtype) -> Tensor:
    """Marsaglia & Tsang (2000), A simple method for generating gamma variables.

    All but a few in a hundred pass the squeeze. These are tested in float64; what is rejected is
    drawn anew, one by one.
    """
    d = shape - 1 / 3
    like = torch.empty(size, dtype=dtype, device=shape.device)
    x, u = torch.randn_like(like), torch.rand_like(like)
    v = torch.addcmul(like.new_ones(()), x, (9 * d).rsqrt().to(dtype))
    squeezed = (x.square() * squeeze(d).sqrt().to(dtype)).square_().add_(u) < 1
    unsure = squeezed.logical_not_().view(-1).nonzero().squeeze(1)
    d_unsure = d.expand(size)[torch.unravel_index(unsure, size)]
    x, u = (a.view(-1)[unsure].to(torch.float64) for a in (x, u))
    rejected = ~(log_acceptance(x, u, d_unsure) > 0)  # NaN, where v and u are 0, is rejected
    result = v.log_().mul_(3).add_(d.log().to(dtype))
    anew = torch._standard_gamma(d_unsure[rejected] + 1 / 3)
    result.view(-1)[unsure[rejected]] = anew.log().to(dtype)
    return result


def squeeze(d: Tensor) -> Tensor:
    """A number k so that 1 - k x^4 is below the probability of acceptance, for d >= 2/3.

    It tends to 1 / (108 d), the fourth-order term. The paper has 0.0331 for all d.
    """
    return (0.0093 + 0.0113 * d.pow(-1 / 3)) / d


def log_acceptance(x: Tensor, u: Tensor, d: Tensor) -> Tensor:
    """The logarithm of the probability of acceptance of x, less that of u; below 0 is rejected."""
    v = 1 + x * (9 * d).rsqrt()
    log_v = torch.where(v > 0, v, 0.0).log()
    return 0.5 * x**2 + d * (1 - v**3 + 3 * log_v) - u.log()
