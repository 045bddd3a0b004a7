r"""Does the prior rotate the code? `python examples/isa_vae/mechanism.py [--help]`.

The situation of figure 3 of the paper, with a trained model: images that differ only in the
position of a disk, two latents, one subspace. By its density alone, a prior with lighter tails
than the normal favours x and y along the latent axes, one with heavier tails favours them at 45
degrees, and the normal prior, being isotropic, favours nothing.

Protocol, written before the arms below were run:

- *Pictures.* An anti-aliased disk of radius 2 on 16 x 16 pixels, 32 x 32 places in a square of
  side 8 around the centre. The grey values are the targets of Bernoulli pixels.
- *Model.* 256 - 64 - 64 - 2 means and 2 log deviations, 2 - 64 - 64 - 256, ReLU. One-sample bound
  log p(x|z) - beta (log q(z|x) - log p(z)), beta 1. Adam at 2e-3, constant, batches of 256 without
  replacement, 3000 steps; scores at the last step, over all pictures.
- *Arms.* Priors of variance 1: Laplace (1, 1), (2.1, 1.9), normal, (2.1, 2.2), (2.5, 3), (4, 4) as
  (p0, p). Control: the normal prior and a square of places that stands on its corner. There, an
  angle of 0 is along the sides of the square, and 45 along the rows of pixels.
- *Seeds.* 0 to 29 in every arm; a seed has the same first weights, batches and noise in
  all of them.
- *Outcome.* The angle between the latents' axes and those of x and y, from 0 to 45 degrees: fit
  E[z|x] = A (x, y) + c, take the rotation or reflection nearest to A. 22.5 is the mean of chance.
  A run is counted if both latents are active (Var E[z|x] > 0.01); all runs are in the table.
- *Tests.* Each prior against the normal one by Mann-Whitney (first) and by permutation of the
  difference of means, two-sided, corrected by Holm over the five priors. The control by itself.
  Bootstrap intervals are percentiles of 10 000 resamples.
- *Second.* Spearman's correlation of the prior's force (nats by which it prefers the axes) with
  the angle over all runs of the six priors; the same tests for the MIG; and the angle tests over
  the runs with R^2 of at least 0.9 in the linear fit only, because the angle says little of a
  folded code.

Radius, side and learning rate were chosen with ten seeds (1000 to 1009) of the normal arm, from
likelihoods, active units and R^2, before any angle was looked at. The program was tried with three
seeds and 200 steps of every arm. Nothing was changed afterwards.
"""

import io
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

# Idle threads must sleep: spinning makes training about twenty times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import tyro
from matplotlib import pyplot as plt
from torch import Tensor
from tqdm import tqdm

from config import UsageError
from disks.angle_figure import figure
from disks.angles import LINEAR, Row, comparisons, overview, trend
from disks.autoencoders import Arm, centres, draw_disks, factor_grid, score, train
from disks.settings import NAME, Config, check, rounded, summary
from running.files import lines_as_csv, versions, write_atomic, write_json, write_text
from running.process import exit_status, keep_freed_memory

DIVERGED = 1  # exit status
SCORES = ("mig", "mig_posX", "mig_posY", "log_px", "kl", "active_units", "angle", "r2")
CHECK_EVERY = 100  # steps between checks of the weights


class DivergedError(Exception):
    """No seed of an arm has finite weights."""


def finished(arm: Arm, config: Config) -> list[Row] | None:
    """Read the rows of an arm that was trained earlier with these settings, if any."""
    path = config.parts / f"{arm.name}.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        settings, rows = content["config"], content["rows"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not a finished arm ({error!r}); delete it") from error
    if settings != config.to_json():
        raise UsageError(
            f"{path} has different settings: {settings}. Delete it, or choose other --parts"
        )
    return [{**row, "status": row.get("status", "done")} for row in rows]


def fit(arm: Arm, config: Config, bar: tqdm) -> list[Row]:
    """Train and score all seeds of an arm, and return its rows of the table."""
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
        due = step % CHECK_EVERY == 0 or step == config.steps
        if due and not any(finite(weights, k) for k in seeds):
            raise DivergedError(
                f"{arm.name}: no seed has finite weights near step {step}. "
                "Try a smaller --learning-rate."
            )
    lines = []
    for k, seed in enumerate(seeds):
        head = {"arm": arm.name, "seed": seed, "beta": config.beta, "rung": NAME}
        scores: Row = dict.fromkeys(SCORES) | {"counted": 0}
        if done := finite(weights, k):
            scores |= score(images, classes, [w[k : k + 1] for w in weights], prior, seed)
        ending = {"steps": config.steps, "status": "done" if done else "diverged"}
        lines.append(rounded({**head, **scores, **ending}))
    return lines


def finite(weights: Sequence[Tensor], seed: int) -> bool:
    """Whether all weights of a seed are finite."""
    return all(bool(w[seed].isfinite().all()) for w in weights)


def gather(config: Config) -> list[Row]:
    """Collect all rows of the table: finished arms are read, the others trained."""
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
                write_json(rounded(content), config.parts / f"{arm.name}.json")
            rows += lines
    return rows


def run(config: Config) -> str:
    """Train, write the results, and return the summary."""
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
    write_text(lines_as_csv(rows, list(rows[0])), config.out / f"{NAME}.csv")
    write_json(rounded(results), config.out / f"{NAME}.json")
    picture, drawn = figure(rows, arms, [line["force_nats"] for line in lines]), io.BytesIO()
    picture.savefig(drawn, format="png", dpi=100)
    plt.close(picture)
    write_atomic(drawn.getvalue(), config.out / f"{NAME}.png")
    return summary(results, config, time.monotonic() - began)


def main(argv: Sequence[str]) -> int:
    """Return the exit status: 0 success, 1 diverged, 2 usage error, 130 Ctrl-C."""
    keep_freed_memory()
    torch.set_num_threads(1)  # the tensors are small: more threads are slower
    config = tyro.cli(Config, args=argv)
    stopped = f"stopped; finished arms are in {config.parts}; the same command resumes from them"
    return exit_status(lambda: checked(config), stopped)


def checked(config: Config) -> int:
    """Check the settings and run; return 1 if an arm diverged."""
    check(config)
    try:
        print(run(config))
    except DivergedError as error:
        print(error, file=sys.stderr)
        return DIVERGED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
