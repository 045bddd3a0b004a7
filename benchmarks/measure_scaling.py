"""How time grows with N, with n, with depth and with the number of nodes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from densities import FORWARD, IN_VALUE, NORMAL, OURS, RECURSIVE, Problem, contenders
from layouts import BY_NAME, Layout, caterpillar, isa
from plan import Case, Setting, settings, sync_of
from timing import FULL, QUICK, interleave

AT = " @ "  # between a contender and the place on the curve


@dataclass(frozen=True)
class Curve:
    """One quantity varies; everything else stays."""

    name: str
    fixed: str
    places: tuple[int, ...]
    problem: Callable[[int], tuple[Layout, int]]  # place -> layout, N
    peer: str


CURVES = (
    Curve(
        "N",
        "5 x 4",
        (1024, 4096, 16_384, 65_536, 262_144, 1_048_576),
        lambda count: (BY_NAME["5 x 4"], count),
        NORMAL,
    ),
    Curve(
        "n",
        "subspaces of size 4, N = 4096",
        (20, 80, 320, 1280, 5120),
        lambda dim: (isa([4] * (dim // 4)), 4096),
        NORMAL,
    ),
    Curve(
        "depth",
        "a chain of nodes with 96 leaves, N = 4096",
        (1, 2, 4, 8, 16, 32),
        lambda depth: (caterpillar(96, depth), 4096),
        RECURSIVE,
    ),
    Curve(
        "nodes",
        "n = 512 in equal subspaces, N = 4096",
        (2, 5, 17, 65, 257),
        lambda nodes: (isa([512 // (nodes - 1)] * (nodes - 1)), 4096),
        RECURSIVE,
    ),
)


def plan(quick: bool) -> list[Setting]:
    """One thread."""
    return [] if quick else settings(1)


def cases(setting: Setting, quick: bool) -> list[Case]:
    """All curves, forward and backward."""
    return [
        Case(
            {"curve": curve.name, "fixed": curve.fixed, "mode": mode},
            partial(measure, curve, mode, setting.device, quick),
        )
        for curve in CURVES
        for mode in (FORWARD, IN_VALUE)
    ]


def measure(curve: Curve, mode: str, device: str, quick: bool) -> dict[str, Any]:
    """All places of a curve in the same rounds, in units of the first."""
    found = {}
    for place in curve.places:
        here = contenders(Problem(*curve.problem(place), mode, device))
        found |= {f"{name}{AT}{place}": here[name] for name in (OURS, curve.peer)}
    reference = f"{OURS}{AT}{curve.places[0]}"
    budget = QUICK if quick else replace(FULL, seconds=8.0)
    return interleave(found, reference, budget, sync=sync_of(device))
