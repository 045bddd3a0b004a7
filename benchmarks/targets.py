"""The performance targets of the project, and how to evaluate them on the rows of a run."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from peers import IN_VALUE, MODES, NAIVE, NORMAL, OURS, RECURSION, Problem
from timing import Row

SMALL, LARGE, MANY = 2048, 65_536, 1_000_000
FOURS = (4,) * 5
GAMMA, COMPILED = "Gamma(1/p)", f"{OURS}, compiled"
INSTRUCTIONS = ("avx2", "avx512")
BATCHED = ((2, 2, 2.5), (1.5, 1.5, 2))

# Each case with its limits relative to the normal: forward, + backward in value, + in exponents
# (relative to the normal's backward in value); for AVX2, and for AVX-512.
CASES: dict[str, tuple[Problem, tuple[tuple[float, ...], ...]]] = {
    "5 x 4, N = 2048": (Problem(FOURS, (SMALL,)), ((1.15, 1.1, 1.4), (0.75, 0.75, 1.1))),
    "5 x 4, N = 65,536": (Problem(FOURS, (LARGE,)), ((1.05, 1.1, 1.35), (0.70, 0.85, 1.0))),
    "ragged 30, N = 65,536": (Problem(None, (LARGE,)), ((1.3, 1.2, 1.45), (0.85, 0.95, 1.1))),
    "16 x 16, N = 2048": (Problem((16,) * 16, (SMALL,)), ((1.3, 1.25, 1.4), (0.90, 0.95, 1.05))),
    "500 x 4, N = 2048": (Problem((4,) * 500, (SMALL,)), ((1.05, 1.1, 1.2), (0.65, 0.65, 0.90))),
    "5 x 4, 8 exponents x 256 rows": (Problem(FOURS, (8, 256), batch=(8, 1)), BATCHED),
    "5 x 4, 256 rows x 8 exponents": (Problem(FOURS, (256, 8), batch=(8,)), BATCHED),
    "5 x 4, N = 2048, float64": (
        Problem(FOURS, (SMALL,), dtype=torch.float64),
        ((1.5, 1.3, 1.5),) * 2,
    ),
    "5 x 4, N = 1": (Problem(FOURS, (1,)), ()),  # no target: shows the cost of a call
    "5 x 4, N = 1,000,000": (Problem(FOURS, (MANY,)), ()),
}
WIDE = "500 x 4, N = 2048"
Found = tuple[float, str] | None
Find = Callable[[list[Row]], Found]


@dataclass(frozen=True)
class Target:
    """A target: what `find` extracts from the rows is at most, or at least, the limit."""

    what: str
    limit: float
    find: Find
    unit: str = ""
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Return whether the target is met, by the median alone."""
        return value >= self.limit if self.at_least else value <= self.limit

    def by(self, value: float) -> str:
        """Return the distance of a value from the limit, in percent of the smaller of the two."""
        low, high = sorted((value, self.limit))
        return f"{high / low - 1:.0%}" if low > 0 else f"{high - low:g}"


def column(machine: dict[str, Any]) -> int | None:
    """Return the applicable limits: of the kernel in use, or of torch's capability."""
    used = machine["backends"]["cpu"]
    name = machine["capability"].lower() if "reference" in used else used
    return next((k for k in (1, 0) if INSTRUCTIONS[k] in name), None)


def targets(instructions: int | None) -> Iterator[Target]:
    """Yield all targets; those relative to the normal exist only for AVX2 and AVX-512."""
    for name, (_, limits) in CASES.items():
        if limits and instructions is not None:
            for mode, limit in zip(MODES, limits[instructions], strict=True):
                find = median(OURS, group="log_prob", case=name, mode=mode)
                yield Target(f"{name}: {mode}", limit, find, f"x {NORMAL}")
    yield from OTHERS


def pick(rows: Iterable[Row], **keys: Any) -> list[Row]:
    """Return the rows with these keys."""
    return [row for row in rows if all(row.get(key) == value for key, value in keys.items())]


