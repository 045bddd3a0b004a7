"""The figures: costs of the models, filters, a fitted tree, and a pair of filters."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import norm, rankdata

from densities.source_trees import Node, leaves, size_correlations
from findings.redundancy import Factorization
from lpnested import LpNestedTree

Array = NDArray[np.float64]
GREYS = {"cmap": "gray", "vmin": -1.0, "vmax": 1.0, "interpolation": "nearest"}
TICKS = (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.2, 1.5, 2, 3, 5, 10)  # of the colour bar of exponents
REACH = 3.2  # range of the normal scores shown


def rescale(patches: Array) -> Array:
    """Square patches ``(N, size, size)``, each scaled to a maximum absolute value of 1."""
    size = round(patches.shape[1] ** 0.5)
    return (patches / np.abs(patches).max(1, keepdims=True)).reshape(-1, size, size)


def mosaic(ax: Axes, patches: Array, title: str) -> None:
    """Patches side by side, row by row."""
    shown = rescale(patches)
    size, across = shown.shape[1], int(np.ceil(len(shown) ** 0.5))
    down = -(-len(shown) // across)
    sheet = np.ones((down * (size + 1) + 1, across * (size + 1) + 1))
    for k, patch in enumerate(shown):
        top, left = (k // across) * (size + 1) + 1, (k % across) * (size + 1) + 1
        sheet[top : top + size, left : left + size] = patch
    ax.imshow(sheet, **GREYS)
    ax.set(xticks=[], yticks=[], title=title)
    ax.spines[:].set_visible(False)


def filters(columns: Sequence[tuple[str, Array]]) -> Figure:
    """The filters of each model, and below them what each source adds to a patch."""
    picture, axes = plt.subplots(2, len(columns), figsize=(4.2 * len(columns), 8.6), squeeze=False)
    for (title, rows), (upper, lower) in zip(columns, axes.T, strict=True):
        mosaic(upper, rows, f"{title}: filters")
        mosaic(lower, np.linalg.pinv(rows).T, f"{title}: what each source adds")
    picture.tight_layout()
    return picture


def costs(lines: Sequence[dict[str, Any]], steps: Sequence[dict[str, Any]]) -> Figure:
    """Bits per component, and the gain of each model over the one before it."""
    picture, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True)
    names = [line["title"] for line in lines]
    for ax, found, first in ((left, lines, 0), (right, steps, 1)):
        values = [line["bits" if ax is left else "gain"] for line in found]
        means = np.array([value["mean"] for value in values])
        ends = np.array([[value["low"], value["high"]] for value in values]).T
        places = np.arange(len(values)) + first
        ax.errorbar(means, places, xerr=np.abs(ends - means), fmt="o", color="C0", capsize=3)
        ax.grid(axis="x", color="0.92")
        ax.spines[["top", "right"]].set_visible(False)
    left.set(xlabel="bits per component, held-out tiles", yticks=range(len(names)))
    left.set_yticklabels(names)
    left.invert_yaxis()
    right.set(xlabel="gain on the model above it, bits per component")
    right.set_xscale("symlog", linthresh=0.01)
    right.axvline(0, color="0.6", linewidth=1)
    picture.tight_layout()
    return picture


def tree(found: LpNestedTree, exponents: Sequence[float], rows: Array) -> Figure:
    """A fitted tree: a filter at every leaf, a coloured dot at every inner node."""
    order = leaves(found.root)
    place = {leaf: float(k) for k, leaf in enumerate(order)}
    rise = max(1.5, 0.05 * len(order))  # height between a node and one with twice as many leaves

    def centre(node: Node) -> tuple[float, float]:
        under = leaves(node)
        return float(np.mean([place[leaf] for leaf in under])), rise * float(np.log2(len(under)))

    picture, ax = plt.subplots(figsize=(max(6.0, 0.26 * len(order)), 6.0))
    shades, scale = plt.get_cmap("viridis"), LogNorm(min(exponents), max(exponents))
    for node, p in zip(found.nodes, exponents, strict=True):
        x, y = centre(node)
        for child in node:
            below, bottom = centre(child)
            ax.plot([x, below, below], [y, y, bottom], color="0.7", linewidth=0.9, zorder=1)
        ax.scatter(x, y, s=60, color=shades(scale(p)), edgecolor="0.3", linewidth=0.6, zorder=2)
    for k, leaf in enumerate(order):  # in two rows, so that filters can be twice as wide
        left, bottom = place[leaf] - 0.95, -2.1 * (1 + k % 2)
        ax.plot([place[leaf]] * 2, [0, bottom + 1.9], color="0.85", linewidth=0.7, zorder=0)
        ax.imshow(rescale(rows)[leaf], extent=(left, left + 1.9, bottom, bottom + 1.9), **GREYS)
    ax.set(xlim=(-1.2, len(order) + 0.2), ylim=(-4.4, centre(found.root)[1] + 1), aspect="equal")
    ax.set_axis_off()
    bar = picture.colorbar(
        ScalarMappable(scale, shades), ax=ax, label="exponent", shrink=0.4, pad=0.01
    )
    ticks = [p for p in TICKS if min(exponents) <= p <= max(exponents)]
    bar.set_ticks(ticks, labels=[f"{p:g}" for p in ticks], minor=False)
    bar.minorticks_off()
    return picture


def normal_scores(values: Array) -> Array:
    """Transform each column to a standard normal by its ranks; only the dependence is left."""
    return np.asarray(norm.ppf((rankdata(values, axis=0) - 0.5) / len(values)))


def contours(ax: Axes, pair: Array, title: str) -> None:
    """Density contours of two normal scores; dotted, those under independence."""
    edges = np.linspace(-REACH, REACH, 101)
    middles = (edges[1:] + edges[:-1]) / 2
    joint = gaussian_filter(np.histogram2d(*normal_scores(pair).T, bins=[edges, edges])[0], 4.0)
    product = np.outer(joint.sum(1), joint.sum(0)) / joint.sum()
    heights = product.max() * np.array([0.02, 0.05, 0.12, 0.3, 0.6])
    ax.contour(middles, middles, product.T, levels=heights, colors="0.6", linestyles=":")
    ax.contour(middles, middles, joint.T, levels=heights, cmap="viridis")
    ax.set(aspect="equal", title=title, xlabel="first, normal score", ylabel="second")


def pair(found: Factorization, chosen: tuple[int, int], rows: Array) -> Figure:
    """Two filters, and the dependence of their responses before and after the factorization."""
    picture, axes = plt.subplots(1, 4, figsize=(11, 3.8), width_ratios=[1, 1, 2.4, 2.4])
    for ax, leaf, word in zip(axes, chosen, ("first", "second"), strict=False):
        ax.imshow(rescale(rows)[leaf], **GREYS)
        ax.set(xticks=[], yticks=[], title=f"{word} filter")
    stages = (("before", found.before), ("after", found.after))
    for ax, (word, values) in zip(axes[2:], stages, strict=True):
        two = values[:, list(chosen)]
        contours(ax, two, f"{word}: corr of log sizes {size_correlations(two)[0, 1]:.2f}")
    picture.tight_layout()
    return picture
