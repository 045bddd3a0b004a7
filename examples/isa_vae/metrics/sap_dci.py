r"""Scores of how well factors can be predicted: SAP (Kumar et al. 2018) and DCI (Eastwood and
Williams 2018).

Both train on some rows and test on others, here by the balanced accuracy (the recall averaged over
the values of a factor), whose chance level is 1 / V. The scores depend on the number of training
rows: with 10,000, as in disentanglement_lib, the informativeness of DCI is a tenth higher than
with the 5,000 here. So compare only numbers of the same preset.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .codes import Array, as_classes, as_code

TRAIN, TEST = 5_000, 5_000  # rows
PENALTY = 0.01  # the C of disentanglement_lib's linear SVM
TREES = 10
LEAF = 5  # minimum number of rows in a leaf, against overfitting

Accuracy = Callable[[Tensor, Tensor, Tensor, Tensor], float]  # x, v for training; x, v for testing


def scikit_learn(module: str) -> Any:
    """Import a module of scikit-learn, which only some scores need."""
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        raise ImportError(
            "SAP by linear SVM, DCI and UDR by Lasso need scikit-learn: "
            "pip install 'lpnested[examples]'"
        ) from error


def standardised(columns: Tensor) -> Tensor:
    """Scale columns to mean 0 and variance 1; constant columns become 0."""
    centred = columns - columns.mean(0)
    scale = centred.square().mean(0).sqrt()
    noise = 1e-12 * columns.abs().amax(0)  # rounding error of a constant column
    return torch.where(scale > noise, centred / scale, 0.0)


def split_rows(
    total: int, generator: torch.Generator, train: int = TRAIN, test: int = TEST
) -> tuple[Tensor, Tensor]:
    """Random rows for training and for testing; two thirds and the rest of a small data set."""
    if train + test > total:
        train = 2 * total // 3
        test = total - train
    order = torch.randperm(total, generator=generator)
    return order[:train], order[train : train + test]


def balanced_accuracy(predicted: Tensor, value: Tensor) -> float:
    """Recall averaged over the values: (N,), (N,) -> a number."""
    count = torch.bincount(value)
    found = torch.bincount(value[predicted == value], minlength=len(count))
    return float((found[count > 0] / count[count > 0]).mean())


def nearest_mean(x: Tensor, value: Tensor, x_test: Tensor, value_test: Tensor) -> float:
    """Accuracy of thresholds halfway between neighbouring class means."""
    count = torch.bincount(value)
    means, order = (torch.bincount(value, x) / count).nan_to_num(torch.inf).sort()
    seen = int((count > 0).sum())  # values missing from the training rows come last
    thresholds = (means[1:seen] + means[: seen - 1]) / 2
    return balanced_accuracy(order[torch.searchsorted(thresholds, x_test)], value_test)


def linear_svm(x: Tensor, value: Tensor, x_test: Tensor, value_test: Tensor) -> float:
    """Accuracy of a one-vs-rest linear SVM; the primal solver is deterministic."""
    model = scikit_learn("svm").LinearSVC(C=PENALTY, class_weight="balanced", dual=False)
    model.fit(x[:, None].numpy(), value.numpy())
    return balanced_accuracy(torch.from_numpy(model.predict(x_test[:, None].numpy())), value_test)


def sap(
    mean: Array,
    classes: Array,
    rows: tuple[Tensor, Tensor],
    accuracy: Accuracy,
) -> float:
    r"""Separated attribute predictability: the lead of the best single latent for a factor.

    .. math:: \frac1K \sum_k \big( S_{j^* k} - \max_{j \ne j^*} S_{jk} \big)

    S_jk is the balanced accuracy in predicting factor k from latent j alone, after scaling it to
    mean 0 and variance 1. Kumar et al. fit thresholds; `nearest_mean` sets them by a rule, since
    factors are ordered and a latent that encodes one has one interval per value. `linear_svm` is
    the choice of disentanglement_lib, for comparison with its numbers: a one-vs-rest linear rule
    in one dimension. On a perfect code it finds all of four values, but only two of eight or
    more, so that it scores 2 / V.

    Args:
        mean: Posterior means, (N, z).
        classes: Values of the factors, (N, factors).
        rows: Rows for training and for testing.
        accuracy: `nearest_mean` or `linear_svm`.

    Returns:
        The score, from 0 to 1 - mean(1 / V); NaN if a factor never varies.
    """
    mean = as_code(mean)
    classes = as_classes(classes, len(mean))
    x = standardised(mean.double()).T.contiguous()
    known = x.abs().amax(1) > 0
    gaps = []
    for column in classes.T:
        value = column.unique(return_inverse=True)[1]
        chance = 1 / (int(value.max()) + 1)
        if chance == 1:
            return torch.nan
        train, test = rows
        scores = [accuracy(c[train], value[train], c[test], value[test]) for c in x[known]]
        best = torch.tensor([chance, chance, *scores]).topk(2).values  # a constant is at chance
        gaps.append(float(best[0] - best[1]))
    return sum(gaps) / len(gaps)


@dataclass(frozen=True)
class DCI:
    """DCI scores of a matrix of importances, (z, factors), whose columns sum to 1 or 0."""

    importance: Tensor
    informativeness: float  # mean accuracy on the test rows

    @property
    def disentanglement(self) -> float:
        """Whether each latent matters for only one factor, weighted by its importance."""
        return concentration(self.importance)

    @property
    def completeness(self) -> float:
        """Whether only one latent matters for each factor."""
        return concentration(self.importance.T)


def concentration(importance: Tensor) -> float:
    r"""Mean over rows of one minus the normalised entropy, weighted by the sum of the row.

    .. math:: \sum_i \rho_i \Big( 1 + \sum_k p_{ik} \log_K p_{ik} \Big),
        \quad p_{ik} = \frac{R_{ik}}{\sum_k R_{ik}}, \quad \rho_i = \frac{\sum_k R_{ik}}{\sum R}

    A row of zeros has no weight. NaN for a single column or no row; 0 if all entries are zero.
    """
    importance = importance.double()
    total = importance.sum(1)
    if importance.shape[1] < 2 or len(importance) == 0:
        return torch.nan
    p = importance[total > 0] / total[total > 0, None]
    entropy = -torch.xlogy(p, p).sum(1) / torch.tensor(float(importance.shape[1])).log()
    return float((total[total > 0] * (1 - entropy)).sum() / total.sum().clamp_min(1e-300))


def dci(
    mean: Array,
    classes: Array,
    rows: tuple[Tensor, Tensor],
    seed: int,
    trees: int = TREES,
) -> DCI:
    """Disentanglement, completeness and informativeness by random forests.

    Importance is the decrease of the Gini impurity, and each split considers all latents. Eastwood
    and Williams *tune* the depth of their trees per factor on validation rows, and use regression
    for continuous factors; this forest is not tuned: its trees classify, and split until a leaf
    would have fewer than 5 rows. So they keep splitting when the latents that encode a factor
    have nothing more to offer, and then select noise: in small models much of the importance,
    often half, belongs to inactive latents. Pass only the active latents (`active_units`) to
    avoid this, as the scores whose names end in ``_active`` do. For the boosted trees of
    disentanglement_lib see disentanglement_lib.py.

    Args:
        mean: Posterior means, (N, z).
        classes: Values of the factors, (N, factors).
        rows: Rows for training and for testing.
        seed: Random seed of the forests.
        trees: Number of trees per forest; there is one forest per factor.

    Returns:
        The scores; all NaN if a factor never varies, or without latents.
    """
    mean = as_code(mean)
    classes = as_classes(classes, len(mean))
    if mean.shape[1] == 0 or (classes == classes[0]).all(0).any():
        return DCI(torch.full((mean.shape[1], classes.shape[1]), torch.nan), torch.nan)
    forest = scikit_learn("ensemble").RandomForestClassifier
    x = [mean[part].float().numpy() for part in rows]
    importance, accuracy = [], []
    for column in classes.T:
        value = column.unique(return_inverse=True)[1]
        model = forest(
            trees, max_features=None, min_samples_leaf=LEAF, random_state=seed, n_jobs=1
        ).fit(x[0], value[rows[0]].numpy())
        importance.append(torch.from_numpy(model.feature_importances_))
        accuracy.append(balanced_accuracy(torch.from_numpy(model.predict(x[1])), value[rows[1]]))
    return DCI(torch.stack(importance, dim=-1), sum(accuracy) / len(accuracy))
