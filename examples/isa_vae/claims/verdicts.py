"""What the runs of a sweep say about the paper's two claims, by a rule fixed beforehand.

**Claim 4.1**, a higher MIG at beta = 1: the mean MIG of each ISA arm against the normal prior, and
of the released ISA prior against the normal one of its variance (normal-0.495).

**Claim 4.2**, a better trade-off: one number for the whole curve of an ISA arm against that of the
same objective with a normal prior, the MIG at matched log p(x|z) (`statistics.py`). Its parts, the
mean MIG and the mean log p(x|z) at each beta, say where it comes from and decide nothing on it.

Which differences are looked at, and in which families, is in `questions.py`. Of each the mean, a
bootstrap interval and permutation p values are given. Arms with 3 seeds or more in common are
compared by pairs of runs with one seed, others as independent samples. A run that diverged or is
missing drops out of its pair and is counted.

The verdict is one of three (PROTOCOL.md has the same rule), with p values that are corrected for
the looks (`looks.py`) and then by Holm's method in families, at a level of 5 %:

- **reproduced**: p of no difference is below the level, and the difference has the claimed sign.
  (It may still be small: the record says whether d or more is excluded as well.)
- **excluded**: p of "the difference is d or more" is below the level, where d is the smallest
  effect of interest, 0.05 for a MIG and 1 nat for log p(x|z). Beside it stands the same word for
  30 % of the baseline's mean.
- **undecided**: neither. The runs are too few, or vary too much; the detectable difference, the
  one with 80 % power at the level, says how large an effect they could have found.

With n pairs p is at least 2 / 2^n, so that fewer than 6 can reproduce nothing; and with fewer than
5 the interval is too narrow (`bootstrap.expanded_level`). So fewer than 6 decide nothing. Nor does
a sweep that was cut off: as long as runs of the two arms that are wanted are still to be made, the
comparison is undecided, for a sweep that ends when its numbers please finds too much.

**Controls** are comparisons of the experiment and not of the paper, a family of their own, with
the same words: normal-0.495 against normal says what a smaller variance alone does to the MIG;
and the trade-off of the TCVAE's objective against that of the VAE with the same prior, which
should be better (Chen et al. 2018), whether an effect of that size can be seen. Claim 4.2 is
tested with the priors as released: there variance and shape are not told apart. What was seen in
the results before it was asked is **post hoc** and gets no verdict.

A verdict on a STAND-IN data set or on a smaller rung is one on that experiment, not on the paper.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path

from claims import looks
from claims.comparison import Comparison, compared
from claims.questions import RELATIVE, SMALLEST, arms, first_look, questions, with_shared
from claims.statistics import LEVEL, holm
from config import UsageError
from running.files import write_text
from sweeps.rows import Row
from tqdm import tqdm

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


def verdict_of(c: Comparison) -> str:
    """The verdict, at the absolute smallest effect."""
    least = f"{c.smallest * c.expected:g}".replace("-", "−")
    effect = f"{least} nat" if c.measure == "log_px" else least
    return spelt(c.verdict, c.excluded, effect, "more" if c.expected > 0 else "less")


def beside(c: Comparison) -> str:
    """The verdict at the relative one, where there is one."""
    percent = f"{100 * (c.smallest_relative or 0):g} %"
    return spelt(c.relative_verdict, c.relative_excluded, percent)


def cells(c: Comparison) -> list[str]:
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


def markdown(found: Sequence[Comparison]) -> str:
    """The table for a README."""
    lines = [HEAD, ["---"] * len(HEAD), *(cells(c) for c in found)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


FEWEST = 6  # pairs, or runs of an arm, from which anything is decided
KINDS = {"p": "corrected", "excluded_p": "excluded_corrected", "relative_p": "relative_corrected"}


def plan_of(rows: Sequence[Row]) -> looks.Plan | None:
    """The looks at an experiment, if there are two."""
    return looks.plan(first_look(rows)) if rows[0]["experiment"] == "paper" else None


def judge(rows: Sequence[Row]) -> list[Comparison]:
    """Every comparison of one experiment with its verdict, family by family."""
    plan = plan_of(rows)
    rows = rows if plan is None else with_shared(rows)
    bar = tqdm(questions(rows), desc="comparing", unit="difference", leave=False)
    found = [compared(rows, question, plan) for question in bar]
    families = [list(family) for _, family in groupby(found, lambda c: c.family)]
    return [decide(c) for family in families for c in corrected(family, plan)]


def corrected(family: Sequence[Comparison], plan: looks.Plan | None) -> list[Comparison]:
    """Comparisons that are tested together, their p values corrected: each kind for itself."""
    found = list(family)
    for kind, name in KINDS.items():
        asked = [k for k, c in enumerate(found) if kind != "relative_p" or c.smallest_relative]
        adjusted = holm([restated(found[k], kind, plan) for k in asked])
        for k, p in zip(asked, adjusted, strict=True):
            found[k] = replace(found[k], **{name: p})
    return found


def restated(c: Comparison, kind: str, plan: looks.Plan | None) -> float | None:
    """A p value on the scale of 5 % for all looks together."""
    p = getattr(c, kind)
    return p if p is None or plan is None else looks.restated(p, c.look, plan.fraction)


def decide(c: Comparison) -> Comparison:
    """The rule in the text above, of a comparison with corrected p values."""
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
    """The verdict, where both can hold the first."""
    return "reproduced" if reproduced else "excluded" if excluded else "undecided"


def write_verdicts(rows: Sequence[Row], folder: Path) -> list[Path]:
    """The comparisons as EXPERIMENT-verdicts.json and EXPERIMENT-verdicts.md."""
    found, name, plan = judge(rows), rows[0]["experiment"], plan_of(rows)
    if not found:
        raise UsageError(f"{name} has no arms to compare, but {', '.join(arms(rows))}")
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
