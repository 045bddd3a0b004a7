"""What is measured (a case) and under which conditions (a setting: one process of its own)."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

GIB = 2**30

# Without these, glibc returns every large temporary to the system, and page faults, not
# arithmetic, are what is measured from a few MB on.
TUNED_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(8 * GIB),
    "MALLOC_TRIM_THRESHOLD_": str(32 * GIB),
    "MALLOC_TOP_PAD_": str(GIB // 16),
}
# Sleeping threads: spinning ones are unusable on a machine that does anything else.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Setting:
    """The conditions of a process, fixed before it starts."""

    threads: int = 1
    malloc: Literal["tuned", "default"] = "tuned"
    device: str = "cpu"

    def environment(self) -> dict[str, str]:
        """The variables that bring it about."""
        threads = dict.fromkeys(THREADS, str(self.threads))
        malloc = TUNED_MALLOC if self.malloc == "tuned" else {}
        return {"OMP_WAIT_POLICY": "PASSIVE"} | threads | malloc

    def keys(self) -> dict[str, Any]:
        """As part of a row of the results."""
        return asdict(self)

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        device = "" if self.device == "cpu" else f", {self.device}"
        return threads + device + (", default malloc" if self.malloc == "default" else "")


@dataclass(frozen=True)
class Case:
    """One row of the results: what tells it from the others, and how to measure it."""

    keys: dict[str, Any]
    measure: Callable[[], dict[str, Any]]

    def __str__(self) -> str:
        return ", ".join(f"{k} {v:,}" if isinstance(v, int) else v for k, v in self.keys.items())


def settings(*threads: int) -> list[Setting]:
    """One setting for each number of threads, and one for the GPU where there is one."""
    gpu = [Setting(device="cuda")] if torch.cuda.is_available() else []
    return [Setting(count) for count in threads] + gpu


def sync_of(device: str) -> Callable[[], object]:
    """Waits until the device has nothing left to do."""
    return torch.cuda.synchronize if device == "cuda" else lambda: None
