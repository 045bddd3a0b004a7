"""Files and folders of a run: atomic writes, one writer per folder, and recorded versions."""

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
from config import UsageError

import lpnested

try:
    import fcntl
except ImportError:  # Windows: there, nobody is kept out
    fcntl = None

LOCK = ".lock"
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


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder.

    It belongs to the process and not to the file: that of a process that was killed is no lock.

    Raises:
        UsageError: Another process holds it.
    """
    path = folder / LOCK
    file = hold(path)
    while not is_at(file, path):
        file.close()  # who held it before has removed it meanwhile
        file = hold(path)
    with file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        remove_left_over(folder)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def is_at(file: TextIO, path: Path) -> bool:
    """Whether a file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def hold(path: Path) -> TextIO:
    """The lock's file, locked."""
    file = path.open("a+", encoding="utf-8")
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        who = file.read(200) or "another process"
        file.close()
        raise UsageError(
            f"{who} is writing to {path.parent}: wait for it, or give another --out"
        ) from error
    except OSError as error:  # some file systems that are shared have no locks
        warnings.warn(f"{path} cannot be locked ({error}): going on without", stacklevel=3)
    return file


def versions() -> dict[str, str]:
    """Of everything that numbers depend on."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "lpnested": lpnested.__version__,
    }


def lines_as_csv(rows: Sequence[Mapping[str, Any]], first: Sequence[str]) -> str:
    """The scalars of rows as a CSV table, with the columns `first` before all others."""
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
    """A number to six digits; None stays, as an empty cell."""
    return f"{value:.6g}" if isinstance(value, float) else value
