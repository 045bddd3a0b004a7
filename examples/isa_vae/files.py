"""Files that are whole or not there at all, whatever happens while they are written."""

import errno
import json
import os
import secrets
from pathlib import Path
from typing import Any

LEFT_OVER = ".*-????????.tmp"  # what a kill can leave behind
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_whole(content: bytes, path: Path) -> None:
    """The file appears with all of its content, on the disk, or stays as it was.

    Raises:
        OSError: With the name of the file; nothing else is left behind.
    """
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def remove_left_over(folder: Path) -> None:
    """Remove what writers that were killed have left in a folder that nobody else writes to."""
    for path in folder.glob(LEFT_OVER):
        path.unlink(missing_ok=True)


def no_room(error: BaseException) -> bool:
    """Whether a file could not be written because the disk, or a quota, is full."""
    return isinstance(error, OSError) and error.errno in NO_ROOM


def write_text(text: str, path: Path) -> None:
    """As UTF-8."""
    write_whole(text.encode(), path)


def write_json(values: Any, path: Path, indent: int | None = 2) -> None:
    """Strict JSON: a NaN would be an error."""
    write_text(json.dumps(values, indent=indent, allow_nan=False) + "\n", path)
