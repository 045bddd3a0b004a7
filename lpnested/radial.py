r"""The density generator of a radial and the density over a tree, by dispatch on its type.

Any torch Distribution on the positive reals can be the radial. Types registered here are exact and
fused: the powers of :math:`r` in the density and in the volume element cancel before they can
overflow.
"""

from __future__ import annotations

import math
from typing import Any

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

from lpnested.gamma_radii import gamma_radius, radial_dispatch
from lpnested.gamma_ratio import log_gamma_ratio
from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.ops import gamma
from lpnested.ops.norm import log_norm
from lpnested.ops.reference import log_surface_area
from lpnested.precision import clamp_max, exp, result_dtype, saturate_cast, spacing, upcast
from lpnested.radii import dtype_of, is_bounded
from lpnested.tree import LpNestedTree

__all__ = ["log_beta", "log_density", "log_generator"]

_SPACINGS = 4  # by which rounding can move a radius: of the coordinates and of earlier operations


def log_density(
    radial: Distribution, value: Tensor, exponents: Tensor, tree: LpNestedTree
) -> Tensor:
    """Return the log density of :class:`lpnested.LpNested`, in the dtype of value and exponents.

    The computation is fused for radials of the generalized gamma family.

    Args:
        radial: The distribution of the radius, batch shape ``(*batch)``.
        value: Shape ``(*sample, *batch, dim)``.
        exponents: Shape ``(*batch, num_nodes)``.
        tree: The tree.
    """
    fused = gamma_radius(log_generator, radial)
    if fused is not None:
        return gamma.log_density(value, exponents, fused.dim, fused.p, fused.scale, tree)
    # The density jumps at a bound, where the radius must be more accurate than its coordinates.
    log_r = log_norm(upcast(value) if is_bounded(radial) else value, exponents, tree)
    infinite = log_r == math.inf
    log_r = torch.where(infinite, 0.0, log_r)
    density = log_generator(radial, log_r, tree.dim, spacing(value, exponents))
    density = density - log_surface_area(exponents, tree)
    return saturate_cast(torch.where(infinite, -math.inf, density), result_dtype(value, exponents))


@radial_dispatch
def log_generator(radial: Distribution, log_r: Tensor, dim: int, eps: float) -> Tensor:
    r"""The density generator up to the area, :math:`\log\varrho(r) - (n - 1) \log r`.

    The result is float64, and -inf outside of the support. Rounded coordinates give a rounded
    radius, so a radius beyond a bound of the support by no more than the rounding counts as the
    bound. If the density is infinite, zero or undefined at a bound, its value half a spacing
    inside is used.

    The generic fallback evaluates the radial's density at :math:`r`, clamped to the range of the
    dtype of its parameters; it is as exact and as finite as the radial's own ``log_prob``.

    Args:
        radial: The distribution of the radius, batch shape ``(*batch)``.
        log_r: The logarithm of the radius, float64, shape ``(*sample, *batch)``.
        dim: The dimension :math:`n` of the space.
        eps: The relative spacing of the coordinates or exponents, whichever is coarser. It matters
            only if the support has a bound.
    """
    dtype = dtype_of(radial)
    r = _within_range(log_r, dtype).exp()
    eps = max(eps, torch.finfo(dtype).eps)
    support: Any = radial.support
    lower, upper = _bounds(support, r)
    step, margin = max(eps / 2, torch.finfo(log_r.dtype).eps), _margin(log_r, eps)
    inner, outer = lower * (1 + step), upper * (1 - step)
    r = torch.where((r < inner) & (r >= lower * (1 - margin)), inner, r)
    r = torch.where((r > outer) & (r <= upper * (1 + margin)), outer, r)
    outside = ~support.check(r) & ~r.isnan()
    middle = torch.where(upper.isinf(), lower + 1, (lower + upper) / 2)
    density = radial.log_prob(torch.where(outside, middle, r))
    return torch.where(outside, -math.inf, density - (dim - 1) * log_r)


def _within_range(log_r: Tensor, dtype: torch.dtype) -> Tensor:
    """Clamp to where the fallback can evaluate a radial's density: the range of the dtype.

    If the working precision has the same range, clamp to its square roots.
    """
    limits = torch.finfo(dtype)
    power = 1.0 if dtype != log_r.dtype else 0.5
    low, high = power * math.log(limits.tiny), power * math.log(limits.max)
    return torch.where(log_r < low, low, clamp_max(log_r, high))


def _margin(log_r: Tensor, eps: float) -> float:
    """Return the relative tolerance at a bound: more than rounding cannot exceed it."""
    limits = torch.finfo(log_r.dtype)
    return _SPACINGS * eps + math.log2(limits.max) * limits.eps  # rounding of large logarithms


def _is_above(log_r: Tensor, bound: Tensor | float, eps: float) -> Tensor:
    return log_r - bound > _margin(log_r, eps)


def _below_one(log_r: Tensor, eps: float) -> Tensor:
    return clamp_max(log_r, -max(eps, torch.finfo(log_r.dtype).eps) / 2)


