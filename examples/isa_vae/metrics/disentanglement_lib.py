"""Scores as defined by disentanglement_lib (Locatello et al. 2019), under its names.

They are for comparison with published numbers, and differ from our variants of the same metrics:
all factors count, predictors are trained on 10,000 rows and tested on 5,000, the accuracy is the
plain fraction of rows (so frequent values weigh more), and DCI uses boosted trees. The definitions
and settings are the library's; the code is our own. Rows are drawn without replacement from those
given, so a data set below 15,000 rows has fewer for training (two thirds) than published numbers
had; the library samples new factors, which may repeat. Its explicitness, IRS, BetaVAE score and
correlation-based scores are not implemented here.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .factorvae import factorvae_score
from .histogram import histogram_disentanglement, modularity
from .sap_dci import DCI, PENALTY, scikit_learn, split_rows

TRAIN, TEST = 10_000, 5_000  # rows, and batches of the majority vote
TREES = 100  # per value of a factor


def scores(mean: Tensor, classes: Tensor, seed: int, trees: int = TREES) -> dict[str, float]:
    """Compute the scores; names are the library's, after the metric they belong to.

    Takes minutes if a factor has many values, since there are 100 trees per value.

    Args:
        mean: Posterior means, (N, z).
        classes: Values of the factors, all of which vary, (N, factors).
        seed: Random seed.
        trees: Number of trees per value of a factor.
    """
    train, test = split_rows(len(mean), torch.Generator().manual_seed(seed), TRAIN, TEST)
    votes = torch.Generator().manual_seed(seed)
    information = histogram_disentanglement(mean[train], classes[train])
    boosted, train_accuracy = boosted_dci(mean, classes, (train, test), seed, trees)
    return {
        "mig.discrete_mig": information.mig,
        "modularity_explicitness.modularity_score": modularity(information.information),
        "sap_score.SAP_score": sap_score(mean, classes, (train, test)),
        "dci.disentanglement": boosted.disentanglement,
        "dci.completeness": boosted.completeness,
        "dci.informativeness_train": train_accuracy,
        "dci.informativeness_test": boosted.informativeness,
        "factor_vae_metric.eval_accuracy": factorvae_score(
            mean, classes, votes, train=TRAIN, test=TEST
        ),
    }


def accuracy(predicted: Sequence[int], value: Tensor) -> float:
    """Fraction of rows predicted correctly."""
    return float((torch.as_tensor(predicted) == value).double().mean())


def sap_score(mean: Tensor, classes: Tensor, rows: tuple[Tensor, Tensor]) -> float:
    """Mean lead in accuracy of the best latent, by a linear SVM on the unscaled code."""
    svm = scikit_learn("svm").LinearSVC
    train, test = rows
    leads = []
    for column in classes.T:
        found = []
        for code in mean.double().numpy().T:
            model = svm(C=PENALTY, class_weight="balanced", dual=False)
            model.fit(code[train.numpy(), None], column[train].numpy())
            found.append(accuracy(model.predict(code[test.numpy(), None]), column[test]))
        best = sorted([0.0, *found])[-2:]
        leads.append(best[1] - best[0])
    return sum(leads) / len(leads)


def boosted_dci(
    mean: Tensor, classes: Tensor, rows: tuple[Tensor, Tensor], seed: int, trees: int = TREES
) -> tuple[DCI, float]:
    """DCI by gradient boosting with scikit-learn's defaults; also the training accuracy."""
    boosting = scikit_learn("ensemble").GradientBoostingClassifier
    x = [mean[part].double().numpy() for part in rows]
    importance, found = [], []
    for column in classes.T:
        y = [column[part] for part in rows]
        model = boosting(n_estimators=trees, random_state=seed).fit(x[0], y[0].numpy())
        importance.append(torch.from_numpy(model.feature_importances_))
        found.append([accuracy(model.predict(a), b) for a, b in zip(x, y, strict=True)])
    on_train, on_test = torch.tensor(found, dtype=torch.float64).mean(0).tolist()
    return DCI(torch.stack(importance, dim=-1), on_test), on_train
