"""Measure one backend on a GPU; started by gpu.py with the time at which to stop.

`python gpu_rows.py UNTIL DEVICE [tiny]` prints each row as a line of JSON when it is measured.
"""

import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.benchmark import timer

from peers import FORWARD, IN_BOTH, IN_VALUE, MODES, NORMAL, OURS, Problem, contenders
from targets import FOURS, GAMMA, LARGE, MANY, SMALL
from timing import Contender, Row, interleave, machine, one_line

EAGER, GRAPH, COMPILED, LAUNCHES = "eager", "CUDA graph", "compiled", "launches"
SAMPLE = "sample"
LAYOUTS = {"5 x 4": FOURS, "16 x 16": (16,) * 16, "ragged 30": None}
SECONDS = {EAGER: 0.5, GRAPH: 0.5, COMPILED: 12.0, LAUNCHES: 0.3}  # upper estimates per case
RESERVED = 6.0  # seconds for counting launches at the end: a profiler slows later cases
Case = tuple[str, str, int, str]  # way, layout, N, call


def plan(tiny: bool) -> list[Case]:
    """Return the cases in order of importance, starting with the paper's layout."""
    (first, *others), counts = LAYOUTS, (32,) if tiny else (LARGE, SMALL, MANY)
    calls, few = (*MODES, SAMPLE), counts[0]
    cases = [(way, first, n, call) for way in (EAGER, GRAPH) for n in counts for call in calls]
    cases += [(way, name, few, c) for name in others for way in (EAGER, GRAPH) for c in calls]
    cases += [(COMPILED, first, few, call) for call in (IN_VALUE, FORWARD, IN_BOTH)]
    return cases + [(LAUNCHES, name, few, call) for name in LAYOUTS for call in MODES]


def rows(until: float, device: str, tiny: bool) -> Iterator[Row]:
    """Yield the rows for which there is time."""
    yield {"backends": machine()["backends"]}
    for case in plan(tiny):
        left = until - time.time() - (0 if case[0] == LAUNCHES else RESERVED)
        if left > SECONDS[case[0]]:
            torch.manual_seed(0)
            keys = dict(zip(("way", "layout", "N", "call"), case, strict=True))
            try:
                with limit(left):
                    yield keys | measure(case, device, tiny)
            except Exception as error:
                yield keys | {"errors": {"all": one_line(error)}}


def measure(case: Case, device: str, tiny: bool) -> Row:
    """Time a call relative to the normal, or to the same number of gammas; or count launches."""
    way, layout, count, call = case
    names = [OURS, NORMAL]
    problem = Problem(
        LAYOUTS[layout], (count,), FORWARD if call == SAMPLE else call, device=device
    )
    if call == SAMPLE:
        calls = samplers(problem)
    elif way == COMPILED:
        backend = "aot_eager" if tiny else "inductor"
        found = contenders(problem, names, names, backend)
        calls = {name: found[f"{name}, compiled"] for name in names}
    else:
        calls = contenders(problem, names)
    if way == LAUNCHES:
        return {"values": {name: launches(function, device) for name, function in calls.items()}}
    if way == GRAPH and device == "cuda":
        calls = {name: replayed(function) for name, function in calls.items()}
    return interleave(calls, list(calls)[1], 0.01 if tiny else 0.15, clock=timer)


def samplers(problem: Problem) -> dict[str, Contender]:
    """Return our sampler, and one that draws one gamma per coordinate in one call."""
    p0, p = problem.exponents()
    gamma = torch.distributions.Gamma(1 / p[0], torch.ones_like(p[0]), validate_args=False)
    ours = partial(problem.distribution(p0, p).sample, problem.shape)
    return {OURS: ours, GAMMA: partial(gamma.sample, (*problem.shape, problem.tree.dim))}


def replayed(call: Contender) -> Contender:
    """Capture a call as a CUDA graph; if capturing fails, the result raises when called."""
    try:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
    except Exception as error:
        if torch.cuda.is_initialized():  # a failed capture leaves its own stream behind
            torch.cuda.set_stream(torch.cuda.default_stream())
        return partial(fail, error)
    return graph.replay


def fail(error: Exception) -> None:
    raise error


def launches(call: Contender, device: str) -> int | str:
    """Count kernels, copies and fills with the profiler or, if it sees none, operations."""
    found = 0
    for _ in range(2 if device == "cuda" else 0):  # the first events of a process may be lost
        with profile(activities=[ProfilerActivity.CUDA]) as record:
            call()
            torch.cuda.synchronize()
        found = sum(
            event.device_type == DeviceType.CUDA
            and not getattr(event, "is_user_annotation", False)
            for event in record.events() or []
        )
    if found:
        return found
    with Operations() as counter:
        call()
    return f"{counter.count} operations"


class Operations(TorchDispatchMode):
    """Counts operations other than views and plain allocations."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not (func.is_view or func.__name__.startswith(("empty", "new_empty")))
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise if the body, which may compile, takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not done within {seconds:.0f} seconds")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main(until: str, device: str, tiny: str = "") -> None:
    """Print the rows to stdout, and any other output to stderr."""
    out, sys.stdout = sys.stdout, sys.stderr
    torch.set_num_threads(1)
    for row in rows(float(until), device, bool(tiny)):
        print(json.dumps(row), file=out, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
