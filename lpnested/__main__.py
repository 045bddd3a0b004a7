"""``python -m lpnested`` prints what a bug report needs: versions, devices, backends."""

from __future__ import annotations

import os
import platform

import torch

import lpnested

__all__ = ["report"]


def report() -> str:
    """What is installed here, which devices there are, and what serves them: a line for each.

    Of the environment it has the variables of lpnested and the number of OpenMP's threads.
    """
    python = f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    threads = f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    served = [(f"backend, {kind}", name) for kind, name in lpnested.backends().items()]
    rows = [
        ("lpnested", lpnested.__version__),
        ("torch", torch.__version__),
        ("python", python),
        ("device, cpu", threads),
        *_accelerators(),
        *served,
        *((name, os.environ[name]) for name in sorted(os.environ) if _is_ours(name)),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows)


def _is_ours(variable: str) -> bool:
    return variable.startswith("LPNESTED_") or variable == "OMP_NUM_THREADS"


def _accelerators() -> list[tuple[str, str]]:
    """Each device of the kind that torch has beside the CPU, if any, with its name."""
    if not torch.accelerator.is_available():
        return []
    kind = str(torch.accelerator.current_accelerator())
    name = getattr(torch.get_device_module(kind), "get_device_name", lambda index: "")
    count = torch.accelerator.device_count()
    return [(f"device, {kind}:{k}", name(k) or "no name") for k in range(count)]


if __name__ == "__main__":
    print(report())
