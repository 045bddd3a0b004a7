"""Reads the rows of an experiment, from a sweep's folder or a published table."""

import csv
from collections.abc import Sequence
from pathlib import Path

from config import UsageError
from table import Row
from table import read_rows as read_folder

TEXT = {"experiment", "rung", "arm", "status", "data"}
NAMES = {"device", "torch", "card", "driver", "precision", "engine", "protocol"}  # not numbers
NEEDED = (*sorted(TEXT), "seed", "beta")


def read_rows(source: Path, experiment: str | None = None, start: str = "") -> list[Row]:
    """Rows of one experiment, from a folder of a sweep or from a published CSV.

    Args:
        source: The CSV, the folder of an experiment (with rows/ in it), or that of all of them.
        experiment: Its name, where there are several.
        start: Beginning of the names to choose from where no name is given, e.g. "fig5a".
    """
    command = f"python examples/isa_vae/sweep.py {experiment or start or 'list'}"
    hint = f"Runs are made by:\n  {command}"
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
        several = f"{', '.join(sorted(names))}: choose one by --experiment"
        nothing = f"no runs of {experiment or start or 'a sweep'} in {source}. {hint}"
        raise UsageError(f"{source} holds {several}" if names else nothing)
    return [row for row in rows if row["experiment"] in names]


def read_line(line: dict[str, str]) -> Row:
    """A line of a published table; an empty cell is None."""
    if None in line:
        raise ValueError("a line has more cells than the head")
    return {key: read_cell(key, text) for key, text in line.items()}


def read_cell(key: str, text: str | None) -> float | int | str | None:
    """What a cell holds: a number, text, or nothing."""
    if not text or key in TEXT | NAMES:
        return text or None
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text


def check_rows(rows: Sequence[Row], source: Path) -> None:
    """Every row says what run it is of, and no run is there twice."""
    for row in rows:
        if not isinstance(row, dict):
            raise UsageError(f"{source}: a row is no JSON object, but {row!r:.60}")
        lacks = [key for key in NEEDED if row.get(key) is None]
        if lacks or row["status"] not in ("done", "diverged"):
            what = f"has no {lacks[0]}" if lacks else f"has the status {row['status']!r}"
            raise UsageError(f"{source}: a row (seed {row.get('seed')}) {what}")
        for key in ("seed", "beta", "mig", "log_px"):
            if isinstance(row.get(key), str | list | dict):
                raise UsageError(f"{source}: {key} must be a number, but is {row[key]!r:.60}")
    keys = [(row["experiment"], row["arm"], row["beta"], row["seed"]) for row in rows]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise UsageError("{}: {}, arm {}, beta {}, seed {} is there twice".format(source, *twice))
