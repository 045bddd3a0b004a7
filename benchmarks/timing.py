"""Interleaved timing: in every round each contender of a case is called once, in random order.

A shared machine drifts by more than two contenders differ, but it drifts for all of them: so the
ratio to the reference is taken within each round, and then its median and quartiles over rounds.
"""

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

Contender = Callable[[], object]


@dataclass(frozen=True)
class Budget:
    """When a case has been measured well enough."""

    seconds: float = 4.0  # of all rounds of a case
    sample: float = 2e-3  # a shorter call is repeated until a sample lasts this long
    min_rounds: int = 3  # even where they take longer than `seconds`
    max_rounds: int = 100


FULL = Budget()
QUICK = Budget(seconds=0.8, max_rounds=40)


def interleave(
    contenders: Mapping[str, Contender],
    reference: str,
    budget: Budget = FULL,
    clock: Callable[[], float] = time.perf_counter,
    sync: Callable[[], object] = lambda: None,
    seed: int = 0,
) -> dict[str, Any]:
    """Time all contenders against one of them.

    Args:
        contenders: Functions without arguments. One that raises is reported, and left out.
        reference: The contender that the others are divided by.
        budget: How long to go on.
        clock: Seconds.
        sync: Waits for the device, before and after every sample.
        seed: Of the order within the rounds.

    Returns:
        The reference, the number of rounds, and for each contender ``seconds`` per call and
        ``ratio`` to the reference, each with median, q1 and q3; or its ``error``.
    """
    timer = _Timer(clock, sync)
    loops, errors = {}, {}
    for name, call in contenders.items():
        try:
            loops[name] = _repeats(call, budget.sample, timer)
        except Exception as error:
            errors[name] = {"error": f"{type(error).__name__}: {error}"[:300]}
    rounds = []
    if reference in loops:
        rounds = list(_rounds(contenders, loops, budget, timer, random.Random(seed)))
    timed = {name: _statistics(rounds, name, reference) for name in loops} if rounds else {}
    return {"reference": reference, "rounds": len(rounds), "contenders": timed | errors}


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    if len(values) == 1:
        return {"median": values[0], "q1": values[0], "q3": values[0]}
    q1, median, q3 = quantiles(values, n=4, method="inclusive")
    return {"median": median, "q1": q1, "q3": q3}


@dataclass(frozen=True)
class _Timer:
    clock: Callable[[], float]
    sync: Callable[[], object]

    def __call__(self, call: Contender, loops: int) -> float:
        """Mean seconds of a call."""
        self.sync()
        began = self.clock()
        for _ in range(loops):
            call()
        self.sync()
        return (self.clock() - began) / loops


def _repeats(call: Contender, sample: float, timer: _Timer) -> int:
    """Calls in a sample; the first call only warms up."""
    warm = timer(call, 1)
    once = min(warm, timer(call, 1)) if warm < 1 else warm
    return max(1, math.ceil(sample / max(once, 1e-9)))


def _rounds(
    contenders: Mapping[str, Contender],
    loops: dict[str, int],
    budget: Budget,
    timer: _Timer,
    rng: random.Random,
) -> Iterator[dict[str, float]]:
    names, began = list(loops), timer.clock()
    for count in range(budget.max_rounds):
        if count >= budget.min_rounds and timer.clock() - began >= budget.seconds:
            return
        rng.shuffle(names)
        with _no_collection():
            yield {name: timer(contenders[name], loops[name]) for name in names}


@contextmanager
def _no_collection() -> Iterator[None]:
    """Garbage is collected between rounds, not within one."""
    gc.collect(0)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _statistics(rounds: list[dict[str, float]], name: str, reference: str) -> dict[str, Any]:
    return {
        "seconds": spread([r[name] for r in rounds]),
        "ratio": spread([r[name] / r[reference] for r in rounds]),
    }
