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
ALIASES = {"quick": "small"}  # former name; unrelated to the rung `quick` of the sweeps

REAL_FILES = {
    "dsprites": "the dSprites npz",
    "faces": "the file basel_face_renders.pth",
    "cars3d": "nips2015-analogy-data.tar.gz or the folder it unpacks to",
}
# Fields that may change on resume because they affect no number (data are checked by checksum).
FREE_ON_RESUME = {"data", "cache", "checkpoint_seconds", "tensorboard", "out", "resume"}


@dataclass(frozen=True)
class Config:
    """Train and score the ISA-VAE (Stuehmer, Turner and Nowozin, AISTATS 2020).

    Without arguments: a small model on dSprites, about ten minutes on two cores. Figures, metrics
    and the model are written to a new folder under runs/, locked against other trainings.
    """

    preset: Preset = "small"
    """Defaults for all other flags. small (or quick): about ten minutes on two cores;
    dsprites-paper: the paper's configuration, meant for a GPU; smoke: half a minute, to check
    that everything works."""
    data_set: Literal["dsprites", "faces", "cars3d"] = "dsprites"
    """dsprites is rendered, identical to the original up to a few pixels; for faces and cars3d a
    STAND-IN is rendered unless --data names the original. Numbers on a stand-in say nothing
    about the paper."""
    data: Path | None = None
    """Original files of the data set: the dSprites npz, basel_face_renders.pth, or the cars3d
    archive or folder."""
    cache: Path | None = None
    """Cache folder for rendered images; by default lpnested in $XDG_CACHE_HOME or ~/.cache."""
    objective: Literal["vae", "tcvae", "factorvae"] = "vae"
    """Training objective: vae is equation 12 (the beta-VAE with a normal prior); tcvae weights
    the total correlation; factorvae estimates it with a discriminator."""
    prior: Literal["isa", "normal"] = "isa"
    """Prior over the latents. isa: independent subspaces, equations 9-11; normal: independent
    normals."""
    sizes: tuple[int, ...] = (4, 4, 4, 4, 4)
    """Dimension of each subspace; their sum is the number of latents, under either prior."""
    p0: float = 2.1
    """Root exponent of the isa prior."""
    p: tuple[float, ...] = (2.2,)
    """Subspace exponents of the isa prior: one shared by all, or one per subspace."""
    scale: float | Literal["unit-variance"] = 1.0
    """Scale of the isa prior (1.0 as in the paper's release), or standard deviation of the normal
    prior; unit-variance: the scale at which the latents have variance 1 on average (exactly 1
    each if all subspaces share size and exponent)."""
    beta: float = 1.0
    """Weight of the KL term (equation 12), or of the total correlation."""
    kl: Literal["monte-carlo", "analytic"] = "monte-carlo"
    """KL term of the vae objective: estimated from one sample, as in the paper's release, or
    exact (normal prior only)."""
    tc: Literal["dims", "groups"] = "dims"
    """Total correlation of the tcvae objective: across latent dimensions or across subspaces."""
    estimator: Literal["mws", "mss"] = "mws"
    """Estimator of q(z) from a batch: minibatch-weighted or minibatch-stratified sampling."""
    alpha: float = 1.0
    """Weight of the mutual information between images and code in the tcvae objective."""
    gamma: float = 1.0
    """Weight of the remaining KL term in the tcvae objective."""
    learn_exponents: bool = False
    """Learn the subspace exponents, starting from --p; p0 stays fixed."""
    exponent_rate: float = 5e-4
    """Learning rate of the log exponents."""
    model: Literal["mlp", "conv"] = "mlp"
    """Architecture. mlp: the paper's for dSprites; conv: the paper's for faces and cars3d."""
    hidden: int = 256
    """Hidden width of the mlp."""
    activation: Literal["tanh", "relu"] = "relu"
    """Decoder activation. The paper uses tanh, which learns more slowly in a short run."""
    epochs: float = 2.5
    """Passes over the training images; may be fractional."""
    steps: int | None = None
    """Number of training steps; overrides --epochs."""
    batch_size: int = 128
    """Images per training step."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    decay: float = 0.3
    """Final fraction of training over which the learning rate decays linearly to zero."""
    eval_images: int | None = None
    """Score this many random images instead of all of them."""
    scores: Literal["mig", "light", "all"] = "mig"
    """Metrics to compute: the MIG alone; light: also those that take seconds; all: also SAP and
    DCI."""
    tensorboard: bool = False
    """Log every term to TensorBoard, in a subfolder of the run."""
    seed: int = 0
    """Random seed for weights, batches and noise."""
    device: str = "auto"
    """Device: cpu, cuda, cuda:1, ...; auto picks cuda if available."""
    checkpoint_seconds: float = 30.0
    """Seconds between checkpoints: at most this much training is lost if the run is killed."""
    out: Path | None = None
    """Output folder: new, or the run to resume. By default runs/PRESET-PRIOR-seedSEED."""
    resume: bool = False
    """Resume the run in --out with its own settings; the results are identical to those of an
    uninterrupted run."""

    @property
    def latents(self) -> int:
        """Number of latents."""
        return sum(self.sizes)

    @property
    def run_name(self) -> str:
        """Default name of the run's folder."""
        kind = "" if self.objective == "vae" else f"-{self.objective}"
        return f"{self.preset}-{self.prior}{kind}-seed{self.seed}"

    def num_steps(self, images: int) -> int:
        """Total number of training steps."""
        return self.steps or max(1, round(self.epochs * (images // self.batch_size)))

    def to_json(self) -> dict[str, Any]:
        """JSON-serialisable settings, without the paths that are specific to this machine."""
        values = dataclasses.asdict(self)
        for place in ("cache", "out", "resume"):
            del values[place]
        return values | {"data": self.data and str(self.data)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Config":
        """Restore the settings from `to_json`."""
        tuples = {key: tuple(values[key]) for key in ("sizes", "p")}
        data = values["data"] and Path(values["data"])
        preset = ALIASES.get(values["preset"], values["preset"])  # older runs use the former name
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
    """Raise a UsageError that names the first invalid flag."""
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
    check_combinations(config)


def check_combinations(config: Config) -> None:
    """Raise a UsageError for settings that are valid on their own but not together."""
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
    require(not (colour and config.model == "mlp"), "model", "conv for colour images", "mlp")
    alone = config.batch_size == 1 and (not plain or config.model == "conv")
    require(not alone, "batch_size", "2 or more with tcvae, factorvae and conv", 1)
    for key, default in (("alpha", 1), ("gamma", 1), ("tc", "dims"), ("estimator", "mws")):
        value = getattr(config, key)
        require(tcvae or value == default, key, f"{default} unless --objective is tcvae", value)


def parse(argv: Sequence[str], saved: Config | None = None) -> Config:
    """Parse the flags, with defaults from the preset or from the run being resumed."""
    import tyro  # imported here so that everything but the command line works without it

    argv = replace_aliases(argv)
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


def replace_aliases(argv: Sequence[str]) -> list[str]:
    """Replace former preset names in the flags by the current ones."""
    joined = {f"--preset={old}": f"--preset={new}" for old, new in ALIASES.items()}
    return [
        ALIASES.get(word, word) if before == "--preset" else joined.get(word, word)
        for before, word in zip(["", *argv], argv, strict=False)
    ]


def refuse_changes(saved: Config, config: Config) -> None:
    """Raise a UsageError if a run would resume with other settings than its own."""
    if differences := changes(saved, config):
        raise UsageError(f"--resume: the run has different settings: {differences}")


def changes(saved: Config, config: Config) -> str:
    """Describe the differences that affect results; empty if there are none."""
    before, now = dataclasses.asdict(saved), dataclasses.asdict(config)
    changed = [key for key in before if key not in FREE_ON_RESUME and before[key] != now[key]]
    return "; ".join(f"{flag(key)}: was {before[key]}, now {now[key]}" for key in changed)
