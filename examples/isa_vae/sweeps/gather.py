"""Gather the rows of a sweep: runs already finished, here or published, and the final table."""

import shlex
import sys
from collections import Counter
from pathlib import Path

from config import UsageError
from running import checkpoint
from running.files import write_text
from sweeps.experiments import Run
from sweeps.rows import Row, as_csv, key_of, read_folder, read_rows
from sweeps.worker import folder_of, settings_changes


def finished_keys(
    runs: list[Run], folder: Path, publish: Path | None, data: Path | None
) -> set[str]:
    """Keys of the finished runs: those with a row here or in the published table."""
    published, here = published_rows(runs, publish), read_folder(folder / "rows")
    for place, rows in ((publish, published), (folder, here)):
        for row in rows:
            check_data(row, data, place)
    wanted = {run.key: run.config for run in runs}
    for row in published:
        steps = wanted[key_of(row)].steps if key_of(row) in wanted else None
        if steps is not None and row.get("steps") not in (None, steps):
            raise UsageError(
                f"{publish} has {key_of(row)} with {row['steps']} steps, but this sweep has "
                f"{steps}: choose another folder for --publish"
            )
    for row in here:
        key = key_of(row)
        if key in wanted and (differences := settings_changes(row.get("config", {}), wanted[key])):
            path = folder / "rows" / f"{key}.json"
            raise UsageError(
                f"{path} has different settings: {differences}. Move it, or choose another --out"
            )
    return {key_of(row) for row in published + here}


def check_data(row: Row, data: Path | None, place: Path | None) -> None:
    """Raise a UsageError if runs on real files and on rendered images would share a table."""
    drawn = "(drawn)" in row["data"] or "(stand-in" in row["data"]
    if drawn != (data is None):
        raise UsageError(
            f"{place} has {key_of(row)} on {row['data']}, but this sweep uses "
            f"{data.name if data else 'drawn pictures'}: choose another --out, and another folder "
            "for --publish"
        )


def missing_models(runs: list[Run], folder: Path, finished: set[str]) -> str:
    """Warning about finished runs without a model, for --keep-models; empty if there are none."""
    lost = {key_of(row) for row in read_folder(folder / "rows") if row["status"] == "diverged"}
    without = [
        run.key
        for run in runs
        if run.key in finished - lost and not (folder_of(run, folder) / checkpoint.MODEL).is_file()
    ]
    if not without:
        return ""
    keys = ", ".join(without[:5]) + (", ..." if without[5:] else "")
    return (
        f"--keep-models: {len(without)} finished runs have no model here ({keys}): they were "
        "made without that flag, or elsewhere. To run them again, delete their files in "
        f"{folder / 'rows'} and leave out --publish."
    )


def published_rows(runs: list[Run], publish: Path | None) -> list[Row]:
    """Rows of the published table of these runs; empty if there is none."""
    name = runs[0].experiment
    path = publish / f"{name}.csv" if publish else None
    return read_rows(path, name) if path and path.is_file() else []


def write_tables(runs: list[Run], folder: Path, publish: Path | None, shown: Path) -> None:
    """Write the table of all finished rows, and print where it is.

    Args:
        runs: All runs of this sweep.
        folder: Folder of the sweep.
        publish: Folder of the published table, which receives the same rows.
        shown: The sweep's folder as the user named it.
    """
    rows = read_folder(folder / "rows")
    here = {key_of(row) for row in rows}
    rows += [row for row in published_rows(runs, publish) if key_of(row) not in here]
    if not rows:
        return
    name = runs[0].experiment
    table = folder / f"{name}.csv"
    tables = [table, *([publish / table.name] if publish else [])]
    for path in tables:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(as_csv(rows), path)
    status = Counter(row["status"] for row in rows)
    finished = {key_of(row) for row in rows}
    count = sum(run.key in finished for run in runs)
    written = "".join(f"  {path}  the table\n" for path in tables)
    print(
        f"""
{name}: {len(rows)} rows ({status["done"]} done, {status["diverged"]} diverged).
{count} of the {len(runs)} requested runs are finished.
Written:
  {folder / "rows"}  one row per run, with its settings and training history
{written}Next:
  python {Path(sys.argv[0]).parent / "figures.py"} report {shlex.quote(str(shown))}""",
        flush=True,
    )
