"""What a session leaves behind: at most eight files of 16 MiB, 64 MiB together.

``rows.jsonl`` has a line for each run, as soon as it is scored, and for the trial of the card and
the rotated codes; ``log.txt`` what was printed. At the end come a picture for each representative
model, and the model itself, in half precision and in parts.
"""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from config import Config, UsageError
from matplotlib import image
from running.files import write_whole
from sweeps.experiments import Run
from torch import Tensor

ROWS, LOG = "rows.jsonl", "log.txt"
PART = 15 * 2**20  # bytes
PROTOCOL = "paper-1"  # of the rows: those of another one are not pooled with them
REHEARSED = "rehearsal"


class Leave:
    """The folder, with its rows and its log."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        rows = folder / ROWS
        content = rows.read_bytes() if rows.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:  # a kill cut off the last line, which the next one must not join
            write_whole(whole, rows)

    def add(self, kind: str, values: dict[str, Any]) -> None:
        """A line, on the disk when this returns."""
        line = json.dumps({"kind": kind, **values}, allow_nan=False) + "\n"
        with (self.folder / ROWS).open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def log(self, text: str) -> None:
        """Print, and keep."""
        print(text, flush=True)
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def lines(self, kind: str) -> list[dict[str, Any]]:
        """Those of one kind that are there already."""
        path = self.folder / ROWS
        return [line for line in read_lines(path) if line["kind"] == kind] if path.exists() else []

    def picture(self, name: str, parts: Sequence[Path]) -> Path:
        """Several pictures below one another as one."""
        drawn = [image.imread(part)[..., :3] for part in parts]
        width = max(part.shape[1] for part in drawn)
        padded = [
            np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=1)
            for part in drawn
        ]
        found = io.BytesIO()
        image.imsave(found, np.concatenate(padded), format="png")
        write_whole(found.getvalue(), self.folder / f"{name}.png")
        return self.folder / f"{name}.png"

    def model(self, name: str, run: Run, weights: dict[str, Tensor]) -> list[Path]:
        """The weights in half precision, in parts that can be carried."""
        halves = {key: value.half().cpu() for key, value in weights.items()}
        found = io.BytesIO()
        torch.save({"config": run.config.to_json(), "key": run.key, "weights": halves}, found)
        content = found.getvalue()
        parts = [content[start : start + PART] for start in range(0, len(content), PART)]
        paths = [self.folder / f"{name}.model.{k}of{len(parts)}" for k in range(1, len(parts) + 1)]
        for part, path in zip(parts, paths, strict=True):
            write_whole(part, path)
        return paths


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All lines of a file of rows; the last one may have been cut off, and is left out then."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    found = []
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            if not isinstance(values, dict) or "kind" not in values:
                raise ValueError("it has no kind")
        except ValueError as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise UsageError(f"{path}, line {number} is damaged: {error}") from error
        found.append(values)
    return found


def read_model(parts: Sequence[Path]) -> tuple[str, Config, dict[str, Tensor]]:
    """Key of the run, settings, and weights in single precision, of all parts of a model."""
    names = sorted(parts, key=lambda path: path.name)
    count = int(names[0].name.rpartition("of")[2])
    if len(names) != count:
        raise UsageError(f"{names[0]} is one of {count} parts, but {len(names)} are given")
    content = b"".join(path.read_bytes() for path in names)
    found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    weights = {key: value.float() for key, value in found["weights"].items()}
    return found["key"], Config.from_json(found["config"]), weights
