"""One row for each run: as a JSON file when the run ends, and as a line of the published CSV."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from config import UsageError
from experiments import Run
from files import write_json

Row = dict[str, Any]
IDENTITY = ["experiment", "rung", "arm", "seed", "beta", "status", "data"]
SETTINGS = [*IDENTITY, "evaluated", "steps"]
SCORES = ["mig", "log_px", "log_px_standard_error", "kl", "elbo", "active_units"]


def make_row(run: Run, metrics: Mapping[str, Any] | None, data: str) -> Row:
    """The row of a finished run, or of one that diverged (no metrics): its scores are null."""
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
        "config": run.config.to_json() | {"data": None},  # the label says what they were
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
    """As `Run.key`, from a row."""
    return f"{row['arm']}-beta{row['beta']:g}-seed{row['seed']}"


def write_row(row: Row, path: Path) -> None:
    """One run's JSON; a NaN would be an error."""
    write_json(row, path, indent=None)


def read_rows(folder: Path) -> list[Row]:
    """All rows of a sweep, in the order of their names."""
    return [read_row(path) for path in sorted(folder.glob("*.json"))]


def read_row(path: Path) -> Row:
    """One run's row."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is damaged ({error}): delete it to run that again") from error
    if not isinstance(row, dict) or not row.keys() >= set(IDENTITY):
        raise UsageError(f"{path} is no row, but {row!r:.60}: delete it to run that again")
    return row


def as_csv(rows: Iterable[Row]) -> str:
    """The scalars of the rows as a table, sorted by arm, beta and seed; an empty cell is null."""
    rows = sorted(
        (provenance(row) | row for row in rows),
        key=lambda row: (row["arm"], row["beta"], row["seed"]),
    )
    found = {key for row in rows for key in row}
    gaps = sorted(key for key in found if key.startswith("mig_"))
    first = [*SETTINGS, *SCORES[:1], *gaps, *SCORES[1:], *sorted(found)]
    return lines_as_csv(rows, [key for key in first if key in found])


def lines_as_csv(rows: Sequence[Row], first: Sequence[str]) -> str:
    """The scalars of the rows as a table, with these columns before the others."""
    scalar = (str, int, float, type(None))
    found = {k: None for row in rows for k, x in row.items() if isinstance(x, scalar)}
    columns = [key for key in dict.fromkeys([*first, *found]) if key in found]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: shortened(row.get(key)) for key in columns})
    return text.getvalue()


def provenance(row: Row) -> Row:
    """What else a line of the table says of where its numbers come from."""
    if "config" not in row:  # a line of a table
        return {}
    versions = row.get("versions") or {}
    return {"device": row["config"].get("device"), "torch": versions.get("torch")}


def shortened(value: Any) -> Any:
    """A number to six digits; None stays, as an empty cell."""
    return f"{value:.6g}" if isinstance(value, float) else value
