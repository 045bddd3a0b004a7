r"""Samples of the log radius, exact where the radius itself would underflow or overflow.

Functions dispatch on the radial's type, as in :mod:`lpnested.radial`. Random numbers have the
dtype of the radial's parameters, or of the equivalent :class:`~lpnested.GeneralizedGamma`; the
arithmetic is float64, and samples have no gradient. Transcendental functions are evaluated in
chunks, because with several threads torch rounds differently at their boundaries.
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
from lpnested.gamma_radii import gamma_radius, generalized_gamma_parameters, radial_dispatch
from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.ops import sampling
from lpnested.ops.norm import log_norm
from lpnested.precision import upcast
from lpnested.radii import dtype_of, is_bounded, parameters_of
from lpnested.tracing import is_transformed
from lpnested.tree import LpNestedTree

__all__ = ["log_draw", "sample_nested"]


def sample_nested(
    radial: Distribution, exponents: Tensor, tree: LpNestedTree, sample_shape: Sequence[int]
) -> Tensor:
    """Sample :class:`lpnested.LpNested`, in the dtype of the exponents, without gradient.

    A radius of the generalized gamma family is drawn together with the direction.

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
    # Rounding changes the radius of a draw, and must not move it out of the support.
    excess = log_radius - log_norm(upcast(draws), exponents.detach(), tree)
    return draws * excess.clamp(-1, 1).exp().to(draws.dtype).unsqueeze(-1)


@radial_dispatch
def log_draw(radial: Distribution, sample_shape: Sequence[int]) -> Tensor:
    """Draw log radii, float64, of shape ``(*sample_shape, *batch)``.

    The fallback samples the radial, by ``rsample`` where possible: torch's ``Normal.sample``
    synchronises a GPU, while ``rsample`` does not but fails in vmap.
    """
    pathwise = radial.has_rsample and not is_transformed()
    shape = torch.Size(sample_shape)
    draws: Tensor = radial.rsample(shape) if pathwise else radial.sample(shape)
    return in_chunks(torch.log, upcast(draws.detach()))


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
    return loc + scale * upcast(normal)


@log_draw.register
def _(radial: MixtureSameFamily, sample_shape: Sequence[int]) -> Tensor:
    which = radial.mixture_distribution.sample(torch.Size(sample_shape)).unsqueeze(-1)
    return log_draw(radial.component_distribution, sample_shape).gather(-1, which).squeeze(-1)


def _wide(*parameters: Tensor) -> tuple[Tensor, ...]:
    return tuple(upcast(x.detach()) for x in parameters)


def _size(radial: Distribution, sample_shape: Sequence[int]) -> torch.Size:
    return torch.Size((*sample_shape, *radial.batch_shape))


def _log_gamma(shape: Tensor, radial: Distribution, sample_shape: Sequence[int]) -> Tensor:
    return sampling.log_gamma(shape, _size(radial, sample_shape), dtype_of(radial))


def _uniform(radial: Distribution, sample_shape: Sequence[int]) -> Tensor:
    """Draw uniformly from the open interval (0, 1)."""
    dtype, size = dtype_of(radial), _size(radial, sample_shape)
    device = parameters_of(radial)[0].device
    return upcast(symmetric_uniform(size, dtype, device).abs())


def _log_uniform(radial: Distribution, sample_shape: Sequence[int]) -> Tensor:
    return in_chunks(torch.log, _uniform(radial, sample_shape))
