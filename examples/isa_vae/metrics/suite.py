"""Compute every score of a code at once, each under a name that identifies its variant.

Not included: the sampled MIG, which takes hours on a large set, and UDR, which compares models.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from . import disentanglement_lib
from .codes import (
    Array,
    active_units,
    as_classes,
    as_code,
    as_posteriors,
    chosen_names,
    factor_names,
)
from .factorvae import factorvae_score
from .groupings import compared_with_random, random_gaps
from .histogram import histogram_disentanglement, modularity
from .mig import disentanglement
from .sap_dci import dci, linear_svm, nearest_mean, sap, split_rows
from .subspaces import Estimate, LogDensities, log_densities, subspace_mig

# Draws to average the total correlation and the subspaces' information over. The densities at
# each draw use all rows, because subsampling rows would change the estimated quantity.
HEAVY_DRAWS, LIGHT_DRAWS = 500, 100
GROUPINGS = 10  # random groupings to compare the model's own subspaces with
# For training and testing: batches of the majority vote, rows of SAP and DCI.
HEAVY_BATCHES, LIGHT_BATCHES = (10_000, 5_000), (2_000, 1_000)
ROWS = 5_000, 5_000


def score(
    codes: Array,
    factors: Array,
    std: Array | None = None,
    *,
    names: Sequence[str] | None = None,
    mig_factors: Sequence[str] | None = None,
    sizes: Sequence[int] | None = None,
    preset: Literal["full", "light", "disentanglement_lib"] = "full",
    seed: int = 0,
) -> dict[str, float]:
    """Compute all scores of a code, by name; undefined scores are NaN.

    A factor that never varies is left out, but a mean that explicitly includes it is NaN.

    >>> import itertools, numpy as np
    >>> factors = np.array(list(itertools.product(range(3), range(4), range(5))) * 5)
    >>> found = score(factors / 2, factors, 0.01 * np.ones(factors.shape), preset="light")
    >>> round(found["mig_quadrature"], 6), round(found["mig_histogram20"], 6)
    (1.0, 1.0)

    Args:
        codes: Posterior means, (N, latents).
        factors: Values of the factors, (N, factors).
        std: Standard deviations of normal posteriors, (N, latents). Without them there is no MIG
            by quadrature, no total correlation and no subspace score.
        names: Names of the factors; by default factor0, factor1, ...
        mig_factors: Factors to average ``mig_quadrature`` and the subspace MIG over; by default
            all that vary.
        sizes: Dimension of each subspace of the latents; without them no subspace score.
        preset: ``full``; ``light``, with fewer draws and without scikit-learn; or
            ``disentanglement_lib``, that library's scores under its names, with its numbers of
            rows, for comparison with published numbers (disentanglement_lib.py).
        seed: Random seed.
    """
    if preset not in ("full", "light", "disentanglement_lib"):
        raise ValueError(f"preset must be full, light or disentanglement_lib, but got {preset!r}")
    if sizes and std is None:
        raise ValueError("subspace scores (sizes) need std, the posterior standard deviations")
    mean, width = (as_code(codes), None) if std is None else as_posteriors(codes, std)
    classes = as_classes(factors, len(mean))
    factor = factor_names(names, classes.shape[1])
    varying, varying_names = without_constants(classes, factor)
    chosen = varying_names if mig_factors is None else chosen_names(mig_factors, factor)
    if preset == "disentanglement_lib":
        return disentanglement_lib.scores(mean, varying, seed)
    scores: dict[str, float] = {"active_units": float(active_units(mean).sum())}
    if width is not None:
        found = disentanglement(mean, width, classes, factor, mig_factors=chosen)
        scores["mig_quadrature"] = found.mig
        scores["mig_quadrature_widened_share"] = float(found.widened.mean())
    heavy = preset == "full"
    return scores | further_scores(mean, width, varying, varying_names, chosen, sizes, seed, heavy)


def all_scores(
    mean: Tensor,
    std: Tensor,
    classes: Tensor,
    factors: Sequence[str],
    mig_factors: Sequence[str],
    sizes: Sequence[int],
    seed: int,
    heavy: bool = True,
    whole: bool = True,
) -> dict[str, float | None]:
    """Compute all scores besides the MIG by quadrature; undefined scores are None.

    Args:
        mean: Posterior means, (N, z).
        std: Posterior standard deviations, (N, z).
        classes: Values of the factors as integers, (N, factors).
        factors: Names of the factors.
        mig_factors: Factors to average the MIG over; empty if there are none.
        sizes: Dimension of each subspace.
        seed: Random seed.
        heavy: Whether to use many draws, and to add SAP by a linear SVM and DCI, which need
            scikit-learn.
        whole: Whether the rows are the full data. On fewer rows the total correlation is larger,
            so its name includes their number.
    """
    mean, std = as_posteriors(mean.float(), std.float())
    names = factor_names(factors, classes.shape[1])
    chosen = chosen_names(mig_factors, names) if mig_factors else ()
    varying, varying_names = without_constants(as_classes(classes, len(mean)), names)
    scores = further_scores(mean, std, varying, varying_names, chosen, sizes, seed, heavy, whole)
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}


def without_constants(classes: Tensor, names: Sequence[str]) -> tuple[Tensor, list[str]]:
    """Select the factors that vary, and their names."""
    varies = (classes != classes[0]).any(0)
    if not varies.any():
        raise ValueError(f"none of the factors {', '.join(names)} varies: nothing to score")
    varying = [name for name, v in zip(names, varies.tolist(), strict=True) if v]
    return classes[:, varies], varying


def further_scores(
    mean: Tensor,
    std: Tensor | None,
    classes: Tensor,
    names: Sequence[str],
    mig_factors: Sequence[str],
    sizes: Sequence[int] | None,
    seed: int,
    heavy: bool,
    whole: bool = True,
) -> dict[str, float]:
    """All scores but the MIG by quadrature, for factors that vary; NaN if undefined."""
    defined = len(mig_factors) > 0 and all(name in names for name in mig_factors)
    own = list(mig_factors) if defined else None
    scores = {
        **histogram_scores(mean, classes, names, own),
        **vote_score(mean, classes, seed, HEAVY_BATCHES if heavy else LIGHT_BATCHES),
    }
    predicted = predictor_scores(mean, classes, seed, heavy)
    if std is None:
        return scores | predicted
    draws = HEAVY_DRAWS if heavy else LIGHT_DRAWS
    part = "" if whole else f"_of_{len(mean)}_rows"
    columns = [names.index(name) for name in own] if own else None
    code = mean, std, classes, sizes or [1] * mean.shape[1], draws
    more = density_scores(log_densities(*code, seeded(seed)), classes, columns, part)
    if not sizes:
        return scores | {k: x for k, x in more.items() if "subspace" not in k} | predicted
    gaps = random_gaps(*code, GROUPINGS, seeded(seed)) if columns else None
    groups = grouping_scores(gaps, columns, more[f"subspace_mig_monte_carlo{part}"], part)
    return scores | more | predicted | groups


def seeded(seed: int) -> torch.Generator:
    """A new generator for each score, so that none depends on which others are computed."""
    return torch.Generator().manual_seed(seed)


def histogram_scores(
    mean: Tensor, classes: Tensor, names: Sequence[str], mig_factors: Sequence[str] | None
) -> dict[str, float]:
    """MIG over all factors and over mig_factors; modularity of all and of active latents."""
    found = histogram_disentanglement(mean, classes, names)
    own = math.nan
    if mig_factors is not None:
        own = sum(found.gaps[name] for name in mig_factors) / len(mig_factors)
    return {
        "mig_histogram20": found.mig,
        "mig_histogram20_mig_factors": own,
        "modularity_histogram20": modularity(found.information),
        "modularity_histogram20_active": modularity(found.information[active_units(mean)]),
    }


def vote_score(
    mean: Tensor, classes: Tensor, seed: int, batches: tuple[int, int]
) -> dict[str, float]:
    """The majority-vote score of FactorVAE."""
    found = factorvae_score(mean, classes, seeded(seed), train=batches[0], test=batches[1])
    return {"factorvae_score_std0.05": found}


def density_scores(
    densities: LogDensities, classes: Tensor, chosen: Sequence[int] | None, part: str
) -> dict[str, float]:
    """Scores from the mixture over the rows, with standard errors; `part` names a subset."""
    rows = part or "_full_data"
    undefined = Estimate(math.nan, math.nan)
    estimates = {
        f"subspace_mig_monte_carlo{part}": (
            undefined if chosen is None else subspace_mig(densities, classes, chosen)
        ),
        f"tc{rows}": Estimate.of(densities.total),
        f"tc_between_subspaces{rows}": Estimate.of(densities.between),
        f"tc_within_subspaces{rows}": Estimate.of(densities.within),
        f"index_code_mi{rows}": Estimate.of(densities.index_code),
    }
    scores = {}
    for name, estimate in estimates.items():
        scores[name] = estimate.value
        scores[f"{name}_standard_error"] = estimate.standard_error
    return scores


def grouping_scores(
    gaps: Tensor | None, chosen: Sequence[int] | None, own: float, part: str
) -> dict[str, float]:
    """Subspace MIG of random groupings of the latents: see groupings.py."""
    mean, share = Estimate(math.nan, math.nan), math.nan
    if gaps is not None and chosen is not None:
        mean, share = compared_with_random(gaps[..., chosen].mean(-1), own)
    name = f"subspace_mig_random_groupings{part}"
    return {
        name: mean.value,
        f"{name}_standard_error": mean.standard_error,
        f"subspace_mig_share_of_random_groupings_as_high{part}": share,
    }


def predictor_scores(mean: Tensor, classes: Tensor, seed: int, heavy: bool) -> dict[str, float]:
    """SAP by thresholds; if heavy, also by a linear SVM, and DCI of all and of active latents."""
    rows = split_rows(len(mean), seeded(seed), *ROWS)
    scores = {"sap_nearest_mean": sap(mean, classes, rows, nearest_mean)}
    if not heavy:
        return scores
    scores["sap_linear_svm"] = sap(mean, classes, rows, linear_svm)
    for part, code in {"": mean, "_active": mean[:, active_units(mean)]}.items():
        found = dci(code, classes, rows, seed)
        scores |= {
            f"dci_disentanglement_random_forest{part}": found.disentanglement,
            f"dci_completeness_random_forest{part}": found.completeness,
            f"dci_informativeness_random_forest{part}": found.informativeness,
        }
    return scores
