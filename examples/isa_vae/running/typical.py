"""Scores of the published runs, to compare one's own with."""

import json
from pathlib import Path
from typing import Any

from config import Config

# Written by in_short.py from the published tables.
TYPICAL = Path(__file__).parents[1] / "results" / "typical.json"
# Settings that a run must share with an arm for the arm's scores to be comparable.
PRIOR = ("prior", "p0", "p", "scale", "learn_exponents")


def typical(config: Config, path: Path = TYPICAL) -> str:
    """Scores of published runs with the same prior, or with the paper's released prior."""
    if config.data_set != "dsprites" or not path.is_file():
        return ""
    records = json.loads(path.read_text(encoding="utf-8"))
    mine = [record["arm"] for record in records if same_prior(config, record["prior"])]
    arm = mine[0] if mine else "isa-released"
    lines = [line_of(record) for record in records if record["arm"] == arm]
    little = "A smoke run is too short for its scores to mean anything. "
    head = f"\n{little if config.preset == 'smoke' else ''}Published runs at beta 1, to compare:"
    tail = "  (last columns: hidden units, steps x batch size; the runs are in results/)"
    return "\n".join([head, *lines, tail]) if lines else ""


def same_prior(config: Config, prior: dict[str, Any]) -> bool:
    """Whether a training has beta 1 and the prior of an arm."""
    if (config.beta, config.objective, config.sizes) != (1.0, "vae", Config.sizes):
        return False
    if config.prior == "normal" == prior["prior"]:
        return standard_deviation(config.scale) == standard_deviation(prior["scale"])
    mine = config.to_json()
    return all(mine[key] == as_tuple(prior[key]) for key in PRIOR)


def as_tuple(value: Any) -> Any:
    """Convert the lists of JSON to the tuples of the settings."""
    return tuple(value) if isinstance(value, list) else value


def standard_deviation(scale: float | str) -> float:
    """Standard deviation of a normal prior."""
    return 1.0 if scale == "unit-variance" else float(scale)


def line_of(record: dict[str, Any]) -> str:
    """Format the scores of one arm in one table."""
    low, high = record["mig_middle_half"]
    seeds = record["seeds"]
    middle = f"{low:.3f} to {high:.3f} in the middle half of {seeds} seeds"
    return (
        f"  {record['table']:<12} {record['arm']:<12} MIG {record['mig']:.3f} "
        f"({middle if seeds > 1 else 'one seed'}), log p(x|z) {record['log_px']:.0f}; "
        f"{record['hidden']}, {record['steps']:,} x {record['batch']:,}"
    )
