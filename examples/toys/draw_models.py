"""Draw figure 1 of the paper, and the factor-analysis sweeps of appendix B.3 to B.5."""

import math
from pathlib import Path
from typing import Any

import matplotlib
import torch

import factor_analysis
import ica
from ica_fit import Config, draw
from records import Row, read_csv, read_json, require

matplotlib.use("Agg")  # draws into files: no display needed
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

SEED, BETA = 0, 3.0  # the fits that figure 1 shows


def figure1(results: Path) -> Figure:
    """Figure 1: true weights, those of VI and beta-VI, and the shortest weight during each fit."""
    rows, settings = read_csv(results / ica.TABLE), read_json(results / ica.FILE)["config"]
    require({1.0, BETA} <= set(settings["betas"]), "--betas of ica.py", f"1 and {BETA}", settings)
    config = Config(**{key: settings[key] for key in ("nu", "noise_std", "angles", "num")})
    x, steps = draw(config, SEED), settings["em_steps"]
    figure, axes = plt.subplots(2, 3, figsize=(11, 7.2), layout="constrained")
    panels = [
        (axes[0, 0], "the truth", 1.0, "truth", 0),
        (axes[0, 1], f"VI, {steps} steps of EM", 1.0, "em", steps),
        (axes[0, 2], rf"$\beta$-VI ($\beta = {BETA:g}$), {steps} steps", BETA, "em", steps),
        (axes[1, 1], "VI, at the maximum", 1.0, "converged", steps),
        (
            axes[1, 2],
            rf"$\beta$-VI ($\beta = {BETA:g}$), at the maximum",
            BETA,
            "converged",
            steps,
        ),
    ]
    for ax, title, beta, stage, step in panels:
        ax.scatter(*x.T, s=5, color="0.72", linewidths=0)
        weights(ax, find(rows, beta, stage, step))
        ax.set(xlim=(-4.5, 4.5), ylim=(-4.5, 4.5), aspect="equal", title=title)
        ax.set(xlabel="$x_1$", ylabel="$x_2$")
    shortest(axes[1, 0], rows)
    return figure


def find(rows: list[Row], beta: float, stage: str, step: int) -> Row:
    """The row of the table for the figure's seed."""
    key = (SEED, beta, stage, step)
    return next(r for r in rows if (r["seed"], r["beta"], r["stage"], r["em_step"]) == key)


def weights(ax: Axes, row: Row) -> None:
    """Draw each weight at twice its length in both directions; a dot marks a pruned one."""
    for k, color in enumerate(("tab:blue", "tab:orange", "tab:green")):
        norm, angle = float(row[f"norm_{k}"]), math.radians(float(row[f"degrees_{k}"]))
        x, y = 2 * norm * math.cos(angle), 2 * norm * math.sin(angle)
        ax.plot([-x, x], [-y, y], color=color, linewidth=2.5, label=f"{norm:.2f}")
        if norm < ica.PRUNED:
            ax.plot(0, 0, "o", color=color, markersize=8, markeredgecolor="black", zorder=3)
    ax.legend(title="norms", fontsize=8, title_fontsize=8, loc="upper right")


def shortest(ax: Axes, rows: list[Row]) -> None:
    """Plot the norm of the shortest weight during every fit."""
    betas = sorted({float(row["beta"]) for row in rows})
    last = max(float(row["em_step"]) for row in rows)
    for beta, color in zip(betas, plt.cm.viridis([0.05, 0.45, 0.8, 0.9, 1.0]), strict=False):
        for seed in sorted({row["seed"] for row in rows}):
            fit = [r for r in rows if (r["seed"], r["beta"]) == (seed, beta)]
            path = [r for r in fit if r["stage"] != "converged"]
            norms = [ica.smallest_norm(r) for r in path]
            label = rf"$\beta$ = {beta:g}" if seed == 0 else None
            ax.plot([r["em_step"] for r in path], norms, color=color, linewidth=1.2, label=label)
            end = ica.smallest_norm(fit[-1])
            ax.plot([last, 1.15 * last], [norms[-1], end], ":", color=color, linewidth=0.9)
            ax.plot(1.15 * last, end, "o", color=color, markersize=4, clip_on=False)
    ax.set(xlabel="steps of EM; dots: the maximum", ylabel="norm of the shortest weight")
    ax.set(ylim=(-0.02, 1.2), title="all data sets")
    ax.legend(fontsize=9, ncols=len(betas), loc="upper center")


def sweeps(results: Path) -> dict[str, Any]:
    """Read the results of factor analysis."""
    return read_json(results / factor_analysis.FILE)


