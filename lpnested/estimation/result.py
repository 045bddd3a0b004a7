"""What a fit returns: the distribution, and the errors of its parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributions import Distribution

from lpnested.lp_nested import LpNested

__all__ = ["FitResult"]

_DRAWN = {"exponents", "p0", "p"}  # in the tree


@dataclass(frozen=True, eq=False)
class FitResult:
    """The result of :func:`lpnested.fit`.

    Numbers are float64. Where many data sets were fitted at once, all tensors begin with their
    ``*batch``.
    """

    distribution: Distribution
    """The fitted distribution, in the dtype of the data."""
    parameters: tuple[str, ...]
    """The names of the K parameters that were estimated, as ``exponents[1]`` or ``radial.loc``."""
    values: Tensor
    """Their estimates, shape ``(*batch, K)``."""
    covariance: Tensor
    """The covariance of the estimates, shape ``(*batch, K, K)``; NaN where it is unknown."""
    exponent_errors: Tensor | None
    """The standard errors of the exponents of all nodes, shape ``(*batch, num_nodes)``: 0 for a
    fixed exponent. None for a distribution without a tree."""
    merge_z: dict[tuple[int, int], Tensor]
    r"""The Wald statistics of (parent, child), both places in ``tree.nodes``: the difference
    :math:`\log p_c - \log p_I` over its standard error. It is standard normal if both exponents
    are equal, in which case the two nodes could be merged into one."""
    log_likelihood: Tensor
    """The sum over all observations, shape ``(*batch)``."""
    log_likelihood_se: Tensor
    """Its standard error, from the spread over observations."""
    num_observations: Tensor
    """The sum of the weights."""
    converged: bool | Tensor
    """Whether the gradient, computed again at the end, is within the tolerance."""
    iterations: Tensor
    """The number of iterations of the optimiser."""
    gradient: Tensor
    """The gradient of the log-likelihood per observation, shape ``(*batch, K)``: in the logarithms
    of positive parameters, and in locations in units of the spread of the data."""
    notes: tuple[str, ...] = field(default=())
    """Warnings and remarks about this result, each a sentence."""

    @property
    def standard_errors(self) -> Tensor:
        """The standard errors of the estimates, shape ``(*batch, K)``."""
        return self.covariance.diagonal(dim1=-2, dim2=-1).sqrt()

    @property
    def aic(self) -> Tensor:
        r"""Akaike's criterion, :math:`2 K - 2 \log L`."""
        return 2 * len(self.parameters) - 2 * self.log_likelihood

    @property
    def bic(self) -> Tensor:
        r"""The Bayesian criterion, :math:`K \log N - 2 \log L`."""
        return len(self.parameters) * self.num_observations.log() - 2 * self.log_likelihood

    def __str__(self) -> str:
        lines = [*self._estimates(), "", *self._quality()]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def _estimates(self) -> list[str]:
        dist = self.distribution
        if self.values.dim() > 1:
            of = f" on {dist.tree!r}" if isinstance(dist, LpNested) else ""
            shape = tuple(self.values.shape[:-1])
            return [f"{type(dist).__name__}{of}, data sets: {shape}", ", ".join(self.parameters)]
        if not isinstance(dist, LpNested) or self.exponent_errors is None:
            return [type(dist).__name__, *self._listed(self.parameters)]
        pairs = zip(dist.exponents.tolist(), self.exponent_errors.tolist(), strict=True)
        drawn = dist.tree.draw([_with_error(p, error) for p, error in pairs])
        others = [name for name in self.parameters if name.split("[")[0] not in _DRAWN]
        return [drawn, *[""] * bool(others), *self._listed(others)]

    def _listed(self, names: list[str] | tuple[str, ...]) -> list[str]:
        rows = zip(
            self.parameters, self.values.tolist(), self.standard_errors.tolist(), strict=True
        )
        return [f"{name} = {_with_error(x, error)}" for name, x, error in rows if name in names]

    def _quality(self) -> list[str]:
        converged = torch.as_tensor(self.converged)
        if self.values.dim() > 1:
            most = int(self.iterations.max())
            return [f"{int(converged.sum())} of {converged.numel()} converged, iterations: {most}"]
        return [
            f"log-likelihood {self.log_likelihood:.2f} ± {self.log_likelihood_se:.2f}, "
            f"AIC {self.aic:.2f}, BIC {self.bic:.2f}, N = {self.num_observations:g}",
            f"{'converged' if self.converged else 'NOT converged'} after {int(self.iterations)} "
            f"iterations, gradient {self.gradient.abs().max():.1e}",
        ]


def _with_error(x: float, error: float) -> str:
    """With the digits that the error leaves."""
    if error == 0:
        return f"{x:.6g} (fixed)"
    if not error < torch.inf or error <= 0:
        return f"{x:.4g} ± {error:.2g}"
    digits = 2 - math.ceil(math.log10(error))
    plain = -1 <= digits - 1 <= 6 and abs(x) < 1e6
    return (
        f"{x:.{max(0, digits)}f} ± {error:.{max(0, digits)}f}"
        if plain
        else f"{x:.6g} ± {error:.2g}"
    )
