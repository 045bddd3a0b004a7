"""Appendix B.7 and B.8, over-complete ICA: `python examples/toys/ica.py [--help]`."""

import dataclasses
import sys
import time
from collections.abc import Sequence
from statistics import mean

import tyro
from torch import Tensor
from tqdm import tqdm

from ica_fit import Config, Point, draw, fit
from ica_model import log_likelihood
from records import Row, command, require, versions, write_csv, write_json

TABLE, FILE = "ica.csv", "ica.json"
PRUNED = 0.1  # a weight counts as pruned below this norm, a tenth of the true ones
STAGES = {"truth": "at the true weights", "em": "after EM", "converged": "at the maximum"}


def row(x: Tensor, config: Config, seed: int, beta: float, point: Point) -> Row:
    """Format a point of a fit as a row of the table."""
    norms = point.weights.norm(dim=0).tolist()
    degrees = point.weights[1].atan2(point.weights[0]).rad2deg().remainder(180).tolist()
    return {
        "seed": seed,
        "beta": beta,
        "stage": point.stage,
        "em_step": point.em_step,
        "free_energy": point.free_energy,
        "log_likelihood": log_likelihood(x, point.weights, config.nu, config.noise_std).item(),
        "gradient": point.gradient,
        **{f"norm_{k}": round(norm, 4) for k, norm in enumerate(norms)},
        **{f"degrees_{k}": round(angle, 2) for k, angle in enumerate(degrees)},
    }


def smallest_norm(line: Row) -> float:
    """The smallest norm of the three weights."""
    return min(float(line[f"norm_{k}"]) for k in range(3))


def between_longest(line: Row) -> float:
    """The angle between the two longest weights, in degrees from 0 to 90."""
    order = sorted(range(3), key=lambda k: -float(line[f"norm_{k}"]))
    first, second = (float(line[f"degrees_{k}"]) for k in order[:2])
    return 90 - abs(90 - abs(first - second))


def overview(rows: Sequence[Row], config: Config) -> list[Row]:
    """Summarise the fits of each beta and stage: pruning, orthogonality and bounds."""
    lines: list[Row] = []
    for beta in config.betas:
        for stage in STAGES:
            step = 0 if stage == "truth" else config.em_steps
            key = (beta, stage, step)
            group = [r for r in rows if (r["beta"], r["stage"], r["em_step"]) == key]
            angles = [between_longest(r) for r in group]
            lines.append(
                {
                    "beta": beta,
                    "stage": stage,
                    "fits": len(group),
                    "pruned": sum(smallest_norm(r) < PRUNED for r in group),
                    "smallest_norm_mean": mean(smallest_norm(r) for r in group),
                    "degrees_between_longest_mean": mean(angles),
                    "degrees_between_longest_min": min(angles),
                    "largest_gradient": max(float(r["gradient"]) for r in group),
                    "free_energy_mean": mean(float(r["free_energy"]) for r in group),
                    "log_likelihood_mean": mean(float(r["log_likelihood"]) for r in group),
                }
            )
    return lines


def check(config: Config) -> None:
    """Raise a UsageError that names the first invalid flag."""
    for key in ("nu", "noise_std", "num", "seeds", "em_steps"):
        flag, value = "--" + key.replace("_", "-"), getattr(config, key)
        require(value > 0, flag, "positive", value)
    require(len(config.betas) > 0 and min(config.betas) > 0, "--betas", "positive", config.betas)


def summary(lines: Sequence[Row], config: Config, seconds: float) -> str:
    """Format the overview as text."""
    text = [
        f"{config.seeds} data sets of {config.num}, nu {config.nu:g}, all numbers are means",
        "",
    ]
    text.append("beta  weights              pruned  two longest at  log likelihood  free energy")
    for line in lines:
        text.append(
            f"{line['beta']:4g}  {STAGES[str(line['stage'])]:19}  {line['pruned']:2d} of "
            f"{line['fits']:<2d}  {line['degrees_between_longest_mean']:9.0f} deg  "
            f"{line['log_likelihood_mean']:14.1f}  {line['free_energy_mean']:11.1f}"
        )
    return "\n".join([*text, "", f"{seconds:.0f} s. Written to {config.out}: {TABLE}, {FILE}"])


def run(argv: Sequence[str]) -> str:
    """Parse the flags, run the fits, and return the summary."""
    config = tyro.cli(Config, args=argv)
    check(config)
    began, rows = time.monotonic(), []
    tasks = [(seed, beta) for seed in range(config.seeds) for beta in config.betas]
    for seed, beta in tqdm(tasks, desc="fitting", unit="fit"):
        x = draw(config, seed)
        rows += [row(x, config, seed, beta, point) for point in fit(x, config, beta)]
    settings = dataclasses.asdict(config)
    del settings["out"]
    lines = overview(rows, config)
    write_csv(rows, config.out / TABLE)
    results = {"config": settings, "versions": versions(), "pruned_below": PRUNED}
    write_json({**results, "overview": lines}, config.out / FILE)
    return summary(lines, config, time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(command(run, sys.argv[1:]))
