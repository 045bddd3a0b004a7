r"""KL divergences between nested distributions and independent coordinates, registered with torch.

The coordinates are an ``Independent`` of a normal, Laplace or generalized normal distribution.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, register_kl

from lpnested import functional as F
from lpnested.first_order import first_order, is_differentiated, zero_with_gradient
from lpnested.generalized_normal import GeneralizedNormal
from lpnested.isa import ISA
from lpnested.kl_univariate import (
    ALTERNATIVE,
    Parameters,
    dtype_of_both,
    generalized_gamma_kl,
    generalized_normal_parameters,
)
from lpnested.lp_nested import LpNested
from lpnested.precision import upcast
from lpnested.radial_moments import log_radial_moment, mean_log, radial_entropy

__all__ = ["log_sphere"]

_REQUIREMENTS = (
    "KL(p || q) of independent coordinates and an ISA has a closed form if in every subspace all "
    "coordinates have location 0, one scale, and the exponent of the subspace; or if the exponent "
    "of the subspace is p0 (and is not learned), or its size is 1. If both exponents are 2 (and "
    "are not learned), locations are arbitrary. But got {} and {}. {}"
)


@register_kl(LpNested, Independent)
def _kl_to_independent(p: LpNested, q: Independent[Any]) -> Tensor:
    """Use the entropy of p and its absolute moments, with the exponents of q as orders."""
    loc, scale, power = _coordinates(q, p)
    square = power == 2
    if ((loc != 0) & (~square | is_differentiated(power))).any():
        raise NotImplementedError(
            "KL(p || q) of an Lp-nested distribution and independent coordinates has a closed "
            f"form if these have location 0, or a fixed exponent 2, but got {q}. {ALTERNATIVE}"
        )
    try:
        entropy = radial_entropy(p.radial) + (p.tree.dim - 1) * mean_log(p.radial)
        log_moments = _log_moments(p, q.base_dist, power)
    except NotImplementedError as error:
        message = f"KL(p || q) has no closed form: {error}. {ALTERNATIVE}"
        raise NotImplementedError(message) from error
    entropy = entropy + F.log_surface_area(upcast(p.exponents), p.tree)
    constants = scale.log() - power.log() + (1 / power).lgamma() + math.log(2)
    shift = torch.where(square, (loc / scale) ** 2, first_order(0 * loc))
    cross = constants + (log_moments - power * scale.log()).exp() + shift
    return (cross.sum(-1) - entropy).to(dtype_of_both(p, q))


def _log_moments(p: LpNested, base: Distribution, power: Tensor) -> Tensor:
    """Return the log moment of every coordinate, with its power as order."""
    exponents = upcast(p.exponents)
    if not isinstance(base, GeneralizedNormal):
        order = 2.0 if isinstance(base, Normal) else 1.0
        radial = log_radial_moment(p.radial, order).unsqueeze(-1)
        return F.log_coordinate_moment(order, exponents, p.tree) + radial
    orders = power.diag_embed().movedim(-2, 0)  # one coordinate at a time
    radial = log_radial_moment(p.radial, power.movedim(-1, 0))
    return (F.log_moment(orders, exponents, p.tree) + radial).movedim(0, -1)


@register_kl(Independent, LpNested)
def _kl_to_nested(p: Independent[Any], q: LpNested) -> Tensor:
    """Raise: no general tree has a closed form, and ISA has its own registration."""
    raise NotImplementedError(
        "KL(p || q) of independent coordinates and an Lp-nested distribution has no closed form, "
        f"except for some ISA, but got {p} and {q}. {ALTERNATIVE}"
    )


@register_kl(Independent, ISA)
def _kl_to_isa(p: Independent[Any], q: ISA) -> Tensor:
    """Sum over subspaces, each by its radius or by its independent coordinates.

    A subspace is reduced to its radius if all its coordinates in p have one scale and the exponent
    of the subspace in q. Otherwise it must have independent coordinates in q as well: size 1 or
    the exponent of the root.
    """
    loc, scale, power = _coordinates(p, q)
    p0, p_k, s = upcast(q.p0).unsqueeze(-1), upcast(q.p), upcast(q.scale).unsqueeze(-1)
    owner = torch.tensor([k for k, n in enumerate(q.sizes) for _ in range(n)], device=loc.device)
    sizes = _totals(torch.ones_like(loc), owner, len(q.sizes))
    common_scale, common_power = _common(scale, owner, sizes), _common(power, owner, sizes)
    is_common = (scale == common_scale[..., owner]) & (power == common_power[..., owner])
    is_radial = _totals((~is_common).double(), owner, len(q.sizes)) == 0
    is_radial = is_radial & (common_power == p_k) & (sizes > 1)
    single, exponent = sizes[..., owner] == 1, p_k[..., owner]
    learned = is_differentiated(q.p0, q.p)
    square = (p0 == 2) & (single | (exponent == 2))
    closed = is_radial[..., owner] | single | ((exponent == p0) & (not learned))
    if not (closed & ((loc == 0) | (square & (not learned)))).all():
        raise NotImplementedError(_REQUIREMENTS.format(p, q, ALTERNATIVE))
    areas = log_sphere(sizes, common_power) - log_sphere(sizes, p_k)
    radial_kl = generalized_gamma_kl(
        (sizes, common_power, common_scale), (sizes, p0, s), zero_with_gradient(areas) / sizes
    )
    one = torch.ones_like(loc)
    coordinate_kl = generalized_gamma_kl((one, power, scale), (one, p0, s))
    shift = torch.where(square, (loc / s) ** 2, first_order(0 * loc))
    kl = torch.where(is_radial, radial_kl, _totals(coordinate_kl, owner, len(q.sizes))).sum(-1)
    return (kl + shift.sum(-1)).to(dtype_of_both(p, q))


def log_sphere(sizes: Tensor, p: Tensor) -> Tensor:
    """Return the log area of the unit p-norm sphere in the given dimensions, up to a constant."""
    return sizes * (1 / p).lgamma() - (sizes / p).lgamma() - (sizes - 1) * p.log()


def _coordinates(independent: Independent[Any], nested: LpNested) -> Parameters:
    """Return locations, scales and exponents of independent coordinates."""
    if independent.event_shape != nested.event_shape:
        raise ValueError(
            f"KL(p || q) needs distributions of the same event shape, but got "
            f"{tuple(independent.event_shape)} and {tuple(nested.event_shape)}"
        )
    try:
        return generalized_normal_parameters(independent.base_dist)
    except NotImplementedError as error:
        raise NotImplementedError(
            "KL(p || q) of a nested distribution and independent coordinates has a closed form if "
            f"these are normal, Laplace or generalized normal, but got {independent}. "
            f"{ALTERNATIVE}"
        ) from error


def _totals(x: Tensor, owner: Tensor, num: int) -> Tensor:
    """Sum over subspaces."""
    return x.new_zeros(*x.shape[:-1], num).index_add(-1, owner, x)


def _common(x: Tensor, owner: Tensor, sizes: Tensor) -> Tensor:
    """Return the first element of every subspace, with the first derivative of the mean."""
    num = sizes.shape[-1]
    starts = torch.searchsorted(owner, torch.arange(num, device=owner.device))
    return x[..., starts].detach() + zero_with_gradient(_totals(x, owner, num) / sizes)
