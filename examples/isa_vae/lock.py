"""A folder that one process at a time may write to."""

import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from config import UsageError
from files import remove_left_over

try:
    import fcntl
except ImportError:  # Windows: there, nobody is kept out
    fcntl = None

LOCK = ".lock"


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
