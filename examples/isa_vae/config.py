"""The settings of a run: one frozen dataclass, three presets, and the command line over them."""

import argparse
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from usage import UsageError, find_device, flag, require, require_package

Preset = Literal["small", "dsprites-paper", "smoke"]
ALIASES = {"quick": "small"}  # a rung of sweeps has that name too, and is another thing

REAL_FILES = {
    "dsprites": "the dSprites npz",
    "faces": "the file basel_face_renders.pth",
    "cars3d": "nips2015-analogy-data.tar.gz or the folder it unpacks to",
}
# A resumed run may differ in these, for they change no number (data are known by checksum).
FREE_ON_RESUME = {"data", "cache", "checkpoint_seconds", "tensorboard", "out", "resume"}


@dataclass(frozen=True)
class Config:
    """Train the ISA-VAE (Stuehmer, Turner and Nowozin, AISTATS 2020), and score it.

    Without arguments: a small model on dSprites, about ten minutes on two cores. Figures, metrics
    and the model are written to a new folder under runs/, to which nothing else writes meanwhile.
    """

    preset: Preset = "small"
    """Defaults of all other flags. small (or quick): about ten minutes on two cores;
    dsprites-paper: the paper's configuration, meant for a GPU; smoke: half a minute, to see that
    everything works."""
    data_set: Literal["dsprites", "faces", "cars3d"] = "dsprites"
    """dsprites is drawn, to all but a few pixels as published; of faces and cars3d a STAND-IN is
    drawn unless --data names the real files. Numbers on a stand-in say nothing about the paper."""
    data: Path | None = None
    """The real files of that set: the dSprites npz, basel_face_renders.pth, or the cars3d archive
    or folder."""
    cache: Path | None = None
    """Folder to keep the drawn set in: by default lpnested in $XDG_CACHE_HOME or in ~/.cache."""
    objective: Literal["vae", "tcvae", "factorvae"] = "vae"
    """What is maximised: vae is equation 12 (the beta-VAE with a normal prior); tcvae weights the
    total correlation; factorvae estimates it with a discriminator."""
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
    normal one; unit-variance: the scale at which the latents have variance 1 on average (each of
    them, where the exponents of the subspaces are alike)."""
    beta: float = 1.0
    """Weight of the KL term (equation 12), or of the total correlation."""
    kl: Literal["monte-carlo", "analytic"] = "monte-carlo"
    """Of the vae objective: one sample, as the paper's release, or exact (normal prior only)."""
    tc: Literal["dims", "groups"] = "dims"
    """Total correlation of the tcvae objective: between all latents, or between subspaces."""
    estimator: Literal["mws", "mss"] = "mws"
    """Of q(z) from a batch: minibatch-weighted or minibatch-stratified sampling."""
    alpha: float = 1.0
    """Weight of the mutual information of pictures and code in the tcvae objective."""
    gamma: float = 1.0
    """Weight of what is left of the rate in the tcvae objective."""
    learn_exponents: bool = False
    """Learn the exponents of the subspaces, from --p; p0 stays."""
    exponent_rate: float = 5e-4
    """Learning rate of the logarithms of the exponents."""
    model: Literal["mlp", "conv"] = "mlp"
    """mlp: the paper's for dSprites; conv: the paper's for faces and cars3d."""
    hidden: int = 256
    """Width of the hidden layers of the mlp."""
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
    scores: Literal["mig", "light", "all"] = "mig"
    """Metrics beside the MIG: none; those that take seconds; or SAP and DCI as well."""
    tensorboard: bool = False
    """Log every term for TensorBoard, in a folder of the run."""
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
        kind = "" if self.objective == "vae" else f"-{self.objective}"
        return f"{self.preset}-{self.prior}{kind}-seed{self.seed}"

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
        data = values["data"] and Path(values["data"])
        preset = ALIASES.get(values["preset"], values["preset"])  # of a run that was made before
        return cls(**(values | tuples | {"data": data, "preset": preset}))


