r"""Does the prior turn the code? `python examples/isa_vae/mechanism.py [--help]`.

The situation of figure 3 of the paper as a model is trained: pictures that differ in the place of
a disk only, two latents, one subspace. By its density alone, a prior with lighter tails than the
normal one wants x and y along the latents' axes, one with heavier tails wants them at 45 degrees,
and the normal one, which is the same in every direction, wants nothing.

Protocol, written before the arms below were run:

- *Pictures.* An anti-aliased disk of radius 2 on 16 x 16 pixels, 32 x 32 places in a square of
  side 8 around the centre. The grey values are the targets of Bernoulli pixels.
- *Model.* 256 - 64 - 64 - 2 means and 2 log deviations, 2 - 64 - 64 - 256, ReLU. One-sample bound
  log p(x|z) - beta (log q(z|x) - log p(z)), beta 1. Adam at 2e-3, constant, batches of 256 without
  replacement, 3000 steps; scores at the last step, over all pictures.
- *Arms.* Priors of variance 1: Laplace (1, 1), (2.1, 1.9), normal, (2.1, 2.2), (2.5, 3), (4, 4) as
  (p0, p). Control: the normal prior and a square of places that stands on its corner. There, an
  angle of 0 is along the sides of the square, and 45 along the rows of pixels.
- *Seeds.* 0 to 29 in every arm; a seed has the same first weights, batches and noise in all of them.
- *Outcome.* The angle between the latents' axes and those of x and y, from 0 to 45 degrees: fit
  E[z|x] = A (x, y) + c, take the rotation or reflection nearest to A. 22.5 is the mean of chance.
  A run is counted if both latents are active (Var E[z|x] > 0.01); all runs are in the table.
- *Tests.* Each prior against the normal one by Mann-Whitney (first) and by permutation of the
  difference of means, two-sided, corrected by Holm over the five priors. The control by itself.
  Bootstrap intervals are percentiles of 10 000 resamples.
- *Second.* Spearman's correlation of the prior's force (nats by which it prefers the axes) with the
  angle over all runs of the six priors; the same tests for the MIG; and the angle tests over the
  runs with R^2 of at least 0.9 in the linear fit only, because the angle says little of a folded
  code.

Radius, side and learning rate were chosen with ten seeds (1000 to 1009) of the normal arm, from
likelihoods, active units and R^2, before any angle was looked at. Nothing was changed afterwards.
"""

import csv
import dataclasses
import io
import json
import math
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

# Waiting threads sleep: spinning ones make training some twenty times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
import tyro
from config import UsageError, require
from matplotlib import pyplot as plt
from mechanism_figure import figure
from mechanism_model import Arm, centres, draw_disks, factor_grid, score, train
from mechanism_stats import LINEAR, Row, comparisons, overview, trend
from memory import keep_freed_memory
from torch import Tensor
from tqdm import tqdm

import lpnested

NAME = "mechanism"
LOOK = 100  # steps between two looks at the weights
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


class DivergedError(Exception):
    """Weights that are no longer finite."""


