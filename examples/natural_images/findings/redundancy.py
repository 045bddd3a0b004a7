"""The redundancy of the sources before and after nested radial factorization."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from densities.factorial_code import fit_factorial_code
from densities.source_trees import size_correlations
from densities.unmixing import Unmixing
from findings.tile_bootstrap import TileBootstrap
from lpnested.transforms import NestedRadialFactorization
from photographs.whitening import Whitening, bits

Array = NDArray[np.float64]
FACTORIZED = ("lp-spherical", "nested-quadruples", "nested-deep")


@dataclass(frozen=True)
class Factorization:
    """The sources of some patches, before and after the factorization."""

    before: Array  # (N, n)
    after: Array  # (N, n)
    log_det: Array  # (N,): of the map from before to after


def factorize(model: Unmixing, x: Array) -> Factorization:
    """Map the sources to coordinates that are independent if the model is correct.

    From the root down, it changes the radius of the whole vector and then of its parts, but no
    directions: Sinz, Simoncelli and Bethge, "Hierarchical modeling of local image features through
    Lp-nested symmetric distributions", 2009.
    """
    with torch.no_grad():
        before = model.unmix(torch.as_tensor(x))
        factorization = NestedRadialFactorization(model.sources.distribution())  # type: ignore[operator]
        after = factorization(before)
        log_det = factorization.log_abs_det_jacobian(before, after)
    return Factorization(before.numpy(), after.numpy(), log_det.numpy())


def mean_size_correlation(y: Array) -> float:
    """The mean of |corr(log |y_i|, log |y_j|)| over all pairs."""
    found = size_correlations(y)
    return float(np.abs(found[np.triu_indices(len(found), 1)]).mean())


def redundancy(
    model: Unmixing, x: Array, y: Array, whitening: Whitening, bootstrap: TileBootstrap
) -> tuple[dict[str, Any], Factorization]:
    """Factorial codes of the sources before and after, fitted to x and scored on y.

    Args:
        model: A fitted nested model.
        x: Whitened patches that it was fitted to, ``(N, n)``.
        y: Held-out whitened patches, ``(M, n)``.
        whitening: The whitening of both.
        bootstrap: Resamples the tiles of y.
    """
    fitted, held_out = factorize(model, x), factorize(model, y)
    log_det = float(model.log_det())
    codes = {
        "before": fit_factorial_code(fitted.before).log_prob(held_out.before),
        "after": fit_factorial_code(fitted.after).log_prob(held_out.after) + held_out.log_det,
        "density": model(torch.as_tensor(y)).detach().numpy() - log_det,
    }
    costs = {key: bits(value + log_det, whitening) for key, value in codes.items()}
    lines = {key: bootstrap.estimate(value).to_json() for key, value in costs.items()}
    removed = bootstrap.estimate(costs["before"] - costs["after"]).to_json()
    correlations = {
        "size_correlation_before": mean_size_correlation(held_out.before),
        "size_correlation_after": mean_size_correlation(held_out.after),
    }
    return {**lines, "removed": removed, **correlations}, held_out
