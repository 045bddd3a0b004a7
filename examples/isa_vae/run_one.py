"""One run of a sweep, in a worker: trained from where it was left, scored, and made a row."""

import os
import signal
import sys
from functools import cache
from pathlib import Path
from typing import Any

import checkpoint
import torch
import train
from config import Config, UsageError, changes
from data import Pictures
from experiments import Run
from memory import keep_freed_memory
from metrics import ScoringError
from report import score
from sources import load_data
from sweep_bar import tell_share
from table import Row, make_row


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
