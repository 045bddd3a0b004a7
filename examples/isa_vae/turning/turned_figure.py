"""The figure and the summary of rotation.py."""

import itertools
import statistics
from collections.abc import Iterable, Sequence

import matplotlib
import numpy as np

from plots.style import color, lines
from turning.gains import ANGLES, Row

matplotlib.use("Agg")  # draws into files: no display needed
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

KINDS = ("within", "across")
LINEAR = 0.02  # approximate extent in nats of the linear part of the prior term's axis
NEGLIGIBLE = 1e-5  # nats below which a prior makes no difference
TICKS = (-1, -0.3, -0.1, -0.03, -0.01, 0, 0.01, 0.03, 0.1, 0.3, 1)


def distinct(rows: Iterable[Row], key: str) -> list[str]:
    """Distinct values of a column, in order of appearance."""
    return list(dict.fromkeys(row[key] for row in rows))


def curves(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """Group the rows by model and plane; each group is ordered by angle."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["model"], row["plane"]), []).append(row)
    return found


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Average over all planes of a kind, for every training prior and every evaluated prior."""
    groups = itertools.product(distinct(rows, "arm"), KINDS, distinct(rows, "prior"))
    found = []
    for arm, kind, prior in groups:
        mine = [r for r in rows if (r["arm"], r["kind"], r["prior"]) == (arm, kind, prior)]
        if mine:
            found.append({"arm": arm, "kind": kind, "prior": prior} | group_summary(mine))
    return found


def group_summary(rows: Sequence[Row]) -> Row:
    """Summarise the planes of a kind under one prior, with the steeper slope and mean noise."""
    planes = curves(rows).values()
    change = [[row["change_prior"] for row in plane] for plane in planes]
    slope = [max(abs(r["slope_prior"]) for r in plane if "slope_prior" in r) for plane in planes]
    noise = statistics.fmean(row["noise_bound"] for row in rows if "noise_bound" in row)
    summed = [s * plane[0]["steps"] ** 0.5 for s, plane in zip(slope, planes, strict=True)]
    return {
        "models": len(distinct(rows, "model")),
        "planes": len(planes),
        "range_prior": statistics.fmean(max(c) - min(c) for c in change),
        "aligned": aligned(rows),
        "aligned_of_models": [
            aligned([row for row in rows if row["model"] == model])
            for model in distinct(rows, "model")
        ],
        "change_prior_45": statistics.fmean(c[ANGLES.index(45.0)] for c in change),
        "largest_change_prior": max(abs(x) for c in change for x in c),
        "lowest_change_bound": statistics.fmean(min(r["change_bound"] for r in p) for p in planes),
        "slope_prior": statistics.fmean(slope),
        "noise_bound": noise,
        "signal_to_noise_step": statistics.fmean(slope) / noise,
        "signal_to_noise_training": statistics.fmean(summed) / noise,
    }


def aligned(rows: Sequence[Row]) -> float | None:
    """Position of the prior's term between its lowest (0) and highest (1) over all angles.

    It is 1 if all codes have the orientation that the prior favours most, and None if the prior
    does not depend on the angle.
    """
    change = [[row["change_prior"] for row in plane] for plane in curves(rows).values()]
    lowest, highest = (sum(end(c) for c in change) for end in (min, max))
    extent = highest - lowest
    return -lowest / extent if extent > NEGLIGIBLE * len(change) else None


COLUMNS = {
    "range_prior": ("range", 3),
    "aligned": ("aligned", 2),
    "change_prior_45": ("at 45", 3),
    "largest_change_prior": ("largest", 3),
    "lowest_change_bound": ("bound falls", 2),
    "slope_prior": ("slope", 4),
    "noise_bound": ("its noise", 3),
    "signal_to_noise_step": ("ratio, step", 3),
    "signal_to_noise_training": ("training", 1),
}


def as_text(summary: Sequence[Row]) -> str:
    """Format the means, one line per evaluated prior."""
    titles = "".join(f"  {title}" for title, _ in COLUMNS.values())
    text = [f"{'trained with':<14}{'planes':<11}{'prior':<14}{titles}"]
    for row in summary:
        line = f"{row['arm']:<14}{row['planes']:<3} {row['kind']:<7}{row['prior']:<14}"
        for key, (title, digits) in COLUMNS.items():
            value = row[key]
            number = "" if value is None else f"{value:.{digits}f}"
            line += f"{number:>{len(title) + 2}}"
        text.append(line)
    return "\n".join(text)


def figure(rows: Sequence[Row], label: str) -> Figure:
    """Plot nats against degrees, with a row of panels for each prior that models trained with."""
    arms = distinct(rows, "arm")
    size = (14, 1.4 + 2.9 * len(arms))
    picture = plt.figure(figsize=size, layout="constrained")
    axes = picture.subplots(len(arms), 4, sharex=True, squeeze=False)
    for line, arm in zip(axes, arms, strict=True):
        mine = [row for row in rows if row["arm"] == arm]
        line[1].sharey(line[0])
        line[3].sharey(line[2])
        for k, kind in enumerate(KINDS):
            part = [row for row in mine if row["kind"] == kind]
            prior_panel(line[k], part)
            bound_panel(line[2 + k], part)
        edge = max(LINEAR, 1.2 * max(abs(row["change_prior"]) for row in mine))
        line[0].set_ylim(-edge, edge)
        count = len(distinct(mine, "model"))
        line[0].set_ylabel(f"{count} model{'s' * (count > 1)} with {arm}\nnats")
    for k, kind in enumerate(KINDS):
        axes[0, k].set_title(f"prior's term, {kind} subspaces", fontsize=10)
        axes[0, 2 + k].set_title(f"whole bound, mean field, {kind}", fontsize=10)
    for ax in axes[-1]:
        ax.set(xlabel="degrees", xticks=range(0, 91, 15), xlim=(0, 90))
    handles = {h.get_label(): h for ax in axes.flat for h in ax.get_legend_handles_labels()[0]}
    picture.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles)
    )
    picture.suptitle(label, fontsize=11)
    return picture


