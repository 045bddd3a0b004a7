"""The processes that gpu.py measures in: one for each kind of cases, ended when time is up."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

HERE = Path(__file__).resolve().parent
GRACE = 0.5  # seconds after its deadline in which a process may end by itself
COMPILE_THREADS = "6"  # of 16: the others measure while it compiles


class Worker:
    """gpu_worker.py, which gets ready from now on and measures when rows are asked for."""

    def __init__(self, process: str, device: str, tiny: bool) -> None:
        self.name, self._status = process, ""
        command = [sys.executable, str(HERE / "gpu_worker.py"), process, "--device", device]
        self._process = subprocess.Popen(
            [*command, "--tiny"] if tiny else command,
            env={"TORCHINDUCTOR_COMPILE_THREADS": COMPILE_THREADS} | os.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a group of its own, with what it starts to compile
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._messages: deque[str | None] = deque(maxlen=12)
        self._readers = [
            threading.Thread(target=_read, args=args, daemon=True)
            for args in (
                (self._process.stdout, self._lines.put),
                (self._process.stderr, self._messages.append),
            )
        ]
        for reader in self._readers:
            reader.start()

    def rows(self, deadline: float) -> Iterator[dict[str, Any]]:
        """Rows as they come, until it is done or it is time."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{deadline}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and what it wrote before is still there
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline + GRACE - time.time()))
            except queue.Empty:
                self._status = "cut off when its time was up"
                return
            if line is None:
                self._ended()
                return
            yield json.loads(line)

    def _ended(self) -> None:
        code = self._process.wait(timeout=10)
        if code:
            self._readers[1].join(timeout=2)
            tail = " ".join(" ".join(line for line in self._messages if line).split())
            self._status = f"ended with status {code}: {tail[-500:]}"

    def failure(self) -> list[str]:
        """One sentence where it did not end as it should."""
        return [f"{self.name}: {self._status}"] if self._status else []

    def stop(self) -> None:
        """End it, and what it has started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for reader in self._readers:
            reader.join(timeout=10)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None and not any(reader.is_alive() for reader in self._readers):
                with contextlib.suppress(BrokenPipeError):  # of what it was still to be told
                    stream.close()


def _read(stream: TextIO, put: Callable[[str | None], object]) -> None:
    """Whole lines, then None: who is killed may leave half a line."""
    for line in stream:
        if line.endswith("\n"):
            put(line)
    put(None)
