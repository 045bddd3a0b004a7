"""One comparison of two arms: its record, and everything that does not depend on others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from claims import statistics
from claims.bootstrap import difference_interval, expanded_interval, resampled
from claims.looks import Plan
from claims.questions import RELATIVE, SMALLEST, Question, curves, missing_runs, planned, scores
from claims.statistics import LEVEL, Array, Levels, below_p, detectable, permutation_p
from sweeps.rows import Row

Interval = tuple[float, float]
QUESTION = ("family", "claim", "arm", "against", "beta", "measure", "expected")  # copied fields


@dataclass(frozen=True)
class Comparison:
    """One line of the table: a difference, its tests and its verdict."""

    family: str  # name of the tests that are corrected together
    claim: str
    arm: str
    against: str
    beta: float | None  # None for a whole curve
    measure: str
    expected: int  # sign of the claimed difference
    smallest: float  # smallest effect of interest, in the unit of the measure
    smallest_relative: float | None  # the same as a fraction of the baseline's mean, if meaningful
    paired: bool
    n: int  # pairs, or runs of the smaller arm
    dropped: int  # runs of either arm that are not compared
    to_make: int  # planned runs that are not made yet
    look: int | None  # the last look taken, 0 before the first; None if there is only one
    level: float  # level of a single test at that look
    means: tuple[float, float] | None = None
    difference: float | None = None
    interval: Interval | None = None  # coverage 1 - level, like all intervals here
    percent: float | None = None  # the difference, in percent of the baseline's mean
    percent_interval: Interval | None = None
    medians: tuple[float, float] | None = None
    median_interval: Interval | None = None
    unpaired_p: float | None = None
    p: float | None = None  # null hypothesis: no difference
    corrected: float | None = None  # for the looks and the family, like those below
    excluded_p: float | None = None  # null hypothesis: the smallest effect or more
    excluded_corrected: float | None = None
    relative_p: float | None = None  # null hypothesis: the smallest relative effect or more
    relative_corrected: float | None = None
    detectable: float | None = None
    reproduced: bool = False
    excluded: bool = False
    relative_excluded: bool = False
    verdict: str = "undecided"
    relative_verdict: str | None = None


def match(a: dict[int, Any], b: dict[int, Any]) -> tuple[Array, Array, bool]:
    """Scores of both arms, and whether they are paired, which needs 3 seeds in common."""
    shared = sorted(a.keys() & b.keys())
    if len(shared) >= 3:
        return np.array([a[s] for s in shared]), np.array([b[s] for s in shared]), True
    return np.array(list(a.values())), np.array(list(b.values())), False


def values(rows: Sequence[Row], arm: str, question: Question) -> dict[int, Any]:
    """The compared quantity of each seed: a score, or a curve."""
    if question.beta is None:
        return curves(rows, arm, question.betas)
    return scores(rows, arm, question.beta, question.measure)


@dataclass(frozen=True)
class Scope:
    """The runs of a comparison, and the look that was taken at them."""

    rows: Sequence[Row]
    wanted: set[tuple[str, float, int]]  # (arm, beta, seed) of all planned runs
    to_make: set[tuple[str, float, int]]  # those that are not made yet
    look: int | None = None
    level: float = LEVEL


def scope(rows: Sequence[Row], question: Question, plan: Plan | None) -> Scope:
    """All rows; if there are two looks, those with the seeds of the last look taken."""
    if plan is None:  # a curve is judged once both arms have all of their runs
        wanted, to_make = (
            {(arm, beta, seed) for arm, beta, seed in runs if concerns(question, arm, beta)}
            for runs in (planned(rows), missing_runs(rows))
        )
        return Scope(rows, wanted, to_make)
    cells = [(arm, beta) for arm in question.pair for beta in question.betas]
    made = {(row["arm"], float(row["beta"]), row["seed"]) for row in rows}
    seeds = {seed for *_, seed in made if {(*cell, seed) for cell in cells} <= made}
    look = plan.taken(seeds)
    at = max(look - 1, 0)  # before the first look, describe the first
    last = plan.pairs[at]
    chosen = [row for row in rows if 1 <= row["seed"] <= last]
    wanted = {(*cell, seed) for cell in cells for seed in range(1, last + 1)}
    return Scope(chosen, wanted, wanted - made, look, plan.levels[at])


def concerns(question: Question, arm: str, beta: float) -> bool:
    """Whether a question concerns the runs of an arm at a beta (any beta for a curve)."""
    return arm in question.pair and question.beta in (None, beta)


def compare(rows: Sequence[Row], question: Question, plan: Plan | None = None) -> Comparison:
    """Answer one question, before corrections and the verdict.

    Args:
        rows: Rows of the experiment.
        question: The question.
        plan: The looks, if there are two: seeds beyond the last look taken do not count, and
            before the first look no score is used.
    """
    seen = scope(rows, question, plan)
    a, b, paired = match(*(values(seen.rows, arm, question) for arm in question.pair))
    found = Comparison(
        **{key: getattr(question, key) for key in QUESTION},
        smallest=SMALLEST[question.measure],
        smallest_relative=None if question.measure == "log_px" else RELATIVE,
        paired=paired,
        n=min(len(a), len(b)),
        dropped=len({(arm, seed) for arm, _, seed in seen.wanted}) - len(a) - len(b),
        to_make=len(seen.to_make),
        look=seen.look,
        level=seen.level,
    )
    return found if found.n < 2 or seen.look == 0 else with_statistics(found, a, b)


def with_statistics(c: Comparison, a: Array, b: Array) -> Comparison:
    """Fill in the difference, its intervals and its p values."""
    levels = statistics.matched_levels if c.beta is None else statistics.means
    means = tuple(float(x[0]) for x in levels(a[None], b[None]))
    if math.isnan(means[0]):  # the curves do not overlap in log p(x|z)
        return c
    first, second = resampled(a, b, c.paired, levels)

    def interval(found: Array) -> Interval:
        return expanded_interval(found, len(a), len(b), c.paired, 1 - c.level)

    found = replace(
        c,
        means=means,
        difference=means[0] - means[1],
        interval=interval(first - second),
        detectable=detectable_by(first - second, c, len(a), len(b)),
        **tests(c, a, b, levels),
    )
    if c.beta is not None:
        between = difference_interval(a, b, c.paired, statistics.medians, 1 - c.level)
        middles = float(np.median(a)), float(np.median(b))
        found = replace(found, medians=middles, median_interval=between)
    if c.smallest_relative is None or second.min() <= 0:
        return found
    low, high = interval(100 * (first / second - 1))
    return replace(found, percent=100 * (means[0] / means[1] - 1), percent_interval=(low, high))


def detectable_by(drawn: Array, c: Comparison, n: int, m: int) -> float | None:
    """The difference detected with 80 % power, from bootstrapped differences."""
    least = min(n, m)
    error = float(np.nanstd(drawn)) * math.sqrt(least / (least - 1))  # corrects the narrowness
    sizes = (n,) if c.paired else (n, m)
    return detectable(error / math.sqrt(sum(1 / size for size in sizes)), *sizes, level=c.level)


def tests(c: Comparison, a: Array, b: Array, levels: Levels) -> dict[str, float]:
    """P values of no difference, and of one as large as either smallest effect of interest."""
    mig = np.array([1.0, 0.0]) if c.beta is None else 1.0  # selects the MIG of a curve's points
    moved, against = c.expected * a - c.smallest * mig, c.expected * b
    found = {
        "p": permutation_p(a, b, c.paired, levels=levels),
        "unpaired_p": permutation_p(a, b, False, levels=levels),
        "excluded_p": below_p(moved, against, c.paired, levels=levels),
    }
    if c.smallest_relative is not None:
        scaled = b * (1 + c.smallest_relative * mig)
        found["relative_p"] = below_p(a, scaled, c.paired, levels=levels)
    return found
