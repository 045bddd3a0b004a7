"""Files that are whole or not there at all, whatever happens while they are written."""

import json
import os
from pathlib import Path
from typing import Any


def write_whole(content: bytes, path: Path) -> None:
    """The file appears with all of its content, on the disk, or stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_text(text: str, path: Path) -> None:
    """As UTF-8."""
    write_whole(text.encode(), path)


def write_json(values: Any, path: Path, indent: int | None = 2) -> None:
    """Strict JSON: a NaN would be an error."""
    write_text(json.dumps(values, indent=indent, allow_nan=False) + "\n", path)
