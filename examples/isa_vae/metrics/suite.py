"""Every score of a code at once, each under a name that says which variant it is.

Left out: the sampled MIG, which takes hours on a large set, and udr.py, which compares models.
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

# Draws that the total correlation and the subspaces' information are means over. The densities
# at each are over all rows: a sample of the rows would change what is estimated.
HEAVY_DRAWS, LIGHT_DRAWS = 500, 100
GROUPINGS = 10  # random ones, with which the model's own subspaces are compared
# To learn from and to test on: batches of the majority vote, rows of SAP and DCI.
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
    """All scores of a code, by the names of their variants; NaN for one that is not defined.

    A factor that never varies is left out, but a mean over it, if it is asked for, is NaN.

    >>> import itertools, numpy as np
    >>> factors = np.array(list(itertools.product(range(3), range(4), range(5))) * 5)
    >>> found = score(factors / 2, factors, 0.01 * np.ones(factors.shape), preset="light")
    >>> round(found["mig_quadrature"], 6), round(found["mig_histogram20"], 6)
    (1.0, 1.0)

    Args:
        codes: Posterior means, (N, latents).
        factors: Values of the factors, (N, factors).
        std: Deviations of normal posteriors, (N, latents). Without them there is no MIG by
            quadrature, no total correlation and no score of subspaces.
        names: Of the factors; by default factor0, factor1, ...
        mig_factors: Those that ``mig_quadrature`` and the subspace MIG are means over; by default
            that vary.
        sizes: Dimension of each subspace of the latents; without them no score of subspaces.
        preset: ``full``; ``light``, which takes fewer draws and needs no scikit-learn;
            ``disentanglement_lib``, the scores of that library under its names, on as many rows
            as there, for comparison with published numbers (disentanglement_lib.py).
        seed: Of everything that is drawn.
    """
    if preset not in ("full", "light", "disentanglement_lib"):
        raise ValueError(f"preset must be full, light or disentanglement_lib, but got {preset!r}")
    if sizes and std is None:
        raise ValueError("scores of subspaces (sizes) need the posteriors' deviations, std")
    mean, width = (as_code(codes), None) if std is None else as_posteriors(codes, std)
    classes = as_classes(factors, len(mean))
    given = factor_names(names, classes.shape[1])
    kept, varying = without_constants(classes, given)
    chosen = varying if mig_factors is None else chosen_names(mig_factors, given)
    if preset == "disentanglement_lib":
        return disentanglement_lib.scores(mean, kept, seed)
    scores: dict[str, float] = {"active_units": float(active_units(mean).sum())}
    if width is not None:
        found = disentanglement(mean, width, classes, given, mig_factors=chosen)
        scores["mig_quadrature"] = found.mig
        scores["mig_quadrature_widened_share"] = float(found.widened.mean())
    heavy = preset == "full"
    return scores | further_scores(mean, width, kept, varying, chosen, sizes, seed, heavy)


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
    """What a trained model has beside the MIG by quadrature; None where nothing is defined.

    Args:
        mean: Of the posteriors, (N, z).
        std: Of the posteriors, (N, z).
        classes: Values of the factors as whole numbers, (N, factors).
        factors: Their names.
        mig_factors: Those of them that the MIG is a mean over; none if it has no factors.
        sizes: Dimension of each subspace.
        seed: Of everything that is drawn.
        heavy: Whether to take many draws, and to add SAP by a linear SVM and DCI, for which
            scikit-learn is needed.
        whole: Whether the rows are the full data. Of fewer rows the total correlation is larger,
            and its name says how many they were.
    """
    mean, std = as_posteriors(mean.float(), std.float())
    names = factor_names(factors, classes.shape[1])
    chosen = chosen_names(mig_factors, names) if mig_factors else ()
    kept, varying = without_constants(as_classes(classes, len(mean)), names)
    scores = further_scores(mean, std, kept, varying, chosen, sizes, seed, heavy, whole)
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}


def without_constants(classes: Tensor, names: Sequence[str]) -> tuple[Tensor, list[str]]:
    """The factors that vary, and their names."""
    varies = (classes != classes[0]).any(0)
    if not varies.any():
        raise ValueError(f"none of the factors {', '.join(names)} varies: nothing to score")
    kept = [name for name, v in zip(names, varies.tolist(), strict=True) if v]
    return classes[:, varies], kept


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
    """All but the MIG by quadrature, of factors that vary; NaN where nothing is defined."""
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
    """A stream of its own for every score: none depends on which others are computed."""
    return torch.Generator().manual_seed(seed)


def histogram_scores(
    mean: Tensor, classes: Tensor, names: Sequence[str], mig_factors: Sequence[str] | None
) -> dict[str, float]:
    """The MIG over all factors and over its own, and the modularity, of all and active latents."""
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
    """The majority vote."""
    found = factorvae_score(mean, classes, seeded(seed), train=batches[0], test=batches[1])
    return {"factorvae_score_std0.05": found}


def density_scores(
    densities: LogDensities, classes: Tensor, chosen: Sequence[int] | None, part: str
) -> dict[str, float]:
    """From the mixture over these rows, each with its standard error; named by the part."""
    rows = part or "_full_data"
    nowhere = Estimate(math.nan, math.nan)
    estimates = {
        f"subspace_mig_monte_carlo{part}": (
            nowhere if chosen is None else subspace_mig(densities, classes, chosen)
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
    """What random groupings of the latents have of the subspace MIG: see groupings.py."""
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
