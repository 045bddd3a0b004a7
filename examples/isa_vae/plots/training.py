"""Figure 7 and the course of training: exponents, and the terms of the objective."""

from collections.abc import Sequence

import matplotlib
import numpy as np

from claims.questions import arms, betas
from config import UsageError
from plots.style import NAMES, color, heading, lines
from sweeps.rows import Row

matplotlib.use("Agg")  # draws into files: no display needed
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def exponents_of(rows: Sequence[Row]) -> list[str]:
    """Names p1, p2, ... of the exponents in the rows."""
    found = {k for row in rows for k in row if k[:1] == "p" and k[1:].isdigit() and k != "p0"}
    return sorted(found, key=lambda k: int(k[1:]))


def learners(rows: Sequence[Row]) -> list[Row]:
    """All runs of the arms that learn their exponents, including diverged ones."""
    return [row for row in rows if "learned" in row["arm"]]


def learned(rows: Sequence[Row]) -> list[Row]:
    """The finished runs of the arms that learn their exponents."""
    found = [row for row in learners(rows) if row["status"] == "done"]
    if not found or not exponents_of(found):
        experiment = rows[0]["experiment"]
        raise UsageError(
            f"{experiment} has no finished run that learns exponents. To make some, run\n"
            "  python examples/isa_vae/sweep.py fig7-quick"
        )
    return found


def histograms(rows: Sequence[Row]) -> Figure:
    """Plot histograms of the learned exponents, sorted within each run: p_(1) <= p_(2) <= ..."""
    runs = learned(rows)
    keys = exponents_of(runs)
    table = np.sort([[row[key] for key in keys] for row in runs], axis=1)
    marks = {float(row["p0"]) for row in runs if row.get("p0") is not None}
    starts = {float(p) for row in runs for p in row.get("config", {}).get("p", ())}
    ends = [*table.ravel(), *marks, *starts]
    bins = np.linspace(min(ends) - 0.02, max(ends) + 0.02, 25)
    size = (max(7.0, 2.6 * len(keys)), 3.9)
    figure, axes = plt.subplots(
        1, len(keys), figsize=size, sharey=True, sharex=True, squeeze=False, layout="constrained"
    )
    shades = dict(
        zip(betas(runs), plt.cm.viridis(np.linspace(0.15, 0.85, len(betas(runs)))), strict=True)
    )
    for k, ax in enumerate(axes[0]):
        parts = [
            [p for p, row in zip(table[:, k], runs, strict=True) if row["beta"] == b]
            for b in shades
        ]
        names = [rf"$\beta$ = {b:g}" for b in shades]
        ax.hist(parts, bins, stacked=True, color=list(shades.values()), label=names)
        for p0 in sorted(marks):
            ax.axvline(p0, color="0.2", ls="--", lw=1.2, label=f"$p_0$ = {p0:g} (fixed)")
        for start in sorted(starts):
            ax.axvline(start, color="tab:red", ls=":", lw=1.2, label=f"start, {start:g}")
        ax.set_title(f"$p_{{({k + 1})}}$: median {np.median(table[:, k]):.2f}", fontsize=10)
        ax.set_xlabel("exponent")
    axes[0, 0].set_ylabel("runs")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    title = f"Learned exponents of {', '.join(arms(runs))}, sorted within each run"
    figure.suptitle(heading(learners(rows), title), fontsize=11)
    return figure


def histories(rows: Sequence[Row]) -> list[Row]:
    """The rows that include their training history."""
    found = [row for row in rows if isinstance(row.get("history"), list) and row["history"]]
    if not found:
        raise UsageError(
            "published tables and diverged runs have no training history: give the folder of the "
            f"sweep, made by\n  python examples/isa_vae/sweep.py {rows[0]['experiment']}"
        )
    return found


def curve(row: Row, key: str) -> tuple[list[int], list[float]]:
    """Steps, and the values of a term at each of them."""
    lines = [line for line in row["history"] if line.get(key) is not None]
    return [line["step"] for line in lines], [line[key] for line in lines]


def trajectories(rows: Sequence[Row]) -> Figure:
    """Plot the exponents during training, one panel per final rank."""
    runs = histories(learned(rows))
    keys = exponents_of(runs)
    size = (max(7.0, 2.6 * len(keys)), 3.8)
    figure, axes = plt.subplots(
        1, len(keys), figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    for row in runs:
        order = sorted(keys, key=lambda key: row[key])
        for ax, key in zip(axes[0], order, strict=True):
            ax.plot(*curve(row, key), color=color(row["arm"]), alpha=0.55, lw=0.9)
    for k, ax in enumerate(axes[0]):
        ax.axhline(runs[0]["p0"], color="0.2", ls="--", lw=1.2)
        ax.set_title(f"ends as $p_{{({k + 1})}}$", fontsize=10)
        ax.set_xlabel("step")
        ax.grid(color="0.92")
    axes[0, 0].set_ylabel("exponent (dashed: $p_0$)")
    figure.suptitle(heading(learners(rows), "Learned exponents during training"), fontsize=11)
    return figure


def training(rows: Sequence[Row]) -> Figure:
    """Plot the objective, log p(x|z) and KL during training, at up to three of the betas."""
    runs, terms = histories(rows), ("objective", "log_px", "kl")
    grid = betas(runs)
    most = max(len(arms(row for row in runs if row["beta"] == beta)) for beta in grid)
    grid = [b for b in grid if len(arms(row for row in runs if row["beta"] == b)) == most]
    chosen = sorted({grid[0], grid[len(grid) // 2], grid[-1]})
    size = (12.0, 1.6 + 2.7 * len(chosen))
    figure, axes = plt.subplots(
        len(chosen), 3, figsize=size, squeeze=False, sharex=True, layout="constrained"
    )
    for line, beta in zip(axes, chosen, strict=True):
        for ax, key in zip(line, terms, strict=True):
            curves(ax, [row for row in runs if float(row["beta"]) == beta], key)
            ax.set(ylabel=NAMES[key])
            ax.set_title(rf"$\beta$ = {beta:g}", fontsize=10)
            ax.grid(color="0.92")
    for ax in axes[-1]:
        ax.set_xlabel("step")
    handles = [plt.Line2D([], [], color=color(a), ls=lines(a), label=a) for a in arms(runs)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(7, len(handles)))
    title = "Training: median over the runs of an arm, and every run"
    figure.suptitle(heading(rows, title), fontsize=11)
    return figure


def curves(ax: Axes, runs: Sequence[Row], key: str) -> None:
    """Plot one term of all runs; the axis leaves out the steep beginning."""
    tails: list[float] = []
    for arm in arms(runs):
        runs_of_arm = [curve(row, key) for row in runs if row["arm"] == arm]
        found: dict[int, list[float]] = {}
        for steps, values in runs_of_arm:
            ax.plot(steps, values, color=color(arm), alpha=0.15, lw=0.7)
            tails += values[len(values) // 5 :]
            for step, value in zip(steps, values, strict=True):
                found.setdefault(step, []).append(value)
        middle = [float(np.median(found[step])) for step in sorted(found)]
        ax.plot(sorted(found), middle, lines(arm), color=color(arm), lw=1.7)
    if tails and np.ptp(tails) > 0:
        low, high = np.quantile(tails, [0.005, 1])
        ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