def median(name: str, **keys: Any) -> Find:
    """Find the ratio, or the value, of a contender, with its quartiles."""

    def find(rows: list[Row]) -> Found:
        for row in pick(rows, **keys):
            found = (row.get("values", {}) | row.get("times", {})).get(name)
            if found is not None:
                found = found["ratio"] if isinstance(found, dict) else found
                many = isinstance(found, list)
                return (found[0], f"[{found[1]:.3g}, {found[2]:.3g}]") if many else (found, "")
        return None

    return find


def quotient(choose: Callable[..., Any], above: str, below: str, **keys: Any) -> Find:
    """Find the least or largest quotient of two contenders over the rows, and where it occurs."""

    def find(rows: list[Row]) -> Found:
        found = [
            (
                times[above]["ratio"][0] / times[below]["ratio"][0],
                f"({', '.join(row[key] for key in ('case', 'mode') if key in row)})",
            )
            for row in pick(rows, **keys)
            if {above, below} <= (times := row.get("times", {})).keys()
        ]
        return choose(found) if found else None

    return find


def refused(rows: list[Row]) -> Found:
    """Count the cases in which compiling the library fails."""
    tried = [
        row for row in pick(rows, group="log_prob") if COMPILED in row["times"] | row["errors"]
    ]
    return (sum(COMPILED in row["errors"] for row in tried), "") if tried else None


def lead(what: str, limit: float, peer: str, **keys: Any) -> Target:
    """Require a least slowdown of a peer relative to the library."""
    return Target(what, limit, quotient(min, peer, OURS, group="log_prob", **keys), at_least=True)


def example(what: str, limit: float, name: str, of: str, unit: str = "") -> Target:
    """Return a target for the training step or the MIG of the example."""
    return Target(what, limit, median(name, group="example", case=of), unit)


OTHERS = (
    lead("least lead over the recursion", 4, RECURSION),
    lead("least lead over the recursion, 501 nodes", 10, RECURSION, case=WIDE),
    lead("least lead over a naive ISA", 3, NAIVE),
    lead("least lead over the recursion, compiled", 1.5, f"{RECURSION}, compiled"),
    lead("least lead over a naive ISA, compiled", 1.5, f"{NAIVE}, compiled"),
    Target("compiled, of eager", 1, quotient(max, COMPILED, OURS, group="log_prob")),
    Target("cases that torch.compile(fullgraph=True) refuses", 0, refused),
    Target(
        "peak memory of log_prob and backward in value, 5 x 4, N = 1,000,000",
        2.5,
        median(OURS, group="memory", mode=IN_VALUE),
        "sizes of z",
    ),
    Target("sample, N = 65,536", 0.25, median(OURS, group="sample", N=LARGE), f"x {GAMMA}"),
    Target("sample, N = 2048", 0.30, median(OURS, group="sample", N=SMALL), f"x {GAMMA}"),
    *(
        Target(f"constructor, {case}", 2.5, median(OURS, group="constructor", case=case), "x")
        for case in ("of tensors", "of numbers, validated")
    ),
    Target(
        "least gain by a second thread, N = 1,000,000",
        1.6,
        quotient(min, "one thread", "two threads", group="threads"),
        at_least=True,
    ),
    Target("import, after torch", 30, median(OURS, group="import"), "ms"),
    example("training step with ISA", 1.02, "ISA", "training step", "x the analytic KL"),
    example(
        "training step with ISA, learned p",
        1.02,
        "ISA, learned p",
        "training step",
        "x the analytic KL",
    ),
    Target(
        "training step over that of the plainest loop",
        0.85,
        quotient(max, "ISA", "plainest loop, ISA", group="example"),
    ),
    example("MIG of all 737,280 images, two threads", 90, "quadrature", "MIG", "s"),
    example("MIG, of the time of sampling (extrapolated)", 0.01, "quotient", "MIG"),
    example("MIG, of the error of sampling (extrapolated)", 1, "quotient", "MIG error"),
)