@dataclass(frozen=True)
class Config:
    """Does the ISA prior turn the code of a VAE to the axes? Disks at all x and y, two latents.

    Without arguments: the whole experiment, about 20 minutes on one core. A finished arm is kept,
    so after Ctrl-C the same command goes on. To see that it works, in half a minute:
    --seeds 3 --steps 200 --parts runs/mechanism/try
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


def rounded(content: Any) -> Any:
    """All floats in nested lists and dicts to six significant digits."""
    if isinstance(content, float):
        return float(f"{content:.6g}")
    if isinstance(content, dict):
        return {key: rounded(value) for key, value in content.items()}
    return [rounded(value) for value in content] if isinstance(content, (list, tuple)) else content


def write_whole(content: bytes, path: Path) -> None:
    """The file appears with all of its content, or stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def write_json(content: dict[str, Any], path: Path) -> None:
    """Strict JSON: a NaN would be an error."""
    text = json.dumps(rounded(content), indent=2, allow_nan=False)
    write_whole(f"{text}\n".encode(), path)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """A table with the keys of the first row as its head."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(buffer.getvalue().encode(), path)


def finished(arm: Arm, config: Config) -> list[Row] | None:
    """The rows of an arm that was trained before with these settings."""
    path = config.parts / f"{arm.name}.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        settings, rows = content["config"], content["rows"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no finished arm ({error!r}); delete it") from error
    if settings != config.to_json():
        raise UsageError(
            f"{path} has other settings: {settings}. Delete it, or give other --parts"
        )
    return list(rows)


def fit(arm: Arm, config: Config, bar: tqdm) -> list[Row]:
    """Train and score all seeds of an arm; its lines of the table."""
    classes, seeds = factor_grid(), range(config.seeds)
    images, prior = draw_disks(centres(classes, arm.diamond)), arm.prior
    models = train(
        images,
        prior,
        seeds,
        config.hidden,
        config.batch_size,
        config.learning_rate,
        config.beta,
    )
    weights: list[Tensor] = []
    for step in range(1, config.steps + 1):
        weights = next(models)
        bar.update()
        if (step % LOOK == 0 or step == config.steps) and not finite(weights):
            raise DivergedError(
                f"{arm.name}: weights are no longer finite near step {step}. "
                "Try a smaller --learning-rate."
            )
    lines = []
    for k, seed in enumerate(seeds):
        scores = score(images, classes, [w[k : k + 1] for w in weights], prior, seed)
        head = {"arm": arm.name, "seed": seed, "beta": config.beta, "rung": NAME}
        lines.append(rounded({**head, **scores, "steps": config.steps}))
    return lines


def finite(weights: Sequence[Tensor]) -> bool:
    """Whether all of them are."""
    return all(bool(w.isfinite().all()) for w in weights)


def gather(config: Config) -> list[Row]:
    """All lines of the table; arms are read where they are finished, and trained where not."""
    done = {arm.name: finished(arm, config) for arm in config.chosen}
    rows: list[Row] = []
    ready = sum(lines is not None for lines in done.values())
    total = len(done) * config.steps
    with tqdm(total=total, initial=ready * config.steps, unit="step") as bar:
        for arm in config.chosen:
            bar.set_description(f"{arm.name} x {config.seeds} seeds")
            lines = done[arm.name]
            if lines is None:
                lines = fit(arm, config, bar)
                content = {"config": config.to_json(), "rows": lines}
                write_json(content, config.parts / f"{arm.name}.json")
            rows += lines
    return rows


def versions() -> dict[str, str]:
    """Of all that makes the numbers."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "lpnested": lpnested.__version__,
    }


def run(config: Config) -> str:
    """Everything, from training to the summary."""
    began = time.monotonic()
    rows, arms = gather(config), config.chosen
    lines = overview(rows, arms)
    results: dict[str, Any] = {
        "config": config.to_json(),
        "versions": versions(),
        "arms": lines,
        "angle": comparisons(rows, arms, "angle"),
        "mig": comparisons(rows, arms, "mig"),
        "angle_of_linear": comparisons(rows, arms, "angle", LINEAR),
        "trend": trend(rows, arms),
        "trend_of_linear": trend(rows, arms, LINEAR),
    }
    write_csv(rows, config.out / f"{NAME}.csv")
    write_json(results, config.out / f"{NAME}.json")
    picture, drawn = figure(rows, arms, [line["force_nats"] for line in lines]), io.BytesIO()
    picture.savefig(drawn, format="png", dpi=100)
    plt.close(picture)
    write_whole(drawn.getvalue(), config.out / f"{NAME}.png")
    return summary(results, config, time.monotonic() - began)


def summary(results: dict[str, Any], config: Config, seconds: float) -> str:
    """The arms as a table, and where the files are."""
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


def main(argv: Sequence[str]) -> int:
    """Exit status: 0 done, 1 diverged, 2 wrong use, 130 Ctrl-C."""
    keep_freed_memory()
    torch.set_num_threads(1)  # the tensors are small: more threads are slower
    config = tyro.cli(Config, args=argv)
    try:
        check(config)
        print(run(config))
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except DivergedError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"stopped; finished arms are in {config.parts}, the same command goes on from there",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
