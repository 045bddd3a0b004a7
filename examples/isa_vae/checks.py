"""Settings that cannot work, by themselves or together."""

import math
from typing import TYPE_CHECKING

from usage import require, require_package

if TYPE_CHECKING:
    from config import Config

REAL_FILES = {
    "dsprites": "the dSprites npz",
    "faces": "the file basel_face_renders.pth",
    "cars3d": "nips2015-analogy-data.tar.gz or the folder it unpacks to",
}


def check(config: "Config") -> None:
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


def check_together(config: "Config") -> None:
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
