r"""KL divergences between nested distributions and independent coordinates, registered with torch.

The coordinates are normal, Laplace or generalized normal: an ``Independent`` of one of them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, register_kl

from lpnested import functional as F
from lpnested.first_order import first_order, is_differentiated, without_value
from lpnested.generalized_normal import GeneralizedNormal
from lpnested.isa import ISA
from lpnested.kl_univariate import (
    ADVICE,
    Parameters,
    dtype_of_both,
    generalized_gamma_kl,
    generalized_normal_parameters,
)
from lpnested.lp_nested import LpNested
from lpnested.precision import widen
from lpnested.radial_moments import log_radial_moment, mean_log, radial_entropy

__all__ = ["log_sphere"]

_NEEDS = (
    "KL(p || q) of independent coordinates and an ISA has a closed form where in every subspace "
    "the coordinates have location 0, and one scale and one exponent, that of the subspace; or "
    "where the exponent of the subspace is p0 (and is not learned), or its size is 1. Where both "
    "exponents are 2 (and are not learned), locations are free. But got {} and {}. {}"
)


@register_kl(LpNested, Independent)
def _kl_to_independent(p: LpNested, q: Independent[Any]) -> Tensor:
    """By the entropy of p, and its absolute moments of the orders that q has for exponents."""
    loc, scale, power = _coordinates(q, p)
    square = power == 2
    if ((loc != 0) & (~square | is_differentiated(power))).any():
        raise NotImplementedError(
            "KL(p || q) of an Lp-nested distribution and independent coordinates has a closed "
            f"form where these have location 0, or a fixed exponent 2, but got {q}. {ADVICE}"
        )
    try:
        entropy = radial_entropy(p.radial) + (p.tree.dim - 1) * mean_log(p.radial)
        log_moments = _log_moments(p, q.base_dist, power)
    except NotImplementedError as error:
        raise NotImplementedError(f"KL(p || q) has no closed form: {error}. {ADVICE}") from error
    entropy = entropy + F.log_surface_area(widen(p.exponents), p.tree)
    constants = scale.log() - power.log() + (1 / power).lgamma() + math.log(2)
    shift = torch.where(square, (loc / scale) ** 2, first_order(0 * loc))
    cross = constants + (log_moments - power * scale.log()).exp() + shift
    return (cross.sum(-1) - entropy).to(dtype_of_both(p, q))


def _log_moments(p: LpNested, base: Distribution, power: Tensor) -> Tensor:
    """Of every coordinate, of the order of its power."""
    exponents = widen(p.exponents)
    if not isinstance(base, GeneralizedNormal):
        order = 2.0 if isinstance(base, Normal) else 1.0
        radial = log_radial_moment(p.radial, order).unsqueeze(-1)
        return F.log_coordinate_moment(order, exponents, p.tree) + radial
    orders = power.diag_embed().movedim(-2, 0)  # one coordinate each
    radial = log_radial_moment(p.radial, power.movedim(-1, 0))
    return (F.log_moment(orders, exponents, p.tree) + radial).movedim(0, -1)


@register_kl(Independent, LpNested)
def _kl_to_nested(p: Independent[Any], q: LpNested) -> Tensor:
    """Closed for no tree in general; ISA has a registration of its own."""
    raise NotImplementedError(
        "KL(p || q) of independent coordinates and an Lp-nested distribution has no closed form, "
        f"but for some ISA, and got {p} and {q}. {ADVICE}"
    )


@register_kl(Independent, ISA)
def _kl_to_isa(p: Independent[Any], q: ISA) -> Tensor:
    """By subspaces: of radii where p has the spheres of q, else of independent coordinates.

    p has them where the coordinates have one scale and one exponent, that of the subspace; q has
    independent coordinates in subspaces of size 1 or with the exponent of the root.
    """
    loc, scale, power = _coordinates(p, q)
    p0, p_k, s = widen(q.p0).unsqueeze(-1), widen(q.p), widen(q.scale).unsqueeze(-1)
    owner = torch.tensor([k for k, n in enumerate(q.sizes) for _ in range(n)], device=loc.device)
    sizes = _totals(torch.ones_like(loc), owner, len(q.sizes))
    common_scale, common_power = _common(scale, owner, sizes), _common(power, owner, sizes)
    is_common = (scale == common_scale[..., owner]) & (power == common_power[..., owner])
    is_radial = _totals((~is_common).double(), owner, len(q.sizes)) == 0
    is_radial = is_radial & (common_power == p_k) & (sizes > 1)
    alone, own, learned = sizes[..., owner] == 1, p_k[..., owner], is_differentiated(q.p0, q.p)
    square = (p0 == 2) & (alone | (own == 2))
    closed = is_radial[..., owner] | alone | ((own == p0) & (not learned))
    if not (closed & ((loc == 0) | (square & (not learned)))).all():
        raise NotImplementedError(_NEEDS.format(p, q, ADVICE))
    areas = log_sphere(sizes, common_power) - log_sphere(sizes, p_k)
    of_radii = generalized_gamma_kl(
        (sizes, common_power, common_scale), (sizes, p0, s), without_value(areas) / sizes
    )
    one = torch.ones_like(loc)
    of_each = generalized_gamma_kl((one, power, scale), (one, p0, s))
    shift = torch.where(square, (loc / s) ** 2, first_order(0 * loc))
    kl = torch.where(is_radial, of_radii, _totals(of_each, owner, len(q.sizes))).sum(-1)
    return (kl + shift.sum(-1)).to(dtype_of_both(p, q))


def log_sphere(sizes: Tensor, p: Tensor) -> Tensor:
    """Of the area of the unit sphere of a p-norm in so many dimensions, less a constant."""
    return sizes * (1 / p).lgamma() - (sizes / p).lgamma() - (sizes - 1) * p.log()


def _coordinates(independent: Independent[Any], nested: LpNested) -> Parameters:
    """Locations, scales and exponents of independent coordinates."""
    if independent.event_shape != nested.event_shape:
        raise ValueError(
            f"KL(p || q) is of distributions of one event shape, but got "
            f"{tuple(independent.event_shape)} and {tuple(nested.event_shape)}"
        )
    try:
        return generalized_normal_parameters(independent.base_dist)
    except NotImplementedError as error:
        raise NotImplementedError(
            "KL(p || q) of a nested distribution and independent coordinates has a closed form "
            f"for normal, Laplace and generalized normal ones, but got {independent}. {ADVICE}"
        ) from error


def _totals(x: Tensor, owner: Tensor, num: int) -> Tensor:
    """Sums over subspaces."""
    return x.new_zeros(*x.shape[:-1], num).index_add(-1, owner, x)


def _common(x: Tensor, owner: Tensor, sizes: Tensor) -> Tensor:
    """The first number of every subspace, with the first derivative of their mean."""
    num = sizes.shape[-1]
    starts = torch.searchsorted(owner, torch.arange(num, device=owner.device))
    return x[..., starts].detach() + without_value(_totals(x, owner, num) / sizes)
