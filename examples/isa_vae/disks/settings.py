"""Arms and settings of mechanism.py, and the summary that it prints."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from config import require
from disks.autoencoders import Arm, factor_grid

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
    """Does the ISA prior align the code of a VAE with the axes? Disks at all x and y, two latents.

    Without arguments: the whole experiment, about 20 minutes on one core. Finished arms are kept,
    so after Ctrl-C the same command resumes. For a test run of half a minute:
    --seeds 3 --steps 200 --out runs/try --parts runs/try
    """

    arms: tuple[ArmName, ...] = tuple(arm.name for arm in ARMS)  # type: ignore[assignment]
    """Priors to train with. They must include normal, with which the others are compared."""
    seeds: int = 30
    """Number of models per arm, with seeds 0, 1, ..., trained side by side."""
    steps: int = 3000
    """Number of training steps."""
    batch_size: int = 256
    """Images per training step, out of 1024."""
    learning_rate: float = 2e-3
    """Constant learning rate of Adam."""
    beta: float = 1.0
    """Weight of the KL term."""
    hidden: int = 64
    """Width of the hidden layers."""
    parts: Path = Path("runs/mechanism/arms")
    """Folder of finished arms, one file each, from which the same command resumes."""
    out: Path = Path("runs/mechanism")
    """Output folder for mechanism.csv, mechanism.json and mechanism.png."""

    def to_json(self) -> dict[str, Any]:
        """The settings that affect the results of an arm."""
        return {
            k: v for k, v in dataclasses.asdict(self).items() if k not in ("arms", "out", "parts")
        }

    @property
    def chosen(self) -> list[Arm]:
        """The selected arms, in the order of their force."""
        return [arm for arm in ARMS if arm.name in self.arms]


def check(config: Config) -> None:
    """Raise a UsageError that names the first invalid flag."""
    for key in ("seeds", "steps", "batch_size", "learning_rate", "hidden"):
        value = getattr(config, key)
        require(math.isfinite(value) and value > 0, key, "a positive number", value)
    beta = config.beta
    require(math.isfinite(beta) and beta >= 0, "beta", "zero or a positive number", beta)
    total = len(factor_grid())
    require(config.batch_size <= total, "batch_size", f"at most {total}", config.batch_size)
    require("normal" in config.arms, "arms", "a selection that includes normal", config.arms)
    for key in ("parts", "out"):
        path = getattr(config, key)
        require(not path.exists() or path.is_dir(), key, "a folder", f"the file {path}")


NAME = "mechanism"


def rounded(content: Any) -> Any:
    """Round all floats in nested lists and dicts to six significant digits."""
    if isinstance(content, float):
        return float(f"{content:.6g}")
    if isinstance(content, dict):
        return {key: rounded(value) for key, value in content.items()}
    return [rounded(value) for value in content] if isinstance(content, (list, tuple)) else content


def summary(results: dict[str, Any], config: Config, seconds: float) -> str:
    """Format the arms as a table, with the files written."""
    tests = {line["arm"]: line for line in results["angle"]["priors"]}
    text = [f"\n{config.seeds} seeds, {config.steps} steps. Angle of the code in degrees"]
    text.append("(0: aligned, 45: diagonal, 22.5: chance), runs with two active units only\n")
    text.append("arm               force  counted  mean [95 %]          median   MIG    p (Holm)")
    for line in results["arms"]:
        head = (
            f"{line['arm']:15} {line['force_nats']:+7.3f}  {line['counted']:3d}/{line['runs']:<3d}"
        )
        if line["angle"] is None:
            text.append(head)
            continue
        (low, high), test = line["angle"]["mean_95"], tests.get(line["arm"])
        p = "" if test is None else f"{test['mann_whitney']:.2g} ({test['mann_whitney_holm']:.2g})"
        text.append(
            f"{head}  {line['angle']['mean']:4.1f} [{low:4.1f}, {high:4.1f}]"
            f"  {line['angle']['median']:10.1f}  {line['mig']['mean']:6.3f}  {p}"
        )
    if results["trend"] is not None:
        text.append(
            f"\nSpearman's correlation of force and angle {results['trend']['spearman']:.2f}, "
            f"p {results['trend']['permutation']:.2g} (below 0: a stronger force aligns)"
        )
    text.append(f"\n{seconds:.0f} s. Written to {config.out}:")
    text.append(f"  {NAME}.csv   every run\n  {NAME}.json  settings, intervals, tests")
    return "\n".join([*text, f"  {NAME}.png   angle and MIG of every run"])
