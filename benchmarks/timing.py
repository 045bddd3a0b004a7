"""Interleaved timing of contenders with torch's Timer; peak memory; and the machine.

A shared machine drifts by more than the differences between contenders, but the drift affects all
of them. The ratio to the reference is therefore taken within each round, and then summarised by
its median and quartiles over rounds. Times are CPU times of all threads of the process, because
longer calls wait longer on a busy machine. Several threads, or a GPU, use torch's clock instead.
"""

import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import quantiles
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer

import lpnested

Contender = Callable[[], object]
Row = dict[str, Any]
SAMPLE = 1e-3  # seconds per timing, unless a single call takes longer
LEAST, MOST = 5, 200  # rounds


def interleave(
    contenders: Mapping[str, Contender],
    reference: str,
    seconds: float,
    threads: Mapping[str, int] | None = None,
    clock: Callable[[], float] = time.process_time,
) -> Row:
    """Time every contender once in every round, in random order.

    Returns:
        ``times``: for each contender the ``seconds`` per call and the ``ratio`` to the reference,
        each as median and quartiles; ``errors`` of contenders that raised.
    """
    timers: dict[str, tuple[Timer, int]] = {}
    errors, rounds = {}, []
    for name, call in contenders.items():
        count = (threads or {}).get(name, 1)
        timer = Timer("call()", timer=clock, globals={"call": call}, num_threads=count)
        try:
            timers[name] = timer, max(1, round(SAMPLE / timer.timeit(1).mean))
        except Exception as error:
            errors[name] = one_line(error)
    names, rng, end = list(timers), random.Random(0), time.perf_counter() + seconds
    while reference in timers and len(rounds) < MOST:
        if len(rounds) >= LEAST and time.perf_counter() > end:
            break
        rng.shuffle(names)
        rounds.append({name: timers[name][0].timeit(timers[name][1]).mean for name in names})
    times = {
        name: {
            "seconds": spread([each[name] for each in rounds]),
            "ratio": spread([each[name] / each[reference] for each in rounds]),
        }
        for name in (timers if rounds else ())
    }
    return {"reference": reference, "rounds": len(rounds), "times": times, "errors": errors}


def spread(values: list[float]) -> list[float]:
    """Return the median, and the lower and upper quartile."""
    q1, median, q3 = quantiles(values, n=4, method="inclusive")
    return [median, q1, q3]


def one_line(error: Exception) -> str:
    """Format an error in one line of limited length."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def peak(call: Contender) -> int:
    """Return the peak of allocated bytes during a call, including its result, from the profiler.

    The resident size is no substitute: it depends on the memory that malloc retained earlier.
    """
    call()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        found.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    held = most = 0
    for event in events:
        if event.get("name") == "[memory]":
            held += event["args"]["Bytes"]
            most = max(most, held)
    return most


def machine() -> dict[str, Any]:
    """Return hardware, system, versions and backends, without names of hosts, users or folders."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),  # of torch's own kernels
        "backends": lpnested.backends(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": f"{load:.1f}",
        "versions": {
            platform.system(): ".".join(platform.release().split(".")[:2]),
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "lpnested": lpnested.__version__,
        },
    }


def _cpu() -> str:
    """Return the kernel's name of the CPU, with family and model, as a name alone may be vague."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = {name.strip(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    name = found.get("model name", platform.processor() or platform.machine())
    return f"{name} (family {found.get('cpu family', '?')}, model {found.get('model', '?')})"
