"""What log_prob and its gradient allocate, and how many kernels they launch: exact counts."""

import json
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from densities import MODES, NORMAL, OURS, RECURSIVE, Problem, contenders
from layouts import LAYOUTS
from plan import Case, Setting, settings
from timing import Contender
from torch.utils._python_dispatch import TorchDispatchMode

MEMORY, KERNELS = "peak memory", "kernels"
FEW = 64  # rows when counting kernels: on a CPU many rows are taken in chunks, each with its own
COUNTED = (OURS, NORMAL, RECURSIVE, "vector_norm(ord=2.2)")


def plan(quick: bool) -> list[Setting]:
    """Neither depends on the threads."""
    return [Setting()] if quick else settings(1)


def cases(setting: Setting, quick: bool) -> list[Case]:
    """Memory at a large N where the layout is small, kernels of one chunk."""
    modes = MODES[:2] if quick else MODES
    large = 65_536 if quick else 1_000_000
    sizes = [(layout, large if layout.tree.dim <= 30 else 2048) for layout in LAYOUTS]
    memory = [
        Case(
            {"quantity": MEMORY, "layout": layout.name, "N": count, "mode": mode},
            partial(measure_memory, Problem(layout, count, mode, setting.device)),
        )
        for layout, count in sizes
        for mode in modes
    ]
    kernels = [
        Case(
            {"quantity": KERNELS, "layout": layout.name, "N": FEW, "mode": mode},
            partial(measure_kernels, Problem(layout, FEW, mode, setting.device)),
        )
        for layout in LAYOUTS
        for mode in modes
    ]
    return memory + kernels


def counted(problem: Problem) -> Mapping[str, Contender]:
    """The contenders that run in torch, warmed up."""
    chosen = {name: call for name, call in contenders(problem).items() if name in COUNTED}
    for call in chosen.values():
        call()
    return chosen


def measure_memory(problem: Problem) -> dict[str, Any]:
    """Peak of what is allocated during a call, its result included, in units of the size of z."""
    size = problem.count * problem.layout.tree.dim * 4
    peak = peak_on_gpu if problem.device == "cuda" else peak_on_cpu
    chosen = counted(problem)
    return {
        "unit": "size of z",
        "contenders": {name: {"value": peak(call) / size} for name, call in chosen.items()},
    }


def peak_on_cpu(call: Contender) -> int:
    """Bytes, from the profiler's record of every allocation.

    The resident size of the process is no substitute: it depends on what malloc kept of earlier
    calls, and a new process for each number would start from torch's own scratch memory.
    """
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    held = peak = 0
    for event in events:
        if event.get("name") == "[memory]":
            held += event["args"]["Bytes"]
            peak = max(peak, held)
    return peak


def peak_on_gpu(call: Contender) -> int:
    """Bytes, from torch's own allocator."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def measure_kernels(problem: Problem) -> dict[str, Any]:
    """Operations that reach the device: on a GPU, launches."""
    chosen = counted(problem)
    return {
        "unit": "kernels",
        "contenders": {name: {"value": count_kernels(call)} for name, call in chosen.items()},
    }


class _Counter(TorchDispatchMode):
    """Counts operations other than views and plain allocations."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        allocates = func.__name__.startswith(("empty", "new_empty"))
        self.count += not (func.is_view or allocates)
        return func(*args, **(kwargs or {}))


def count_kernels(call: Contender) -> int:
    """Operations dispatched by a call."""
    with _Counter() as counter:
        call()
    return counter.count
