"""Measures one kind of cases; gpu.py starts it, and says on standard input when to begin.

It gets ready at once, compiled code in particular, and measures when a line arrives that has the
time at which to stop. Each case becomes a line of JSON as soon as it has been measured.
"""

import argparse
import gc
import itertools
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TextIO

import torch
from densities import OURS
from gpu_cases import (
    COMPILE,
    COMPILED,
    PROCESSES,
    SAMPLE,
    Functions,
    GpuCase,
    Wrap,
    as_it_is,
    functions,
    measure,
    plan,
    raises,
)
from layouts import BY_NAME
from measure_compile import largest_difference

Row = dict[str, Any]
LIMIT = 45.0  # seconds for what one call compiles


def main(argv: Sequence[str]) -> None:
    """Get ready, wait, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("process", choices=PROCESSES)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(argv)
    rows, sys.stdout = sys.stdout, sys.stderr  # whatever else prints stays out of the rows
    torch.set_num_threads(1)
    go = Go(sys.stdin)
    torch.ones(1, device=options.device).exp().sum().item()
    compiler = compiles(options.tiny) if options.process == COMPILED else as_it_is
    maker = Maker(options.device, compiler, options.tiny)
    cases = plan(options.process, options.tiny)
    if options.process == COMPILED:
        report((maker.row(case) for case in until(go.given, first_of_each(cases))), rows)
        cases = in_order(cases, maker.made)
    report(in_time(cases, maker.row, go.wait(), maker.ready), rows)


class Go:
    """When to stop measuring, which is said when it is to begin."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._said, self._deadline = stream, threading.Event(), 0.0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        line = self._stream.readline()
        self._deadline = float(line) if line.strip() else 0.0  # nobody is there any more
        self._said.set()

    def given(self) -> bool:
        return self._said.is_set()

    def wait(self) -> float:
        self._said.wait()
        return self._deadline


def report(found: Iterable[Row], rows: TextIO) -> None:
    """A line for each."""
    for row in found:
        print(json.dumps(row), file=rows, flush=True)


def in_time(
    cases: Iterable[GpuCase],
    row: Callable[[GpuCase], Row],
    deadline: float,
    ready: Callable[[GpuCase], bool] = lambda _: True,
    clock: Callable[[], float] = time.time,
) -> Iterator[Row]:
    """Those for which there is time, in turn."""
    for case in cases:
        if ready(case) and clock() + case.seconds <= deadline:
            yield row(case)


def until(stop: Callable[[], bool], cases: Iterable[GpuCase]) -> Iterator[GpuCase]:
    """As many as come before it is time to stop."""
    return itertools.takewhile(lambda _: not stop(), cases)


def first_of_each(cases: Iterable[GpuCase]) -> list[GpuCase]:
    """What to compile, in the order in which it is needed."""
    first: dict[tuple[str, str], GpuCase] = {}
    for case in cases:
        first.setdefault(case.key, replace(case, quantity=COMPILE))
    return list(first.values())


def in_order(cases: Sequence[GpuCase], made: Container[tuple[str, str]]) -> list[GpuCase]:
    """What is compiled already; then the others, each after its compilation."""
    there = [case for case in cases if case.key in made]
    for begin in first_of_each(case for case in cases if case.key not in made):
        there += [begin, *(case for case in cases if case.key == begin.key)]
    return there


def said(error: Exception) -> str:
    """In one line that is not too long."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:400]


def compiles(tiny: bool) -> Wrap:
    """No graph break; a rehearsal leaves out what takes minutes, the generation of code."""
    backend = "aot_eager" if tiny else "inductor"

    count = itertools.count()

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            return function(*arguments)

        # Dynamo keeps what it compiled with the code, and each of ours is to be on its own.
        call.__code__ = call.__code__.replace(co_name=f"call_{next(count)}")
        return torch.compile(call, fullgraph=True, backend=backend)

    return wrap


class Maker:
    """Makes rows, with functions that are made once for all numbers of rows."""

    def __init__(self, device: str, compiler: Wrap, tiny: bool) -> None:
        self.device, self.compiler, self.tiny = device, compiler, tiny
        self.made: dict[tuple[str, str], Functions] = {}

    def ready(self, case: GpuCase) -> bool:
        """Whether it costs no more than it says: what has not been compiled yet would."""
        return case.way != COMPILED or case.quantity == COMPILE or case.key in self.made

    def row(self, case: GpuCase) -> Row:
        """What was measured, or the error."""
        torch.manual_seed(0)
        try:
            if case.key not in self.made:
                layout = BY_NAME[case.layout]
                self.made[case.key] = functions(layout, case.call, self.device, self.compiler)
            made = self.made[case.key]
            found = self.compile(case, made) if case.quantity == COMPILE else None
            return case.keys | (found or measure(case, made, self.tiny))
        except Exception as error:
            return case.keys | {"error": said(error)}
        finally:
            gc.collect(0)
            if self.device == "cuda":
                torch.cuda.empty_cache()

    def compile(self, case: GpuCase, made: Functions) -> Row:
        """The first call of each function: its seconds, and how far ours is from eager."""
        eager = functions(BY_NAME[case.layout], case.call, self.device).contenders(case.count)
        expected = eager[OURS]()  # before: dispatch on types keeps what the guards then look at
        row: Row = {"contenders": {}}
        for name, call in made.contenders(case.count, dynamic=True).items():
            began = time.perf_counter()
            try:
                with limit(LIMIT):
                    outcome = call()
                row["contenders"][name] = {"value": time.perf_counter() - began}
                if name == OURS and case.call != SAMPLE:
                    row["difference"] = difference(expected, outcome)
            except Exception as error:
                row["contenders"][name] = {"error": said(error)}
                made.functions[name] = raises(error)
        return row


def difference(eager: Any, compiled: Any) -> float:
    """The largest between values or gradients, relative to their largest."""
    largest = largest_difference(eager, compiled)
    if not math.isfinite(largest):
        raise ArithmeticError(f"compiled differs from eager by {largest}")
    return largest


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """An error for what takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not compiled within {seconds:.0f} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    main(sys.argv[1:])