PRESETS: dict[str, Config] = {
    "small": Config(),
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


def check(config: Config) -> None:
    """Raise a UsageError that names the first flag with a value that cannot work."""
    positive = ["p0", "hidden", "epochs", "batch_size", "learning_rate", "exponent_rate"]
    positive += [key for key in ("steps", "eval_images") if getattr(config, key) is not None]
    positive += [] if config.scale == "unit-variance" else ["scale"]
    for key in positive:
        value = getattr(config, key)
        require(math.isfinite(value) and value > 0, key, "a positive number", value)
    for key in ("alpha", "beta", "gamma", "checkpoint_seconds"):
        value = getattr(config, key)
        require(math.isfinite(value) and value >= 0, key, "zero or a positive number", value)
    sizes, p = config.sizes, config.p
    require(len(sizes) > 0 and min(sizes) > 0, "sizes", "positive whole numbers", sizes)
    require(all(math.isfinite(x) and x > 0 for x in p), "p", "positive numbers", p)
    require(len(p) in (1, len(sizes)), "p", f"one number, or one for each of {len(sizes)}", p)
    require(0 <= config.decay <= 1, "decay", "a number from 0 to 1", config.decay)
    require(0 <= config.seed < 2**31, "seed", "a whole number from 0 to 2^31 - 1", config.seed)
    if config.data is not None:
        wanted = REAL_FILES[config.data_set]
        exists = config.data.is_file() or (config.data_set == "cars3d" and config.data.is_dir())
        require(exists, "data", wanted, f"no such file: {config.data}")
    check_together(config)


def check_together(config: Config) -> None:
    """Settings that each are right but do not go together."""
    isa, tcvae = config.prior == "isa", config.objective == "tcvae"
    exact = config.kl == "analytic"
    require(not (exact and isa), "kl", "monte-carlo with --prior isa", config.kl)
    plain = config.objective == "vae"
    require(plain or not exact, "kl", "monte-carlo unless --objective is vae", config.kl)
    require(
        isa or not config.learn_exponents, "learn-exponents", "False with --prior normal", True
    )
    if config.scores == "all":
        require_package("--scores all", "sklearn", "examples")
    if config.tensorboard:
        require_package("--tensorboard", "tensorboard", "sweeps")
    colour = config.data_set == "cars3d"
    require(not (colour and config.model == "mlp"), "model", "conv with colour pictures", "mlp")
    alone = config.batch_size == 1 and (not plain or config.model == "conv")
    require(not alone, "batch_size", "2 or more with tcvae, factorvae and conv", 1)
    for key, default in (("alpha", 1), ("gamma", 1), ("tc", "dims"), ("estimator", "mws")):
        value = getattr(config, key)
        require(tcvae or value == default, key, f"{default} unless --objective is tcvae", value)


def parse(argv: Sequence[str], saved: Config | None = None) -> Config:
    """Read the flags over their preset, or over the settings of the run to be resumed."""
    import tyro  # only where flags are parsed: what needs no flags runs without it

    argv = with_new_names(argv)
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--preset", default="small")
    name = early.parse_known_args(argv)[0].preset
    default = saved or PRESETS.get(name, PRESETS["small"])  # tyro refuses an unknown name
    config = tyro.cli(Config, args=argv, default=default, config=(tyro.conf.FlagCreatePairsOff,))
    check(config)
    config = dataclasses.replace(config, device=str(find_device(config.device)))
    if saved is not None:
        refuse_changes(saved, config)
    return config


def with_new_names(argv: Sequence[str]) -> list[str]:
    """The flags, with a preset under the name that it has now."""
    joined = {f"--preset={old}": f"--preset={new}" for old, new in ALIASES.items()}
    return [
        ALIASES.get(word, word) if before == "--preset" else joined.get(word, word)
        for before, word in zip(["", *argv], argv, strict=False)
    ]


def refuse_changes(saved: Config, config: Config) -> None:
    """A run goes on with its own settings, or not at all."""
    if differences := changes(saved, config):
        raise UsageError(f"--resume: the run has other settings: {differences}")


def changes(saved: Config, config: Config) -> str:
    """In what two settings differ that determines numbers; empty if in nothing."""
    before, now = dataclasses.asdict(saved), dataclasses.asdict(config)
    changed = [key for key in before if key not in FREE_ON_RESUME and before[key] != now[key]]
    return "; ".join(f"{flag(key)}: {before[key]} then, {now[key]} now" for key in changed)
