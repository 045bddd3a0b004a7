"""Densities of the sources z = W x: modules that return the log density of each row."""

import math
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from densities.scale_mixtures import GammaRadii, LogNormals, ScaleMixture
from lpnested import LpNested, LpNestedTree, LpSpherical, functional

START = 1.3  # initial value of exponents
LOG_2PI = math.log(2 * math.pi)


def log_size(z: Tensor) -> Tensor:
    """The logarithm of |z|, finite at zero."""
    return z.abs().clamp_min(torch.finfo(z.dtype).tiny).log()


class Independent(nn.Module):
    """ICA: every source is a mixture of zero-mean normals.

    Written out, as it is the only density here with a term for each source and component.
    """

    def __init__(self, dim: int, components: int) -> None:
        super().__init__()
        self.mixture = ScaleMixture((dim,), components)

    def start(self, z: Tensor) -> Tensor:
        """Initialize from sources ``(N, dim)``; returns the factor by which to scale them."""
        log_r = log_size(z)
        self.mixture.spread(log_r)
        return (-log_r.mean(0)).exp()

    def forward(self, z: Tensor) -> Tensor:
        """``(N, dim) -> (N,)``."""
        log_scales = self.mixture.log_scales
        offsets = self.mixture.logits.log_softmax(-1) - log_scales - 0.5 * LOG_2PI
        factors, squares = -0.5 * (-2 * log_scales).exp(), z**2
        terms = [
            torch.addcmul(offset, squares, factor)
            for offset, factor in zip(offsets.unbind(-1), factors.unbind(-1), strict=True)
        ]
        return torch.stack(terms).logsumexp(0).sum(-1)


class Subspaces(nn.Module):
    """ISA: every group of sources is Lp-spherical, a p-generalized normal of random scale.

    Groups of equal size form one batch.
    """

    def __init__(self, groups: Sequence[Sequence[int]], components: int) -> None:
        super().__init__()
        by_size = [list(found) for _, found in groupby(sorted(groups, key=len), len)]
        self.batches = [torch.tensor(found) for found in by_size]
        self.mixtures = nn.ModuleList(GammaRadii((len(b),), components) for b in self.batches)
        self.log_p = nn.ParameterList(torch.full((len(b),), START).log() for b in self.batches)

    def start(self, z: Tensor) -> Tensor:
        """Initialize from sources ``(N, dim)``; returns the factor by which to scale them."""
        factor = torch.ones_like(z[0])
        for groups, mixture, log_p in zip(self.batches, self.mixtures, self.log_p, strict=True):
            tree = LpNestedTree.flat(groups.shape[1])
            log_r = functional.log_norm(z[:, groups], log_p.detach().exp().unsqueeze(-1), tree)
            mixture.spread(log_r)
            factor[groups] = (-log_r.mean(0)).exp().unsqueeze(-1)
        return factor

    def forward(self, z: Tensor) -> Tensor:
        """``(N, dim) -> (N,)``."""
        total = torch.zeros_like(z[:, 0])
        for groups, mixture, log_p in zip(self.batches, self.mixtures, self.log_p, strict=True):
            dim, p = groups.shape[1], log_p.exp()
            dist = LpSpherical(dim, p, mixture.radial(dim, p), validate_args=False)
            total = total + dist.log_prob(z[:, groups]).sum(-1)
        return total


class Nested(nn.Module):
    """An Lp-nested symmetric density whose radius is a mixture of log-normals.

    With a flat tree it is Lp-spherical; with the exponent also fixed at 2, elliptical in x.
    """

    def __init__(self, tree: LpNestedTree, components: int, exponent: float | None = None) -> None:
        super().__init__()
        self.tree = tree
        start = torch.full((tree.num_nodes,), exponent or START).log()
        self.log_exponents = nn.Parameter(start, requires_grad=exponent is None)
        self.mixture = LogNormals(components)

    def start(self, z: Tensor) -> Tensor:
        """Initialize from sources ``(N, dim)``; returns the factor by which to scale them."""
        log_r = functional.log_norm(z, self.log_exponents.detach().exp(), self.tree)
        self.mixture.spread(log_r)
        return (-log_r.mean()).exp().expand(z.shape[1])

    def distribution(self) -> LpNested:
        """The density as a distribution."""
        exponents, radial = self.log_exponents.exp(), self.mixture.radial()
        return LpNested(self.tree, exponents, radial, validate_args=False)

    def forward(self, z: Tensor) -> Tensor:
        """``(N, dim) -> (N,)``."""
        return self.distribution().log_prob(z)
