"""The end of a training before its last step: Ctrl-C between two steps, never within one."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