def _bounds(support: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bounds of an interval, in the dtype of ``like``."""
    bounds = (getattr(support, "lower_bound", 0.0), getattr(support, "upper_bound", math.inf))
    lower, upper = (x.to(like) if isinstance(x, Tensor) else like.new_full((), x) for x in bounds)
    return lower.detach(), upper.detach()


def _log_1p_exp(x: Tensor) -> Tensor:
    return torch.logaddexp(x, torch.zeros_like(x))


def _log_1m_exp(x: Tensor) -> Tensor:
    """Return the logarithm of 1 - exp(x) for x < 0."""
    small = x < -math.log(2)
    far = torch.log1p(-torch.where(small, x, -1.0).exp())
    return torch.where(small, far, (-torch.where(small, -1.0, x).expm1()).log())


def log_beta(a: Tensor, b: Tensor) -> Tensor:
    """Return the logarithm of the beta function."""
    small, large = torch.where(a < b, a, b), torch.where(a < b, b, a)
    return small.lgamma() - log_gamma_ratio(large, small)


@log_generator.register
def _(radial: GeneralizedGamma, log_r: Tensor, dim: int, eps: float) -> Tensor:
    n, p, log_scale = upcast(radial.dim), upcast(radial.p), upcast(radial.scale).log()
    constant = p.log() - (n / p).lgamma() - n * log_scale
    return constant + (n - dim) * log_r - exp(p * (log_r - log_scale))


@log_generator.register
def _(radial: InverseGamma, log_r: Tensor, dim: int, eps: float) -> Tensor:
    a, log_rate = upcast(radial.concentration), upcast(radial.rate).log()
    return a * log_rate - a.lgamma() - (a + dim) * log_r - exp(log_rate - log_r)


@log_generator.register
def _(radial: LogNormal, log_r: Tensor, dim: int, eps: float) -> Tensor:
    loc, scale = upcast(radial.loc), upcast(radial.scale)
    z = (log_r - loc) / scale
    return -0.5 * z**2 - scale.log() - 0.5 * math.log(2 * math.pi) - dim * log_r


@log_generator.register
def _(radial: HalfCauchy, log_r: Tensor, dim: int, eps: float) -> Tensor:
    log_scale = upcast(radial.scale).log()
    tail = _log_1p_exp(2 * (log_r - log_scale))
    return math.log(2 / math.pi) - log_scale - tail - (dim - 1) * log_r


@log_generator.register
def _(radial: FisherSnedecor, log_r: Tensor, dim: int, eps: float) -> Tensor:
    one, two = upcast(radial.df1) / 2, upcast(radial.df2) / 2
    log_ratio = log_r + (one / two).log()
    density = one * log_ratio - (one + two) * _log_1p_exp(log_ratio)
    return density - log_beta(one, two) - dim * log_r


@log_generator.register
def _(radial: Pareto, log_r: Tensor, dim: int, eps: float) -> Tensor:
    log_scale, alpha = upcast(radial.scale).log(), upcast(radial.alpha)
    density = alpha.log() + alpha * log_scale - (alpha + dim) * log_r
    return torch.where(_is_above(log_scale, log_r, eps), -math.inf, density)


@log_generator.register
def _(radial: Uniform, log_r: Tensor, dim: int, eps: float) -> Tensor:
    low, high = upcast(radial.low), upcast(radial.high)
    outside = _is_above(low.log(), log_r, eps) | _is_above(log_r, high.log(), eps)
    return torch.where(outside, -math.inf, -(high - low).log() - (dim - 1) * log_r)


@log_generator.register
def _(radial: Beta, log_r: Tensor, dim: int, eps: float) -> Tensor:
    a, b = upcast(radial.concentration1), upcast(radial.concentration0)
    density = (a - dim) * log_r + (b - 1) * _log_1m_exp(_below_one(log_r, eps)) - log_beta(a, b)
    return torch.where(_is_above(log_r, 0.0, eps), -math.inf, density)


@log_generator.register
def _(radial: Kumaraswamy, log_r: Tensor, dim: int, eps: float) -> Tensor:
    a, b = upcast(radial.concentration1), upcast(radial.concentration0)
    factor = (b - 1) * _log_1m_exp(a * _below_one(log_r, eps))
    density = a.log() + b.log() + (a - dim) * log_r + factor
    return torch.where(_is_above(log_r, 0.0, eps), -math.inf, density)


@log_generator.register
def _(radial: MixtureSameFamily, log_r: Tensor, dim: int, eps: float) -> Tensor:
    log_weights = upcast(radial.mixture_distribution.logits).log_softmax(-1)
    components = log_generator(radial.component_distribution, log_r.unsqueeze(-1), dim, eps)
    terms = log_weights + components
    outside = (terms == -math.inf).all(-1)  # of all components; logsumexp has no gradient there
    inside = torch.where(outside.unsqueeze(-1), 0.0, terms).logsumexp(-1)
    return torch.where(outside, -math.inf, inside)
