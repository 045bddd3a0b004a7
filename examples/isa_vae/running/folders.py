"""Folders of runs: create one, resume one, or load the model of a finished one."""

import dataclasses
import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from config import Config, UsageError, find_device
from models import make_prior
from running import checkpoint
from running.checkpoint import State, load_model
from running.files import LOCK, disk_full, lock_folder, write_json
from running.process import DIVERGED, USAGE_ERROR, StoppedError
from usage import reason


@contextmanager
def run_folder(config: Config) -> Iterator[Path]:
    """Lock the folder of a run; a new folder without a checkpoint is removed at the end."""
    if config.resume:
        folder = config.out or Path("runs") / config.run_name
        require_folder("--out", folder)
        checkpoint.require_checkpoint(folder)
        with lock_folder(folder):
            yield folder
        return
    folder, new = open_folder(config.out) if config.out is not None else (new_folder(config), True)
    try:
        with lock_folder(folder):
            if config.out is not None and any(path.name != LOCK for path in folder.iterdir()):
                raise UsageError(
                    f"--out: {folder} is not empty; add --resume to continue that run"
                )
            yield folder
    finally:
        if not (folder / checkpoint.CHECKPOINT).is_file():  # the run ended before its first step
            (folder / checkpoint.CONFIG).unlink(missing_ok=True)
            if new:
                with suppress(OSError):  # the folder is not empty
                    folder.rmdir()


def open_folder(folder: Path) -> tuple[Path, bool]:
    """Create the folder of --out unless it exists; also return whether it is new."""
    require_folder("--out", folder)
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    return folder, new


def new_folder(config: Config) -> Path:
    """Create a new folder under runs/, without races between trainings that start together."""
    folder, count = Path("runs") / config.run_name, 1
    require_folder("runs", folder.parent)
    while True:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            count += 1
            folder = Path("runs") / f"{config.run_name}-{count}"
        else:
            return folder


def require_folder(name: str, path: Path) -> None:
    """Raise a UsageError if a file is in the way of a folder."""
    nearest = next((place for place in (path, *path.parents) if place.exists()), path)
    if nearest.exists() and not nearest.is_dir():
        raise UsageError(f"{name} must be a folder, but {nearest} is a file")


def with_resume_hint(
    stop: KeyboardInterrupt | StoppedError | OSError, folder: Path
) -> BaseException:
    """Add the command that resumes a stopped training, if there is a checkpoint."""
    diverged = isinstance(stop, StoppedError) and stop.status == DIVERGED
    if diverged or not (folder / checkpoint.CHECKPOINT).is_file():
        return stop
    hint = f"to resume:\n  python {sys.argv[0]} --resume --out {shlex.quote(str(folder))}"
    if isinstance(stop, OSError):
        first = "free some disk space; " if disk_full(stop) else ""
        return StoppedError(f"error: {stop}; {first}{hint}", USAGE_ERROR)
    status = stop.status if isinstance(stop, StoppedError) else 130
    return StoppedError(f"{str(stop) or 'stopped'}; {hint}", status)


def start(config: Config, folder: Path) -> None:
    """Create the folder of a new run with its settings, and remove models of earlier runs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (checkpoint.MODEL, checkpoint.PRIOR):
        (folder / name).unlink(missing_ok=True)
    write_json(config.to_json(), folder / checkpoint.CONFIG)


def load_trained(
    folder: Path, device: str = "auto", data: Path | None = None, cache: Path | None = None
) -> tuple[Config, State]:
    """Load the settings and final state of a trained model, on a device of this machine.

    Args:
        folder: Folder with config.json and model.pt, from train.py or sweep.py --keep-models.
        device: Device, as for train.py.
        data: Original files of the data set; required for a model that was trained on them.
        cache: Cache folder for rendered images, as for train.py.
    """
    try:
        config, vae = load_model(folder)
        if config.data is not None and data is None:
            raise UsageError(f"{folder} was trained on {config.data.name}: pass it with --data")
        name = str(find_device(device))
        config = dataclasses.replace(config, data=data, cache=cache, device=name)
        prior = make_prior(config)
        if config.learn_exponents:
            path = folder / checkpoint.PRIOR
            prior.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except UsageError:
        raise
    except Exception as error:  # a damaged file can make the readers raise anything
        raise UsageError(
            f"{folder} is not the folder of a trained model, with {checkpoint.CONFIG} and "
            f"{checkpoint.MODEL}: {reason(error)}"
        ) from error
    vae, prior = vae.to(config.device), prior.to(config.device)
    state = State(vae, prior, torch.optim.Adam(vae.parameters()))
    metrics = folder / "metrics.json"  # written by train.py; records the training
    if metrics.is_file():
        try:
            content = json.loads(metrics.read_text(encoding="utf-8"))
            state.step, state.history = int(content["steps"]), list(content["history"])
            state.seconds = float(content["seconds"]["training"])
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(f"{metrics} is damaged ({error!r}): remove it") from error
    return config, state
