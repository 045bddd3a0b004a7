"""The bar of a sweep, which moves while its runs go on and not only when one ends."""

import threading
from collections.abc import Sequence
from pathlib import Path

from files import write_text
from tqdm import tqdm

SHARE = "share"  # file in the folder of a run that goes on: how much of its training is done
INTERVAL = 2.0  # seconds between two looks at these files
FORMAT = "{l_bar}{bar}| {n:.2f}/{total} runs [{elapsed}<{remaining}]"


def tell_share(folder: Path, share: float) -> None:
    """Say, in the process that runs it, how much of a training is done: from 0 to 1."""
    write_text(f"{share:.4f}\n", folder / SHARE)


def read_share(folder: Path) -> float:
    """What was last told of a run; 0 if nothing was."""
    try:
        return float((folder / SHARE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0.0


class SweepBar:
    """Counts runs: those that have ended, and of the others the share that is done.

    Args:
        name: Of the sweep.
        total: Runs asked for.
        folders: Of those that are still to be made.
    """

    def __init__(self, name: str, total: int, folders: Sequence[Path]) -> None:
        self.total, self.left = total, list(folders)
        self.bar = tqdm(
            total=total,
            initial=self.done(),
            desc=name,
            bar_format=FORMAT,
            smoothing=0,
            miniters=0,  # else a run that ends early makes tqdm wait for as large a step again
        )
        self.closed = threading.Event()
        self.thread = threading.Thread(target=self.follow, daemon=True)

    def done(self) -> float:
        """Runs done, in fractions of a run."""
        return self.total - sum(1 - read_share(folder) for folder in self.left)

    def show(self) -> None:
        """Move the bar to where the runs are."""
        with self.bar.get_lock():
            done = self.done()
            # A run goes on from its last checkpoint, or anew: no less than this was done since.
            self.bar.initial = min(self.bar.initial, done)
            self.bar.update(done - self.bar.n)

    def follow(self) -> None:
        """Move the bar now and then."""
        while not self.closed.wait(INTERVAL):
            self.show()

    def end(self, folder: Path) -> None:
        """A run has ended, one way or the other."""
        with self.bar.get_lock():
            self.left.remove(folder)
        (folder / SHARE).unlink(missing_ok=True)
        self.show()

    def __enter__(self) -> "SweepBar":
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.closed.set()
        self.thread.join()
        self.bar.close()
