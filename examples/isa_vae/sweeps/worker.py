"""One run of a sweep in a worker process, and the bar that follows all workers."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import train
from config import Config, UsageError, changes
from data.pictures import Pictures
from data.sources import load_data
from metrics import ScoringError
from running import checkpoint
from running.files import write_text
from running.outputs import score
from running.process import keep_freed_memory
from sweeps.experiments import Run
from sweeps.rows import Row, make_row
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


@cache
def pictures_of(config: Config) -> tuple[Pictures, torch.Tensor]:
    """The data set of a process, and the same on its device."""
    pictures = load_data(config, progress=False)
    return pictures, torch.from_numpy(pictures.packed).to(config.device)


def data_config(config: Config) -> Config:
    """What of the settings matters to the data, so that a worker loads them once."""
    names = ("data_set", "data", "cache", "device")
    return Config(**{name: getattr(config, name) for name in names})


def execute(run: Run, folder: Path, keep_model: bool, threads: int = 1) -> Row:
    """Train and score one run, with its checkpoint in the folder."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    config = run.config
    pictures, packed = pictures_of(data_config(config))
    label = f"{config.data_set} ({config.data.name if config.data else pictures.source})"
    content, steps = unfinished(config, folder, pictures), config.num_steps(len(pictures))

    def tell(step: int) -> None:
        tell_share(folder, step / steps)

    try:
        state = train.fit(config, pictures, packed, folder, content, tell)
        metrics = score(config, state, packed, pictures, progress=False)
    except train.StoppedError as stop:
        if stop.status != train.DIVERGED:
            raise
        return make_row(run, None, label)
    except ScoringError as error:
        print(f"{run.key}: {error}; recorded as diverged", file=sys.stderr)
        return make_row(run, None, label)
    if keep_model:
        checkpoint.save_model(state, folder)
    return make_row(run, metrics, label)


def unfinished(config: Config, folder: Path, pictures: Pictures) -> dict[str, Any] | None:
    """The checkpoint of a run that was broken off, if it is of these settings and pictures."""
    if not (folder / checkpoint.CHECKPOINT).exists():
        return None
    try:
        content = checkpoint.read_checkpoint(folder)
        if differences := other_settings(content["config"], config):
            raise UsageError(f"{folder} has a checkpoint of other settings: {differences}")
        if content["data"] != pictures.fingerprint():
            raise UsageError(f"{folder} has a checkpoint of other pictures")
    except UsageError as error:
        print(f"{error}; starting that run anew", file=sys.stderr)
        return None
    return content


def other_settings(values: dict[str, Any], config: Config) -> str:
    """In what the settings of a row or a checkpoint, as JSON, are not those asked for."""
    try:
        return changes(Config.from_json(values), config)
    except (KeyError, TypeError) as error:
        return f"they are of another version ({error})"


def folder_of(run: Run, folder: Path) -> Path:
    """Where a run of the sweep in `folder` keeps what it needs to go on."""
    return folder / "runs" / run.key


def run_in(folder: Path, keep_model: bool, threads: int, run: Run) -> Row:
    """`execute` in the run's own folder. After SIGTERM and its checkpoint the process ends."""
    try:
        return execute(run, folder_of(run, folder), keep_model, threads)
    except train.StoppedError as stop:
        if stop.status == 128 + signal.SIGTERM:
            os._exit(stop.status)  # not the run failed, but its process was to end
        raise
