r"""Draws of a radius, as logarithms: right where the radius itself would under- or overflow.

By dispatch on its type, as :mod:`lpnested.radial`. The random numbers have the dtype of the
radial's parameters, or of the :class:`~lpnested.GeneralizedGamma` that it is; the arithmetic is
float64, and no draw has a gradient. Where functions are
rounded they are worked out in chunks: several threads would round differently where they meet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import (
    Beta,
    Distribution,
    FisherSnedecor,
    HalfCauchy,
    InverseGamma,
    Kumaraswamy,
    LogNormal,
    MixtureSameFamily,
    Pareto,
    Uniform,
)

from lpnested.chunks import in_chunks
from lpnested.gamma import symmetric_uniform
from lpnested.gamma_radii import by_radial, gamma_radius, generalized_gamma_parameters
from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.ops import sampling
from lpnested.ops.norm import log_norm
from lpnested.precision import widen
from lpnested.radii import dtype_of, is_bounded, parameters_of
from lpnested.tracing import is_transformed
from lpnested.tree import LpNestedTree

__all__ = ["log_draw", "sample_nested"]


def sample_nested(
    radial: Distribution, exponents: Tensor, tree: LpNestedTree, sample_shape: Sequence[int]
) -> Tensor:
    """Draws of :class:`lpnested.LpNested`, in the dtype of the exponents, without gradient.

    The radius is drawn along with the direction where it is a generalized gamma variable.

    Args:
        radial: The distribution of the radius, batch shape ``(*batch)``.
        exponents: Shape ``(*batch, num_nodes)``.
        tree: The tree.
        sample_shape: The shape of independent draws.
    """
    fused = gamma_radius(log_draw, radial)
    if fused is not None:
        radius = fused.dim, fused.p, fused.scale
        return sampling.gamma_nested(exponents, *radius, tree, sample_shape)
    log_radius = log_draw(radial, sample_shape)
    draws = sampling.nested(exponents, tree, sample_shape, log_radius)
    if not is_bounded(radial):
        return draws
    # Rounding moves the radius of a draw, and must not move it out of the support.
    excess = log_radius - log_norm(widen(draws), exponents.detach(), tree)
    return draws * excess.clamp(-1, 1).exp().to(draws.dtype).unsqueeze(-1)


@by_radial
def log_draw(radial: Distribution, sample_shape: Sequence[int]) -> Tensor:
    """Logarithms of draws, float64, of shape ``(*sample_shape, *batch)``.

    The fallback asks the radial for draws, by ``rsample`` where it can: torch's ``Normal.sample``
    makes a GPU wait, ``rsample`` does not, but fails in vmap.
    """
    pathwise = radial.has_rsample and not is_transformed()
    shape = torch.Size(sample_shape)
    draws: Tensor = radial.rsample(shape) if pathwise else radial.sample(shape)
    return in_chunks(torch.log, widen(draws.detach()))


@log_draw.register
def _(radial: GeneralizedGamma, sample_shape: Sequence[int]) -> Tensor:
    n, p, scale = (x.detach() for x in generalized_gamma_parameters(radial))
    return scale.log() + _log_gamma(n / p, radial, sample_shape) / p


@log_draw.register
def _(radial: InverseGamma, sample_shape: Sequence[int]) -> Tensor:
    a, rate = _wide(radial.concentration, radial.rate)
    return rate.log() - _log_gamma(a, radial, sample_shape)


@log_draw.register
def _(radial: FisherSnedecor, sample_shape: Sequence[int]) -> Tensor:
    one, two = _wide(radial.df1, radial.df2)
    ratio = _log_gamma(one / 2, radial, sample_shape) - _log_gamma(two / 2, radial, sample_shape)
    return ratio + (two / one).log()


@log_draw.register
def _(radial: Beta, sample_shape: Sequence[int]) -> Tensor:
    a, b = _wide(radial.concentration1, radial.concentration0)
    log_g = _log_gamma(a, radial, sample_shape)
    return log_g - in_chunks(torch.logaddexp, log_g, _log_gamma(b, radial, sample_shape))


@log_draw.register
def _(radial: Kumaraswamy, sample_shape: Sequence[int]) -> Tensor:
    a, b = _wide(radial.concentration1, radial.concentration0)
    log_power = _log_uniform(radial, sample_shape) / b  # of 1 - r^a
    return in_chunks(lambda x: (-x.expm1()).log(), log_power) / a


@log_draw.register
def _(radial: Uniform, sample_shape: Sequence[int]) -> Tensor:
    low, high = _wide(radial.low, radial.high)
    return in_chunks(torch.log, low + (high - low) * _uniform(radial, sample_shape))


@log_draw.register
def _(radial: Pareto, sample_shape: Sequence[int]) -> Tensor:
    scale, alpha = _wide(radial.scale, radial.alpha)
    return scale.log() - _log_uniform(radial, sample_shape) / alpha


@log_draw.register
def _(radial: HalfCauchy, sample_shape: Sequence[int]) -> Tensor:
    (scale,) = _wide(radial.scale)
    angle = math.pi / 2 * _uniform(radial, sample_shape)
    return scale.log() + in_chunks(lambda x: x.tan().log(), angle)


@log_draw.register
def _(radial: LogNormal, sample_shape: Sequence[int]) -> Tensor:
    loc, scale = _wide(radial.loc, radial.scale)
    size = _size(radial, sample_shape)
    normal = torch.randn(size, dtype=dtype_of(radial), device=loc.device)
    return loc + scale * widen(normal)


@log_draw.register
def _(radial: MixtureSameFamily, sample_shape: Sequence[int]) -> Tensor:
    which = radial.mixture_distribution.sample(torch.Size(sample_shape)).unsqueeze(-1)
    return log_draw(radial.component_distribution, sample_shape).gather(-1, which).squeeze(-1)


def _wide(*parameters: Tensor) -> tuple[Tensor, ...]:
    return tuple(widen(x.detach()) for x in parameters)


def _size(radial: Distribution, sample_shape: Sequence[int]) -> torch.Size:
    return torch.Size((*sample_shape, *radial.batch_shape))


def _log_gamma(shape: Tensor, radial: Distribution, sample_shape: Sequence[int]) -> Tensor:
    return sampling.log_gamma(shape, _size(radial, sample_shape), dtype_of(radial))


def _uniform(radial: Distribution, sample_shape: Sequence[int]) -> Tensor:
    """Inside (0, 1)."""
    dtype, size = dtype_of(radial), _size(radial, sample_shape)
    device = parameters_of(radial)[0].device
    return widen(symmetric_uniform(size, dtype, device).abs())


def _log_uniform(radial: Distribution, sample_shape: Sequence[int]) -> Tensor:
    return in_chunks(torch.log, _uniform(radial, sample_shape))
