"""Finds a number of interest in the rows of a run; None where it was not measured."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from densities import FORWARD, IN_VALUE, OURS, RECURSIVE
from measure_scaling import AT

Row = dict[str, Any]
SMALL, SQUARE, RAGGED, WIDE = "5 x 4", "16 x 16", "ragged, 30 leaves", "500 x 4"


@dataclass(frozen=True)
class Measured:
    """A number of a run, with quartiles where it is a median."""

    value: float
    q1: float | None = None
    q3: float | None = None


Finder = Callable[[list[Row]], Measured | None]


def pick(rows: list[Row], **keys: Any) -> list[Row]:
    """Rows on the CPU with these keys; one thread and tuned malloc unless said otherwise."""
    wanted = {"device": "cpu", "threads": 1, "malloc": "tuned"} | keys
    return [
        row
        for row in rows
        if all(value is None or row.get(key) == value for key, value in wanted.items())
    ]


def statistic(name: str, what: str, factor: float = 1, /, **keys: Any) -> Finder:
    """Median and quartiles of a contender, from the first row with these keys."""

    def measure(rows: list[Row]) -> Measured | None:
        for row in pick(rows, **keys):
            found = row.get("contenders", {}).get(name, {}).get(what)
            if isinstance(found, dict):
                return Measured(*(factor * found[key] for key in ("median", "q1", "q3")))
            if found is not None:
                return Measured(factor * found)
        return None

    return measure


def log_prob(mode: str, count: int, layout: str = SMALL) -> Finder:
    """In units of the normal."""
    return statistic(OURS, "ratio", group="log_prob", layout=layout, N=count, mode=mode)


def least_lead(layout: str | None = None) -> Finder:
    """How many times faster than the plain recursion, where we lead least."""

    def measure(rows: list[Row]) -> Measured | None:
        found = [
            each[RECURSIVE]["ratio"]["median"] / each[OURS]["ratio"]["median"]
            for row in pick(rows, group="log_prob", threads=None, layout=layout)
            if all("ratio" in (each := row["contenders"]).get(n, {}) for n in (OURS, RECURSIVE))
        ]
        return Measured(min(found)) if found else None

    return measure


def kernels(mode: str, layout: str = SMALL) -> Finder:
    """Launches of a call."""
    return statistic(OURS, "value", group="memory", quantity="kernels", layout=layout, mode=mode)


def wide_over_small(rows: list[Row]) -> Measured | None:
    """Kernels of 501 nodes over those of 6."""
    wide, small = kernels(FORWARD, WIDE)(rows), kernels(FORWARD)(rows)
    return Measured(wide.value / small.value) if wide and small else None


def wide_per_number(rows: list[Row]) -> Measured | None:
    """Time per number of 501 nodes and n = 2000 over that of n = 256, with the gradient in z."""
    keys = {"group": "log_prob", "N": 65_536, "mode": IN_VALUE}
    of = {
        layout: statistic(OURS, "seconds", layout=layout, **keys)(rows)
        for layout in (WIDE, SQUARE)
    }
    wide, square = of[WIDE], of[SQUARE]
    return Measured(wide.value / 2000 / (square.value / 256)) if wide and square else None


def curve(rows: list[Row], name: str, mode: str, contender: str = OURS) -> dict[int, float]:
    """Place -> median seconds."""
    for row in pick(rows, group="scaling", curve=name, mode=mode):
        return {
            int(key.split(AT)[1]): value["seconds"]["median"]
            for key, value in row["contenders"].items()
            if key.split(AT)[0] == contender and "seconds" in value
        }
    return {}


def slope(name: str) -> Finder:
    """Growth of the logarithm of time with that of N or n, over the last factor of 16 or so."""

    def measure(rows: list[Row]) -> Measured | None:
        points = sorted(curve(rows, name, IN_VALUE).items())[-3:]
        if len(points) < 3:
            return None
        (x0, t0), _, (x1, t1) = points
        return Measured(math.log(t1 / t0) / math.log(x1 / x0))

    return measure


def deep_level(rows: list[Row]) -> Measured | None:
    """Cost of one more level where the tree is deep, over its cost where it is shallow."""
    t = curve(rows, "depth", IN_VALUE)
    if not {2, 8, 32} <= t.keys() or t[8] <= t[2]:
        return None
    return Measured((t[32] - t[8]) / 24 / ((t[8] - t[2]) / 6))


def field(*path: str, **keys: Any) -> Finder:
    """A number somewhere in the first row with these keys."""

    def measure(rows: list[Row]) -> Measured | None:
        for found in pick(rows, **keys):
            value: Any = found
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None
            return None if value is None else Measured(value)
        return None

    return measure


def quotient(above: Finder, below: Finder) -> Finder:
    """Of two numbers, where both were measured."""

    def measure(rows: list[Row]) -> Measured | None:
        a, b = above(rows), below(rows)
        return Measured(a.value / b.value) if a and b and b.value else None

    return measure


def worst_difference(rows: list[Row]) -> Measured | None:
    """Of compiled from eager, any case."""
    found = [
        r["difference"] for r in pick(rows, group="compile", threads=None) if "difference" in r
    ]
    return Measured(max(found)) if found else None


def graph_breaks(rows: list[Row]) -> Measured | None:
    """Cases that fullgraph=True refused."""
    compiled = pick(rows, group="compile", threads=None)
    return Measured(sum("error" in row for row in compiled)) if compiled else None


def unpacking(rows: list[Row]) -> Measured | None:
    """In percent of a step."""
    keys = {"group": "example", "what": "training step", "threads": 2}
    return statistic("unpacking the batch", "ratio", 100, **keys)(rows)


def training_lead(rows: list[Row]) -> Measured | None:
    """A step of the example over the plainest loop, both with ISA."""
    return quotient(training("ISA"), training("plainest loop, ISA"))(rows)


def training(contender: str) -> Finder:
    """A step, in units of one with the analytic KL."""
    keys = {"group": "example", "what": "training step", "threads": 2}
    return statistic(contender, "ratio", **keys)
