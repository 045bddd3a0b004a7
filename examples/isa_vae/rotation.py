"""What does a prior gain where a trained code is turned? `rotation.py --help`.

Does the ISA prior act on the code by its force, by its scale, or through the training? Without
training anything: turn the code of a trained model in planes of two latents, undo it
before the decoder, and measure the change of the bound under each prior, beside the noise of the
gradient that a force has to be heard over. `turning/bound.py` has the mathematics;
other programs call `turning.gains.measure_rotation`.
"""

import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Waiting threads sleep: spinning ones make everything slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from config import UsageError, require
from data.pictures import Pictures
from data.sources import load_data
from matplotlib import pyplot as plt
from running.files import lines_as_csv, versions, write_json, write_text, write_whole
from running.folders import load_trained
from running.process import exit_status, keep_freed_memory
from turning.gains import ASKED, FIXED, Row, measure_rotation
from turning.turned_figure import as_text, figure, summarise

DECIMALS = 6


@dataclass(frozen=True)
class Rotation:
    """Turn the codes of trained models, and measure how the bound changes under each prior.

    A model is a folder with model.pt and config.json, as train.py leaves it and sweep.py with
    --keep-models. About two minutes each for a small model on a CPU. What is written is a table
    (.csv), means over planes (.json) and a figure (.png).
    """

    folders: tuple[Path, ...]
    """Folders of the models."""
    priors: tuple[str, ...] = ASKED
    """Arms of sweeps/experiments.py whose priors are asked beside a model's own."""
    images: int = 20_000
    """Random pictures to take means over."""
    pairs: int = 3
    """Planes of two active latents at most, within subspaces and as many across."""
    out: Path = Path("runs/rotation")
    """Where to write: this name with .csv, .json and .png at its end."""
    data: Path | None = None
    """The real files of the data set, as for train.py."""
    cache: Path | None = None
    """Folder of the drawn data sets, as for train.py."""
    device: str = "auto"
    """cpu, cuda, ...; auto: cuda where there is one."""


def check(rotation: Rotation) -> None:
    """Raise a UsageError that names the first flag with a value that cannot work."""
    names = [folder.resolve().name for folder in rotation.folders]
    require(len(names) > 0, "folders", "one or more", "none")
    require(len(set(names)) == len(names), "folders", "of different names", names)
    for key in ("images", "pairs"):
        value = getattr(rotation, key)
        require(value > 0, key, "a positive number", value)
    known = f"some of {', '.join(FIXED)}"
    require(set(rotation.priors) <= set(FIXED), "priors", known, " ".join(rotation.priors))


def run(rotation: Rotation) -> None:
    """Measure the models one after the other; those of one data set in a row share it."""
    check(rotation)
    for folder in rotation.folders:  # mistakes end it here
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
            print(f"{folder}: fewer than two latents are active, so there is nothing to turn")
    if not rows:
        raise UsageError("no model has two active latents: nothing was written")
    print(f"\n{as_text(summarise(rows))}\n\nWritten:")
    print(*(f"  {rotation.out}{end}" for end in (".csv", ".json", ".png")), sep="\n")


def write(out: Path, rows: Sequence[Row], settings: dict[str, Any], source: str) -> None:
    """The table, the means and the figure of what has been measured so far.

    Args:
        out: Their name without an ending.
        rows: Of `measure_rotation`, of one or more models.
        settings: That they were measured with.
        source: Of the pictures.
    """
    write_text(lines_as_csv(rounded(rows), list(rows[0])), beside(out, ".csv"))
    results = {"settings": settings, "source": source, "versions": versions()}
    write_json(results | {"summary": rounded(summarise(rows))}, beside(out, ".json"))
    picture, drawn = figure(rows, label(source)), io.BytesIO()
    picture.savefig(drawn, format="png", dpi=100)
    plt.close(picture)
    write_whole(drawn.getvalue(), beside(out, ".png"))


def beside(out: Path, ending: str) -> Path:
    """A file of that name; a point in it is no ending."""
    return out.with_name(out.name + ending)


def rounded(rows: Sequence[Row]) -> list[Row]:
    """Numbers to a millionth of a nat: what is below is rounding."""
    return [
        {k: round(x, DECIMALS) + 0.0 if isinstance(x, float) else x for k, x in row.items()}
        for row in rows
    ]


def label(source: str) -> str:
    """Heading of the figure."""
    stand_in = "STAND-IN DATA. " * ("stand-in" in source)
    return (
        f"{stand_in}Change of the bound where a trained code is turned in a plane of two latents\n"
        "thick: mean over planes; thin: each of them (whole bound: under the own prior only); "
        "all priors in the units of the code"
    )


def main(argv: Sequence[str]) -> int:
    """Exit status: 0 done, 2 wrong use, 130 Ctrl-C."""
    import tyro  # only where flags are parsed: what needs no flags runs without it

    keep_freed_memory()
    rotation = tyro.cli(
        Rotation,
        args=argv,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.PositionalRequiredArgs),
    )
    stopped = "stopped; the models measured so far are in the files that were written"
    return exit_status(lambda: run(rotation), stopped)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
