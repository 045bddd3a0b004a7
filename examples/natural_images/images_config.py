"""The settings of images.py."""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

FREE = ("preset", "resamples", "factorized", "out", "fits")  # these change no number of a fit


class UsageError(Exception):
    """A mistake in the flags, or in a file they name; the message is for the user."""


@dataclass(frozen=True)
class Config:
    """How well do Lp-nested distributions, and others, describe patches of two photographs?

    Without arguments: the whole comparison, under ten minutes on two cores. Every finished fit is
    kept, so after Ctrl-C the same command goes on. Written at the end, to the folder --out: a
    table, the rows behind it, and figures.
    """

    preset: Literal["whole", "smoke"] = "whole"
    """Defaults of all other flags. smoke: a quarter of a minute, to see that everything works."""
    size: int = 8
    """Pixels along a side of a patch; 12 is the other size that was planned."""
    tile: int = 32
    """Pixels along a side of a tile. Every third tile is held out; no patch leaves its tile."""
    shrink: int = 2
    """The photographs are averaged over squares of so many pixels."""
    train: int = 20_000
    """Patches to fit to, half of them of each photograph."""
    test: int = 10_000
    """Patches held out, half of them of each photograph."""
    components: int = 6
    """Of each mixture of scales: the radii, and the sources of ICA."""
    iterations: int = 200
    """Of L-BFGS, at most, in a fit."""
    resamples: int = 10_000
    """Of the held-out tiles, for the intervals."""
    factorized: int = 4000
    """Patches of either kind that the fitted densities are factorized on."""
    seed: int = 0
    """Of patches, starts and resamples."""
    threads: int = 2
    """Of torch; sums over other numbers of threads are rounded otherwise."""
    out: Path = Path("runs/natural_images")
    """Folder of the results."""
    fits: Path | None = None
    """Folder of finished fits, from which the same command goes on; by default OUT/fits."""

    @property
    def parts(self) -> Path:
        """Where finished fits are."""
        return self.fits or self.out / "fits"

    def to_json(self) -> dict[str, Any]:
        """All that changes a number; not where files are."""
        values = dataclasses.asdict(self)
        return {key: value for key, value in values.items() if key not in ("out", "fits")}

    def of_a_fit(self) -> dict[str, Any]:
        """All that changes a number of a fit."""
        return {key: value for key, value in self.to_json().items() if key not in FREE}


PRESETS = {
    "whole": Config(),
    "smoke": Config(
        preset="smoke",
        size=4,
        train=1500,
        test=800,
        components=2,
        iterations=6,
        resamples=200,
        factorized=100,
        threads=1,
        out=Path("runs/natural_images_smoke"),
    ),
}


def parse(argv: Sequence[str]) -> Config:
    """Read the flags over their preset."""
    import tyro  # only where flags are parsed

    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--preset", default="whole")
    name = early.parse_known_args(argv)[0].preset
    default = PRESETS.get(name, PRESETS["whole"])  # tyro refuses an unknown name
    config = tyro.cli(Config, args=argv, default=default)
    check(config)
    return config


def require(condition: bool, key: str, wanted: str, got: object) -> None:
    """Raise a UsageError about one flag unless the condition holds."""
    if not condition:
        raise UsageError(f"--{key.replace('_', '-')} must be {wanted}, but got {got}")


def check(config: Config) -> None:
    """Raise a UsageError that names the first flag with a value that cannot work."""
    for key in ("shrink", "components", "iterations", "resamples", "threads"):
        require(getattr(config, key) > 0, key, "1 or more", getattr(config, key))
    require(config.seed >= 0, "seed", "0 or more", config.seed)
    require(config.size >= 3, "size", "3 or more", config.size)
    least = f"at least --size, {config.size}"
    require(config.tile >= config.size, "tile", least, config.tile)
    require(config.tile * config.shrink <= 128, "tile", "smaller, for enough of them", config.tile)
    dim = config.size**2
    for key in ("train", "test"):
        value = getattr(config, key)
        require(value >= 4 * dim, key, f"at least {4 * dim} for patches of {dim} pixels", value)
    fewest = min(config.train, config.test)
    value = config.factorized
    require(4 <= value <= fewest, "factorized", f"between 4 and {fewest}", value)
    for key in ("out", "parts"):
        path = getattr(config, key)
        require(not path.exists() or path.is_dir(), key, "a folder", f"the file {path}")
