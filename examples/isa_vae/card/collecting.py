"""Merge the results of sessions into the published tables."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from card.leave import PROTOCOL, read_lines, read_model
from card.waves import Identity, identity_of, planned_of, runs_of
from config import Config, UsageError, changes
from running import checkpoint
from running.files import shortened, write_json, write_text
from sweeps.experiments import experiments
from sweeps.rows import Row, as_csv, key_of, read_rows, write_row

SESSIONS, ROTATION = "paper-sessions.json", "paper-rotation.json"
IGNORED = {"device", "data"}  # settings that do not affect the results of these runs
MAY_DIFFER = {"seconds"}  # columns that may differ between a row and its line in the table


def collect(files: Sequence[Path], publish: Path | None, models: Path) -> str:
    """Check the rows, add them to the tables, join the models, and return a report.

    Args:
        files: rows.jsonl of sessions, and parts of models; other files are ignored.
        publish: Folder of the tables.
        models: Folder of sweeps to which the models are added.
    """
    if publish is None:
        raise UsageError("collect needs --publish, e.g. --publish examples/isa_vae/results")
    if missing := [path for path in files if not path.is_file()]:
        raise UsageError(f"no such file: {missing[0]}")
    lines = [line for path in files if path.suffix == ".jsonl" for line in read_lines(path)]
    rows = [{k: v for k, v in line.items() if k != "kind"} for line in of_kind(lines, "run")]
    parts = [path for path in files if ".model." in path.name]
    if not rows and not parts:
        raise UsageError("none of the files has rows or is part of a model: pass OUT/rows.jsonl")
    for row in rows:
        check_row(row)
    joined = [read_model(paths) for paths in by_model(parts).values()]
    tables = [merged(name, mine, publish) for name, mine in sorted(by_experiment(rows).items())]
    for path, _, content in tables:  # write only after everything has been checked
        write_text(content, path)
    report = [f"{path}: {count} new rows" for path, count, _ in tables]
    report += [write_sessions(of_kind(lines, "smoke"), publish)]
    turned = {kind: of_kind(lines, kind) for kind in ("rotation", "curves")}
    report += [write_rotation(turned, publish)]
    report += [write_model(*model, rows, models) for model in joined]
    return "\n".join(line for line in report if line)


def of_kind(lines: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Select the lines of one kind."""
    return [line for line in lines if line["kind"] == kind]


def by_experiment(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Group rows by experiment."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["experiment"], []).append(row)
    return found


def check_row(row: Row) -> None:
    """Raise a UsageError for a row with the wrong protocol, run or settings."""
    name, protocol = "-".join(map(str, identity_of(row))), row.get("protocol")
    if protocol != PROTOCOL:
        raise UsageError(f"{name} follows the protocol {protocol!r}, not {PROTOCOL!r}")
    known = row["experiment"] in experiments()
    run = runs_of(row["experiment"]).get(identity_of(row)[1:]) if known else None
    if run is None:
        raise UsageError(f"{name} is not a run of {row['experiment']}")
    expected, actual = run.config, Config.from_json(row["config"])
    same = {key: getattr(expected, key) for key in IGNORED}
    differences = changes(Config(**{**vars(actual), **same}), expected)
    if differences:
        raise UsageError(f"{name} has different settings from the experiment: {differences}")


def merged(name: str, rows: Sequence[Row], publish: Path) -> tuple[Path, int, str]:
    """Path, number of new rows and content of a table with rows added; duplicates are skipped."""
    path = publish / f"{name}.csv"
    published = read_rows(path, name) if path.is_file() else []
    known = {identity_of(row): row for row in published}
    new: dict[Identity, Row] = {}
    for row in rows:
        identity = identity_of(row)
        other = known.get(identity) or new.get(identity)
        if other is None:
            new[identity] = row
        elif differing := differences(row, other):
            run = "-".join(map(str, identity))
            raise UsageError(f"{run} occurs twice, with different {differing}")
    found = [*published, *new.values()]
    planned_of(found)  # raises for two protocols
    return path, len(new), as_csv(found)


def differences(row: Row, other: Row) -> str:
    """Names of the columns in which two rows of a run differ, at the precision of a table."""
    keys = [key for key in row if key in other and key not in MAY_DIFFER]
    scalar = [key for key in keys if isinstance(row[key], int | float | str | None)]
    return ", ".join(key for key in scalar if rounded(row[key]) != rounded(other[key]))


def rounded(value: Any) -> Any:
    """Round a number to the precision of a table."""
    return float(shortened(float(value))) if isinstance(value, int | float) else value


def write_sessions(trials: Sequence[dict[str, Any]], publish: Path) -> str:
    """Add the trials of GPUs to those of earlier sessions."""
    if not trials:
        return ""
    path = publish / SESSIONS
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    found = [{k: v for k, v in line.items() if k != "kind"} for line in trials]
    write_json([*earlier, *(trial for trial in found if trial not in earlier)], path)
    return f"{path}: {len(found)} trials of a GPU"


def write_rotation(turned: dict[str, list[dict[str, Any]]], publish: Path) -> str:
    """Add the results of rotated codes: means by run, and curves of representative runs."""
    count = len(turned["rotation"])
    if not count:
        return ""
    path = publish / ROTATION
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found = {
        kind: earlier.get(kind, {}) | {line["key"]: line[of] for line in turned[kind]}
        for kind, of in (("rotation", "means"), ("curves", "rows"))
    }
    write_json(found, path, indent=None)
    return f"{path}: rotated codes of {count} runs"


def by_model(parts: Sequence[Path]) -> dict[tuple[Path, str], list[Path]]:
    """Group the parts by model."""
    found: dict[tuple[Path, str], list[Path]] = {}
    for path in parts:
        found.setdefault((path.parent, path.name.rpartition(".model.")[0]), []).append(path)
    return found


def write_model(
    key: str, config: Config, weights: dict[str, Tensor], rows: Sequence[Row], models: Path
) -> str:
    """Write a model and its row in the layout of a sweep with --keep-models."""
    folder = models / "paper" / "runs" / key
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save_atomic(weights, folder / checkpoint.MODEL)
    write_json(config.to_json(), folder / checkpoint.CONFIG)
    for row in rows:
        if (row["experiment"], key_of(row)) == ("paper", key):
            write_row(row, models / "paper" / "rows" / f"{key}.json")
    return f"{folder}: a model, in half precision"
