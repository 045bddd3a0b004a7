"""Folders of runs: create one, resume one, and load the model that a finished one holds."""

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
from usage import reason

from running import checkpoint
from running.checkpoint import State, load_model
from running.files import LOCK, alone, no_room, write_json
from running.process import DIVERGED, WRONG_USE, StoppedError


@contextmanager
def run_folder(config: Config) -> Iterator[Path]:
    """The folder that the settings name. A new one in which nothing was written is removed."""
    if config.resume:
        folder = config.out or Path("runs") / config.run_name
        require_folder("--out", folder)
        checkpoint.require_checkpoint(folder)
        with alone(folder):
            yield folder
        return
    folder, new = given(config.out) if config.out is not None else (named(config), True)
    try:
        with alone(folder):
            if config.out is not None and any(path.name != LOCK for path in folder.iterdir()):
                raise UsageError(
                    f"--out: {folder} is not empty; add --resume to continue that run"
                )
            yield folder
    finally:
        if not (folder / checkpoint.CHECKPOINT).is_file():  # it ended before its first step
            (folder / checkpoint.CONFIG).unlink(missing_ok=True)
            if new:
                with suppress(OSError):  # it is not empty
                    folder.rmdir()


def given(folder: Path) -> tuple[Path, bool]:
    """The folder of --out, and whether it is new."""
    require_folder("--out", folder)
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    return folder, new


def named(config: Config) -> Path:
    """A new folder under runs/, which no other training that begins now takes as well."""
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
    """Raise a UsageError where a folder is wanted and a file is in the way."""
    there = next((place for place in (path, *path.parents) if place.exists()), path)
    if there.exists() and not there.is_dir():
        raise UsageError(f"{name} must be a folder, but {there} is a file")


def can_go_on(stop: KeyboardInterrupt | StoppedError | OSError, folder: Path) -> BaseException:
    """The end of a training, with the command that continues it where there is a checkpoint."""
    diverged = isinstance(stop, StoppedError) and stop.status == DIVERGED
    if diverged or not (folder / checkpoint.CHECKPOINT).is_file():
        return stop
    again = f"to continue:\n  python {sys.argv[0]} --resume --out {shlex.quote(str(folder))}"
    if isinstance(stop, OSError):
        first = "make room there, and " if no_room(stop) else ""
        return StoppedError(f"error: {stop}; {first}{again}", WRONG_USE)
    status = stop.status if isinstance(stop, StoppedError) else 130
    return StoppedError(f"{str(stop) or 'stopped'}; {again}", status)


def start(config: Config, folder: Path) -> None:
    """Make the folder of a new run, with its settings in it and no model of other ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (checkpoint.MODEL, checkpoint.PRIOR):
        (folder / name).unlink(missing_ok=True)
    write_json(config.to_json(), folder / checkpoint.CONFIG)


def load_trained(
    folder: Path, device: str = "auto", data: Path | None = None, cache: Path | None = None
) -> tuple[Config, State]:
    """The settings and the last state, on a device of this machine.

    Args:
        folder: With config.json and model.pt, as train.py and sweep.py --keep-models leave it.
        device: As for train.py.
        data: The real files of its data set; must be given for a model that was trained on them.
        cache: As for train.py.
    """
    try:
        config, vae = load_model(folder)
        if config.data is not None and data is None:
            raise UsageError(f"{folder} was trained on {config.data.name}: give it by --data")
        name = str(find_device(device))
        config = dataclasses.replace(config, data=data, cache=cache, device=name)
        prior = make_prior(config)
        if config.learn_exponents:
            path = folder / checkpoint.PRIOR
            prior.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except UsageError:
        raise
    except Exception as error:  # whatever a damaged file does to the readers
        raise UsageError(
            f"{folder} is no folder of a trained model, with {checkpoint.CONFIG} and "
            f"{checkpoint.MODEL} in it: {reason(error)}"
        ) from error
    vae, prior = vae.to(config.device), prior.to(config.device)
    state = State(vae, prior, torch.optim.Adam(vae.parameters()))
    metrics = folder / "metrics.json"  # of train.py, which says how it was trained
    if metrics.is_file():
        try:
            content = json.loads(metrics.read_text(encoding="utf-8"))
            state.step, state.history = int(content["steps"]), list(content["history"])
            state.seconds = float(content["seconds"]["training"])
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(f"{metrics} is damaged ({error!r}): move it away") from error
    return config, state
