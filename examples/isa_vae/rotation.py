"""What does a prior gain when a trained code is rotated? `rotation.py --help`.

Does the ISA prior act on the code by its force, by its scale, or through the training? To find
out without training: rotate the code of a trained model in planes of two latents, undo the
rotation before the decoder, and measure the change of the ELBO under each prior, next to the
gradient noise that a force must overcome. `turning/bound.py` has the mathematics; other programs
call `turning.gains.measure_rotation`.
"""

import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Idle threads must sleep: spinning makes everything slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from matplotlib import pyplot as plt

from config import UsageError, require
from data.pictures import Pictures
from data.sources import load_data
from running.files import lines_as_csv, versions, write_atomic, write_json, write_text
from running.folders import load_trained
from running.process import exit_status, keep_freed_memory
from turning.gains import FIXED, PRIORS, Row, measure_rotation
from turning.turned_figure import as_text, figure, summarise

DECIMALS = 6


@dataclass(frozen=True)
class Rotation:
    """Rotate the codes of trained models, and measure how the ELBO changes under each prior.

    A model is a folder with model.pt and config.json, as written by train.py and by sweep.py with
    --keep-models. A small model takes about two minutes on a CPU. The outputs are a table (.csv),
    means over planes (.json) and a figure (.png).
    """

    folders: tuple[Path, ...]
    """Folders of the models."""
    priors: tuple[str, ...] = PRIORS
    """Arms of sweeps/experiments.py whose priors are evaluated besides the model's own."""
    images: int = 20_000
    """Number of random images to average over."""
    pairs: int = 3
    """Maximum number of planes of two active latents within subspaces, and as many across."""
    out: Path = Path("runs/rotation")
    """Output name, to which .csv, .json and .png are appended."""
    data: Path | None = None
    """Original files of the data set, as for train.py."""
    cache: Path | None = None
    """Cache folder for rendered images, as for train.py."""
    device: str = "auto"
    """Device: cpu, cuda, ...; auto picks cuda if available."""


def check(rotation: Rotation) -> None:
    """Raise a UsageError that names the first invalid flag."""
    names = [folder.resolve().name for folder in rotation.folders]
    require(len(names) > 0, "folders", "one or more", "none")
    require(len(set(names)) == len(names), "folders", "of different names", names)
    for key in ("images", "pairs"):
        value = getattr(rotation, key)
        require(value > 0, key, "a positive number", value)
    known = f"some of {', '.join(FIXED)}"
    require(set(rotation.priors) <= set(FIXED), "priors", known, " ".join(rotation.priors))


def run(rotation: Rotation) -> None:
    """Measure the models in order; consecutive models of one data set share it."""
    check(rotation)
    for folder in rotation.folders:  # fail early on errors
        load_trained(folder, rotation.device, rotation.data, rotation.cache)
    loaded: dict[str, Pictures] = {}
    rows: list[Row] = []
    settings = {key: getattr(rotation, key) for key in ("priors", "images", "pairs")}
    for folder in rotation.folders:
        config, state = load_trained(folder, rotation.device, rotation.data, rotation.cache)
        if config.data_set not in loaded:
            loaded = {config.data_set: load_data(config)}
        pictures, name = loaded[config.data_set], folder.resolve().name
        packed = torch.from_numpy(pictures.packed).to(config.device)
        found = measure_rotation(
            state.vae, state.prior(), config, packed, pictures, name,
            rotation.priors, rotation.images, rotation.pairs, progress=True,
        )  # fmt: skip
        if found:
            rows += found
            write(rotation.out, rows, settings, pictures.source)
        else:
            print(f"{folder}: fewer than two latents are active, so there is nothing to rotate")
    if not rows:
        raise UsageError("no model has two active latents; nothing was written")
    print(f"\n{as_text(summarise(rows))}\n\nWritten:")
    print(*(f"  {rotation.out}{end}" for end in (".csv", ".json", ".png")), sep="\n")


def write(out: Path, rows: Sequence[Row], settings: dict[str, Any], source: str) -> None:
    """Write the table, the means and the figure of everything measured so far.

    Args:
        out: Name of the files, without suffix.
        rows: Rows from `measure_rotation`, for one or more models.
        settings: Settings of the measurement.
        source: Source of the images.
    """
    write_text(lines_as_csv(rounded(rows), list(rows[0])), with_suffix(out, ".csv"))
    results = {"settings": settings, "source": source, "versions": versions()}
    write_json(results | {"summary": rounded(summarise(rows))}, with_suffix(out, ".json"))
    picture, drawn = figure(rows, label(source)), io.BytesIO()
    picture.savefig(drawn, format="png", dpi=100)
    plt.close(picture)
    write_atomic(drawn.getvalue(), with_suffix(out, ".png"))


def with_suffix(out: Path, suffix: str) -> Path:
    """Append a suffix; unlike Path.with_suffix, keep dots in the name."""
    return out.with_name(out.name + suffix)


def rounded(rows: Sequence[Row]) -> list[Row]:
    """Round to a millionth of a nat; smaller differences are rounding errors."""
    return [
        {k: round(x, DECIMALS) + 0.0 if isinstance(x, float) else x for k, x in row.items()}
        for row in rows
    ]


def label(source: str) -> str:
    """Return the heading of the figure."""
    stand_in = "STAND-IN DATA. " * ("stand-in" in source)
    return (
        f"{stand_in}Change of the bound where a trained code is turned in a plane of two latents\n"
        "thick: mean over planes; thin: each of them (whole bound: under the own prior only); "
        "all priors in the units of the code"
    )


def main(argv: Sequence[str]) -> int:
    """Return the exit status: 0 success, 2 usage error, 130 Ctrl-C."""
    import tyro  # imported here so that everything but the command line works without it

    keep_freed_memory()
    rotation = tyro.cli(
        Rotation,
        args=argv,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.PositionalRequiredArgs),
    )
    stopped = "stopped; the files contain the models measured so far"
    return exit_status(lambda: run(rotation), stopped)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
