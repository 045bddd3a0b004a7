"""Verdicts on the paper's two claims from the runs of a sweep, by a rule fixed in advance.

**Claim 4.1**, a higher MIG at beta = 1: the mean MIG of each ISA arm against the normal prior, and
of the released ISA prior against the normal prior of the same variance (normal-0.495).

**Claim 4.2**, a better trade-off: one number for the whole curve of an ISA arm against that of the
same objective with a normal prior, the MIG at matched log p(x|z) (`statistics.py`). Its parts, the
mean MIG and mean log p(x|z) at each beta, show where the difference comes from but decide nothing.

`questions.py` lists the differences and their families. Each is reported with the mean, a
bootstrap interval and permutation p values. Arms with at least 3 seeds in common are compared by
pairs of runs with the same seed, others as independent samples. A run that diverged or is missing
drops out with its partner, and is counted.

The verdict is one of three (the same rule is in PROTOCOL.md), from p values corrected for the
looks (`looks.py`) and then by Holm's method within families, at a level of 5 %:

- **reproduced**: p of no difference is below the level, and the difference has the claimed sign.
  (It may still be small: the record also says whether d or more is excluded.)
- **excluded**: p of "the difference is d or more" is below the level, where d is the smallest
  effect of interest, 0.05 for a MIG and 1 nat for log p(x|z). A second verdict does the same for
  30 % of the baseline's mean.
- **undecided**: neither. The runs are too few, or vary too much; the detectable difference (80 %
  power at the level) shows how large an effect they could have found.

With n pairs p is at least 2 / 2^n, so fewer than 6 cannot reproduce anything, and with fewer than
5 the interval is too narrow (`bootstrap.expanded_level`). So fewer than 6 pairs decide nothing.
Nor does an incomplete sweep: a comparison stays undecided while planned runs of its two arms are
missing, since a sweep that may stop when its numbers please finds too much.

**Controls** are comparisons that test the experiment rather than the paper, in a family of their
own with the same verdicts: normal-0.495 against normal shows the effect of a smaller variance on
the MIG; and the trade-off of the TCVAE objective against that of the VAE with the same prior,
which should be better (Chen et al. 2018), shows whether such an effect can be detected. Claim 4.2
is tested with the priors as released, which differ in both variance and shape. Questions that
arose from the results are **post hoc** and get no verdict.

A verdict on a STAND-IN data set or a smaller rung concerns that experiment, not the paper.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path

from tqdm import tqdm

from claims import looks
from claims.comparison import Comparison, compare
from claims.questions import RELATIVE, SMALLEST, arms, first_look, questions, with_shared
from claims.statistics import LEVEL, holm
from config import UsageError
from running.files import write_text
from sweeps.rows import Row

HEAD = ("claim", "arm", "against", "beta", "measure", "verdict", "beside it", "n", "difference")
HEAD += ("interval", "% of the baseline", "level", "p", "corrected p")
HEAD += ("corrected p of the smallest effect", "detectable", "left out")
RULE = (
    "Verdicts use p values that are corrected, by Holm's method within a family of tests and for "
    "the looks if there are two, and compared with 5 %. <b>reproduced</b>: p of no difference is "
    "below 5 %, and the difference has the claimed sign. <b>excluded</b>: p of a difference as "
    "large as the smallest effect of interest, or larger, is below 5 % (0.05 MIG, 1 nat of "
    "log p(x|z); beside it, 30 % of the baseline's mean). <b>undecided</b>: neither, or fewer "
    "than 6 pairs, or planned runs are missing. <b>post hoc</b>: a question that arose from the "
    "results, so no verdict. The interval has a coverage of 1 − level. Detectable: the difference "
    "that this many runs detect with 80 % power at the level. Left out: runs that diverged, are "
    "missing, or have no partner with the same seed."
)


def number(x: float | None, digits: int = 3, sign: str = "") -> str:
    """Format a number with a proper minus sign, or a dash for None."""
    if x is None:
        return "–"
    return f"{round(x, digits) + 0.0:{sign}.{digits}f}".replace("-", "−")  # avoids minus 0


def p_text(p: float | None) -> str:
    """Format a p value; small ones as "< 0.001"."""
    return "< 0.001" if p is not None and p < 0.001 else number(p)


def ends(interval: Sequence[float] | None, digits: int) -> str:
    """Format an interval, or a dash for None."""
    found = ", ".join(number(x, digits, "+") for x in interval or ())
    return f"[{found}]" if found else "–"


def phrase(verdict: str | None, excluded: bool, effect: str, beyond: str = "more") -> str:
    """Format a verdict with the smallest effect of interest that it refers to."""
    exclusion = f"a difference of {effect} or {beyond} excluded"
    if verdict == "undecided":
        return f"undecided at {effect}"
    if verdict == "reproduced" and excluded:
        return f"reproduced; {exclusion}"
    return exclusion if verdict == "excluded" else verdict or "–"


def verdict_of(c: Comparison) -> str:
    """Format the verdict for the absolute smallest effect."""
    least = f"{c.smallest * c.expected:g}".replace("-", "−")
    effect = f"{least} nat" if c.measure == "log_px" else least
    return phrase(c.verdict, c.excluded, effect, "more" if c.expected > 0 else "less")


def beside(c: Comparison) -> str:
    """Format the verdict for the relative smallest effect, if there is one."""
    percent = f"{100 * (c.smallest_relative or 0):g} %"
    return phrase(c.relative_verdict, c.relative_excluded, percent)


def cells(c: Comparison) -> list[str]:
    """Format one line of the table."""
    digits = 2 if c.measure == "log_px" else 3
    whole = c.percent is not None
    return [
        *(c.claim, c.arm, c.against, "all" if c.beta is None else f"{c.beta:g}", c.measure),
        *(verdict_of(c), beside(c), f"{c.n} pairs" if c.paired else f"{c.n} each"),
        *(number(c.difference, digits, "+"), ends(c.interval, digits)),
        f"{number(c.percent, 0, '+')} {ends(c.percent_interval, 0)}" if whole else "–",
        *(f"{c.level:.3g}", p_text(c.p), p_text(c.corrected), p_text(c.excluded_corrected)),
        *(number(c.detectable, digits), str(c.dropped)),
    ]


def markdown(found: Sequence[Comparison]) -> str:
    """Format the comparisons as a Markdown table."""
    lines = [HEAD, ["---"] * len(HEAD), *(cells(c) for c in found)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


FEWEST = 6  # smallest number of pairs, or of runs of an arm, that can decide anything
KINDS = {"p": "corrected", "excluded_p": "excluded_corrected", "relative_p": "relative_corrected"}


def plan_of(rows: Sequence[Row]) -> looks.Plan | None:
    """The plan of looks at an experiment, if there are two."""
    return looks.plan(first_look(rows)) if rows[0]["experiment"] == "paper" else None


def judge(rows: Sequence[Row]) -> list[Comparison]:
    """Make every comparison of one experiment, with its verdict, family by family."""
    plan = plan_of(rows)
    rows = rows if plan is None else with_shared(rows)
    bar = tqdm(questions(rows), desc="comparing", unit="difference", leave=False)
    found = [compare(rows, question, plan) for question in bar]
    families = [list(family) for _, family in groupby(found, lambda c: c.family)]
    return [decide(c) for family in families for c in corrected(family, plan)]


def corrected(family: Sequence[Comparison], plan: looks.Plan | None) -> list[Comparison]:
    """Correct the p values of a family of comparisons, separately for each kind of test."""
    found = list(family)
    for kind, name in KINDS.items():
        tested = [k for k, c in enumerate(found) if kind != "relative_p" or c.smallest_relative]
        adjusted = holm([restated(found[k], kind, plan) for k in tested])
        for k, p in zip(tested, adjusted, strict=True):
            found[k] = replace(found[k], **{name: p})
    return found


def restated(c: Comparison, kind: str, plan: looks.Plan | None) -> float | None:
    """Restate a p value so that it can be compared with 5 % for all looks together."""
    p = getattr(c, kind)
    return p if p is None or plan is None else looks.restated(p, c.look, plan.fraction)


def decide(c: Comparison) -> Comparison:
    """Apply the rule described above to a comparison with corrected p values."""
    if c.family == "post hoc":
        return replace(c, verdict="post hoc")
    reproduced = excluded = relative = False
    if c.n >= FEWEST and c.to_make == 0 and c.difference is not None:
        reproduced = c.corrected < LEVEL and c.expected * c.difference > 0
        excluded = c.excluded_corrected < LEVEL
        relative = c.smallest_relative is not None and c.relative_corrected < LEVEL
    return replace(
        c,
        reproduced=reproduced,
        excluded=excluded,
        relative_excluded=relative,
        verdict=word(reproduced, excluded),
        relative_verdict=None if c.smallest_relative is None else word(reproduced, relative),
    )


def word(reproduced: bool, excluded: bool) -> str:
    """The verdict as a word; "reproduced" takes precedence."""
    return "reproduced" if reproduced else "excluded" if excluded else "undecided"


def write_verdicts(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write the comparisons to EXPERIMENT-verdicts.json and EXPERIMENT-verdicts.md."""
    found, name, plan = judge(rows), rows[0]["experiment"], plan_of(rows)
    if not found:
        raise UsageError(f"{name} has no arms to compare, only {', '.join(arms(rows))}")
    values = {
        "experiment": name,
        "rung": sorted({row["rung"] for row in rows}),
        "data": sorted({row["data"] for row in rows}),
        "level": LEVEL,
        "looks": None if plan is None else asdict(plan),
        "smallest_effects_of_interest": SMALLEST,
        "smallest_relative_effect": RELATIVE,
        "comparisons": [asdict(c) for c in found],
    }
    texts = {"json": json.dumps(values, indent=2, allow_nan=False) + "\n", "md": markdown(found)}
    paths = [folder / f"{name}-verdicts.{ending}" for ending in texts]
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in zip(paths, texts.values(), strict=True):
        write_text(text, path)
    return paths
