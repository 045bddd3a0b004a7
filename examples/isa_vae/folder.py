"""The folder of a training: a new one, or one to be resumed, and nobody else writes to it."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import checkpoint
from config import Config, UsageError
from files import no_room, write_json
from interrupt import DIVERGED, WRONG_USE, StoppedError
from lock import LOCK, alone


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
