"""Ctrl-C between two steps of training, never within one."""

import signal


class StopRequest:
    """In this context the first SIGINT or SIGTERM is only noted; a second one acts as usual."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __enter__(self) -> "StopRequest":
        self.before = {s: signal.signal(s, self.note) for s in (signal.SIGINT, signal.SIGTERM)}
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
