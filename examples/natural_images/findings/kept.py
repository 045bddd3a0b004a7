"""Atomic writing of files (JSON, CSV, text), and saved fits."""

import csv
import io
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from images_config import UsageError

Row = dict[str, Any]


def write_atomic(content: bytes, path: Path) -> None:
    """Write a file atomically: it has all of its new content, or stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def rounded(content: Any) -> Any:
    """Round all floats in nested lists and dicts to six significant digits."""
    if isinstance(content, float):
        return float(f"{content:.6g}")
    if isinstance(content, dict):
        return {key: rounded(value) for key, value in content.items()}
    return [rounded(value) for value in content] if isinstance(content, (list, tuple)) else content


def write_json(content: Any, path: Path) -> None:
    """Write strict JSON: a NaN is an error."""
    text = json.dumps(rounded(content), indent=2, allow_nan=False)
    write_atomic(f"{text}\n".encode(), path)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write a table whose header is the keys of the first row."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rounded(list(rows)))
    write_atomic(buffer.getvalue().encode(), path)


def save_fit(content: dict[str, Any], path: Path) -> None:
    """Save a finished fit: tensors and plain values."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic(buffer.getvalue(), path)


def load_fit(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Load a finished fit, or return None if there is none.

    Raises:
        UsageError: If the file is not a saved fit, or has other settings.
    """
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True)
        found = content["settings"]
    except Exception as error:  # anything that pickle, zip files or missing keys raise
        raise UsageError(f"{path} is not a saved fit ({error!r}); delete it") from error
    changed = sorted(key for key in settings if found.get(key) != settings[key])
    if changed:
        changes = ", ".join(f"{key} was {found.get(key)}, now {settings[key]}" for key in changed)
        raise UsageError(f"{path} has other settings: {changes}. Delete it, or change --fits")
    return content
