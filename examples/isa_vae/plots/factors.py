"""Latents against factors, as in Chen et al. (2018) and appendix A.5, for one selected run."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metrics import ACTIVE
from sweeps.rows import Row

matplotlib.use("Agg")  # draws into files: no display needed
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

GROUP_COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple")
LIMIT = 3.0  # range of the means that are shown
MOST_GROUPS = 5  # maximum number of values of a factor that colours the curves


def representative(rows: Sequence[Row], quantile: float = 0.75) -> Row:
    """Select the representative run of an arm, as in appendix A.5.

    It is the finished run nearest to the mean (MIG, log p(x|z)) of the finished runs with a MIG at
    or above the quantile, by the Mahalanobis distance with the diagonal covariance of all finished
    runs. A score that does not vary is ignored; ties go to the smallest seed.
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile must be between 0 and 1, but got {quantile}")
    keys = ("mig", "log_px")
    done = [row for row in rows if all(row.get(key) is not None for key in keys)]
    if not done:
        raise ValueError("no finished run to choose from")
    done.sort(key=lambda row: (row["seed"], row["arm"], row["beta"]))
    points = np.array([[row[key] for key in keys] for row in done], float)
    upper = points[points[:, 0] >= np.quantile(points[:, 0], quantile)]
    variance = points.var(0)
    weight = np.divide(1, variance, out=np.zeros(2), where=variance > 0)
    distance = ((points - upper.mean(0)) ** 2) @ weight
    return done[int(np.flatnonzero(distance <= distance.min() * (1 + 1e-9))[0])]


def latent_factor_plot(
    mean: Tensor,
    std: Tensor,
    classes: Tensor,
    factors: Sequence[str],
    sizes: Sequence[int] | None,
    path: Path,
    pair: tuple[str, str] = ("posX", "posY"),
    group: str | None = "shape",
    title: str = "",
) -> None:
    """Plot the posterior mean of each active latent, averaged over the set, against each factor.

    Each active latent (or the most active one if none is) has a column: a map over the pair of
    factors, then curves for each other factor, in one colour per value of the group; their bands
    are the mean posterior standard deviation. A latent that ignores a factor is flat.

    Args:
        mean: Posterior means, (N, z).
        std: Posterior standard deviations, (N, z).
        classes: Values of the factors as integers from 0, (N, factors).
        factors: Names of the factors.
        sizes: Sizes of the subspaces, which add up to z; None for a prior without subspaces.
        path: File of the figure.
        pair: The two factors of the map, which is left out if either is missing.
        group: The factor that colours the curves; None for no groups.
        title: Title of the figure.
    """
    means, deviations = mean.double().numpy(), std.double().numpy()
    column = dict(zip(factors, classes.numpy().T, strict=True))
    if sizes is not None and sum(sizes) != means.shape[1]:
        raise ValueError(f"sizes must add up to {means.shape[1]} latents, but got {list(sizes)}")
    variance = means.var(0)
    order = [int(j) for j in np.argsort(-variance, kind="stable")]
    chosen = [j for j in order if variance[j] > ACTIVE] or order[:1]
    names = [f"z{j}" if v > ACTIVE else f"z{j} (inactive)" for j, v in enumerate(variance)]
    if sizes is not None:
        subspace = np.repeat(np.arange(1, len(sizes) + 1), sizes)
        names = [f"{name}, subspace {k}" for name, k in zip(names, subspace, strict=True)]
    mapped = set(pair) <= set(factors)
    grouped = group in column and len(np.unique(column[group])) <= MOST_GROUPS
    groups = column[group] if grouped else np.zeros(len(means), int)
    curves = [f for f in factors if not (mapped and f in pair) and not (grouped and f == group)]
    curves = [f for f in curves if len(np.unique(column[f])) > 1]
    shape = (mapped + len(curves), len(chosen))
    if not shape[0]:
        raise ValueError("no factor varies")
    size = (1.65 * shape[1] + 1.4, 1.6 * shape[0] + 1.1)
    figure, axes = plt.subplots(*shape, figsize=size, squeeze=False, layout="constrained")
    for line, j in zip(axes.T, chosen, strict=True):
        line[0].set_title(names[j], fontsize=9)
        if mapped:
            image = place_map(line[0], means[:, j], *(column[f] for f in pair))
        for ax, factor in zip(line[mapped:], curves, strict=True):
            factor_curves(ax, means[:, j], deviations[:, j], column[factor], groups)
    if mapped:
        figure.colorbar(image, ax=list(axes[0]), label="mean of $z$")
    label_rows(axes, pair if mapped else None, curves)
    if grouped:
        values = np.unique(groups)
        handles = [plt.Line2D([], [], color=GROUP_COLORS[k], lw=2) for k in range(len(values))]
        labels = [f"{group} {value}" for value in values]
        figure.legend(handles, labels, loc="outside lower center", ncols=len(values), fontsize=9)
    figure.suptitle(title or "Mean of the posterior against the factors", fontsize=11)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def group_means(values: NDArray, cells: NDArray, count: int) -> NDArray:
    """Mean of the values in each cell, NaN in an empty one, (count,)."""
    number = np.bincount(cells, minlength=count).astype(float)
    total = np.bincount(cells, values, minlength=count)
    return np.divide(total, number, out=np.full(count, np.nan), where=number > 0)


def place_map(ax: Axes, values: NDArray, x: NDArray, y: NDArray) -> AxesImage:
    """Map of the mean over all images with the object at x and y; y points down."""
    _, across = np.unique(x, return_inverse=True)
    _, down = np.unique(y, return_inverse=True)
    width, height = across.max() + 1, down.max() + 1
    table = group_means(values, down * width + across, height * width).reshape(height, width)
    style = {"aspect": "auto", "interpolation": "nearest"}
    return ax.imshow(table, cmap="RdBu_r", vmin=-LIMIT, vmax=LIMIT, **style)


def factor_curves(
    ax: Axes, values: NDArray, deviations: NDArray, factor: NDArray, groups: NDArray
) -> None:
    """Plot the mean at each value of a factor, with one curve per group."""
    levels, cells = np.unique(factor, return_inverse=True)
    for k, value in enumerate(np.unique(groups)):
        here = groups == value
        middle = group_means(values[here], cells[here], len(levels))
        spread = group_means(deviations[here], cells[here], len(levels))
        ax.plot(levels, middle, color=GROUP_COLORS[k], lw=1.4)
        ax.fill_between(
            levels, middle - spread, middle + spread, color=GROUP_COLORS[k], alpha=0.12, lw=0
        )
    ax.set_ylim(-LIMIT, LIMIT)
    ax.axhline(0, color="0.85", lw=0.8, zorder=0)


def label_rows(axes: NDArray, pair: tuple[str, str] | None, curves: Sequence[str]) -> None:
    """Label the axes with the factors."""
    for ax in axes.flat:
        ax.tick_params(labelsize=7)
    for ax in axes[:, 1:].flat:
        ax.set_yticklabels([])
    if pair is not None:
        axes[0, 0].set_ylabel(pair[1], fontsize=9)
        for ax in axes[0]:
            ax.set_xlabel(pair[0], fontsize=8)
    for line, factor in zip(axes[pair is not None :], curves, strict=True):
        line[0].set_ylabel("mean of $z$", fontsize=9)
        for ax in line:
            ax.set_xlabel(factor, fontsize=8)
