"""Factorial codes: the best one-dimensional density for each coordinate."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lpnested import GeneralizedNormal

Array = NDArray[np.float64]

EXPONENTS = np.geomspace(0.15, 6.0, 75)
COMPONENTS, STEPS = 6, 60  # components of the mixtures, steps of EM


@dataclass(frozen=True)
class FactorialCode:
    """A generalized normal or a mixture of zero-mean normals for each coordinate.

    Whichever of the two has the higher likelihood on the data that it was fitted to.
    """

    p: Array  # (n,)
    scale: Array  # (n,): scale of the generalized normal
    weights: Array  # (COMPONENTS, n)
    deviations: Array  # (COMPONENTS, n)
    is_mixture: NDArray[np.bool_]  # (n,)

    def log_prob(self, y: Array) -> Array:
        """The log density, summed over the coordinates, ``(N, n) -> (N,)``."""
        power = power_log_prob(y, self.p, self.scale)
        mixture = mixture_log_prob(y, self.weights, self.deviations)
        return np.where(self.is_mixture, mixture, power).sum(1)


def power_log_prob(y: Array, p: Array, scale: Array) -> Array:
    """The log densities of generalized normals, coordinate by coordinate."""
    parameters = (torch.as_tensor(values) for values in (np.zeros_like(p), scale, p))
    return GeneralizedNormal(*parameters).log_prob(torch.as_tensor(y)).numpy()


def mixture_log_prob(y: Array, weights: Array, deviations: Array) -> Array:
    """The log densities of mixtures of zero-mean normals, coordinate by coordinate."""
    return np.asarray(np.logaddexp.reduce(log_terms(y, weights, deviations), axis=0))


def log_terms(y: Array, weights: Array, deviations: Array) -> Array:
    """The log contribution of each component, ``(COMPONENTS, N, n)``."""
    z = y / deviations[:, None]
    with np.errstate(divide="ignore"):  # a weight may have become zero
        height = np.log(weights) - np.log(deviations) - 0.5 * np.log(2 * np.pi)
    return np.asarray(height[:, None] - 0.5 * z**2)


def fit_power(y: Array) -> tuple[Array, Array]:
    """Maximum-likelihood exponents, from a grid, and scales."""
    scales = np.stack([(p * (np.abs(y) ** p).mean(0)) ** (1 / p) for p in EXPONENTS])
    found = [
        power_log_prob(y, np.full_like(scale, p), scale).mean(0)
        for p, scale in zip(EXPONENTS, scales, strict=True)
    ]
    best = np.argmax(found, axis=0)
    return EXPONENTS[best], scales[best, np.arange(y.shape[1])]


def fit_mixture(y: Array) -> tuple[Array, Array]:
    """Weights and standard deviations by EM, starting from quantiles of the absolute values."""
    deviations = np.quantile(np.abs(y), np.linspace(0.2, 0.98, COMPONENTS), axis=0)
    weights = np.full_like(deviations, 1 / COMPONENTS)
    least = 1e-3 * np.median(np.abs(y), axis=0)  # else a component may collapse onto one point
    for _ in range(STEPS):
        terms = log_terms(y, weights, deviations)
        shares = np.exp(terms - np.logaddexp.reduce(terms, axis=0))
        totals = shares.sum(1)
        weights = totals / len(y)
        squares = np.einsum("kni,ni->ki", shares, y**2)
        deviations = np.maximum(np.sqrt(squares / np.maximum(totals, 1e-9)), least)
    return weights, deviations


def fit_factorial_code(y: Array) -> FactorialCode:
    """The best code for each column of y."""
    power, mixture = fit_power(y), fit_mixture(y)
    better = mixture_log_prob(y, *mixture).mean(0) > power_log_prob(y, *power).mean(0)
    return FactorialCode(*power, *mixture, better)
