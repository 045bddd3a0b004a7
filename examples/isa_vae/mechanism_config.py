"""The arms and the settings of mechanism.py."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from config import require
from mechanism_model import Arm, factor_grid

ARMS = (
    Arm("laplace", "Laplace\n(1, 1)", (1.0, 1.0)),
    Arm("isa-2.1-1.9", "ISA\n(2.1, 1.9)", (2.1, 1.9)),
    Arm("normal", "normal\n "),
    Arm("isa-2.1-2.2", "ISA\n(2.1, 2.2)", (2.1, 2.2)),
    Arm("isa-2.5-3", "ISA\n(2.5, 3)", (2.5, 3.0)),
    Arm("isa-4-4", "ISA\n(4, 4)", (4.0, 4.0)),
    Arm("normal-diamond", "normal, square\non its corner", diamond=True),
)
ArmName = Literal[
    "laplace", "isa-2.1-1.9", "normal", "isa-2.1-2.2", "isa-2.5-3", "isa-4-4", "normal-diamond"
]


@dataclass(frozen=True)
class Config:
    """Does the ISA prior turn the code of a VAE to the axes? Disks at all x and y, two latents.

    Without arguments: the whole experiment, about 20 minutes on one core. A finished arm is kept,
    so after Ctrl-C the same command goes on. To see that it works, in half a minute:
    --seeds 3 --steps 200 --out runs/try --parts runs/try
    """

    arms: tuple[ArmName, ...] = tuple(arm.name for arm in ARMS)  # type: ignore[assignment]
    """Priors to train with; the others are compared with normal, which must be among them."""
    seeds: int = 30
    """Models of an arm, with seeds 0, 1, ...; they are trained side by side."""
    steps: int = 3000
    """Of Adam."""
    batch_size: int = 256
    """Pictures in a step, of 1024."""
    learning_rate: float = 2e-3
    """Of Adam, constant."""
    beta: float = 1.0
    """Weight of the KL term."""
    hidden: int = 64
    """Width of the hidden layers."""
    parts: Path = Path("runs/mechanism/arms")
    """Folder of finished arms, a file each, from which the same command goes on."""
    out: Path = Path("runs/mechanism")
    """Folder of the results: mechanism.csv, mechanism.json, mechanism.png."""

    def to_json(self) -> dict[str, Any]:
        """All that changes a number of an arm."""
        return {
            k: v for k, v in dataclasses.asdict(self).items() if k not in ("arms", "out", "parts")
        }

    @property
    def chosen(self) -> list[Arm]:
        """The arms in the order of their force."""
        return [arm for arm in ARMS if arm.name in self.arms]


def check(config: Config) -> None:
    """Raise a UsageError that names the first flag with a value that cannot work."""
    for key in ("seeds", "steps", "batch_size", "learning_rate", "hidden"):
        value = getattr(config, key)
        require(math.isfinite(value) and value > 0, key, "a positive number", value)
    beta = config.beta
    require(math.isfinite(beta) and beta >= 0, "beta", "zero or a positive number", beta)
    total = len(factor_grid())
    require(config.batch_size <= total, "batch_size", f"at most {total}", config.batch_size)
    require("normal" in config.arms, "arms", "a choice with normal in it", config.arms)
    for key in ("parts", "out"):
        path = getattr(config, key)
        require(not path.exists() or path.is_dir(), key, "a folder", f"the file {path}")
