r"""The radius of largest likelihood, given the exponents: by dispatch on the type of distribution.

With the logarithms of the radii of all observations, many families have closed forms. Then the
likelihood is maximised over the exponents alone, with the best radius for each: the *profile*
likelihood, whose gradient is the partial one.
"""

from __future__ import annotations

import math
from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Gamma, LogNormal, MixtureSameFamily

from lpnested.functional import log_norm
from lpnested.gamma_ratio import digamma
from lpnested.generalized_gamma import GeneralizedGamma
from lpnested.generalized_normal import GeneralizedNormal
from lpnested.isa import ISA
from lpnested.lp_nested import LpNested
from lpnested.radial import log_generator

__all__ = ["best_radius", "em_step", "log_gamma_shape", "log_radius"]

_EM_STEPS = 200
_EM_TOLERANCE = 1e-13  # of the log-likelihood per observation, from one step to the next
_SMALLEST_WEIGHT = 1e-12


@singledispatch
def log_radius(dist: Distribution, value: Tensor) -> Tensor:
    """The logarithm of the radius of each observation, shape ``(N, *batch)``."""
    return value.log()


@log_radius.register
def _(dist: LpNested, value: Tensor) -> Tensor:
    return log_norm(value, dist.exponents, dist.tree)


@log_radius.register
def _(dist: GeneralizedNormal, value: Tensor) -> Tensor:
    return (value - dist.loc).abs().log()


@singledispatch
def best_radius(dist: Distribution, log_r: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """The parameters that maximise the likelihood given the others, by their name.

    It is empty for a family that has no function of its own: these are estimated jointly with the
    exponents.

    Args:
        dist: The distribution, batch shape ``(*batch)``.
        log_r: The logarithms of the radii, float64, shape ``(N, *batch)``.
        weights: The weights of the observations, shape ``(N, *batch)``.
    """
    return {}


@best_radius.register
def _(dist: LpNested, log_r: Tensor, weights: Tensor) -> dict[str, Tensor]:
    of_radial = best_radius(dist.radial, log_r, weights)
    return {f"radial.{name}": value for name, value in of_radial.items()}


@best_radius.register(ISA)
def _(dist: ISA, log_r: Tensor, weights: Tensor) -> dict[str, Tensor]:
    return {"scale": _scale(log_r, weights, torch.tensor(float(dist.tree.dim)), dist.p0)}


@best_radius.register
def _(dist: GeneralizedGamma, log_r: Tensor, weights: Tensor) -> dict[str, Tensor]:
    return {"scale": _scale(log_r, weights, dist.dim, dist.p)}


@best_radius.register
def _(dist: GeneralizedNormal, log_r: Tensor, weights: Tensor) -> dict[str, Tensor]:
    return {"scale": _scale(log_r, weights, torch.ones_like(dist.p), dist.p)}


def _scale(log_r: Tensor, weights: Tensor, dim: Tensor, p: Tensor) -> Tensor:
    r""":math:`s^p = \frac{p}{n}\, \mathrm{E} r^p`."""
    return ((_log_mean(p * log_r, weights) + (p / dim).log()) / p).exp()


@best_radius.register
def _(dist: LogNormal, log_r: Tensor, weights: Tensor) -> dict[str, Tensor]:
    loc = _mean(log_r, weights)
    return {"loc": loc, "scale": _mean((log_r - loc).square(), weights).sqrt()}


@best_radius.register
def _(dist: Gamma, log_r: Tensor, weights: Tensor) -> dict[str, Tensor]:
    log_mean = _log_mean(log_r, weights)
    concentration = log_gamma_shape(log_mean - _mean(log_r, weights)).exp()
    return {"concentration": concentration, "rate": concentration / log_mean.exp()}


def log_gamma_shape(gap: Tensor) -> Tensor:
    r"""The logarithm of the shape a with :math:`\log a - \psi(a)` = gap, by Newton's method.

    Args:
        gap: The logarithm of the mean less the mean of the logarithm, positive.

    Example:
        >>> log_gamma_shape(torch.tensor(0.5772156649015329, dtype=torch.float64)).exp()
        tensor(1.0000, dtype=torch.float64)
    """
    start = (3 - gap + ((gap - 3).square() + 24 * gap).sqrt()) / (12 * gap)
    u = start.log()
    for _ in range(5):
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            excess = (u - digamma(u.exp())).log() - gap.log()  # nearly linear in u
            slope = torch.autograd.grad(excess.sum(), u)[0]
        u = (u - excess / slope).detach()
    return u


@best_radius.register
def _(dist: MixtureSameFamily, log_r: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """By expectation maximisation; every step raises the likelihood."""
    found: dict[str, Tensor] = {}
    last = torch.full(log_r.shape[1:], -math.inf, dtype=log_r.dtype, device=log_r.device)
    for _ in range(_EM_STEPS):
        found, likelihood = em_step(dist, log_r, weights)
        if not found or (likelihood - last <= _EM_TOLERANCE).all():
            break
        dist, last = _with(dist, found), likelihood
    return found


def em_step(
    dist: MixtureSameFamily, log_r: Tensor, weights: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """One step, and the mean log-likelihood before it."""
    logits = dist.mixture_distribution.logits.double().log_softmax(-1)
    terms = logits + log_generator(dist.component_distribution, log_r.unsqueeze(-1), 0, 0.0)
    shares = terms.softmax(-1) * weights.unsqueeze(-1)
    likelihood = _mean(terms.logsumexp(-1), weights)
    of_components = best_radius(dist.component_distribution, log_r.unsqueeze(-1), shares)
    if not of_components:
        return {}, likelihood
    parts = (shares.sum(0) / weights.sum(0).unsqueeze(-1)).clamp_min(_SMALLEST_WEIGHT)
    found = {f"component_distribution.{name}": x for name, x in of_components.items()}
    return {"mixture_distribution.logits": parts.log(), **found}, likelihood


def _with(dist: MixtureSameFamily, found: dict[str, Tensor]) -> MixtureSameFamily:
    own = dist.component_distribution
    parameters = {name: getattr(own, name) for name in own.arg_constraints}
    prefix = "component_distribution."
    parameters |= {k.removeprefix(prefix): x for k, x in found.items() if k.startswith(prefix)}
    mixture = Categorical(logits=found["mixture_distribution.logits"], validate_args=False)
    components = type(own)(**parameters, validate_args=False)
    return MixtureSameFamily(mixture, components, validate_args=False)


def _mean(x: Tensor, weights: Tensor) -> Tensor:
    return (weights * x).sum(0) / weights.sum(0)


def _log_mean(x: Tensor, weights: Tensor) -> Tensor:
    """The logarithm of the weighted mean of an exponential."""
    return (x + weights.log()).logsumexp(0) - weights.sum(0).log()
