"""How to train on a card, as a trial has found it."""

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from running.files import write_json

MEMORY = 3600.0  # seconds for which a trial need not be made again


@dataclass
class Choice:
    """How to train on this device, and what was found out on the way."""

    engine: str = "eager"
    precision: str = "float32"
    step_ms: float = 0.0  # of a wave of two seeds of two arms
    width: int = 2  # seeds in a wave
    workers: int = 0  # processes for the gaps
    device: dict[str, Any] = field(default_factory=dict)
    agreement: dict[str, float] = field(default_factory=dict)
    trials: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what fell back to what, and why

    def fall_back(self, what: str, error: object) -> None:
        """Remember that something did not work."""
        self.notes.append(f"{what}: {type(error).__name__}: {error}"[:400])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def remember(self, place: Path) -> None:
        """Keep it for a session that follows, so that it need not try again."""
        values = {"time": time.time(), "code": code(), "choice": self.to_json()}
        write_json(values, place)


def remembered(place: Path, device: torch.device) -> Choice | None:
    """What a trial on this device has found within the hour, by the same code; None without."""
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        choice = Choice(**found["choice"])
        fresh = 0 <= time.time() - found["time"] < MEMORY
    except (OSError, ValueError, TypeError, KeyError):
        return None
    same = found["code"] == code() and choice.device == describe(device)
    return choice if fresh and same else None


def code() -> str:
    """A fingerprint of the modules that a step is made of."""
    modules = sorted(Path(__file__).resolve().parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in modules)).hexdigest()


def describe(device: torch.device) -> dict[str, Any]:
    """The card, its driver, and what runs on it."""
    versions = {"torch": str(torch.__version__), "python": sys.version.split()[0]}
    if device.type != "cuda":
        return {"card": "CPU", "driver": None, "cores": os.cpu_count(), **versions}
    properties = torch.cuda.get_device_properties(device)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
        driver = found.stdout.split()[0]
    except (OSError, IndexError, subprocess.SubprocessError):
        driver = None
    return {
        "card": properties.name,
        "driver": driver,
        "cuda": torch.version.cuda,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "multiprocessors": properties.multi_processor_count,
        "cores": os.cpu_count(),
        **versions,
    }
