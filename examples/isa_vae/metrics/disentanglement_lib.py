"""Scores as disentanglement_lib computes them (Locatello et al. 2019), under its names.

They are for comparison with published numbers, and differ from ours of the same metric: all
factors count, learners see 10,000 rows and are tested on 5,000, the accuracy is the share of the
rows (a factor of few values among rare ones counts by its rows), and DCI is by boosted trees. What
is kept of the library is its definitions and settings; the code is our own. The rows are drawn
without replacement from those given, so that a set below 15,000 rows has fewer to learn from (two
thirds) than published numbers had; the library draws factors anew, which may repeat. Of its
scores explicitness, IRS, the BetaVAE score and those by correlations are not here.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .factorvae import factorvae_score
from .histogram import histogram_disentanglement, modularity
from .sap_dci import DCI, PENALTY, scikit_learn, split_rows

TRAIN, TEST = 10_000, 5_000  # rows, and batches of the majority vote
TREES = 100  # of each value of a factor


def scores(mean: Tensor, classes: Tensor, seed: int, trees: int = TREES) -> dict[str, float]:
    """The library's names, each after the metric that it belongs to.

    Minutes where a factor has many values: for each of them there are 100 trees.

    Args:
        mean: Of the posteriors, (N, z).
        classes: Values of the factors, all of which vary, (N, factors).
        seed: Of everything that is drawn.
        trees: For each value of a factor.
    """
    train, test = split_rows(len(mean), torch.Generator().manual_seed(seed), TRAIN, TEST)
    votes = torch.Generator().manual_seed(seed)
    information = histogram_disentanglement(mean[train], classes[train])
    boosted, learned = boosted_dci(mean, classes, (train, test), seed, trees)
    return {
        "mig.discrete_mig": information.mig,
        "modularity_explicitness.modularity_score": modularity(information.information),
        "sap_score.SAP_score": sap_score(mean, classes, (train, test)),
        "dci.disentanglement": boosted.disentanglement,
        "dci.completeness": boosted.completeness,
        "dci.informativeness_train": learned,
        "dci.informativeness_test": boosted.informativeness,
        "factor_vae_metric.eval_accuracy": factorvae_score(
            mean, classes, votes, train=TRAIN, test=TEST
        ),
    }


def accuracy(predicted: Sequence[int], value: Tensor) -> float:
    """Share of the rows."""
    return float((torch.as_tensor(predicted) == value).double().mean())


def sap_score(mean: Tensor, classes: Tensor, rows: tuple[Tensor, Tensor]) -> float:
    """The lead of the best latent in accuracy, by a linear SVM on a code that is not scaled."""
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
    """DCI by gradient boosting as scikit-learn has it by default; and the accuracy in learning."""
    boosting = scikit_learn("ensemble").GradientBoostingClassifier
    x = [mean[part].double().numpy() for part in rows]
    importance, found = [], []
    for column in classes.T:
        y = [column[part] for part in rows]
        model = boosting(n_estimators=trees, random_state=seed).fit(x[0], y[0].numpy())
        importance.append(torch.from_numpy(model.feature_importances_))
        found.append([accuracy(model.predict(a), b) for a, b in zip(x, y, strict=True)])
    learned, tested = torch.tensor(found, dtype=torch.float64).mean(0).tolist()
    return DCI(torch.stack(importance, dim=-1), tested), learned
