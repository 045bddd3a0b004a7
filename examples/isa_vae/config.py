"""The settings of a run: one frozen dataclass, three presets, and the command line over them."""

import argparse
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

Preset = Literal["quick", "dsprites-paper", "smoke"]

# A resumed run may differ in these, for they change no number (data are known by checksum).
FREE_ON_RESUME = {"data", "cache", "checkpoint_seconds", "out", "resume"}


class UsageError(Exception):
    """A mistake in the flags, or in a file they name; the message is for the user."""


@dataclass(frozen=True)
class Config:
    """Train the ISA-VAE (Stuehmer, Turner and Nowozin, AISTATS 2020) on dSprites, and score it.

    Without arguments: a small model, a few minutes on two cores. Figures, metrics and the model
    are written to a new folder under runs/.
    """

    preset: Preset = "quick"
    """Defaults of all other flags. quick: a small model, a few minutes on two cores;
    dsprites-paper: the paper's configuration, meant for a GPU; smoke: half a minute, to see that
    everything works."""
    data: Path | None = None
    """The real dSprites npz. By default the set is drawn (all but a few pixels are the same)."""
    cache: Path | None = None
    """Folder to keep the drawn set in: by default lpnested in $XDG_CACHE_HOME or in ~/.cache."""
    prior: Literal["isa", "normal"] = "isa"
    """isa: independent subspaces, equations 9-11; normal: independent normals."""
    sizes: tuple[int, ...] = (4, 4, 4, 4, 4)
    """Dimension of each subspace; their sum is the number of latents, for either prior."""
    p0: float = 2.1
    """Exponent of the root of the isa prior."""
    p: tuple[float, ...] = (2.2,)
    """Exponent of the subspaces of the isa prior: one for all, or one for each."""
    scale: float | Literal["unit-variance"] = 1.0
    """Scale of the isa prior (1.0: as the paper's release), or the standard deviation of the
    normal one; unit-variance: the scale at which the latents have variance 1."""
    beta: float = 1.0
    """Weight of the KL term (equation 12)."""
    hidden: int = 256
    """Width of the hidden layers of encoder and decoder."""
    activation: Literal["tanh", "relu"] = "relu"
    """Of the decoder. The paper has tanh, which learns more slowly in a short run."""
    epochs: float = 2.5
    """Passes over the training images; may be a fraction."""
    steps: int | None = None
    """Steps of training, in place of --epochs."""
    batch_size: int = 128
    """Images in a step."""
    learning_rate: float = 1e-3
    """Of Adam."""
    decay: float = 0.3
    """Share of the steps, at the end, over which the learning rate falls linearly to zero."""
    eval_images: int | None = None
    """Score this many random images instead of all of them."""
    seed: int = 0
    """Of weights, batches and noise."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto: cuda where there is one."""
    checkpoint_seconds: float = 30.0
    """Time between checkpoints: what a kill can lose."""
    out: Path | None = None
    """Folder of the run: new, or to be resumed. By default runs/PRESET-PRIOR-seedSEED."""
    resume: bool = False
    """Continue the run in --out with its settings, to the same numbers as without the break."""

    @property
    def latents(self) -> int:
        """Number of latents."""
        return sum(self.sizes)

    @property
    def run_name(self) -> str:
        """Name of the run's folder unless --out is given."""
        return f"{self.preset}-{self.prior}-seed{self.seed}"

    def num_steps(self, images: int) -> int:
        """Steps of the whole training."""
        return self.steps or max(1, round(self.epochs * (images // self.batch_size)))

    def to_json(self) -> dict[str, Any]:
        """Plain values of all that describes the run; not where this machine keeps its files."""
        values = dataclasses.asdict(self)
        for place in ("cache", "out", "resume"):
            del values[place]
        return values | {"data": self.data and str(self.data)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Config":
        """Inverse of to_json."""
        tuples = {key: tuple(values[key]) for key in ("sizes", "p")}
        return cls(**(values | tuples | {"data": values["data"] and Path(values["data"])}))


PRESETS: dict[str, Config] = {
    "quick": Config(),
    "dsprites-paper": Config(
        preset="dsprites-paper",
        hidden=1200,
        activation="tanh",
        epochs=20,
        batch_size=2048,
        decay=0.0,
        checkpoint_seconds=120.0,
    ),
    "smoke": Config(preset="smoke", hidden=64, steps=300, eval_images=20_000),
}


def parse(argv: Sequence[str], saved: Config | None = None) -> Config:
    """Read the flags over their preset, or over the settings of the run to be resumed."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--preset", default="quick")
    name = early.parse_known_args(argv)[0].preset
    default = saved or PRESETS.get(name, PRESETS["quick"])  # tyro refuses an unknown name
    config = tyro.cli(Config, args=argv, default=default, config=(tyro.conf.FlagCreatePairsOff,))
    check(config)
    config = dataclasses.replace(config, device=str(find_device(config.device)))
    if saved is not None:
        refuse_changes(saved, config)
    return config


def refuse_changes(saved: Config, config: Config) -> None:
    """A run goes on with its own settings, or not at all."""
    before, now = dataclasses.asdict(saved), dataclasses.asdict(config)
    changed = [key for key in before if key not in FREE_ON_RESUME and before[key] != now[key]]
    if changed:
        differences = "; ".join(
            f"{flag(key)}: {before[key]} then, {now[key]} now" for key in changed
        )
        raise UsageError(f"--resume: the run has other settings: {differences}")


def flag(key: str) -> str:
    """Name of a field on the command line."""
    return "--" + key.replace("_", "-")


def check(config: Config) -> None:
    """Raise a UsageError that names the first flag with a value that cannot work."""
    positive = ["p0", "hidden", "epochs", "batch_size", "learning_rate"]
    positive += [key for key in ("steps", "eval_images") if getattr(config, key) is not None]
    positive += [] if config.scale == "unit-variance" else ["scale"]
    for key in positive:
        value = getattr(config, key)
        require(math.isfinite(value) and value > 0, key, "a positive number", value)
    for key in ("beta", "checkpoint_seconds"):
        value = getattr(config, key)
        require(math.isfinite(value) and value >= 0, key, "zero or a positive number", value)
    sizes, p = config.sizes, config.p
    require(len(sizes) > 0 and min(sizes) > 0, "sizes", "positive whole numbers", sizes)
    require(all(math.isfinite(x) and x > 0 for x in p), "p", "positive numbers", p)
    require(len(p) in (1, len(sizes)), "p", f"one number, or one for each of {len(sizes)}", p)
    require(0 <= config.decay <= 1, "decay", "a number from 0 to 1", config.decay)
    require(0 <= config.seed < 2**31, "seed", "a whole number from 0 to 2^31 - 1", config.seed)
    if config.data is not None:
        require(config.data.is_file(), "data", "the dSprites npz", f"no such file: {config.data}")


def require(condition: bool, key: str, wanted: str, got: object) -> None:
    """Raise a UsageError about one flag unless the condition holds."""
    if not condition:
        raise UsageError(f"{flag(key)} must be {wanted}, but got {got}")


def find_device(name: str) -> torch.device:
    """The device of that name, proved to work."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device {name} is not available here: {reason}") from error
    return device
