"""The settings of images.py."""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

NOT_IN_FITS = ("preset", "resamples", "factorized", "out", "fits")  # do not affect a fit


class UsageError(Exception):
    """A mistake in the flags or in a file they name; the message is for the user."""


@dataclass(frozen=True)
class Config:
    """How well do Lp-nested distributions, and others, describe patches of two photographs?

    Without arguments, this runs the whole comparison, in under ten minutes on two cores. Finished
    fits are saved, so the same command resumes after Ctrl-C. At the end, a table, the rows behind
    it, and figures are written to the folder --out.
    """

    preset: Literal["whole", "smoke"] = "whole"
    """Defaults of all other flags. smoke: checks in 15 seconds that everything works."""
    size: int = 8
    """Side length of a patch in pixels; the other planned size is 12."""
    tile: int = 32
    """Side length of a tile in pixels. Every third tile is held out; no patch leaves its tile."""
    shrink: int = 2
    """Side length, in pixels, of the squares over which the photographs are averaged."""
    train: int = 20_000
    """Number of patches to fit to, half from each photograph."""
    test: int = 10_000
    """Number of held-out patches, half from each photograph."""
    components: int = 6
    """Components of each scale mixture: of the radii, and of the sources of ICA."""
    iterations: int = 200
    """Maximum number of L-BFGS iterations in a fit."""
    resamples: int = 10_000
    """Bootstrap resamples of the held-out tiles, for the intervals."""
    factorized: int = 4000
    """Number of patches of each part, fitted and held out, to factorize."""
    seed: int = 0
    """Seed of patches, starts and resamples."""
    threads: int = 2
    """Number of torch threads; it affects how sums are rounded."""
    out: Path = Path("runs/natural_images")
    """Folder for the results."""
    fits: Path | None = None
    """Folder for finished fits, from which the same command resumes; by default OUT/fits."""

    @property
    def fits_folder(self) -> Path:
        """The folder of finished fits."""
        return self.fits or self.out / "fits"

    def to_json(self) -> dict[str, Any]:
        """All settings that affect the results, so not the folders."""
        values = dataclasses.asdict(self)
        return {key: value for key, value in values.items() if key not in ("out", "fits")}

    def fit_settings(self) -> dict[str, Any]:
        """All settings that affect a fit."""
        return {key: value for key, value in self.to_json().items() if key not in NOT_IN_FITS}


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
    """Read the flags, with defaults from their preset."""
    import tyro  # needed only to parse flags

    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--preset", default="whole")
    name = early.parse_known_args(argv)[0].preset
    default = PRESETS.get(name, PRESETS["whole"])  # tyro rejects an unknown name
    config = tyro.cli(Config, args=argv, default=default)
    check(config)
    return config


def require(condition: bool, key: str, wanted: str, got: object) -> None:
    """Raise a UsageError about one flag unless the condition holds."""
    if not condition:
        raise UsageError(f"--{key.replace('_', '-')} must be {wanted}, but got {got}")


def check(config: Config) -> None:
    """Raise a UsageError that names the first flag with an invalid value."""
    for key in ("shrink", "components", "iterations", "resamples", "threads"):
        require(getattr(config, key) > 0, key, "1 or more", getattr(config, key))
    require(config.seed >= 0, "seed", "0 or more", config.seed)
    require(config.size >= 3, "size", "3 or more", config.size)
    least = f"at least --size, {config.size}"
    require(config.tile >= config.size, "tile", least, config.tile)
    require(config.tile * config.shrink <= 128, "tile", "smaller, for enough tiles", config.tile)
    dim = config.size**2
    for key in ("train", "test"):
        value = getattr(config, key)
        require(value >= 4 * dim, key, f"at least {4 * dim} for patches of {dim} pixels", value)
    fewest = min(config.train, config.test)
    value = config.factorized
    require(4 <= value <= fewest, "factorized", f"between 4 and {fewest}", value)
    for key, path in (("out", config.out), ("fits", config.fits_folder)):
        require(not path.exists() or path.is_dir(), key, "a folder", f"the file {path}")
