"""Where and with what a run was made, for the file of its results."""

import os
import platform
from pathlib import Path
from typing import Any

import matplotlib
import numpy
import torch

import lpnested


def describe() -> dict[str, Any]:
    """Hardware, system and versions; no names of hosts, users or folders."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": cpu_model(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "memory_gib": memory(),
        "gpu": gpu,
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "libc": " ".join(platform.libc_ver()),
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": numpy.__version__,
            "matplotlib": matplotlib.__version__,
            "lpnested": lpnested.__version__,
        },
    }


def cpu_model() -> str:
    """As the kernel names it, with family and model: a name alone may say little."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine()
    lines = [line.partition(":") for line in path.read_text(encoding="utf-8").splitlines()]
    found = {name.strip(): value.strip() for name, _, value in reversed(lines)}
    return (
        f"{found.get('model name', platform.machine())} "
        f"(family {found.get('cpu family', '?')}, model {found.get('model', '?')})"
    )


def memory() -> float | None:
    """In GiB, where the system tells."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def load() -> list[float] | None:
    """Mean number of running processes over 1, 5 and 15 minutes: was the machine ours alone?"""
    return [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None
