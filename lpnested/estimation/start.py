"""Where the optimiser begins: at the scale of the data, which have to be possible."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from lpnested.estimation.data import Data
from lpnested.estimation.likelihood import Likelihood
from lpnested.estimation.model import Model
from lpnested.estimation.radial import log_radius
from lpnested.gamma_radii import canonicalize
from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.lp_nested import LpNested

__all__ = ["check_support", "locate", "starting_vector"]


def check_support(model: Model, data: Data) -> None:
    """Refuse observations that have no density, or an infinite one, whatever the parameters."""
    dist = model(model.start)
    if isinstance(dist, LpNested):
        radius = canonicalize(dist.radial)
        finite = isinstance(radius, GeneralizedGamma) and bool((radius.dim == dist.tree.dim).all())
        if data.zero_rows.any() and not finite:
            raise ValueError(
                f"{int(data.zero_rows.sum())} observations are 0 in all coordinates, where the "
                f"density with a {type(dist.radial).__name__} radius is 0 or infinite: leave them "
                f"out, or take radial=GeneralizedGamma, whose density there is finite"
            )
        return
    support: Any = dist.support
    for value, weights in data:
        outside = ~support.check(value) & (weights > 0)
        if not outside.any() and not _is_real(dist):
            outside = (value == 0) & (weights > 0) & ~dist.log_prob(value).isfinite()
        if outside.any():
            raise ValueError(
                f"{int(outside.sum())} observations, the first of them "
                f"{value[outside][0].item():g}, are outside of the support of "
                f"{type(dist).__name__}, or where its density is 0 or infinite: leave them out"
            )


def starting_vector(likelihood: Likelihood, data: Data) -> Tensor:
    """The model's own start, brought to the data.

    A location moves to the median, unless its own start is more likely. Where the radius has no
    closed form, each positive parameter is tried as many times larger and smaller as the data are
    larger than 1, in case it is a scale or a rate.
    """
    model = likelihood.model
    start = _at_median(likelihood)
    if likelihood.profiled:
        return start
    size = _size(model, start, data)
    best, least = start, likelihood(start)[0].nan_to_num(torch.inf)
    for slot in model.slots:
        if slot.constraint is not constraints.positive:
            continue
        for sign in (1, -1):
            vector = start.clone()
            vector[..., slot.start : slot.stop] += sign * size.unsqueeze(-1)
            loss = likelihood(vector)[0]
            better = loss < least
            least = torch.where(better, loss, least)
            best = torch.where(better.unsqueeze(-1), vector, best)
    return best


def _at_median(likelihood: Likelihood) -> Tensor:
    """The start with its location at 0, which is the median, where that is more likely."""
    model = likelihood.model
    places = _locations(model)
    if not places:
        return model.start
    vector = model.start.clone()
    vector[..., places] = 0.0
    (own, _), (loss, slope) = (likelihood(likelihood.profile(x)) for x in (model.start, vector))
    better = (loss < own.nan_to_num(torch.inf)) & slope.isfinite().all(-1)
    return torch.where(better.unsqueeze(-1), vector, model.start)


@torch.no_grad()
def _size(model: Model, start: Tensor, data: Data) -> Tensor:
    """The mean of the logarithm of the radius, or of the distance from the location."""
    dist = model(start)
    total = torch.zeros_like(data.total)
    for value, weights in data:
        if not isinstance(dist, LpNested):
            value = (value - getattr(dist, "loc", 0.0)).abs() if _is_real(dist) else value
            log_r = value.clamp_min(torch.finfo(value.dtype).tiny).log()
        else:
            log_r = log_radius(dist, value)
        total += (weights * log_r).sum(0)
    return total / data.total


def _is_real(dist: Distribution) -> bool:
    return dist.support is constraints.real


def _locations(model: Model) -> list[int]:
    """The places of a location in the vector; none where the distribution has none to learn."""
    dist = model(model.start)
    nested = isinstance(dist, LpNested)
    return [] if nested or not _is_real(dist) else model.places("loc")


def locate(model: Model, data: Data) -> None:
    """Count a location from the median on, in units of the mean distance from it."""
    if not _locations(model):
        return
    values = torch.cat([value for value, _ in data])
    centre = values.median(0).values
    spread = (values - centre).abs().mean(0)
    model.measure("loc", centre, spread.clamp_min(torch.finfo(spread.dtype).tiny))
