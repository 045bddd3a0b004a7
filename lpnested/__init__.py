"""Lp-nested symmetric distributions for torch.distributions."""

from lpnested import functional, kl, nn, transforms
from lpnested.estimation import FitResult, TreeFit, fit, fit_tree
from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.generalized_normal import GeneralizedNormal
from lpnested.isa import ISA
from lpnested.lp_nested import LpNested
from lpnested.lp_spherical import LpSpherical
from lpnested.notation import format, parse
from lpnested.ops.backends import backends
from lpnested.tree import LpNestedTree

__version__ = "0.1.0"

__all__ = [
    "ISA",
    "FitResult",
    "GeneralizedGamma",
    "GeneralizedNormal",
    "LpNested",
    "LpNestedTree",
    "LpSpherical",
    "TreeFit",
    "backends",
    "fit",
    "fit_tree",
    "format",
    "functional",
    "kl",
    "nn",
    "parse",
    "transforms",
]
