"""The fastest working way to train on a GPU, as determined by a trial."""

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

MEMORY = 3600.0  # seconds for which the result of a trial is reused


@dataclass
class Choice:
    """How to train on this device, and the results of the trial."""

    engine: str = "eager"
    precision: str = "float32"
    step_ms: float = 0.0  # time of a step with two seeds of two arms
    width: int = 2  # seeds per wave
    workers: int = 0  # processes that compute the gaps
    device: dict[str, Any] = field(default_factory=dict)
    agreement: dict[str, float] = field(default_factory=dict)
    trials: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # fallbacks and their reasons

    def fall_back(self, what: str, error: object) -> None:
        """Record that something did not work."""
        self.notes.append(f"{what}: {type(error).__name__}: {error}"[:400])

    def to_json(self) -> dict[str, Any]:
        """JSON-serialisable values."""
        return asdict(self)

    def save(self, place: Path) -> None:
        """Store the choice, so that a following session need not repeat the trial."""
        values = {"time": time.time(), "code": source_hash(), "choice": self.to_json()}
        write_json(values, place)


def load_choice(place: Path, device: torch.device) -> Choice | None:
    """Result of a trial on this device within the last hour, with the same code; else None."""
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        choice = Choice(**found["choice"])
        fresh = 0 <= time.time() - found["time"] < MEMORY
    except (OSError, ValueError, TypeError, KeyError):
        return None
    same = found["code"] == source_hash() and choice.device == describe(device)
    return choice if fresh and same else None


def source_hash() -> str:
    """A fingerprint of the example's source code."""
    modules = sorted(Path(__file__).resolve().parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in modules)).hexdigest()


def describe(device: torch.device) -> dict[str, Any]:
    """Describe the GPU, its driver and the software versions."""
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