def draw_curves(ax: Axes, rows: Sequence[Row], key: str, thin: Sequence[str]) -> None:
    """Draw the mean of each evaluated prior as a thick line, and planes of some as thin lines."""
    for prior in distinct(rows, "prior"):
        planes = curves(row for row in rows if row["prior"] == prior).values()
        values = np.array([[row[key] for row in plane] for plane in planes])
        style = {"color": color(prior), "ls": lines(prior)}
        if prior in thin:
            ax.plot(ANGLES, values.T, lw=0.6, alpha=0.45, **style)
        ax.plot(ANGLES, values.mean(0), lw=2, label=f"under {prior}", **style)
    ax.grid(color="0.92")
    if not rows:
        ax.text(0.5, 0.5, "no plane", transform=ax.transAxes, ha="center", color="0.4")


def prior_panel(ax: Axes, rows: Sequence[Row]) -> None:
    """Plot the change of E log p(z), with the gradient noise for comparison."""
    draw_curves(ax, rows, "change_prior", distinct(rows, "prior"))
    own = [row for row in rows if row["prior"] == row["arm"] and "noise_bound" in row]
    if own:
        slope = statistics.fmean(row["noise_bound"] / row["steps"] ** 0.5 for row in own)
        edge = slope * np.deg2rad(ANGLES)
        text = "noise of the mean gradient of a training, one deviation"
        ax.fill_between(ANGLES, -edge, edge, color="0.6", alpha=0.25, lw=0, label=text, zorder=0)
    ax.set_yscale("asinh", linear_width=LINEAR)
    ax.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
    ax.minorticks_off()


def bound_panel(ax: Axes, rows: Sequence[Row]) -> None:
    """Plot the change of the whole ELBO; single planes only under the model's own prior."""
    draw_curves(ax, rows, "change_bound", distinct(rows, "arm"))
