"""Results files: strict JSON and CSV, written atomically; and the command line of the scripts."""

import csv
import io
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lpnested

RESULTS = Path(__file__).parent / "results"  # committed results, read by figures and docs

Row = dict[str, float | int | str]


class UsageError(Exception):
    """An invalid flag, or a problem with a file it names; the message is for the user."""


def require(condition: bool, flag: str, wanted: str, got: object) -> None:
    """Raise a UsageError about a flag unless the condition holds."""
    if not condition:
        raise UsageError(f"{flag} must be {wanted}, but got {got}")


def versions() -> dict[str, str]:
    """Versions of everything that results depend on."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "lpnested": lpnested.__version__,
    }


def rounded(values: Any, digits: int = 6) -> Any:
    """Round all floats in nested lists and dicts to a number of significant digits."""
    if isinstance(values, float):
        return float(f"{values:.{digits}g}")
    if isinstance(values, dict):
        return {key: rounded(value, digits) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [rounded(value, digits) for value in values]
    return values


def write_atomic(content: bytes, path: Path) -> None:
    """Write a file completely, or leave the previous one unchanged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def write_json(values: dict[str, Any], path: Path) -> None:
    """Write strict JSON (NaN is an error) with the innermost lists on one line."""
    text = json.dumps(rounded(values), indent=2, allow_nan=False)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda match: " ".join(match[0].split()), text)
    write_atomic(f"{text}\n".encode(), path)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write a table with the keys of the first row as its header."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rounded(list(rows)))
    write_atomic(buffer.getvalue().encode(), path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a file written by write_json."""
    values: dict[str, Any] = json.loads(existing(path).read_text(encoding="utf-8"))
    return values


def read_csv(path: Path) -> list[Row]:
    """Read a file written by write_csv, with numbers as floats."""
    with existing(path).open(encoding="utf-8", newline="") as file:
        return [{key: number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def existing(path: Path) -> Path:
    """Return the path of an existing file, or raise a UsageError that says how to make it."""
    if not path.is_file():
        script = f"examples/toys/{path.stem}.py"
        raise UsageError(
            f"{path} is missing; create it with:\n  python {script} --out {path.parent}"
        )
    return path


def number(text: str) -> float | str:
    """Parse a cell as a number if possible."""
    try:
        return float(text)
    except ValueError:
        return text


def command(run: Callable[[Sequence[str]], str], argv: Sequence[str]) -> int:
    """Run a script, print its summary, and return 0 (success), 2 (usage error) or 130 (Ctrl-C)."""
    torch.set_num_threads(1)  # the tensors are small: more threads are slower
    try:
        print(run(argv))
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    return 0
