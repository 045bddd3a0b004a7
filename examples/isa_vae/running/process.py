"""The process of a run: exit status, signals, memory, and the TensorBoard log."""

import ctypes
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from config import UsageError
from running.files import no_room

DIVERGED, WRONG_USE = 1, 2  # exit status


class StoppedError(Exception):
    """The end of a run before its last step, with the exit status."""

    def __init__(self, message: str, status: int = 130) -> None:  # pickled with the message alone
        super().__init__(message)
        self.status = status


class StopRequest:
    """In this context the first SIGINT and the first SIGTERM are only noted; a second one of
    either acts as usual. After both, it is SIGTERM that is noted: the process is to end.

    Only a main thread can listen to signals: in any other this does nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self.note)
        return self

    def note(self, signum: int, frame: object) -> None:
        """Handle the first signal of a kind; leave a second one to the handler of before."""
        self.signal = signum if self.signal is None else signal.SIGTERM
        signal.signal(signum, self.before[signum])

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


@contextmanager
def as_ctrl_c(*numbers: signal.Signals) -> Iterator[None]:
    """These signals end the block as Ctrl-C does, but for one that nohup has ignored."""
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
    """Do it: what it returns or 0; 2 with a message after a mistake of the user, 130 after Ctrl-C.

    Args:
        action: The script without its flags.
        stopped: What to tell after Ctrl-C or on a full disk, such as how to go on.
    """
    try:
        return action() or 0
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        if no_room(error):
            print(f"make room there, or name another place\n{stopped}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 130


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h
_ONE_GIB = 2**30


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep what is freed up to 1 GiB; whether there was one to tell.

    A batch of 2048 pictures in float is 32 MiB, which malloc would map and unmap each time: the
    kernel then clears every page, which costs more than using it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    settings = ((_MMAP_THRESHOLD, _ONE_GIB), (_TRIM_THRESHOLD, _ONE_GIB), (_TOP_PAD, 2**26))
    done = [mallopt(name, value) for name, value in settings]
    return all(done)


class Board:
    """Writes each record of the history for TensorBoard; does nothing unless wanted."""

    def __init__(self, folder: Path, step: int, wanted: bool) -> None:
        self.writer: Any = None
        if not wanted:
            return
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, record: dict[str, float]) -> None:
        """One line of the history."""
        if self.writer is not None:
            for name, value in record.items():
                if name != "step":
                    self.writer.add_scalar(name, value, int(record["step"]))

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.writer is not None:
            self.writer.close()
