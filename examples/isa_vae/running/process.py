"""The process of a run: exit status, signals, memory and the TensorBoard log."""

import ctypes
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from config import UsageError
from running.files import disk_full

DIVERGED, USAGE_ERROR = 1, 2  # exit status


class StoppedError(Exception):
    """A run ended before its last step; carries the exit status."""

    def __init__(self, message: str, status: int = 130) -> None:  # pickled with the message alone
        super().__init__(message)
        self.status = status


class StopRequest:
    """Within this context the first SIGINT and the first SIGTERM are only recorded; a second one
    of either kind acts as usual. After both kinds SIGTERM is on record: the process should end.

    Only the main thread can handle signals; in any other thread this does nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self.record)
        return self

    def record(self, signum: int, frame: object) -> None:
        """Record the first signal of a kind, and restore the previous handler for a second one."""
        self.signal = signum if self.signal is None else signal.SIGTERM
        signal.signal(signum, self.before[signum])

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


@contextmanager
def as_ctrl_c(*numbers: signal.Signals) -> Iterator[None]:
    """Make these signals end the block as Ctrl-C does, unless ignored (as under nohup)."""
    before = {
        number: signal.signal(number, signal.default_int_handler)
        for number in numbers
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_status(action: Callable[[], int | None], stopped: str) -> int:
    """Run the action; return its status or 0, 2 (with a message) for a usage error, 130 on Ctrl-C.

    Args:
        action: The script, with its flags already bound.
        stopped: Message after Ctrl-C or on a full disk, such as how to resume.
    """
    try:
        return action() or 0
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        if disk_full(error):
            print(f"free some disk space, or write elsewhere\n{stopped}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 130


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # from glibc's malloc.h
_ONE_GIB = 2**30


def keep_freed_memory() -> bool:
    """Make glibc's malloc keep up to 1 GiB of freed memory; return whether it could be set.

    A batch of 2048 float images is 32 MiB, which malloc would map and unmap each time: the kernel
    then clears every page, which costs more than using it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    settings = ((_MMAP_THRESHOLD, _ONE_GIB), (_TRIM_THRESHOLD, _ONE_GIB), (_TOP_PAD, 2**26))
    done = [mallopt(name, value) for name, value in settings]
    return all(done)


class TensorBoardLog:
    """Writes each record of the history to TensorBoard, if enabled."""

    def __init__(self, folder: Path, step: int, enabled: bool) -> None:
        self.writer: Any = None
        if not enabled:
            return
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, record: dict[str, float]) -> None:
        """Write one record of the history."""
        if self.writer is not None:
            for name, value in record.items():
                if name != "step":
                    self.writer.add_scalar(name, value, int(record["step"]))

    def __enter__(self) -> "TensorBoardLog":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.writer is not None:
            self.writer.close()
