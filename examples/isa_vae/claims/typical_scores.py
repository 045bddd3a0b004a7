"""Typical scores of each arm at beta 1, from the published tables, for train.py's summary."""

from pathlib import Path
from typing import Any

import numpy as np

from claims.questions import arms, looked_at, scores
from config import Config, UsageError
from running.typical import PRIOR
from sweeps.experiments import ARMS, experiments
from sweeps.rows import read_rows

TABLES = ("fig5a-quick", "fig5a-medium", "fig5a", "paper")


def typical_scores(results: Path) -> list[dict[str, Any]]:
    """Mean scores of the arms of each published table, for results/typical.json."""
    return [record for name in TABLES for record in of_table(name, results)]


def of_table(name: str, results: Path) -> list[dict[str, Any]]:
    """Records of the arms of one table that have scores to show."""
    path = results / f"{name}.csv"
    try:
        rows = looked_at(read_rows(path, name)) if path.is_file() else []
    except UsageError:
        rows = []  # a table in progress
    base = experiments()[name][0].config
    size = {"hidden": base.hidden, "steps": base.num_steps(737_280), "batch": base.batch_size}
    found = []
    for arm in arms(rows):
        gaps, fits = (list(scores(rows, arm, 1.0, key).values()) for key in ("mig", "log_px"))
        if gaps and fits:
            low, high = np.quantile(gaps, [0.25, 0.75]).tolist()
            found.append(
                {"table": name, "arm": arm, **size, "prior": prior_of(arm), "seeds": len(gaps)}
                | {"mig": float(np.mean(gaps)), "mig_middle_half": [low, high]}
                | {"log_px": float(np.mean(fits))}
            )
    return found


def prior_of(arm: str) -> dict[str, Any]:
    """The settings of an arm's prior, as JSON has them: with lists for tuples."""
    settings = Config(**ARMS[arm]).to_json()
    values = {key: settings[key] for key in PRIOR}
    return {key: list(x) if isinstance(x, tuple) else x for key, x in values.items()}
