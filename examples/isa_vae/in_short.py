"""Summarise the results in words and tables: `python examples/isa_vae/in_short.py`.

Reads the published results and writes results/in-short.md, the same summary between two markers
in the README, and results/typical.json, with which train.py compares. The documentation includes
these files, or calls the functions here.
"""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from claims.comparison import Comparison
from claims.typical_scores import typical_scores
from claims.verdicts import beside, ends, number, p_text, verdict_of
from config import UsageError
from running.files import write_json, write_text
from running.process import exit_status
from running.typical import TYPICAL
from sweeps.experiments import FEWEST_PAIRS, MOST_PAIRS, experiments
from sweeps.rows import Row, read_line

HERE = Path(__file__).parent
RESULTS, README = HERE / "results", HERE.parents[1] / "README.md"
PAGE = "in-short.md"
BEGIN, END = "<!-- in short: written by examples/isa_vae/in_short.py -->", "<!-- /in short -->"

CLAIMS = ("claim", "published", "effect [interval]", "% of the baseline", "pairs", "verdict")
SMALL = ("claim", "rung", "pairs", "difference of", "verdict", "at 30 %")
SMALL += ("difference [95 %]", "% of the baseline")


def rows_of(results: Path, name: str) -> list[Row]:
    """Read the rows of a published table; empty if there is none."""
    path = results / f"{name}.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [read_line(line) for line in csv.DictReader(file)]


def verdicts_of(results: Path, name: str) -> list[Comparison]:
    """Read the published comparisons of an experiment; empty if there are none."""
    path = results / f"{name}-verdicts.json"
    found = json.loads(path.read_text(encoding="utf-8"))["comparisons"] if path.exists() else []
    return [Comparison(**c) for c in found]


def interval(c: Comparison) -> str:
    """Format the difference and its interval."""
    digits = 2 if c.measure == "log_px" else 3
    return f"{number(c.difference, digits, '+')} {ends(c.interval, digits)}" if c.interval else ""


def percent(c: Comparison) -> str:
    """Format the difference and its interval in percent of the baseline's mean."""
    found = c.percent_interval
    return f"{number(c.percent, 0, '+')} {ends(found, 0)}" if found else ""


def of_the_paper(results: Path) -> tuple[Comparison | None, Comparison | None]:
    """The comparisons at the paper's own size for claims 4.1 and 4.2; None if missing."""
    found = {(c.arm, c.measure, c.against): c for c in verdicts_of(results, "paper")}
    weighted = "isa-beta-tcvae", "trade-off", "beta-tcvae"
    return found.get(("isa-released", "mig", "normal")), found.get(weighted)


def own_size(results: Path) -> str:
    """Summarise the primary comparison at the paper's own size."""
    c, _ = of_the_paper(results)
    if c is None:
        mig = {row["arm"]: row["mig"] for row in rows_of(results, "fig5a")}
        return (
            "**At the paper's own size both claims are undecided: there is only one pair of "
            f"runs.** Its mutual information gaps (MIG), {mig['isa-released']:.3f} with the ISA "
            f"prior and {mig['normal']:.3f} with the normal one, do not allow a comparison. "
            "`gpu_sweep.py` is ready to train models of that size side by side on one GPU, "
            f"{FEWEST_PAIRS} to {MOST_PAIRS} pairs as time allows, and the rule by which they "
            "will be judged was written down beforehand."
        )
    if c.look == 0:
        planned = rows_of(results, "paper")[0]["planned"]
        return (
            f"**At the paper's own size both claims are undecided: {c.n} of {planned} pairs are "
            "complete** in the primary comparison, and no score is looked at before they all are."
        )
    means = [number(x) for x in c.means or ()]
    return (
        f"**At the paper's own size, with {c.n} pairs, the verdict on claim 4.1 is: "
        f"{verdict_of(c)}.** (At 30 %: {beside(c)}.) The mean mutual information gap (MIG) is "
        f"{means[0]} with the ISA prior and {means[1]} with the normal one: a difference of "
        f"{interval(c)}, {percent(c)} percent of the latter; p {p_text(c.corrected)} at look "
        f"{c.look} of 2, whose level is {c.level:.4f}."
    )


