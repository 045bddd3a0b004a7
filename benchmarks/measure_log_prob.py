"""log_prob and its gradients on four layouts, against the normal and other peers."""

from functools import partial
from itertools import product
from typing import Any

from densities import FORWARD, IN_VALUE, MODES, NORMAL, OURS, RECURSIVE, Problem, contenders
from layouts import BY_NAME, LAYOUTS
from plan import Case, Setting, settings, sync_of
from timing import FULL, QUICK, interleave

COUNTS = (2048, 65_536, 1_000_000)
LARGEST = 2**27  # numbers in z; the normal alone takes six times that to differentiate
LARGEST_QUICK = 5_000_000
MANY = 2**25  # beyond this, fewer contenders: they take seconds a call


def plan(quick: bool) -> list[Setting]:
    """One and two threads; and the malloc that a user has who sets nothing."""
    return [Setting()] if quick else [*settings(1, 2), Setting(2, "default")]


def cases(setting: Setting, quick: bool) -> list[Case]:
    """All layouts, sizes and modes that fit, or a few where malloc is the default."""
    chosen = product(LAYOUTS, COUNTS[: 2 if quick else 3], MODES)
    if setting.malloc == "default":
        chosen = product([BY_NAME["5 x 4"]], COUNTS[1:], (FORWARD, IN_VALUE))
    largest = LARGEST_QUICK if quick else LARGEST
    return [
        Case(
            {"layout": layout.name, "N": count, "mode": mode},
            partial(measure, Problem(layout, count, mode, setting.device), quick),
        )
        for layout, count, mode in chosen
        if count * layout.tree.dim <= largest
    ]


def measure(problem: Problem, quick: bool) -> dict[str, Any]:
    """In units of the normal."""
    found = contenders(problem)
    if problem.count * problem.layout.tree.dim > MANY:
        found = {name: found[name] for name in (OURS, NORMAL, RECURSIVE)}
    budget = QUICK if quick else FULL
    return interleave(found, NORMAL, budget, sync=sync_of(problem.device))


def omitted() -> list[str]:
    """What not even a full run measures, in words."""
    return [
        f"Not measured: log_prob of {layout.name} at N = {count:,}, more than {LARGEST:,} numbers."
        for layout, count in product(LAYOUTS, COUNTS)
        if count * layout.tree.dim > LARGEST
    ]
