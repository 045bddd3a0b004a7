"""Merges what sessions left behind into the published tables."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from config import Config, UsageError, changes
from running import checkpoint
from running.files import shortened, write_json, write_text
from sweeps.experiments import experiments
from sweeps.rows import Row, as_csv, key_of, read_rows, write_row
from torch import Tensor

from card.leave import PROTOCOL, read_lines, read_model
from card.waves import Identity, identity_of, planned_of, runs_of

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
    joined = [read_model(paths) for paths in by_model(parts).values()]
    tables = [merged(name, mine, publish) for name, mine in sorted(by_experiment(rows).items())]
    for path, _, content in tables:  # all of it is in order: now it is written
        write_text(content, path)
    said = [f"{path}: {count} new rows" for path, count, _ in tables]
    said += [keep_sessions(of_kind(lines, "smoke"), publish)]
    turned = {kind: of_kind(lines, kind) for kind in ("rotation", "curves")}
    said += [keep_rotation(turned, publish)]
    said += [put_together(*model, rows, models) for model in joined]
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
    name, protocol = "-".join(map(str, identity_of(row))), row.get("protocol")
    if protocol != PROTOCOL:
        raise UsageError(f"{name} is of the protocol {protocol!r}, not of {PROTOCOL!r}")
    known = row["experiment"] in experiments()
    run = runs_of(row["experiment"]).get(identity_of(row)[1:]) if known else None
    if run is None:
        raise UsageError(f"{name} is no run of {row['experiment']}")
    asked, made = run.config, Config.from_json(row["config"])
    same = {key: getattr(asked, key) for key in IGNORED}
    differences = changes(Config(**{**vars(made), **same}), asked)
    if differences:
        raise UsageError(f"{name} has other settings than the experiment: {differences}")


def merged(name: str, rows: Sequence[Row], publish: Path) -> tuple[Path, int, str]:
    """The table of an experiment with rows added, and how many: the same ones again add none."""
    path = publish / f"{name}.csv"
    there = read_rows(path, name) if path.is_file() else []
    known = {identity_of(row): row for row in there}
    new: dict[Identity, Row] = {}
    for row in rows:
        identity = identity_of(row)
        other = known.get(identity) or new.get(identity)
        if other is None:
            new[identity] = row
        elif differing := differences(row, other):
            run = "-".join(map(str, identity))
            raise UsageError(f"{run} is there twice, with other {differing}")
    found = [*there, *new.values()]
    planned_of(found)  # refuses two protocols
    return path, len(new), as_csv(found)


def differences(row: Row, other: Row) -> str:
    """Names of what two rows of one run do not share, to the digits of a table."""
    keys = [key for key in row if key in other and key not in MAY_DIFFER]
    scalar = [key for key in keys if isinstance(row[key], int | float | str | None)]
    return ", ".join(key for key in scalar if rounded(row[key]) != rounded(other[key]))


def rounded(value: Any) -> Any:
    """A number as the table has it."""
    return float(shortened(float(value))) if isinstance(value, int | float) else value


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


def by_model(parts: Sequence[Path]) -> dict[tuple[Path, str], list[Path]]:
    """The parts of each model."""
    found: dict[tuple[Path, str], list[Path]] = {}
    for path in parts:
        found.setdefault((path.parent, path.name.rpartition(".model.")[0]), []).append(path)
    return found


def put_together(
    key: str, config: Config, weights: dict[str, Tensor], rows: Sequence[Row], models: Path
) -> str:
    """A model as a sweep with --keep-models leaves it, with its row."""
    folder = models / "paper" / "runs" / key
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save_whole(weights, folder / checkpoint.MODEL)
    write_json(config.to_json(), folder / checkpoint.CONFIG)
    for row in rows:
        if (row["experiment"], key_of(row)) == ("paper", key):
            write_row(row, models / "paper" / "rows" / f"{key}.json")
    return f"{folder}: a model, in half precision"
