"""Draw figures, verdicts or a report of a sweep: `python examples/isa_vae/figures.py --help`."""

import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib
import tyro
from tqdm import tqdm

from claims.questions import betas, first_look, looked_at
from claims.verdicts import write_verdicts
from config import UsageError
from plots.appendix import draw_appendix
from plots.gaps import distributions, trade_off
from plots.page import write_page
from plots.training import histograms, training, trajectories
from running.files import write_atomic
from running.folders import require_folder
from running.process import exit_status
from sweeps.experiments import experiments
from sweeps.rows import Row, read_rows

matplotlib.use("Agg")  # draws into files: no display needed
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

What = Literal[
    "fig5a", "fig5b", "fig5c", "fig6", "fig7", "exponents", "training", "a5", "verdicts", "report"
]


@dataclass(frozen=True)
class Config:
    """Draw a figure of the paper from the runs of a sweep, judge the paper's claims, or report.

    fig5a: MIG at beta = 1, one dot per run. fig5b, fig5c, fig6: MIG and reconstruction against
    beta, and against each other. fig7: histograms of the learned exponents. exponents: the
    exponents during training. training: the objective and its terms during training. a5: the
    representative model of each arm, from a sweep with --keep-models: latents against factors,
    and traversal. verdicts: the table of differences. report: everything as one self-contained
    HTML page.
    """

    what: tyro.conf.Positional[What]
    """Output to produce."""
    source: tyro.conf.Positional[Path] = Path("runs/sweeps")
    """Folder of one or several sweeps, or a table as published in results/. exponents and
    training need the folder."""
    experiment: str | None = None
    """Name of the experiment, if the source has several, e.g. fig5a-quick."""
    out: Path | None = None
    """File to write (png, pdf or svg; html for the report), or the folder for the verdicts. By
    default runs/figures/EXPERIMENT-WHAT.png."""
    dpi: int = 120
    """Resolution of a png, in dots per inch."""
    models: Path | None = None
    """For a5 of a published table: folder of the sweep that kept the selected models. By default
    runs/sweeps/EXPERIMENT."""
    data: Path | None = None
    """For a5: original files of the data set that the models were trained on, as for train.py."""
    cache: Path | None = None
    """For a5: cache folder for rendered images, as for train.py."""


DRAW: dict[str, Callable[[Sequence[Row]], Figure]] = {
    "fig5a": distributions,
    "fig5b": trade_off,
    "fig5c": trade_off,
    "fig6": trade_off,
    "fig7": histograms,
    "exponents": trajectories,
    "training": training,
}


def draw(what: What, config: Config) -> list[Path]:
    """Produce the requested output, and return the files written."""
    if config.dpi <= 0:
        raise UsageError(f"--dpi must be positive, but got {config.dpi}")
    start = what if what.startswith("fig") else ""
    require_rows(what, config.source, config.experiment or start)
    rows = read_rows(config.source, config.experiment, start)
    name = rows[0]["experiment"]
    if what == "verdicts":
        require_folder("--out", config.out or Path("runs/figures"))
        return write_verdicts(rows, config.out or Path("runs/figures"))
    if not (unblinded := looked_at(rows)):
        raise UsageError(
            f"no score of {name} is looked at before its {first_look(rows)} pairs are complete "
            "(PROTOCOL.md); verdicts shows how many there are"
        )
    rows = unblinded
    if what == "a5":
        sweeps = Path("runs/sweeps") if config.source.is_file() else config.source
        folder = sweeps if (sweeps / "rows").is_dir() else sweeps / name
        out = config.out or Path("runs/figures") / f"{name}-a5"
        return draw_appendix(rows, config.models or folder, out, config.data, config.cache)
    ending = "html" if what == "report" else "png"
    path = config.out or Path("runs/figures") / f"{name}-{what}.{ending}"
    allowed = [".html"] if what == "report" else [".png", ".pdf", ".svg"]
    if path.suffix not in allowed:
        raise UsageError(f"--out must end in {' or '.join(allowed)}, but got {path}")
    if what == "report":
        write_page(rows, pictures_of(rows), path)
    else:
        write_atomic(picture(DRAW[what](rows), path.suffix[1:], config.dpi), path)
    return [path]


def require_rows(what: What, source: Path, start: str) -> None:
    """Raise a UsageError that lists the tables if the source is a folder of published tables."""
    if not source.is_dir() or any(source.glob("*/rows")) or (source / "rows").is_dir():
        return
    tables = [path for path in sorted(source.glob("*.csv")) if path.stem in experiments()]
    if fitting := [path for path in tables if path.stem.startswith(start)] or tables:
        raise UsageError(
            f"{source} is not the folder of a sweep but holds published tables. Choose one:\n"
            + "\n".join(f"  python {sys.argv[0]} {what} {path}" for path in fitting)
        )


def pictures_of(rows: Sequence[Row]) -> dict[str, bytes]:
    """Draw all figures that the rows have data for, as PNG bytes by caption."""
    several = len(betas(rows)) > 1
    names = [("fig5b", "MIG and reconstruction against beta")] if several else []
    names += [] if several or 1.0 not in betas(rows) else [("fig5a", "MIG at beta = 1")]
    if any("learned" in row["arm"] and row["status"] == "done" for row in rows):
        names += [("fig7", "Learned exponents"), ("exponents", "Exponents during training")]
    names += [("training", "Training")]
    if not any(isinstance(row.get("history"), list) for row in rows):  # a published table
        names = [pair for pair in names if pair[0] not in ("exponents", "training")]
    bar = tqdm(names, desc="figures", unit="figure", leave=False)
    return {caption: picture(DRAW[name](rows), "png", 125) for name, caption in bar}


def picture(figure: Figure, ending: str, dpi: int) -> bytes:
    """Render a figure to bytes, and close it."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format=ending, dpi=dpi)
    plt.close(figure)
    return drawn.getvalue()


def main(argv: Sequence[str]) -> int:
    """Return the exit status: 0 success, 2 usage error or missing runs, 130 Ctrl-C."""
    config = tyro.cli(Config, args=argv, config=(tyro.conf.FlagCreatePairsOff,))
    return exit_status(lambda: run(config), "stopped; nothing was written")


def run(config: Config) -> None:
    """Produce the output, and list the files written."""
    print("Written:", *(f"  {path}" for path in draw(config.what, config)), sep="\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
