"""Results files: strict JSON and CSV, written whole or not at all."""

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

RESULTS = Path(__file__).parent / "results"  # what is committed: figures and documents read it

Row = dict[str, float | int | str]


class UsageError(Exception):
    """A mistake in the flags, or in a file they name; the message is for the user."""


def require(condition: bool, flag: str, wanted: str, got: object) -> None:
    """Raise a UsageError about one flag unless the condition holds."""
    if not condition:
        raise UsageError(f"{flag} must be {wanted}, but got {got}")


def versions() -> dict[str, str]:
    """Of all that makes the numbers."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "lpnested": lpnested.__version__,
    }


def rounded(values: Any, digits: int = 6) -> Any:
    """All floats in nested lists and dicts to that many significant digits."""
    if isinstance(values, float):
        return float(f"{values:.{digits}g}")
    if isinstance(values, dict):
        return {key: rounded(value, digits) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [rounded(value, digits) for value in values]
    return values


def write_whole(content: bytes, path: Path) -> None:
    """The file appears with all of its content, or stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def write_json(values: dict[str, Any], path: Path) -> None:
    """Strict JSON (a NaN is an error) with the innermost lists on one line."""
    text = json.dumps(rounded(values), indent=2, allow_nan=False)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda match: " ".join(match[0].split()), text)
    write_whole(f"{text}\n".encode(), path)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """A table with the keys of the first row as its head."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rounded(list(rows)))
    write_whole(buffer.getvalue().encode(), path)


def read_json(path: Path) -> dict[str, Any]:
    """What write_json wrote."""
    values: dict[str, Any] = json.loads(existing(path).read_text(encoding="utf-8"))
    return values


def read_csv(path: Path) -> list[Row]:
    """What write_csv wrote, numbers as floats."""
    with existing(path).open(encoding="utf-8", newline="") as file:
        return [{key: number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def existing(path: Path) -> Path:
    """The path, if there is a file."""
    if not path.is_file():
        script = f"examples/toys/{path.stem}.py"
        raise UsageError(
            f"{path} is missing; make it with:\n  python {script} --out {path.parent}"
        )
    return path


def number(text: str) -> float | str:
    """The number that a cell holds, or its text."""
    try:
        return float(text)
    except ValueError:
        return text


def command(run: Callable[[Sequence[str]], str], argv: Sequence[str]) -> int:
    """Run a script and print its summary; exit status 0 done, 2 wrong use, 130 Ctrl-C."""
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
