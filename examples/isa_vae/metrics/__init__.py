"""Disentanglement metrics for codes from any model; `score` computes all of them in one call.

This folder needs torch, NumPy, tqdm and, for some scores, scikit-learn. It does not depend on the
rest of the example, so it can be copied.
"""

from .codes import ACTIVE, PRUNED, ScoringError, active_units, check_posteriors
from .factorvae import factorvae_score
from .histogram import histogram_disentanglement, mig_histogram, modularity
from .mig import Disentanglement, disentanglement
from .sampled import mig_sampled
from .sap_dci import DCI, dci, linear_svm, nearest_mean, sap, split_rows
from .subspaces import log_densities, subspace_mig, total_correlation_full
from .suite import all_scores, score
from .udr import lasso, spearman, udr

__all__ = [
    "ACTIVE",
    "DCI",
    "PRUNED",
    "Disentanglement",
    "ScoringError",
    "active_units",
    "all_scores",
    "check_posteriors",
    "dci",
    "disentanglement",
    "factorvae_score",
    "histogram_disentanglement",
    "lasso",
    "linear_svm",
    "log_densities",
    "mig_histogram",
    "mig_sampled",
    "modularity",
    "nearest_mean",
    "sap",
    "score",
    "spearman",
    "split_rows",
    "subspace_mig",
    "total_correlation_full",
    "udr",
]
