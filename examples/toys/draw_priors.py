"""Draw figures 2, 3 and 4 of the paper, and the grid of forces."""

from pathlib import Path

import matplotlib
import torch
from torch import Tensor

from force import FILE, TABLE, unit_prior
from lpnested import LpNestedTree, functional, plot
from records import Row, read_csv, read_json

matplotlib.use("Agg")  # draws into files: no display needed
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

EQUATION_6 = LpNestedTree((0, (1, 2)))
ROOT, INNER = (0.7, 1.0, 2.0, 8.0), (1.0, 2.0, 8.0)  # p0 and p1 of figure 2
PLANES = (1.0, 2.2, 4.0)  # exponents of figure 3
LIMIT = 2.7
STRONG = 0.2  # nats at the ends of the colour scale


def sphere(rings: int) -> Tensor:
    """A grid of directions in space, (rings, 2 * rings - 1, 3)."""
    polar = torch.linspace(0, torch.pi, rings, dtype=torch.float64)[:, None]
    around = torch.linspace(0, 2 * torch.pi, 2 * rings - 1, dtype=torch.float64)
    height = polar.cos().expand(-1, len(around))
    return torch.stack([height, polar.sin() * around.cos(), polar.sin() * around.sin()], -1)


def figure2(_: Path) -> Figure:
    """Figure 2: iso-contours of equation 6 as surfaces, where the Lp-nested function is 1."""
    shape = (len(INNER), len(ROOT))
    figure = plt.figure(figsize=(9.6, 7.8), layout="constrained")
    axes = figure.subplots(*shape, subplot_kw={"projection": "3d"})
    for row, p1 in zip(axes, INNER, strict=True):
        for ax, p0 in zip(row, ROOT, strict=True):
            unit_surface(ax, p0, p1)
    figure.suptitle(
        r"$(|z_1|^{p_0} + (|z_2|^{p_1} + |z_3|^{p_1})^{p_0/p_1})^{1/p_0} = 1$"
        "   ($z_1$ points up; $z_2$ and $z_3$ share a node)",
        fontsize=12,
    )
    return figure


def unit_surface(ax: Axes, p0: float, p1: float) -> None:
    """Draw one surface: every direction divided by its norm."""
    directions = sphere(61)
    exponents = torch.tensor([p0, p1], dtype=torch.float64)
    points = directions / functional.norm(directions, exponents, EQUATION_6).unsqueeze(-1)
    z1, z2, z3 = points.unbind(-1)
    style = {"rstride": 2, "cstride": 2, "linewidth": 0.15, "edgecolor": "0.35"}
    ax.plot_surface(z2.numpy(), z3.numpy(), z1.numpy(), color="#9cc3e6", **style)
    ax.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1))
    ax.set_box_aspect((1, 1, 1), zoom=1.15)
    ax.view_init(elev=22, azim=28)
    ax.set_axis_off()
    ax.set_title(f"$p_0 = {p0:g},\\ p_1 = {p1:g}$", fontsize=11, y=1.0)


def figure3(results: Path) -> Figure:
    """Figure 3: leptokurtic and platykurtic priors against two uniform factors."""
    rows = {row["p"]: row for row in read_json(results / FILE)["plane"]}
    figure, axes = plt.subplots(1, len(PLANES), figsize=(10.5, 4.5), layout="constrained")
    for ax, p in zip(axes, PLANES, strict=True):
        square_on_prior(ax, p, rows[p])
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9)
    figure.suptitle("Two uniform factors in the plane of a prior with $p_0 = p$ and variance 1")
    return figure


def square_on_prior(ax: Axes, p: float, row: Row) -> None:
    """Draw the density with the supports of the aligned and the diagonal code."""
    plot.density(unit_prior([2], p, p), ax, limit=LIMIT)
    corners = 3**0.5 * torch.tensor([[-1.0, 1, 1, -1, -1], [-1, -1, 1, 1, -1]])
    diagonal = torch.stack([corners[0] - corners[1], corners[0] + corners[1]]) / 2**0.5
    ax.plot(*corners, color="tab:red", linewidth=2, label="along the axes")
    ax.plot(*diagonal, "--", color="tab:red", linewidth=2, label="diagonal")
    ax.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), xlabel="$z_1$", ylabel="$z_2$")
    kind = "leptokurtic" if p < 2 else "platykurtic"
    title = (
        f"{kind}, p = {p:g}: gain {row['gain']:+.3f} nats\n"
        f"E log p(z): {row['aligned']:.3f} axes, {row['diagonal']:.3f} diagonal"
    )
    ax.set_title(title.replace("-", "\N{MINUS SIGN}"), fontsize=10)


def figure4(_: Path) -> Figure:
    """Figure 4: the trees of equation 6 and of ISA."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), width_ratios=[3, 7], layout="constrained")
    trees = {"(a) equation 6": EQUATION_6, "(b) ISA": LpNestedTree.isa([2, 3, 2])}
    for ax, (title, tree) in zip(axes, trees.items(), strict=True):
        plot.tree(tree, ax=ax)
        ax.set_title(title)
    return figure


def force(results: Path) -> Figure:
    """Gain of aligned over diagonal codes, for every pair of exponents."""
    rows, size = read_csv(results / TABLE), read_json(results / FILE)["config"]["size"]
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 5.6), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.12)
    for ax, name in zip(axes, ("within", "across"), strict=True):
        heatmap(ax, rows, name)
    figure.suptitle(f"Gain of aligned over diagonal codes in nats, subspaces of {size} latents")
    return figure


def signed(value: float) -> str:
    """Format three digits with a sign, or 0."""
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}") if abs(value) >= 5e-4 else "0"


def heatmap(ax: Axes, rows: list[Row], name: str) -> None:
    """Draw one grid with its numbers."""
    exponents = sorted({float(row["p"]) for row in rows})
    values = torch.tensor([float(row[name]) for row in rows]).view(len(exponents), -1)
    ax.imshow(values.numpy(), cmap="RdBu", vmin=-STRONG, vmax=STRONG, origin="lower")
    for i, line in enumerate(values.tolist()):
        for j, value in enumerate(line):
            color = "white" if abs(value) > 0.6 * STRONG else "black"
            ax.text(j, i, signed(value), ha="center", va="center", fontsize=7.5, color=color)
    ticks = [f"{p:g}" for p in exponents]
    ax.set_xticks(range(len(ticks)), ticks)
    ax.set_yticks(range(len(ticks)), ticks)
    title = "the two factors within one subspace" if name == "within" else "in two subspaces"
    ax.set(xlabel="$p$", ylabel="$p_0$", title=title)
