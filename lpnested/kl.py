"""Kullback-Leibler divergences that have a closed form, registered with torch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import kl_divergence, register_kl

from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.generalized_normal import GeneralizedNormal
from lpnested.isa import ISA
from lpnested.lp_nested import LpNested
from lpnested.precision import exp, narrow, widen

__all__: list[str] = []


@register_kl(GeneralizedGamma, GeneralizedGamma)
def _kl_generalized_gamma(p: GeneralizedGamma, q: GeneralizedGamma) -> Tensor:
    r"""By :math:`\mathrm{E}_p \log r` and :math:`\mathrm{E}_p r^{p_q}` (Bauckhage 2014)."""
    n1, p1, s1 = widen(p.dim), widen(p.p), widen(p.scale)
    n2, p2, s2 = widen(q.dim), widen(q.p), widen(q.scale)
    a1, log_ratio = n1 / p1, (s1 / s2).log()
    constants = p1.log() - p2.log() - a1.lgamma() + (n2 / p2).lgamma()
    power = exp(p2 * log_ratio + ((n1 + p2) / p1).lgamma() - a1.lgamma())
    kl = constants - n2 * log_ratio + (n1 - n2) / p1 * a1.digamma() - a1 + power
    return narrow(kl, torch.promote_types(p.dim.dtype, q.dim.dtype))


@register_kl(GeneralizedNormal, GeneralizedNormal)
def _kl_generalized_normal(p: GeneralizedNormal, q: GeneralizedNormal) -> Tensor:
    """For one location, by moments; for two, where the exponent of ``q`` is 2."""
    shift = widen(p.loc) - widen(q.loc)
    p1, s1, p2, s2 = widen(p.p), widen(p.scale), widen(q.p), widen(q.scale)
    if ((shift != 0) & ((p2 != 2) | q.p.requires_grad)).any():
        raise NotImplementedError(
            "KL(p || q) of generalized normals has a closed form for equal locations, or a "
            "fixed q.p = 2, "
            f"but got locations {p.loc} and {q.loc} with q.p = {q.p}"
        )
    power = exp(p2 * (s1 / s2).log() + ((1 + p2) / p1).lgamma() - (1 / p1).lgamma())
    constants = (p1 / p2).log() - (s1 / s2).log() - (1 / p1).lgamma() + (1 / p2).lgamma()
    return narrow(
        constants - 1 / p1 + power + (shift / s2) ** 2,
        torch.promote_types(p.loc.dtype, q.loc.dtype),
    )


@register_kl(LpNested, LpNested)
def _kl_lp_nested(p: LpNested, q: LpNested) -> Tensor:
    """For the same function, the divergence of the radii."""
    if p.tree != q.tree or not _equal(p.exponents, q.exponents):
        raise NotImplementedError(
            "KL(p || q) of Lp-nested distributions has a closed form for equal trees and "
            "exponents (for two ISA, for equal exponents of the subspaces), but got "
            f"{p} and {q}"
        )
    return kl_divergence(p.radial, q.radial)


@register_kl(ISA, ISA)
def _kl_isa(p: ISA, q: ISA) -> Tensor:
    """For equal subspaces, the sum of the divergences of their radii."""
    widths = torch.tensor(p.sizes, device=p.p.device)
    matter = widths > 1  # the exponent of a single coordinate changes nothing
    if p.sizes != q.sizes or not _equal(p.p[..., matter], q.p[..., matter]):
        raise NotImplementedError(
            "KL(p || q) of two ISA has a closed form for equal sizes and equal exponents of the "
            f"subspaces, but got {p} and {q}"
        )
    radii = (
        GeneralizedGamma(
            widths.to(isa.p0.dtype),
            isa.p0.unsqueeze(-1),
            isa.scale.unsqueeze(-1),
            validate_args=False,
        )
        for isa in (p, q)
    )
    return kl_divergence(*radii).sum(-1)


def _equal(a: Tensor, b: Tensor) -> bool:
    return bool((a == b).all())
