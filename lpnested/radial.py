r"""The density generator of a radius, and the density over a tree: by dispatch on type.

Any torch Distribution on the positive reals serves as radius. A type that registers here is exact
and fused: the powers of :math:`r` in its density and in the volume element cancel before they can
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

from lpnested.gamma_radii import by_radial, gamma_radius
from lpnested.gamma_ratio import log_gamma_ratio
from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.ops import gamma
from lpnested.ops.norm import log_norm
from lpnested.ops.reference import log_surface_area
from lpnested.precision import at_most, exp, result_dtype, rounded_to, spacing, widen
from lpnested.radii import dtype_of, is_bounded
from lpnested.tree import LpNestedTree

__all__ = ["log_beta", "log_density", "log_generator"]

_SPACINGS = 4  # that the rounding of coordinates, and what made them, can move a radius


def log_density(
    radial: Distribution, value: Tensor, exponents: Tensor, tree: LpNestedTree
) -> Tensor:
    """The log density of :class:`lpnested.LpNested`, in the dtype of value and exponents.

    It is fused where the generator is that of a generalized gamma variable.

    Args:
        radial: The distribution of the radius, batch shape ``(*batch)``.
        value: Shape ``(*sample, *batch, dim)``.
        exponents: Shape ``(*batch, num_nodes)``.
        tree: The tree.
    """
    fused = gamma_radius(log_generator, radial)
    if fused is not None:
        return gamma.log_density(value, exponents, fused.dim, fused.p, fused.scale, tree)
    # At a bound the density jumps: there a radius must be righter than its coordinates.
    log_r = log_norm(widen(value) if is_bounded(radial) else value, exponents, tree)
    infinite = log_r == math.inf
    log_r = torch.where(infinite, 0.0, log_r)
    density = log_generator(radial, log_r, tree.dim, spacing(value, exponents))
    density = density - log_surface_area(exponents, tree)
    return rounded_to(torch.where(infinite, -math.inf, density), result_dtype(value, exponents))


@by_radial
def log_generator(radial: Distribution, log_r: Tensor, dim: int, eps: float) -> Tensor:
    r"""The density generator, up to the area: :math:`\log\varrho(r) - (n - 1) \log r`.

    It is float64, and -inf outside of the support. Coordinates are rounded, and the radius with
    them: beyond a bound of the support by no more than that, it counts as the bound. Where the
    density is infinite, zero or undefined at a bound, it is that half a spacing inside.

    The generic fallback asks the radial for its density at :math:`r`, within the range of the
    dtype of its parameters: it is as exact and as finite as the radial's own ``log_prob``.

    Args:
        radial: The distribution of the radius, batch shape ``(*batch)``.
        log_r: The logarithm of the radius, float64, shape ``(*sample, *batch)``.
        dim: The dimension :math:`n` of the space.
        eps: The relative spacing of the numbers that made the radius, the coordinates or the
            exponents, whichever is wider. It matters where the support has a bound.
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
    """Where the fallback asks a radial for its density: within what the dtype holds.

    Where the arithmetic has no more than that, within the square roots of it.
    """
    limits = torch.finfo(dtype)
    part = 1.0 if dtype != log_r.dtype else 0.5
    low, high = part * math.log(limits.tiny), part * math.log(limits.max)
    return torch.where(log_r < low, low, at_most(log_r, high))


def _margin(log_r: Tensor, eps: float) -> float:
    """Relative, of a bound: what is beyond by more is outside, by no rounding."""
    limits = torch.finfo(log_r.dtype)
    return _SPACINGS * eps + math.log2(limits.max) * limits.eps  # of the largest logarithms


def _is_above(log_r: Tensor, bound: Tensor | float, eps: float) -> Tensor:
    return log_r - bound > _margin(log_r, eps)


def _below_one(log_r: Tensor, eps: float) -> Tensor:
    return at_most(log_r, -max(eps, torch.finfo(log_r.dtype).eps) / 2)


