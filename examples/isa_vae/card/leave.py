"""Output files of a session: at most eight files of 16 MiB, 64 MiB in total.

``rows.jsonl`` has a line for each run as soon as it is scored, and lines for the trial of the GPU
and the rotated codes; ``log.txt`` has everything that was printed. At the end follow a picture of
each representative model, and the model itself, in half precision and in parts.
"""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import image
from torch import Tensor

from config import Config, UsageError
from running.files import write_atomic
from sweeps.experiments import Run

ROWS, LOG = "rows.jsonl", "log.txt"
PART = 15 * 2**20  # maximum bytes per part of a model
PROTOCOL = "paper-1"  # recorded in the rows; different protocols are never pooled
REHEARSED = "rehearsal"


class OutputFolder:
    """The output folder of a session, with its rows and log."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        rows = folder / ROWS
        content = rows.read_bytes() if rows.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:  # drop the last line if a kill truncated it
            write_atomic(whole, rows)

    def add(self, kind: str, values: dict[str, Any]) -> None:
        """Append a line, flushed to disk on return."""
        line = json.dumps({"kind": kind, **values}, allow_nan=False) + "\n"
        with (self.folder / ROWS).open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def log(self, text: str) -> None:
        """Print a message, and append it to the log."""
        print(text, flush=True)
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def lines(self, kind: str) -> list[dict[str, Any]]:
        """Read the existing lines of one kind."""
        path = self.folder / ROWS
        return [line for line in read_lines(path) if line["kind"] == kind] if path.exists() else []

    def picture(self, name: str, parts: Sequence[Path]) -> Path:
        """Write several pictures, stacked vertically, as one."""
        drawn = [image.imread(part)[..., :3] for part in parts]
        width = max(part.shape[1] for part in drawn)
        padded = [
            np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=1)
            for part in drawn
        ]
        found = io.BytesIO()
        image.imsave(found, np.concatenate(padded), format="png")
        write_atomic(found.getvalue(), self.folder / f"{name}.png")
        return self.folder / f"{name}.png"

    def model(self, name: str, run: Run, weights: dict[str, Tensor]) -> list[Path]:
        """Write the weights in half precision, in parts of limited size."""
        halves = {key: value.half().cpu() for key, value in weights.items()}
        found = io.BytesIO()
        torch.save({"config": run.config.to_json(), "key": run.key, "weights": halves}, found)
        content = found.getvalue()
        parts = [content[start : start + PART] for start in range(0, len(content), PART)]
        paths = [self.folder / f"{name}.model.{k}of{len(parts)}" for k in range(1, len(parts) + 1)]
        for part, path in zip(parts, paths, strict=True):
            write_atomic(part, path)
        return paths


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read all lines of a file of rows, except a truncated last one."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    found = []
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            if not isinstance(values, dict) or "kind" not in values:
                raise ValueError("kind is missing")
        except ValueError as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise UsageError(f"{path}, line {number} is damaged: {error}") from error
        found.append(values)
    return found


def read_model(parts: Sequence[Path]) -> tuple[str, Config, dict[str, Tensor]]:
    """Join the parts of a model: key of the run, settings, and weights in single precision."""
    names = sorted(parts, key=lambda path: path.name)
    count = int(names[0].name.rpartition("of")[2])
    if len(names) != count:
        raise UsageError(f"{names[0]} is one of {count} parts, but got {len(names)}")
    content = b"".join(path.read_bytes() for path in names)
    found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    weights = {key: value.float() for key, value in found["weights"].items()}
    return found["key"], Config.from_json(found["config"]), weights
