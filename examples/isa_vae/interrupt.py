"""Ctrl-C between two steps of training, never within one."""

import signal
import threading
from typing import Any


class StopRequest:
    """In this context the first SIGINT or SIGTERM is only noted; a second one acts as usual.

    Only a main thread can listen to signals: in any other this does nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self.note)
        return self

    def note(self, signum: int, frame: object) -> None:
        """Handle the first signal."""
        self.signal = signum
        self.restore()

    def restore(self) -> None:
        """Leave further signals to the handlers of before."""
        for signum, handler in self.before.items():
            signal.signal(signum, handler)

    def __exit__(self, *exception: object) -> None:
        self.restore()
