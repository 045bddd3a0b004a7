"""Files of a run: atomic writes, one writer per folder, CSV tables and recorded versions."""

import csv
import errno
import io
import json
import os
import platform
import secrets
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

import lpnested
from config import UsageError

try:
    import fcntl
except ImportError:  # Windows: folders are not locked there
    fcntl = None

LOCK = ".lock"
TEMPORARY = ".*-????????.tmp"  # files that a killed writer can leave behind
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_atomic(content: bytes, path: Path) -> None:
    """Write a file completely and flushed to disk, or leave the previous one unchanged.

    Raises:
        OSError: If writing fails, with the name of the file; the temporary file is removed.
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


def remove_temporary(folder: Path) -> None:
    """Remove the temporary files of killed writers from a locked folder."""
    for path in folder.glob(TEMPORARY):
        path.unlink(missing_ok=True)


def disk_full(error: BaseException) -> bool:
    """Whether a file could not be written because the disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in DISK_FULL


def write_text(text: str, path: Path) -> None:
    """Write a UTF-8 text file atomically."""
    write_atomic(text.encode(), path)


def write_json(values: Any, path: Path, indent: int | None = 2) -> None:
    """Write strict JSON atomically; NaN is an error."""
    write_text(json.dumps(values, indent=indent, allow_nan=False) + "\n", path)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder.

    The lock belongs to the process, not to the file: it is released if the process is killed.

    Raises:
        UsageError: If another process holds the lock.
    """
    path = folder / LOCK
    file = acquire(path)
    while not is_at(file, path):
        file.close()  # the previous holder has removed the file in the meantime
        file = acquire(path)
    with file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        remove_temporary(folder)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def is_at(file: TextIO, path: Path) -> bool:
    """Whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def acquire(path: Path) -> TextIO:
    """Open and lock the lock file."""
    file = path.open("a+", encoding="utf-8")
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        who = file.read(200) or "another process"
        file.close()
        raise UsageError(
            f"{who} is writing to {path.parent}: wait for it, or choose another --out"
        ) from error
    except OSError as error:  # some shared file systems have no locks
        warnings.warn(f"{path} cannot be locked ({error}): continuing without", stacklevel=3)
    return file


def versions() -> dict[str, str]:
    """Versions of everything that results depend on."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "lpnested": lpnested.__version__,
    }


def lines_as_csv(rows: Sequence[Mapping[str, Any]], first: Sequence[str]) -> str:
    """Format the scalars of rows as CSV, with the columns `first` before all others."""
    scalar = (str, int, float, type(None))
    found = {k: None for row in rows for k, x in row.items() if isinstance(x, scalar)}
    columns = [key for key in dict.fromkeys([*first, *found]) if key in found]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: shortened(row.get(key)) for key in columns})
    return text.getvalue()


def shortened(value: Any) -> Any:
    """Format a float to six digits; other values, such as None for an empty cell, stay."""
    return f"{value:.6g}" if isinstance(value, float) else value
