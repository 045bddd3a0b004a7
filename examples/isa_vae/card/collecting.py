"""Merges what sessions left behind into the published tables."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import checkpoint
from card.leave import PROTOCOL, read_lines, read_model
from card.waves import Key, key_of, planned_of, runs_of
from config import Config, UsageError, changes
from experiments import experiments
from files import write_json, write_text
from runs_read import read_rows
from table import Row, as_csv, shortened, write_row

SESSIONS, ROTATION = "paper-sessions.json", "paper-rotation.json"
IGNORED = {"device", "data"}  # settings that determine no number of these runs
MAY_DIFFER = {"seconds"}  # between a row and its line in the table


def collect(files: Sequence[Path], publish: Path | None, models: Path) -> str:
    """Check the rows, add them to the tables, and put the models together; says what was done.

    Args:
        files: rows.jsonl of sessions, and parts of models; others are left alone.
        publish: Folder of the tables.
        models: Folder of sweeps, for the models.
    """
    if publish is None:
        raise UsageError("collect needs --publish, e.g. --publish examples/isa_vae/results")
    if missing := [path for path in files if not path.is_file()]:
        raise UsageError(f"no such file: {missing[0]}")
    lines = [line for path in files if path.suffix == ".jsonl" for line in read_lines(path)]
    rows = [{k: v for k, v in line.items() if k != "kind"} for line in of_kind(lines, "run")]
    parts = [path for path in files if ".model." in path.name]
    if not rows and not parts:
        raise UsageError("none of the files has rows, or is part of a model: give OUT/rows.jsonl")
    for row in rows:
        check_row(row)
    said = [merge(name, mine, publish) for name, mine in sorted(by_experiment(rows).items())]
    said += [keep_sessions(of_kind(lines, "smoke"), publish)]
    turned = {kind: of_kind(lines, kind) for kind in ("rotation", "curves")}
    said += [keep_rotation(turned, publish)]
    said += put_together(parts, rows, models)
    return "\n".join(line for line in said if line)


def of_kind(lines: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The lines of one kind."""
    return [line for line in lines if line["kind"] == kind]


def by_experiment(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each experiment."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["experiment"], []).append(row)
    return found


def check_row(row: Row) -> None:
    """Refuse rows of another protocol, of no experiment, or with other settings than it has."""
    name, protocol = "-".join(map(str, key_of(row))), row.get("protocol")
    if protocol != PROTOCOL:
        raise UsageError(f"{name} is of the protocol {protocol!r}, not of {PROTOCOL!r}")
    known = row["experiment"] in experiments()
    run = runs_of(row["experiment"]).get(key_of(row)[1:]) if known else None
    if run is None:
        raise UsageError(f"{name} is no run of {row['experiment']}")
    asked, made = run.config, Config.from_json(row["config"])
    same = {key: getattr(asked, key) for key in IGNORED}
    differences = changes(Config(**{**vars(made), **same}), asked)
    if differences:
        raise UsageError(f"{name} has other settings than the experiment: {differences}")


def merge(name: str, rows: Sequence[Row], publish: Path) -> str:
    """Add rows to the table of their experiment; the same ones again change nothing."""
    path = publish / f"{name}.csv"
    there = read_rows(path, name) if path.is_file() else []
    known = {key_of(row): row for row in there}
    new: dict[Key, Row] = {}
    for row in rows:
        key = key_of(row)
        other = known.get(key) or new.get(key)
        if other is None:
            new[key] = row
        elif differing := differences(row, other):
            raise UsageError(f"{'-'.join(map(str, key))} is there twice, with other {differing}")
    try:
        planned_of([*there, *new.values()])
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    if new:
        write_text(as_csv([*there, *new.values()]), path)
    return f"{path}: {len(new)} new rows, {len(there)} that were there"


def differences(row: Row, other: Row) -> str:
    """Names of scores that two rows of one run do not share, to the digits of a table."""
    keys = [key for key in row if key in other and key not in MAY_DIFFER]
    scalar = [key for key in keys if isinstance(row[key], int | float)]
    return ", ".join(key for key in scalar if rounded(row[key]) != rounded(other[key]))


def rounded(value: Any) -> float | None:
    """A number as the table has it."""
    return None if value is None else float(shortened(float(value)))


def keep_sessions(trials: Sequence[dict[str, Any]], publish: Path) -> str:
    """Add the trials of cards to those of earlier sessions."""
    if not trials:
        return ""
    path = publish / SESSIONS
    there = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    found = [{k: v for k, v in line.items() if k != "kind"} for line in trials]
    write_json([*there, *(trial for trial in found if trial not in there)], path)
    return f"{path}: {len(found)} trials of a card"


def keep_rotation(turned: dict[str, list[dict[str, Any]]], publish: Path) -> str:
    """Rotated codes, by the run: means of each, and the curves of representative ones."""
    count = len(turned["rotation"])
    if not count:
        return ""
    path = publish / ROTATION
    there = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found = {
        kind: there.get(kind, {}) | {line["key"]: line[of] for line in turned[kind]}
        for kind, of in (("rotation", "means"), ("curves", "rows"))
    }
    write_json(found, path, indent=None)
    return f"{path}: rotated codes of {count} runs"


def put_together(parts: Sequence[Path], rows: Sequence[Row], models: Path) -> list[str]:
    """Models from their parts, as a sweep with --keep-models leaves them, with their rows."""
    found: dict[tuple[Path, str], list[Path]] = {}
    for path in parts:
        found.setdefault((path.parent, path.name.rpartition(".model.")[0]), []).append(path)
    said = []
    for paths in found.values():
        key, config, weights = read_model(paths)
        folder = models / "paper" / "runs" / key
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.save_whole(weights, folder / checkpoint.MODEL)
        write_json(config.to_json(), folder / checkpoint.CONFIG)
        for row in rows:
            if f"{row['arm']}-beta{row['beta']:g}-seed{row['seed']}" == key:
                write_row(row, models / "paper" / "rows" / f"{key}.json")
        said.append(f"{folder}: a model, in half precision")
    return said
