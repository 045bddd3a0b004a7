"""One run of a sweep in a worker process, and the progress bar of the whole sweep."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

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

SHARE = "share"  # file in the folder of an active run: the fraction of its training that is done
INTERVAL = 2.0  # seconds between two reads of these files
FORMAT = "{l_bar}{bar}| {n:.2f}/{total} runs [{elapsed}<{remaining}]"


def write_share(folder: Path, share: float) -> None:
    """Record the fraction of a training that is done, from 0 to 1."""
    write_text(f"{share:.4f}\n", folder / SHARE)


def read_share(folder: Path) -> float:
    """Read the recorded fraction of a run; 0 if there is none."""
    try:
        return float((folder / SHARE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0.0


class SweepBar:
    """Progress bar that counts finished runs and the finished fractions of active ones.

    Args:
        name: Name of the sweep.
        total: Number of runs.
        folders: Folders of the runs that are not finished.
    """

    def __init__(self, name: str, total: int, folders: Sequence[Path]) -> None:
        self.total, self.left = total, list(folders)
        self.bar = tqdm(
            total=total,
            initial=self.done(),
            desc=name,
            bar_format=FORMAT,
            smoothing=0,
            miniters=0,  # else tqdm waits for as large a step again after a run that ends early
        )
        self.closed = threading.Event()
        self.thread = threading.Thread(target=self.follow, daemon=True)

    def done(self) -> float:
        """Number of runs done, fractions included."""
        return self.total - sum(1 - read_share(folder) for folder in self.left)

    def show(self) -> None:
        """Update the bar to the progress of the runs."""
        with self.bar.get_lock():
            done = self.done()
            # A retried run falls back to its last checkpoint, or to its start. If that leaves less
            # than was done initially, lower the origin of the rate, which would be negative.
            self.bar.initial = min(self.bar.initial, done)
            self.bar.update(done - self.bar.n)

    def follow(self) -> None:
        """Update the bar at regular intervals."""
        while not self.closed.wait(INTERVAL):
            self.show()

    def end(self, folder: Path) -> None:
        """Mark a run as ended, whether it succeeded or failed."""
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
    """Load the data set once per process, and move it to the device."""
    pictures = load_data(config, progress=False)
    return pictures, torch.from_numpy(pictures.packed).to(config.device)


def data_config(config: Config) -> Config:
    """Keep only the settings that affect the data, so that a worker loads it once."""
    names = ("data_set", "data", "cache", "device")
    return Config(**{name: getattr(config, name) for name in names})


def execute(run: Run, folder: Path, keep_model: bool, threads: int = 1) -> Row:
    """Train and score one run, with its checkpoint in the folder."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    config = run.config
    pictures, packed = pictures_of(data_config(config))
    label = f"{config.data_set} ({config.data.name if config.data else pictures.source})"
    saved, steps = matching_checkpoint(config, folder, pictures), config.num_steps(len(pictures))

    def report_progress(step: int) -> None:
        write_share(folder, step / steps)

    try:
        state = train.fit(config, pictures, packed, folder, saved, report_progress)
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


def matching_checkpoint(config: Config, folder: Path, pictures: Pictures) -> dict[str, Any] | None:
    """Read the checkpoint of an interrupted run, if its settings and images match."""
    if not (folder / checkpoint.CHECKPOINT).exists():
        return None
    try:
        saved = checkpoint.read_checkpoint(folder)
        if differences := settings_changes(saved["config"], config):
            raise UsageError(f"{folder} has a checkpoint with different settings: {differences}")
        if saved["data"] != pictures.fingerprint():
            raise UsageError(f"{folder} has a checkpoint of different images")
    except UsageError as error:
        print(f"{error}; restarting that run", file=sys.stderr)
        return None
    return saved


def settings_changes(values: dict[str, Any], config: Config) -> str:
    """Describe how the settings of a row or checkpoint (as JSON) differ from `config`."""
    try:
        return changes(Config.from_json(values), config)
    except (KeyError, TypeError) as error:
        return f"they are from another version ({error})"


def folder_of(run: Run, folder: Path) -> Path:
    """Folder of a run's checkpoint and progress, within the sweep's folder."""
    return folder / "runs" / run.key


def run_in(folder: Path, keep_model: bool, threads: int, run: Run) -> Row:
    """Call `execute` in the run's own folder; exit the process after SIGTERM and a checkpoint."""
    try:
        return execute(run, folder_of(run, folder), keep_model, threads)
    except train.StoppedError as stop:
        if stop.status == 128 + signal.SIGTERM:
            os._exit(stop.status)  # the process was asked to end; the run did not fail
        raise
