"""Every score of a code at once, each under a name that says which variant it is.

The scores of metrics.py are not among them, nor is udr.py, which compares several models.
"""

import math
from collections.abc import Sequence

import torch
from factorvae_score import factorvae_score
from groupings import compared_with_random, random_gaps
from histogram import histogram_disentanglement, modularity
from metrics import active_units
from predictors import dci, linear_svm, nearest_mean, sap, split_rows
from subspaces import Estimate, LogDensities, log_densities, subspace_mig
from torch import Tensor

# Draws that the total correlation and the subspaces' information are means over. The densities
# at each are over all rows: a sample of the rows would change what is estimated.
HEAVY_DRAWS = 500
LIGHT_DRAWS = 100
# Random groupings that the model's own subspaces are compared with.
GROUPINGS = 10
# Batches of the majority vote, to learn from and to test on.
HEAVY_BATCHES = 10_000, 5_000
LIGHT_BATCHES = 2_000, 1_000
# Rows of SAP and DCI, to learn from and to test on.
ROWS = 5_000, 5_000


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
    """All scores by name; None for one that is not defined, such as a MIG of a constant factor.

    A factor that never varies is left out of all scores, as the colour of dSprites always is;
    only a mean over the factors of the MIG is None if one of these does not vary.

    Args:
        mean: Of the posteriors, (N, z).
        std: Of the posteriors, (N, z).
        classes: Values of the factors as whole numbers, (N, factors).
        factors: Their names.
        mig_factors: Those of them that the MIG is a mean over.
        sizes: Dimension of each subspace.
        seed: Of everything that is drawn.
        heavy: Whether to take many draws, and to add SAP by a linear SVM and DCI, for which
            scikit-learn is needed.
        whole: Whether the rows are the full data. Of fewer rows the total correlation is larger,
            and its name says how many they were.
    """
    mean, std, classes = mean.detach().float(), std.detach().float(), classes.long()
    varies = (classes != classes[0]).any(0)
    names = [name for name, kept in zip(factors, varies.tolist(), strict=True) if kept]
    chosen = [names.index(name) for name in mig_factors if name in names]
    defined = bool(mig_factors) and len(chosen) == len(mig_factors)
    classes = classes[:, varies]
    if classes.shape[1] == 0:
        raise ValueError(f"none of the factors {', '.join(factors)} varies: nothing to score")

    draws = HEAVY_DRAWS if heavy else LIGHT_DRAWS
    columns = chosen if defined else None
    part = "" if whole else f"_of_{len(mean)}_rows"
    code = mean, std, classes, sizes, draws
    densities = log_densities(*code, seeded(seed))
    scores: dict[str, float] = {
        **histogram_scores(mean, classes, names, mig_factors if defined else None),
        **vote_score(mean, classes, seed, HEAVY_BATCHES if heavy else LIGHT_BATCHES),
        **density_scores(densities, classes, columns, part),
        **predictor_scores(mean, classes, seed, heavy),
    }
    gaps = random_gaps(*code, GROUPINGS, seeded(seed)) if defined else None
    scores |= grouping_scores(gaps, columns, scores[f"subspace_mig_monte_carlo{part}"], part)
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}


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
    train, test = batches
    score = factorvae_score(mean, classes, seeded(seed), train=train, test=test)
    return {"factorvae_score": score}


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
    """SAP by thresholds; if heavy, also by a linear SVM, and DCI."""
    rows = split_rows(len(mean), seeded(seed), *ROWS)
    scores = {"sap_nearest_mean": sap(mean, classes, rows, nearest_mean)}
    if heavy:
        found = dci(mean, classes, rows, seed)
        scores |= {
            "sap_linear_svm": sap(mean, classes, rows, linear_svm),
            "dci_disentanglement_random_forest": found.disentanglement,
            "dci_completeness_random_forest": found.completeness,
            "dci_informativeness_random_forest": found.informativeness,
        }
    return scores
