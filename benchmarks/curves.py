"""The pictures: log_prob beside its peers, and how its cost grows."""

from pathlib import Path

import matplotlib
import numpy as np
from densities import FORWARD, IN_BOTH, IN_VALUE, MODES, NORMAL, OURS
from lookup import Row, curve, pick
from measure_scaling import CURVES, Curve
from tables import Results, contenders_of

matplotlib.use("Agg")  # draws into files: no display needed
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

STYLE = {
    "figure.dpi": 130,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
SHORT = {FORWARD: "forward", IN_VALUE: "+ backward in z", IN_BOTH: "+ exponents"}

NOTHING = dict.fromkeys(("median", "q1", "q3"), float("nan"))


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the pictures that the rows allow."""
    written = []
    with plt.style.context(STYLE):
        for name, picture in (("log_prob", bars), ("scaling", scaling)):
            figure = picture(results["rows"])
            if figure is not None:
                path = folder / f"{name}.png"
                temporary = path.with_name(f".{path.name}")
                figure.savefig(temporary, format="png")
                plt.close(figure)
                temporary.replace(path)
                written.append(path)
    return written


def bars(rows: list[Row]) -> plt.Figure | None:
    """A panel for each mode: contenders on the layouts, at the N with the most of them."""
    rows = pick(rows, group="log_prob")
    counts = [row["N"] for row in rows]
    if not counts:
        return None
    count = max(sorted(set(counts)), key=counts.count)
    figure, axes = plt.subplots(1, len(MODES), figsize=(11, 3.4), sharey=True)
    names = [name for name in contenders_of(rows) if name != NORMAL]
    for ax, mode in zip(axes, MODES, strict=True):
        bar_panel(ax, [r for r in rows if r["N"] == count and r["mode"] == mode], names)
        ax.set_title(SHORT[mode])
    axes[0].set_ylabel("time / Independent(Normal)")
    handles = [plt.Rectangle((0, 0), 1, 1, color=f"C{k}") for k in range(len(names))]
    figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    axes[1].set_xlabel(f"log_prob at N = {count:,}, one thread; bars: median, lines: quartiles")
    return figure


def bar_panel(ax: Axes, rows: list[Row], names: list[str]) -> None:
    """Bars of each contender beside those of the others, for each layout."""
    there = [name for name in names if name in contenders_of(rows)]
    width = 0.8 / max(1, len(there))
    for k, name in enumerate(there):
        ratios = [row["contenders"].get(name, {}).get("ratio", NOTHING) for row in rows]
        median, q1, q3 = (np.array([ratio[key] for ratio in ratios]) for key in NOTHING)
        place = np.arange(len(rows)) + (k - (len(there) - 1) / 2) * width
        error = [median - q1, q3 - median]
        color = f"C{names.index(name)}"
        ax.bar(place, median, width, color=color, yerr=error, error_kw={"lw": 0.8})
    ax.axhline(1, color="0.5", lw=0.8)
    ax.set_yscale("log")
    ax.set_xticks(range(len(rows)), [row["layout"].replace(", ", ",\n") for row in rows])


def scaling(rows: list[Row]) -> plt.Figure | None:
    """A panel for each curve."""
    if not pick(rows, group="scaling"):
        return None
    figure, axes = plt.subplots(1, len(CURVES), figsize=(13, 3.2))
    for ax, each in zip(axes, CURVES, strict=True):
        scaling_panel(ax, each, rows)
    axes[0].set_ylabel("seconds per call")
    return figure


def scaling_panel(ax: Axes, each: Curve, rows: list[Row]) -> None:
    """Time of both contenders in both modes.

    Where linear growth is the claim, axes are logarithmic and it is a line of slope 1; where a
    constant cost of every level or node is, axes are linear and it is any straight line.
    """
    for color, name in enumerate((OURS, each.peer)):
        for style, mode in (("o-", FORWARD), ("s--", IN_VALUE)):
            if points := curve(rows, each.name, mode, name):
                x, y = zip(*points.items(), strict=True)
                label = f"{name}, {SHORT[mode]}"
                ax.plot(x, y, style, color=f"C{color}", markersize=3, label=label)
    ax.set_xlabel(each.name)
    ax.set_title(each.fixed, fontsize=8)
    points = curve(rows, each.name, FORWARD)
    if points and each.name in ("N", "n"):
        x = np.array(list(points))
        ax.plot(x, points[x[-1]] * x / x[-1], ":", color="0.5", label="linear")
        ax.set(xscale="log", yscale="log")
    elif points:
        ax.set_ylim(0)
    if points:
        ax.legend(fontsize=6)
