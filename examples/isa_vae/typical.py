"""What a model comes to, from the published runs: the measure for the scores of one's own."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from config import Config, UsageError
from experiments import ARMS, experiments
from outcomes import looked_at, scores
from runs_read import read_rows

RESULTS = Path(__file__).parent / "results"
TABLES = ("fig5a-quick", "fig5a-medium", "fig5a", "paper")
# What the runs of an arm may differ in from one's own and still say what is typical.
PRIOR = ("prior", "p0", "p", "scale", "learn_exponents")


def arm_of(config: Config) -> str | None:
    """The arm whose prior a training at beta 1 has, or None."""
    if (config.beta, config.objective, config.sizes) != (1.0, "vae", Config.sizes):
        return None
    mine = [getattr(config, key) for key in PRIOR]
    for name, settings in ARMS.items():
        other = dataclasses.replace(Config(), **settings)
        normal = config.prior == "normal" == other.prior
        if normal and number(config.scale) == number(other.scale):
            return name
        if not normal and mine == [getattr(other, key) for key in PRIOR]:
            return name
    return None


def number(scale: float | str) -> float:
    """The scale of a normal prior."""
    return 1.0 if scale == "unit-variance" else float(scale)


def typical(config: Config, results: Path = RESULTS) -> str:
    """The scores of published runs with the same prior, or with that of the paper's release."""
    if config.data_set != "dsprites":
        return ""
    lines = [line for name in TABLES for line in of_table(name, config, results)]
    little = "A smoke run is too short for its scores to mean anything. "
    head = f"\n{little if config.preset == 'smoke' else ''}What published runs came to, at beta 1:"
    tail = "  (last: hidden units, steps x pictures in a step; the runs are in results/)"
    return "\n".join([head, *lines, tail]) if lines else ""


def of_table(name: str, config: Config, results: Path) -> Iterator[str]:
    """The line of one table, where it has such runs."""
    path = results / f"{name}.csv"
    arm = arm_of(config) or "isa-released"
    try:
        rows = looked_at(read_rows(path, name)) if path.is_file() else []
    except UsageError:
        rows = []  # a table that somebody is working on
    gaps, fits = (list(scores(rows, arm, 1.0, key).values()) for key in ("mig", "log_px"))
    if not gaps or not fits:
        return
    base = experiments()[name][0].config
    size = f"{base.hidden}, {base.num_steps(737_280):,} x {base.batch_size:,}"
    low, high = np.quantile(gaps, [0.25, 0.75])
    spread = f"{low:.3f} to {high:.3f} in the middle half of {len(gaps)} seeds"
    yield (
        f"  {name:<12} {arm:<12} MIG {np.mean(gaps):.3f} "
        f"({spread if len(gaps) > 1 else 'one seed'}), log p(x|z) {np.mean(fits):.0f}; {size}"
    )
