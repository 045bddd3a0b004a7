"""How many kernels a call launches, by the profiler; without it, how many operations it makes."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from measure_memory import count_kernels
from timing import Contender
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

PROFILER, OPERATIONS = "profiler", "operations"


def kernels(call: Contender, device: str, eager: bool = True) -> dict[str, Any]:
    """The number of one call, warmed up, and how it was found."""
    for _ in range(2):
        call()
    if device == "cuda":
        try:
            _wake_profiler()
            found = launched(_events(call))
        except Exception:  # what it needs may be missing or forbidden on a borrowed machine
            found = 0
        if found:
            return {"value": found, "by": PROFILER}
    if not eager:  # what is compiled makes no operations that could be counted
        return {"error": "the profiler saw no kernels"}
    return {"value": count_kernels(call), "by": OPERATIONS}


def launched(events: Iterable[Any]) -> int:
    """Kernels, copies and fills on the device, not what annotates them."""
    return sum(
        event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
        for event in events
    )


def _events(call: Contender) -> list[Any]:
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        call()
        torch.cuda.synchronize()
    return list(found.events() or [])


@cache
def _wake_profiler() -> None:
    """The first events of a process may be lost."""
    _events(lambda: torch.ones(8, device="cuda") + 1)
