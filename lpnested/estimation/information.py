r"""The information of all parameters, the last steps to the optimum by it, and its inverse.

The covariance is the inverse of the observed information of all parameters, those of the radius
included, or the *sandwich* :math:`I^{-1} \big(\sum_i s_i s_i^\top\big) I^{-1}` with the scores
:math:`s_i` of single observations, which holds for data of another distribution as well.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lpnested.estimation.errors import exponent_slopes
from lpnested.estimation.likelihood import Likelihood
from lpnested.estimation.model import Model
from lpnested.estimation.newton import State, chosen
from lpnested.lp_nested import LpNested

__all__ = ["BOUNDARY", "beyond_boundary", "covariance_of", "polish"]

_MOST_STEPS = 10
_SMALL_STEP = 1e-8  # after a longer one the information is computed again
_ROUNDING = 1e-12  # of a log-likelihood

BOUNDARY = 50.0
"""A limit for exponents: above it the likelihood is practically flat, and p is infinite."""


def beyond_boundary(model: Model, vector: Tensor) -> Tensor:
    """Which free places move an exponent that is above the boundary, shape ``(*batch, free)``.

    If the exponent of a density is above it, so is its scale, which tends to the largest radius.
    """
    dist, slopes = model(vector.detach()), exponent_slopes(model, vector)
    of_density = _above(model, vector)
    if slopes is None or not isinstance(dist, LpNested):
        return of_density
    above = (dist.exponents > BOUNDARY).unsqueeze(-1)
    return of_density | ((slopes != 0) & above).any(-2)


def _above(model: Model, vector: Tensor) -> Tensor:
    nested = isinstance(model(vector.detach()), LpNested)
    values, names = model.constrained(vector.detach()), model.names
    above = torch.zeros_like(values, dtype=torch.bool)
    for p, scale in (("radial.p", "radial.scale"), ("p0" if nested else "p", "scale")):
        for k in (k for k, name in enumerate(names) if name in (p, scale)):
            if p in names:
                above[..., k] |= values[..., names.index(p)] > BOUNDARY
    return above[..., model.free]


def covariance_of(
    likelihood: Likelihood, vector: Tensor, information: Tensor, left_out: Tensor, kind: str
) -> Tensor:
    """The covariance of the free numbers, shape ``(*batch, free, free)``; NaN where unknown."""
    inverse = _regular_inverse(information, left_out)
    if kind == "sandwich":
        scores = likelihood.scores(vector, likelihood.model.free)
        known = inverse.nan_to_num()
        inverse = torch.where(inverse.isnan(), torch.nan, known @ scores @ known)
    return inverse / likelihood.data.total[..., None, None]


def polish(likelihood: Likelihood, state: State, finished: Tensor) -> tuple[State, Tensor]:
    """Newton steps in all parameters, with the information that the standard errors need anyway.

    They take what the tolerance has left of the gradient of data sets that are finished, so that
    the result does not depend on how the optimum was approached. Returns the state and its
    information.
    """
    model, places = likelihood.model, likelihood.model.free
    for _ in range(_MOST_STEPS):
        information = likelihood.information(state.vector, places)
        if not finished.any():
            break
        inverse = _regular_inverse(information, beyond_boundary(model, state.vector))
        gradient = state.gradient[..., places].unsqueeze(-1)
        step = -(inverse.nan_to_num() @ gradient).squeeze(-1)
        vector = state.vector.clone()
        vector[..., places] += step
        new = State(vector, *likelihood(vector))
        better = finished & (new.largest(places) < state.largest(places))
        better &= new.loss <= state.loss + _ROUNDING * state.loss.abs()
        state = chosen(better, new, state)
        if not (better & (step.abs().amax(-1) > _SMALL_STEP)).any():
            break
    return state, information


def _regular_inverse(information: Tensor, left_out: Tensor) -> Tensor:
    """The inverse without some rows and columns, whose place is NaN; all NaN if not positive."""
    keep = ~left_out
    both = keep.unsqueeze(-1) & keep.unsqueeze(-2)
    identity = torch.eye(information.shape[-1], dtype=information.dtype, device=information.device)
    reduced = torch.where(both, information, identity)
    factor, failed = torch.linalg.cholesky_ex(reduced)
    inverse = torch.cholesky_inverse(torch.where(failed[..., None, None] > 0, identity, factor))
    return torch.where(both & (failed[..., None, None] == 0), inverse, torch.nan)
