"""The files that images.py writes, and the summary that it prints."""

import io
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import sklearn
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

import lpnested
from densities.source_trees import leaves, size_correlations
from densities.unmixing import Unmixing
from findings import image_plots
from findings.kept import Row, rounded, write_atomic, write_csv, write_json
from findings.redundancy import Factorization
from findings.rows_of_fits import flatten
from findings.words import table
from photographs.whitening import Whitening

FILES = {
    "results.json": "settings, versions, every model with its interval, the order, the redundancy",
    "models.csv": "the models, one per line",
    "fits.csv": "every fit from every start",
    "table.md": "the same, as readable tables",
    "costs.png": "bits per component, and the gain of each model",
    "filters.png": "filters of ICA and of the deep tree",
    "tree.png": "the deep tree with its exponents and filters",
    "pair.png": "a pair of filters before and after the factorization",
}


def versions() -> dict[str, str]:
    """Versions of everything that affects the numbers."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "lpnested": lpnested.__version__,
    }


def most_dependent_pair(found: Factorization, model: Unmixing) -> tuple[int, int]:
    """Of the pairs at the bottom of the tree, the one whose log sizes are most correlated."""
    pairs = [
        node
        for node in model.sources.tree.nodes
        if len(node) == 2 and all(isinstance(child, int) for child in node)
    ]
    correlations = size_correlations(found.before)
    best = max(pairs, key=lambda node: correlations[node[0], node[1]])
    return best[0], best[1]


def write_figure(picture: Figure, path: Path) -> None:
    """Save a figure as a small PNG without a date."""
    drawn = io.BytesIO()
    picture.savefig(drawn, format="png", dpi=90, bbox_inches="tight", metadata={"Software": None})
    plt.close(picture)
    write_atomic(drawn.getvalue(), path)


def write_results(
    results: dict[str, Any],
    rows: Sequence[Row],
    models: Mapping[str, Unmixing],
    sources: Factorization,
    whitening: Whitening,
    out: Path,
) -> None:
    """Write the tables and figures; `sources` are those of the deep tree."""
    matplotlib.use("agg")
    results = rounded({**results, "versions": versions()})
    write_json(results, out / "results.json")
    write_csv([flatten(line) for line in results["models"]], out / "models.csv")
    write_csv(rows, out / "fits.csv")
    write_atomic(f"{table(results)}\n".encode(), out / "table.md")
    filters = {
        name: model.weight.numpy() @ whitening.matrix
        for name, model in models.items()
        if name in ("ica", "nested-deep")
    }
    deep = models["nested-deep"]
    exponents = deep.sources.log_exponents.exp().tolist()
    order = list(leaves(deep.sources.tree.root))
    shown = [("ICA", filters["ica"]), ("Deep tree", filters["nested-deep"][order])]
    write_figure(image_plots.costs(results["models"], results["steps"]), out / "costs.png")
    write_figure(image_plots.filters(shown), out / "filters.png")
    picture = image_plots.tree(deep.sources.tree, exponents, filters["nested-deep"])
    write_figure(picture, out / "tree.png")
    chosen = most_dependent_pair(sources, deep)
    write_figure(image_plots.pair(sources, chosen, filters["nested-deep"]), out / "pair.png")


def summary(results: dict[str, Any], out: Path, seconds: float) -> str:
    """The models as a table, and a list of the files."""
    lines = ["", "bits per component of held-out tiles [95 %]   gain over the line above", ""]
    gains: list[dict[str, Any] | None] = [None, *results["steps"]]
    for line, step in zip(results["models"], gains, strict=True):
        value = line["bits"]
        head = f"{line['title']:22} {value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
        if step is not None:
            gain = step["gain"]
            head += f"  {gain['mean']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]"
            head += f"  {step['outcome']}"
        lines.append(head)
    lines.append("\nfactorial code before and after factorization, and mean |corr| of log sizes")
    for line in results["redundancy"]:
        before, after = line["before"]["mean"], line["after"]["mean"]
        lines.append(
            f"{line['title']:22} {before:.3f} -> {after:.3f}   "
            f"{line['size_correlation_before']:.3f} -> {line['size_correlation_after']:.3f}"
        )
    lines.append(f"\n{seconds:.0f} s. Written to {out}:")
    return "\n".join(lines + [f"  {name:13} {what}" for name, what in FILES.items()])