def _bounds(support: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Of an interval, in float64."""
    bounds = (getattr(support, "lower_bound", 0.0), getattr(support, "upper_bound", math.inf))
    lower, upper = (x.to(like) if isinstance(x, Tensor) else like.new_full((), x) for x in bounds)
    return lower.detach(), upper.detach()


def _log_1p_exp(x: Tensor) -> Tensor:
    return torch.logaddexp(x, torch.zeros_like(x))


def _log_1m_exp(x: Tensor) -> Tensor:
    """The logarithm of 1 - exp(x) for x < 0."""
    small = x < -math.log(2)
    far = torch.log1p(-torch.where(small, x, -1.0).exp())
    return torch.where(small, far, (-torch.where(small, -1.0, x).expm1()).log())


def log_beta(a: Tensor, b: Tensor) -> Tensor:
    """The logarithm of the beta function."""
    small, large = torch.where(a < b, a, b), torch.where(a < b, b, a)
    return small.lgamma() - log_gamma_ratio(large, small)


@log_generator.register
def _(radial: GeneralizedGamma, log_r: Tensor, dim: int, eps: float) -> Tensor:
    n, p, log_scale = widen(radial.dim), widen(radial.p), widen(radial.scale).log()
    constant = p.log() - (n / p).lgamma() - n * log_scale
    return constant + (n - dim) * log_r - exp(p * (log_r - log_scale))


@log_generator.register
def _(radial: InverseGamma, log_r: Tensor, dim: int, eps: float) -> Tensor:
    a, log_rate = widen(radial.concentration), widen(radial.rate).log()
    return a * log_rate - a.lgamma() - (a + dim) * log_r - exp(log_rate - log_r)


@log_generator.register
def _(radial: LogNormal, log_r: Tensor, dim: int, eps: float) -> Tensor:
    loc, scale = widen(radial.loc), widen(radial.scale)
    z = (log_r - loc) / scale
    return -0.5 * z**2 - scale.log() - 0.5 * math.log(2 * math.pi) - dim * log_r


@log_generator.register
def _(radial: HalfCauchy, log_r: Tensor, dim: int, eps: float) -> Tensor:
    log_scale = widen(radial.scale).log()
    tail = _log_1p_exp(2 * (log_r - log_scale))
    return math.log(2 / math.pi) - log_scale - tail - (dim - 1) * log_r


@log_generator.register
def _(radial: FisherSnedecor, log_r: Tensor, dim: int, eps: float) -> Tensor:
    one, two = widen(radial.df1) / 2, widen(radial.df2) / 2
    log_ratio = log_r + (one / two).log()
    density = one * log_ratio - (one + two) * _log_1p_exp(log_ratio)
    return density - log_beta(one, two) - dim * log_r


@log_generator.register
def _(radial: Pareto, log_r: Tensor, dim: int, eps: float) -> Tensor:
    log_scale, alpha = widen(radial.scale).log(), widen(radial.alpha)
    density = alpha.log() + alpha * log_scale - (alpha + dim) * log_r
    return torch.where(_is_above(log_scale, log_r, eps), -math.inf, density)


@log_generator.register
def _(radial: Uniform, log_r: Tensor, dim: int, eps: float) -> Tensor:
    low, high = widen(radial.low), widen(radial.high)
    outside = _is_above(low.log(), log_r, eps) | _is_above(log_r, high.log(), eps)
    return torch.where(outside, -math.inf, -(high - low).log() - (dim - 1) * log_r)


@log_generator.register
def _(radial: Beta, log_r: Tensor, dim: int, eps: float) -> Tensor:
    a, b = widen(radial.concentration1), widen(radial.concentration0)
    density = (a - dim) * log_r + (b - 1) * _log_1m_exp(_below_one(log_r, eps)) - log_beta(a, b)
    return torch.where(_is_above(log_r, 0.0, eps), -math.inf, density)


@log_generator.register
def _(radial: Kumaraswamy, log_r: Tensor, dim: int, eps: float) -> Tensor:
    a, b = widen(radial.concentration1), widen(radial.concentration0)
    factor = (b - 1) * _log_1m_exp(a * _below_one(log_r, eps))
    density = a.log() + b.log() + (a - dim) * log_r + factor
    return torch.where(_is_above(log_r, 0.0, eps), -math.inf, density)


@log_generator.register
def _(radial: MixtureSameFamily, log_r: Tensor, dim: int, eps: float) -> Tensor:
    log_weights = widen(radial.mixture_distribution.logits).log_softmax(-1)
    components = log_generator(radial.component_distribution, log_r.unsqueeze(-1), dim, eps)
    terms = log_weights + components
    outside = (terms == -math.inf).all(-1)  # of every component, where logsumexp has no gradient
    inside = torch.where(outside.unsqueeze(-1), 0.0, terms).logsumexp(-1)
    return torch.where(outside, -math.inf, inside)
