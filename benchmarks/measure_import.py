"""What importing the library costs a program that has imported torch."""

import os
import subprocess
import sys
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

from plan import Case, Setting
from timing import spread

PROGRAM = """
import time
began = time.perf_counter()
import torch
middle = time.perf_counter()
import lpnested
print(middle - began, time.perf_counter() - middle)
"""


def plan(quick: bool) -> list[Setting]:
    """As a user starts it."""
    return [Setting(malloc="default")]


def cases(setting: Setting, quick: bool) -> list[Case]:
    """One."""
    return [Case({"what": "import"}, partial(measure, 2 if quick else 9))]


def measure(rounds: int) -> dict[str, Any]:
    """In fresh interpreters that may keep bytecode; the first only fills the caches."""
    with TemporaryDirectory() as folder:
        times = [_seconds(folder) for _ in range(rounds + 1)][1:]
    names = ("torch", "lpnested, after torch")
    return {
        "rounds": rounds,
        "contenders": {
            name: {"seconds": spread([t[k] for t in times])} for k, name in enumerate(names)
        },
    }


def _seconds(bytecode: str) -> list[float]:
    environment = os.environ | {"PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(word) for word in done.stdout.split()]