def claim_lines(results: Path) -> list[list[str]]:
    """Table lines for the paper's claims, at the size at which they were made.

    Figures 5 and 6 were published without numbers, so only the direction can be checked.
    """
    primary, curve = of_the_paper(results)
    direction, here = "direction only", "stand-ins only"
    claims = [
        ("4.1, Figure 5a: a higher gap", primary, len(rows_of(results, "fig5a")) // 2),
        ("4.2, Figure 5b: the trade-off", curve, 0),
    ]
    lines = []
    for name, c, before in claims:
        decided = c is not None and c.interval is not None
        found = [interval(c), percent(c), str(c.n), verdict_of(c)] if c and decided else None
        pairs = str(c.n if c else before)
        lines.append([name, direction, *(found or ["", "", pairs, "undecided"])])
        lines[-1][-1] = f"**{lines[-1][-1]}**"
    return [
        *lines,
        ["4.2, Figure 5c: faces", direction, "", "", "0", here],
        ["4.2, Figure 6: cars3d", direction, "", "", "0", here],
        ["A.2, Figure 7: exponents on cars3d", "1.95, 1.98, 2.17", "", "", "0", here],
    ]


def small(results: Path) -> list[tuple[str, Comparison]]:
    """Rung and comparison of small models, for everything about the claims."""
    return [
        (experiments()[name][0].rung, c)
        for name in ("fig5a-quick", "fig5a-medium", "fig5b-quick")
        for c in verdicts_of(results, name)
        if c.claim == "4.2" or (c.claim == "4.1" and c.arm == "isa-released")
    ]


def small_lines(results: Path) -> list[list[str]]:
    """Table lines for the comparisons of small models."""
    return [
        [
            *(c.claim, rung, str(c.n), f"{c.arm} − {c.against}", f"**{verdict_of(c)}**"),
            *(beside(c), interval(c), percent(c)),
        ]
        for rung, c in small(results)
    ]


QUESTIONS = {
    ("isa-released", "normal"): "Claim 4.1, a higher MIG at beta = 1 than with a normal prior",
    ("isa-beta-vae", "beta-vae"): "Claim 4.2, a better trade-off over beta, for the ISA-beta-VAE",
    ("isa-beta-tcvae", "beta-tcvae"): "The same for the ISA-beta-TCVAE",
}


def words(results: Path) -> str:
    """The verdict in words: one paragraph, and one line per answer from small models."""
    lines = [own_size(results), "", "Small models are a different regime and settle nothing", ""]
    lines[2] += (
        " about the paper. (A *rung* is a size of model and training; a *pair* is one seed, run "
        "with both priors. The smallest difference of interest, 0.05, was fixed in advance; next "
        "to it stands the verdict for 30 % of the baseline's mean gap.)"
    )
    for pair, question in QUESTIONS.items():
        found = [
            f"**{verdict_of(c)}** (rung `{rung}`, {c.n} pairs: {interval(c)}; at 30 % of the "
            f"baseline {beside(c).removesuffix(' at 30 %')})"
            for rung, c in small(results)
            if (c.arm, c.against) == pair
        ]
        lines += [f"- {question}: {', and '.join(found)}."] if found else []
    tail = (
        "By the measure fixed in advance, the claim for the ISA-beta-VAE was *not* reproduced. "
        "The measure was changed after these runs had been seen, as PROTOCOL.md records, so the "
        "result above is weaker than it looks."
    )
    return "\n".join([*lines, f"- {tail}"])


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def page(results: Path) -> str:
    """Write the results as a Markdown page."""
    return f"""# Results in short

Written by `python examples/isa_vae/in_short.py` from the tables in this folder. A difference is
*reproduced* if the hypothesis of no difference is rejected and the sign is that of the claim;
*excluded* if a difference as large as the smallest effect of interest is rejected; otherwise
*undecided*. [PROTOCOL.md](../PROTOCOL.md) has the decision rule, and everything that was fixed
before any run. Further findings, and the reasons behind them, are on the documentation page "The
claims, tested" ([source](../../../docs/isa_vae.md)).

{BEGIN}
{words(results)}
{END}

## The paper's claims, at the paper's own size

{table(CLAIMS, claim_lines(results))}

## Small models

{table(SMALL, small_lines(results))}

![The gap at beta = 1, small models](fig5a-quick.png)

*Claim 4.1 at the rung `quick`, one dot per run.*

![Gap and reconstruction over beta, small models](fig5b-quick.png)

*Claim 4.2 at the rung `quick`.*
"""


def with_words(text: str, results: Path) -> str:
    """Replace the summary between the two markers of a text by the current one."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise UsageError(f"the README needs the lines {BEGIN} and {END}, once each")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{words(results)}\n{END}{rest.partition(END)[2]}"


def write() -> None:
    """Write the page, the summary in the README and the typical scores."""
    write_text(page(RESULTS), RESULTS / PAGE)
    write_text(with_words(README.read_text(encoding="utf-8"), RESULTS), README)
    write_json(typical_scores(RESULTS), TYPICAL)
    print(f"Written:\n  {RESULTS / PAGE}\n  {TYPICAL}\n  {README}, between its markers")


if __name__ == "__main__":
    sys.exit(exit_status(write, "stopped"))