def rotation(results: Path) -> Figure:
    """B.3: rotating the latent space of factor analysis."""
    sweep = sweeps(results)["rotation"]
    figure, axes = plt.subplots(
        1, 4, figsize=(12.5, 3.4), width_ratios=[1.9, 1, 1, 1], layout="constrained"
    )
    bounds(axes[0], sweep, "degrees", "rotation of the latent space, degrees")
    axes[0].set_xticks([0, 22.5, 45, 67.5, 90])
    for ax, posterior in zip(axes[1:], sweep["posteriors"], strict=True):
        ellipses(ax, posterior)
    axes[3].legend(fontsize=8, loc="lower right")
    return figure


def bounds(ax: Axes, sweep: dict[str, Any], key: str, label: str) -> None:
    """Plot log likelihood and free energy against the swept quantity."""
    ax.plot(sweep[key], sweep["log_likelihood"], color="0.3", label="log likelihood")
    ax.plot(sweep[key], sweep["free_energy"], color="tab:blue", label="free energy")
    ax.set(xlabel=label, ylabel="nats")
    ax.legend(fontsize=9)


def ellipses(ax: Axes, posterior: dict[str, Any]) -> None:
    """Draw contours of both posteriors at one and two standard deviations, for a datum at 0."""
    exact = torch.tensor(posterior["exact_covariance"], dtype=torch.float64)
    factorised = torch.tensor(posterior["mean_field_variance"], dtype=torch.float64).diag()
    for covariance, color, label in (
        (exact, "0.3", "exact"),
        (factorised, "tab:blue", "mean field"),
    ):
        values, vectors = torch.linalg.eigh(covariance)
        angle = math.degrees(math.atan2(vectors[1, 1], vectors[0, 1]))
        for radius in (1, 2):
            height, width = (2 * radius * values.sqrt()).tolist()
            name = label if radius == 1 else None
            style = {"fill": False, "edgecolor": color, "linewidth": 1.6, "label": name}
            ax.add_patch(Ellipse((0, 0), width, height, angle=angle, **style))
    ax.set(xlim=(-1.7, 1.7), ylim=(-1.7, 1.7), aspect="equal", xlabel="$z_1$", ylabel="$z_2$")
    ax.set_title(f"posterior at {posterior['degrees']:g} degrees", fontsize=10)


def pruning(results: Path) -> Figure:
    """B.4: a component split into two copies."""
    sweep = sweeps(results)["pruning"]
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
    bounds(axes[0], sweep, "rho", r"$\rho$")
    rho = torch.tensor(sweep["rho"])
    axes[1].plot(rho, (1 - rho.square()).sqrt(), color="tab:orange", label="first copy")
    axes[1].plot(rho, rho, color="tab:green", label="second copy")
    axes[1].set(xlabel=r"$\rho$", ylabel="norm, relative to the whole")
    axes[1].legend(fontsize=9)
    axes[0].set_title("one copy pruned at either end", fontsize=10)
    axes[1].set_title("the same component, shared by two latents", fontsize=10)
    return figure


def beta(results: Path) -> Figure:
    """B.5: the objective of beta-VI against rotation, and its pruning at fixed noise."""
    found = sweeps(results)
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 3.8), layout="constrained")
    for row, color in zip(found["beta"], plt.cm.viridis([0.0, 0.3, 0.55, 0.75]), strict=False):
        objective = torch.tensor(row["objective"], dtype=torch.float64)
        scaled = (objective - objective.max()) / row["beta"]
        label = rf"$\beta$ = {row['beta']:g}: {row['ripple']:.1f}"
        axes[0].plot(found["rotation"]["degrees"], scaled, color=color)
        axes[0].text(45, scaled.min() - 1, label, color=color, ha="center", va="top", fontsize=8)
    axes[0].set(xlabel="rotation of the latent space, degrees")
    axes[0].set(ylabel=r"(objective $-$ its maximum) / $\beta$, nats")
    axes[0].set_xticks([0, 22.5, 45, 67.5, 90])
    axes[0].margins(y=0.1)
    axes[0].set_title("with the loss at 45 degrees, not divided", fontsize=10)
    axes[1].set_title("pruning at a fixed noise", fontsize=10)
    pruned(axes[1], found["noise"])
    return figure


def pruned(ax: Axes, rows: list[dict[str, Any]]) -> None:
    """Plot squared norms of the best weights against beta: formula (lines), search (dots)."""
    betas = [row["beta"] for row in rows]
    for k, (color, name) in enumerate((("tab:blue", "stronger"), ("tab:orange", "weaker"))):
        ax.plot(betas, [row["formula"][k] for row in rows], color=color, label=name)
        ax.plot(betas, [row["found"][k] for row in rows], "o", color=color, markersize=3.5)
    ax.set(xlabel=r"$\beta$", ylabel="squared norm of the best weights")
    ax.legend(title="component", fontsize=9, title_fontsize=9)
