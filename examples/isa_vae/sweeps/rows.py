"""Rows of an experiment: one JSON file per run, and all of them as a published CSV."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from config import UsageError
from running.files import lines_as_csv, write_json
from sweeps.experiments import Run

Row = dict[str, Any]
IDENTITY = ["experiment", "rung", "arm", "seed", "beta", "status", "data"]
SETTINGS = [*IDENTITY, "evaluated", "steps"]
SCORES = ["mig", "log_px", "log_px_standard_error", "kl", "elbo", "active_units"]
TEXT = {"experiment", "rung", "arm", "status", "data"}
NAMES = {"device", "torch", "card", "driver", "precision", "engine", "protocol"}  # also text
REQUIRED = (*sorted(TEXT), "seed", "beta")


def make_row(run: Run, metrics: Mapping[str, Any] | None, data: str) -> Row:
    """Make the row of a finished run, or of a diverged one (metrics None, scores null)."""
    row: Row = {
        "experiment": run.experiment,
        "rung": run.rung,
        "arm": run.arm,
        "seed": run.config.seed,
        "beta": run.config.beta,
        "status": "done" if metrics else "diverged",
        "data": data,
        "evaluated": None,
        "steps": None,
        **dict.fromkeys(SCORES),
        "config": run.config.to_json() | {"data": None},  # the label names the data
    }
    if metrics is None:
        return row
    scores = metrics["scores"]
    gaps = {f"mig_{name}": gap for name, gap in scores["mig_per_factor"].items()}
    return row | {
        "evaluated": metrics["evaluated"]["count"],
        "steps": metrics["steps"],
        "mig": scores["mig"],
        **gaps,
        "log_px": scores["log_likelihood"],
        "log_px_standard_error": scores["log_likelihood_standard_error"],
        "kl": scores["kl_monte_carlo"],
        "elbo": scores["elbo"],
        "active_units": scores["active_units"],
        **metrics["exponents"],
        **{f"gap_{name}": gap for name, gap in scores["gaps_not_in_mig"].items()},
        **scores["more"],
        "seconds": sum(metrics["seconds"].values()),
        "history": metrics["history"],
        "information": dict(
            zip(scores["factors"], zip(*scores["mutual_information"], strict=True), strict=True)
        ),
        "versions": metrics["versions"],
    }


def key_of(row: Row) -> str:
    """`Run.key`, computed from a row."""
    return f"{row['arm']}-beta{row['beta']:g}-seed{row['seed']}"


def write_row(row: Row, path: Path) -> None:
    """Write the JSON file of a run; NaN is an error."""
    write_json(row, path, indent=None)


def read_folder(folder: Path) -> list[Row]:
    """Read all rows of a sweep, ordered by file name."""
    return [read_row(path) for path in sorted(folder.glob("*.json"))]


def read_row(path: Path) -> Row:
    """Read the row of a run."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is damaged ({error}): delete it to rerun it") from error
    if not isinstance(row, dict) or not row.keys() >= set(IDENTITY):
        raise UsageError(f"{path} is not a row but {row!r:.60}: delete it to rerun it")
    return row


def as_csv(rows: Iterable[Row]) -> str:
    """Format the scalars of the rows as CSV, sorted by arm, beta and seed; null is empty."""
    rows = sorted(
        (provenance(row) | row for row in rows),
        key=lambda row: (row["arm"], row["beta"], row["seed"]),
    )
    found = {key for row in rows for key in row}
    gaps = sorted(key for key in found if key.startswith("mig_"))
    first = [*SETTINGS, *SCORES[:1], *gaps, *SCORES[1:], *sorted(found)]
    return lines_as_csv(rows, [key for key in first if key in found])


def provenance(row: Row) -> Row:
    """The columns that record where a row was computed."""
    if "config" not in row:  # read from a published table
        return {}
    versions = row.get("versions") or {}
    return {"device": row["config"].get("device"), "torch": versions.get("torch")}


def read_rows(source: Path, experiment: str | None = None, start: str = "") -> list[Row]:
    """Read the rows of one experiment, from the folder of a sweep or from a published CSV.

    Args:
        source: A CSV, the folder of an experiment (with rows/ in it), or that of all experiments.
        experiment: Name of the experiment, needed if the source has several.
        start: Prefix of the experiments to choose from if no name is given, e.g. "fig5a".
    """
    command = f"python examples/isa_vae/sweep.py {experiment or start or 'list'}"
    hint = f"To make the runs:\n  {command}"
    try:
        if source.is_file():
            with source.open(newline="", encoding="utf-8") as file:
                rows = [read_line(line) for line in csv.DictReader(file)]
        else:
            folders = [source / "rows", *sorted(source.glob("*/rows"))]
            rows = [row for folder in folders for row in read_folder(folder)]
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"cannot read {source}: {error}") from error
    check_rows(rows, source)
    names = {row["experiment"] for row in rows}
    names = {name for name in names if name == experiment or not experiment}
    names = {name for name in names if name.startswith(start)} if len(names) > 1 else names
    if len(names) != 1:
        several = f"{', '.join(sorted(names))}: choose one with --experiment"
        nothing = f"no runs of {experiment or start or 'a sweep'} in {source}. {hint}"
        raise UsageError(f"{source} holds {several}" if names else nothing)
    return [row for row in rows if row["experiment"] in names]


def read_line(line: dict[str, str]) -> Row:
    """Read a line of a published table; empty cells become None."""
    if None in line:
        raise ValueError("a line has more cells than the header")
    return {key: read_cell(key, text) for key, text in line.items()}


def read_cell(key: str, text: str | None) -> float | int | str | None:
    """Parse a cell as a number, text or None."""
    if not text or key in TEXT | NAMES:
        return text or None
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text


def check_rows(rows: Sequence[Row], source: Path) -> None:
    """Raise a UsageError for an incomplete row, or for two rows of the same run."""
    for row in rows:
        if not isinstance(row, dict):
            raise UsageError(f"{source}: a row is not a JSON object but {row!r:.60}")
        missing = [key for key in REQUIRED if row.get(key) is None]
        if missing or row["status"] not in ("done", "diverged"):
            what = f"has no {missing[0]}" if missing else f"has the status {row['status']!r}"
            raise UsageError(f"{source}: a row (seed {row.get('seed')}) {what}")
        for key in ("seed", "beta", "mig", "log_px"):
            if isinstance(row.get(key), str | list | dict):
                raise UsageError(f"{source}: {key} must be a number, but is {row[key]!r:.60}")
    keys = [(row["experiment"], row["arm"], row["beta"], row["seed"]) for row in rows]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise UsageError("{}: {}, arm {}, beta {}, seed {} occurs twice".format(source, *twice))
