"""Figures 5 and 6: MIG at beta = 1, and MIG and reconstruction against beta."""

from collections.abc import Sequence

import matplotlib
import numpy as np

from claims.dip import dip_p
from claims.questions import arms, betas, scores
from config import UsageError
from plots.style import NAMES, color, heading, lines
from sweeps.rows import Row

matplotlib.use("Agg")  # draws into files: no display needed
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def distributions(rows: Sequence[Row]) -> Figure:
    """Plot the MIG at beta = 1 and its parts per factor: runs, density and quartiles."""
    names = arms(rows)
    if 1.0 not in betas(rows):
        raise UsageError(f"{rows[0]['experiment']} has no runs at beta = 1")
    keys = dict.fromkeys(key for row in rows for key, value in row.items() if value is not None)
    factors = [key for key in keys if key.startswith("mig_") and "histogram" not in key]
    width = max(8.0, 1.15 * len(names) + 1.5)
    figure = plt.figure(figsize=(width, 7.6), layout="constrained")
    grid = figure.add_gridspec(2, max(1, len(factors)), height_ratios=[1.7, 1])
    whole = figure.add_subplot(grid[0, :])
    for place, arm in enumerate(names):
        cloud(whole, place, arm, list(scores(rows, arm, 1.0, "mig").values()))
    whole.set_xticks(range(len(names)), [label(rows, arm) for arm in names], fontsize=8.5)
    whole.set(ylabel="MIG", xlim=(-0.6, len(names) - 0.4))
    whole.grid(axis="y", color="0.9")
    ax = whole
    for k, key in enumerate(factors):
        ax = figure.add_subplot(grid[1, k], sharey=ax if k else None)
        ax.tick_params(labelleft=not k)
        for place, arm in enumerate(names):
            cloud(ax, place, arm, list(scores(rows, arm, 1.0, key).values()), small=True)
        ax.set_xticks([])
        ax.set_title(key.removeprefix("mig_"), fontsize=10)
        ax.grid(axis="y", color="0.9")
    title = "MIG at beta = 1 and its parts: runs, density, quartiles and median; diamond: mean"
    figure.suptitle(heading(rows, title), fontsize=11)
    return figure


def label(rows: Sequence[Row], arm: str) -> str:
    """Name of an arm, its number of runs, and the p value of unimodality."""
    here = [row for row in rows if row["arm"] == arm and float(row["beta"]) == 1]
    lost = sum(row["status"] == "diverged" for row in here)
    p = dip_p(list(scores(rows, arm, 1.0, "mig").values()))
    dip = "" if p is None else f"\none mode: p {p:.2f}" if p >= 0.005 else "\none mode: p < 0.01"
    return f"{arm}\nn = {len(here) - lost}{f', {lost} diverged' if lost else ''}{dip}"


def cloud(ax: Axes, place: float, arm: str, values: list[float], small: bool = False) -> None:
    """Draw runs to the left, quartiles in the middle and, from 8 runs, a density to the right."""
    if not values:
        ax.text(place, 0, "none", ha="center", fontsize=8, color="0.4")
        return
    shift = np.random.default_rng(0).uniform(-0.32, -0.08, len(values))
    ax.scatter(place + shift, values, s=6 if small else 13, color=color(arm), alpha=0.65, lw=0)
    if len(values) > 7 and np.ptp(values) > 0:
        violin = ax.violinplot(
            [values], [place + 0.06], widths=0.7, side="high", showextrema=False
        )
        violin["bodies"][0].set(facecolor=color(arm), alpha=0.25)
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
    ax.plot([place, place], [q1, q3], color=color(arm), lw=3, solid_capstyle="butt")
    ax.plot([place - 0.05, place + 0.12], [median, median], color=color(arm), lw=2)
    ax.plot(place, np.mean(values), "D", color="white", mec=color(arm), ms=3 if small else 5)


def trade_off(rows: Sequence[Row]) -> Figure:
    """Plot MIG and log p(x|z) against beta and against each other; crosses mark diverged runs."""
    figure, axes = plt.subplots(1, 3, figsize=(13.5, 4.9), layout="constrained")
    for arm in arms(rows):
        for ax, key in zip(axes, ("mig", "log_px"), strict=False):
            against_beta(ax, rows, arm, key)
        against_each_other(axes[2], rows, arm)
    for ax, key in zip(axes, ("mig", "log_px"), strict=False):
        ax.set(xlabel=r"$\beta$", ylabel=NAMES[key])
    axes[2].set(xlabel=NAMES["log_px"], ylabel="MIG")
    axes[2].set_title(r"medians; numbers: $\beta$ at the ends", fontsize=10)
    axes[0].set_title("median, quartiles, every run; cross: one diverged", fontsize=10)
    for ax in axes:
        ax.grid(color="0.92")
        ax.locator_params("x", nbins=6)
    handles, labels = axes[2].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=max(1, len(labels)))
    figure.suptitle(heading(rows, "MIG and reconstruction against beta"), fontsize=11)
    return figure


def against_beta(ax: Axes, rows: Sequence[Row], arm: str, key: str) -> None:
    """Plot one score of one arm; a cross at the bottom marks a diverged run."""
    found = {beta: list(scores(rows, arm, beta, key).values()) for beta in betas(rows, arm)}
    found = {beta: values for beta, values in found.items() if values}
    for beta, values in found.items():
        ax.plot([beta] * len(values), values, ".", color=color(arm), alpha=0.4, ms=5, mew=0)
    quartiles = [np.quantile(values, [0.25, 0.5, 0.75]) for values in found.values()]
    if quartiles:
        low, middle, high = np.array(quartiles).T
        ax.fill_between(list(found), low, high, color=color(arm), alpha=0.12, lw=0)
        ax.plot(list(found), middle, lines(arm), marker="o", ms=3.5, color=color(arm))
    lost = [row["beta"] for row in rows if row["arm"] == arm and row["status"] == "diverged"]
    if lost:
        foot = ax.get_xaxis_transform()
        ax.plot(lost, [0.03] * len(lost), "x", color=color(arm), transform=foot)


def against_each_other(ax: Axes, rows: Sequence[Row], arm: str) -> None:
    """Plot the trade-off of one arm: all runs, and the medians at each beta in order."""
    medians = {}
    for beta in betas(rows, arm):
        mig, log_px = (scores(rows, arm, beta, key) for key in ("mig", "log_px"))
        points = np.array([(log_px[seed], mig[seed]) for seed in mig.keys() & log_px.keys()])
        if len(points):
            ax.plot(*points.T, ".", color=color(arm), alpha=0.35, ms=5, mew=0)
            medians[beta] = np.median(points, axis=0)
    if not medians:
        return
    x, y = np.array(list(medians.values())).T
    ax.plot(x, y, lines(arm), marker="o", ms=4, color=color(arm), label=arm)
    for beta in {min(medians), max(medians)}:
        style = {"textcoords": "offset points", "fontsize": 8, "color": color(arm)}
        ax.annotate(f"{beta:g}", medians[beta], (4, 4), **style)
