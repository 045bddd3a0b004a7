"""The comparisons of verdicts.py as text: lines of a table, for a README and for the report."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comparison import Comparison

HEAD = ("claim", "arm", "against", "beta", "measure", "verdict", "beside it", "n", "difference")
HEAD += ("interval", "% of the baseline", "level", "p", "corrected p")
HEAD += ("corrected p of the smallest effect", "detectable", "left out")
RULE = (
    "All p values of the words are corrected, by Holm's method within a family of tests and for "
    "the looks where there are two, and compared with 5 %. <b>reproduced</b>: that of no "
    "difference is below, and the difference has the claimed sign. <b>excluded</b>: that of a "
    "difference as large as the smallest effect of interest, or larger, is below (0.05 MIG, 1 nat "
    "of log p(x|z); beside it, 30 % of the baseline's mean). <b>undecided</b>: neither, or fewer "
    "than 6 pairs, or planned runs are still to be made. <b>post hoc</b>: asked after the results "
    "were seen, so no verdict. The interval has a coverage of 1 − level. Detectable: the "
    "difference that this many runs find with 80 % power at the level. Left out: runs that "
    "diverged, are missing, or have no partner of the same seed."
)


def number(x: float | None, digits: int = 3, sign: str = "") -> str:
    """A number with a proper minus, or a dash."""
    if x is None:
        return "–"
    return f"{round(x, digits) + 0.0:{sign}.{digits}f}".replace("-", "−")  # there is no minus 0


def chance(p: float | None) -> str:
    """A p value; there is no p of 0."""
    return "< 0.001" if p is not None and p < 0.001 else number(p)


def ends(interval: Sequence[float] | None, digits: int) -> str:
    """An interval, or a dash."""
    found = ", ".join(number(x, digits, "+") for x in interval or ())
    return f"[{found}]" if found else "–"


def spelt(verdict: str | None, excluded: bool, effect: str, beyond: str = "more") -> str:
    """A verdict with the smallest effect of interest that it is about."""
    gone = f"a difference of {effect} or {beyond} excluded"
    if verdict == "undecided":
        return f"undecided at {effect}"
    if verdict == "reproduced" and excluded:
        return f"reproduced; {gone}"
    return gone if verdict == "excluded" else verdict or "–"


def verdict_of(c: "Comparison") -> str:
    """The verdict, at the absolute smallest effect."""
    least = f"{c.smallest * c.expected:g}".replace("-", "−")
    effect = f"{least} nat" if c.measure == "log_px" else least
    return spelt(c.verdict, c.excluded, effect, "more" if c.expected > 0 else "less")


def beside(c: "Comparison") -> str:
    """The verdict at the relative one, where there is one."""
    percent = f"{100 * (c.smallest_relative or 0):g} %"
    return spelt(c.relative_verdict, c.relative_excluded, percent)


def cells(c: "Comparison") -> list[str]:
    """One line of the table as text."""
    digits = 2 if c.measure == "log_px" else 3
    whole = c.percent is not None
    return [
        *(c.claim, c.arm, c.against, "all" if c.beta is None else f"{c.beta:g}", c.measure),
        *(verdict_of(c), beside(c), f"{c.n} pairs" if c.paired else f"{c.n} each"),
        *(number(c.difference, digits, "+"), ends(c.interval, digits)),
        f"{number(c.percent, 0, '+')} {ends(c.percent_interval, 0)}" if whole else "–",
        *(f"{c.level:.3g}", chance(c.p), chance(c.corrected), chance(c.excluded_corrected)),
        *(number(c.detectable, digits), str(c.dropped)),
    ]


def markdown(found: Sequence["Comparison"]) -> str:
    """The table for a README."""
    lines = [HEAD, ["---"] * len(HEAD), *(cells(c) for c in found)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
