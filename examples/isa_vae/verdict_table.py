"""The comparisons of verdicts.py as text: lines of a table, for a README and for the report."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verdicts import Comparison

HEAD = ("claim", "arm", "against", "beta", "measure", "verdict", "n", "difference")
HEAD += ("95 % interval", "p", "Holm p", "detectable", "left out")


def number(x: float | None, digits: int = 3, sign: str = "") -> str:
    """A number with a proper minus, or a dash."""
    return "–" if x is None else f"{x:{sign}.{digits}f}".replace("-", "−")


def chance(p: float | None) -> str:
    """A p value; there is no p of 0."""
    return "< 0.001" if p is not None and p < 0.001 else number(p)


def cells(c: "Comparison") -> list[str]:
    """One line of the table as text."""
    digits = 2 if c.measure == "log_px" else 3
    ends = [number(x, digits, "+") for x in c.interval or ()]
    return [
        *(c.claim, c.arm, c.against, "all" if c.beta is None else f"{c.beta:g}", c.measure),
        *(c.verdict, f"{c.n} pairs" if c.paired else f"{c.n} each"),
        *(number(c.difference, digits, "+"), f"[{', '.join(ends)}]" if ends else "–"),
        *(chance(c.p), chance(c.holm), number(c.detectable, digits), str(c.dropped)),
    ]


def markdown(found: Sequence["Comparison"]) -> str:
    """The table for a README."""
    lines = [HEAD, ["---"] * len(HEAD), *(cells(c) for c in found)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
