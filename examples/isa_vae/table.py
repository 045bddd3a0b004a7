"""One row for each run: as a JSON file when the run ends, and as a line of the published CSV."""

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments import Run

Row = dict[str, Any]
SETTINGS = ["experiment", "rung", "arm", "seed", "beta", "status", "data", "evaluated", "steps"]
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
        "config": run.config.to_json(),
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


def write_text(text: str, path: Path) -> None:
    """A text file, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_row(row: Row, path: Path) -> None:
    """One run's JSON; a NaN would be an error."""
    write_text(json.dumps(row, allow_nan=False) + "\n", path)


def read_rows(folder: Path) -> list[Row]:
    """All rows of a sweep, in the order of their names."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def as_csv(rows: Iterable[Row]) -> str:
    """The scalars of the rows as a table, sorted by arm, beta and seed; an empty cell is null."""
    rows = sorted(rows, key=lambda row: (row["arm"], row["beta"], row["seed"]))
    scalar = (str, int, float, type(None))
    found = {key for row in rows for key, value in row.items() if isinstance(value, scalar)}
    first = [key for key in SETTINGS + SCORES[:1] if key in found]
    gaps = sorted(key for key in found if key.startswith("mig_"))
    middle = [key for key in SCORES[1:] if key in found]
    columns = list(dict.fromkeys([*first, *gaps, *middle, *sorted(found)]))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: shortened(row.get(key)) for key in columns})
    return text.getvalue()


def shortened(value: Any) -> Any:
    """A number to six digits; None stays, as an empty cell."""
    return f"{value:.6g}" if isinstance(value, float) else value
