"""The rows of a sweep that are there already, here or published, and what is made of them all."""

import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import checkpoint
from config import UsageError
from experiments import Run
from files import write_text
from run_one import folder_of, other_settings
from runs_read import read_rows as read_runs
from table import Row, as_csv, key_of, read_rows

if TYPE_CHECKING:
    from sweep import Sweep


def finished_keys(sweep: "Sweep", runs: list[Run], folder: Path) -> set[str]:
    """Keys of the runs that need not be run: they have a row here, or in the published table."""
    published, here = published_rows(sweep), read_rows(folder / "rows")
    for place, rows in ((sweep.publish, published), (folder, here)):
        for row in rows:
            check_data(row, sweep.data, place)
    wanted = {run.key: run.config for run in runs}
    for row in published:
        asked = wanted[key_of(row)].steps if key_of(row) in wanted else None
        if asked is not None and row.get("steps") not in (None, asked):
            raise UsageError(
                f"{sweep.publish} has {key_of(row)} of {row['steps']} steps, but asked for are "
                f"{asked}: give another folder to --publish"
            )
    for row in here:
        key = key_of(row)
        if key in wanted and (differences := other_settings(row.get("config", {}), wanted[key])):
            path = folder / "rows" / f"{key}.json"
            raise UsageError(
                f"{path} has other settings: {differences}. Move it, or give another --out"
            )
    return {key_of(row) for row in published + here}


def check_data(row: Row, data: Path | None, place: Path | None) -> None:
    """Runs on real files and on drawn pictures are not to be mixed, for they share a table."""
    drawn = "(drawn)" in row["data"] or "(stand-in" in row["data"]
    if drawn != (data is None):
        raise UsageError(
            f"{place} has {key_of(row)} of {row['data']}, but asked for is one of "
            f"{data.name if data else 'drawn pictures'}: give another --out, and another folder "
            "to --publish"
        )


def modelless(runs: list[Run], folder: Path, finished: set[str]) -> str:
    """What to say of finished runs that have no model, where models are to be kept."""
    lost = {key_of(row) for row in read_rows(folder / "rows") if row["status"] == "diverged"}
    without = [
        run.key
        for run in runs
        if run.key in finished - lost and not (folder_of(run, folder) / checkpoint.MODEL).is_file()
    ]
    if not without:
        return ""
    named = ", ".join(without[:5]) + (", ..." if without[5:] else "")
    return (
        f"--keep-models: {len(without)} finished runs have no model here ({named}): they were "
        "made without that flag, or elsewhere. To make them again, remove their files in "
        f"{folder / 'rows'}, and leave out --publish."
    )


def published_rows(sweep: "Sweep") -> list[Row]:
    """The rows of the published table, if there is one."""
    path = sweep.publish / f"{sweep.experiment}.csv" if sweep.publish else None
    return read_runs(path, sweep.experiment) if path and path.is_file() else []


def finish(sweep: "Sweep", runs: list[Run], folder: Path) -> None:
    """Make the table of the rows there are, and say where it is."""
    rows = read_rows(folder / "rows")
    here = {key_of(row) for row in rows}
    rows += [row for row in published_rows(sweep) if key_of(row) not in here]
    if not rows:
        return
    name = sweep.experiment
    table = folder / f"{name}.csv"
    tables = [table, *([sweep.publish / table.name] if sweep.publish else [])]
    for path in tables:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(as_csv(rows), path)
    status = Counter(row["status"] for row in rows)
    finished = {key_of(row) for row in rows}
    there = sum(run.key in finished for run in runs)
    written = "".join(f"  {path}  the table\n" for path in tables)
    print(
        f"""
{sweep.experiment}: {len(rows)} rows ({status["done"]} done, {status["diverged"]} diverged).
{there} of the {len(runs)} runs asked for are finished.
Written:
  {folder / "rows"}  a row for each run, with its settings and its history
{written}Next:
  python {Path(sys.argv[0]).parent / "figures.py"} report {shlex.quote(str(sweep.out / name))}""",
        flush=True,
    )
