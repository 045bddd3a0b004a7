"""Closed-form Kullback-Leibler divergences, registered with torch.

Whether a closed form exists can depend on parameter values, which are then inspected; this does
not work under fake tensors or ``torch.compile``. A closed form that requires certain values of a
parameter also has the first derivative in that parameter; the second raises.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, InverseGamma, LogNormal, kl_divergence, register_kl

from lpnested import functional as F
from lpnested.first_order import is_differentiated, zero_with_gradient
from lpnested.gamma_radii import generalized_gamma_parameters
from lpnested.isa import ISA
from lpnested.kl_independent import log_sphere
from lpnested.kl_univariate import ALTERNATIVE, dtype_of_both, generalized_gamma_kl, log_normal_kl
from lpnested.lp_nested import LpNested
from lpnested.precision import upcast, working_dtype

__all__: list[str] = []


@register_kl(LpNested, LpNested)
def _kl_lp_nested(p: LpNested, q: LpNested) -> Tensor:
    """For the same Lp-nested function, return the divergence of the radii.

    To first order, a change in the exponents of p scales its radius: with h the log ratio of the
    radial densities, the derivative is (d log S / n) E r h'(r). The same holds for q.
    """
    relevant = [k for k, node in enumerate(p.tree.nodes) if len(node) > 1]
    if p.tree != q.tree or not _equal(p.exponents[..., relevant], q.exponents[..., relevant]):
        raise NotImplementedError(
            "KL(p || q) of Lp-nested distributions has a closed form for equal trees and "
            "exponents (for two ISA, for equal exponents of the subspaces), but got "
            f"{p} and {q}. {ALTERNATIVE}"
        )
    log_factor: Tensor | float = 0.0
    if not _is_same_view(p.exponents, q.exponents):
        areas = [F.log_surface_area(upcast(dist.exponents), dist.tree) for dist in (p, q)]
        log_factor = zero_with_gradient((areas[0] - areas[1]) / p.tree.dim)
    kl = _kl_radii(p.radial, q.radial, log_factor)
    shape = torch.broadcast_shapes(p.batch_shape, q.batch_shape)
    return kl.to(dtype_of_both(p, q)).expand(shape)


def _kl_radii(p: Distribution, q: Distribution, log_factor: Tensor | float) -> Tensor:
    """Return the divergence of the radii, with p scaled by a factor of 1 that has a gradient."""
    if isinstance(p, LogNormal) and isinstance(q, LogNormal):
        return log_normal_kl(p, q, log_factor)
    if isinstance(p, InverseGamma) and isinstance(q, InverseGamma):
        return _kl_radii(p.base_dist, q.base_dist, -log_factor)
    try:
        parameters = generalized_gamma_parameters(p), generalized_gamma_parameters(q)
        return generalized_gamma_kl(*parameters, log_factor)
    except NotImplementedError:
        pass  # torch may have a closed form
    if isinstance(log_factor, Tensor) and is_differentiated(log_factor):
        raise NotImplementedError(
            "the gradient of KL(p || q) in the exponents has a closed form for radii of the "
            "generalized gamma family, or both log-normal or inverse gamma, but got "
            f"{p} and {q}: detach the exponents if you do not need it. {ALTERNATIVE}"
        )
    try:
        return upcast(kl_divergence(p, q))
    except NotImplementedError as error:
        raise NotImplementedError(f"{error}, for their radii. {ALTERNATIVE}") from error


@register_kl(ISA, ISA)
def _kl_isa(p: ISA, q: ISA) -> Tensor:
    """For equal subspaces, return the sum of the divergences of their radii."""
    sizes = torch.tensor(p.sizes, dtype=working_dtype(p.p.device), device=p.p.device)
    relevant = [k for k, size in enumerate(p.sizes) if size > 1]  # other exponents have no effect
    if p.sizes != q.sizes or not _equal(p.p[..., relevant], q.p[..., relevant]):
        raise NotImplementedError(
            "KL(p || q) of two ISA has a closed form for equal sizes and equal exponents of the "
            f"subspaces, but got {p} and {q}. {ALTERNATIVE}"
        )
    log_factor: Tensor | float = 0.0
    if not _is_same_view(p.p, q.p):
        areas = log_sphere(sizes, upcast(p.p)) - log_sphere(sizes, upcast(q.p))
        log_factor = zero_with_gradient(areas) / sizes
    radii = [(sizes, upcast(x.p0).unsqueeze(-1), upcast(x.scale).unsqueeze(-1)) for x in (p, q)]
    kl = generalized_gamma_kl(radii[0], radii[1], log_factor).sum(-1)
    return kl.to(dtype_of_both(p, q))


def _equal(a: Tensor, b: Tensor) -> bool:
    return bool((a == b).all())


def _is_same_view(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors are the same view of one tensor, and so always stay equal."""
    roots = [x if x._base is None else x._base for x in (a, b)]
    views = [(x.shape, x.stride(), x.storage_offset(), x.requires_grad) for x in (a, b)]
    return roots[0] is roots[1] and views[0] == views[1]
