"""The figure of mechanism.py: angle and MIG of every run."""

from collections.abc import Sequence

import matplotlib
import numpy as np

from disks.angles import LINEAR, Row, values
from disks.autoencoders import Arm

matplotlib.use("Agg")  # draws into files: no display needed
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

CHANCE = 22.5  # mean and median of an angle without any preference
LOW, ZERO, HIGH, CONTROL = "tab:red", "0.35", "tab:blue", "tab:purple"


def colour(arm: Arm, force: float) -> str:
    """Colour of an arm by what its prior favours: the diagonal, nothing, the axes; or control."""
    if arm.diamond:
        return CONTROL
    return ZERO if arm.exponents is None else HIGH if force > 0 else LOW


def strip(ax: Axes, place: int, rows: Sequence[Row], arm: Arm, key: str, shade: str) -> None:
    """Draw all runs of an arm: hollow if the code is folded, a cross if one unit is active."""
    mine = [row for row in rows if row["arm"] == arm.name and row[key] is not None]
    shift = np.random.default_rng(0).uniform(-0.2, 0.2, len(mine))
    for row, aside in zip(mine, shift, strict=True):
        marker = "o" if row["counted"] else "x"
        face = "white" if row["counted"] and row["r2"] < LINEAR else shade
        edge = {"edgecolors": shade} if row["counted"] else {}
        ax.scatter(
            place + aside, row[key], s=22, marker=marker, c=face, linewidths=1.1, zorder=2, **edge
        )
    counted = values(rows, arm.name, key)
    if len(counted):
        ends = (place - 0.32, place + 0.32)
        ax.hlines(np.median(counted), *ends, color="black", linewidth=2.2, zorder=3)
        ax.hlines(counted.mean(), *ends, color="black", linewidth=1.4, ls=":", zorder=3)


def legend(ax: Axes) -> None:
    """Draw the legend of marks and lines."""
    marks: list[tuple[str, dict[str, object]]] = [
        ("run", {"marker": "o", "color": ZERO, "ls": ""}),
        (f"run with a folded code ($R^2 < {LINEAR}$)", {"marker": "o", "mfc": "white"}),
        ("run with one active unit, not counted", {"marker": "x"}),
        ("median of the counted runs", {"color": "black", "linewidth": 2.2}),
        ("mean", {"color": "black", "linewidth": 1.4, "ls": ":"}),
    ]
    base: dict[str, object] = {"color": ZERO, "markersize": 5}
    handles = [
        Line2D([], [], label=text, **(base | ({"ls": ""} if "marker" in m else {}) | m))
        for text, m in marks
    ]
    ax.legend(handles=handles, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5)


def figure(rows: Sequence[Row], arms: Sequence[Arm], forces: Sequence[float]) -> Figure:
    """Draw angles above and MIG below, one column per arm."""
    picture, axes = plt.subplots(2, sharex=True, figsize=(11, 7.5), layout="constrained")
    for place, (arm, force) in enumerate(zip(arms, forces, strict=True)):
        for ax, key in zip(axes, ("angle", "mig"), strict=True):
            strip(ax, place, rows, arm, key, colour(arm, force))
    end = len(arms) - 0.5
    axes[0].hlines(CHANCE, -0.6, end, color="0.6", linewidth=1, ls="--", zorder=1)
    axes[0].text(end + 0.05, CHANCE, "chance", color="0.4", fontsize=9, va="center")
    axes[0].set(ylim=(-1.5, 46.5), yticks=[0, 15, 30, 45])
    axes[0].set_ylabel("angle between code and factors\n0: aligned, 45: diagonal")
    axes[1].set(ylim=(-0.03, 1.03), ylabel="MIG of posX and posY")
    labels = [
        f"{arm.label}\n{f'{force:+.3f} nats' if arm.exponents else 'no force'}"
        for arm, force in zip(arms, forces, strict=True)
    ]
    axes[1].set_xticks(range(len(arms)), labels)
    axes[1].set_xlim(-0.6, len(arms) + 0.1)
    legend(axes[0])
    for ax in axes:
        ax.grid(axis="y", color="0.92")
        ax.spines[["top", "right"]].set_visible(False)
    return picture
