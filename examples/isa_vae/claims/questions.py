"""Which arms of an experiment are compared, in which families of tests, and on which scores.

PROTOCOL.md gives the reasons. The experiment `paper` has one primary question, the paper's claim
4.1, which is tested on its own, and a family of secondary questions, all listed here whether or
not they were run. Every other experiment has the questions that its arms allow.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from config import UsageError
from sweeps.experiments import (
    ARMS,
    METHODS,
    PRIMARY,
    WEIGHTED,
    WEIGHTED_BETAS,
    experiments,
    second_look,
)
from sweeps.rows import Row


def arms(rows: Iterable[Row]) -> list[str]:
    """Names of the arms, normal priors first, in the order of experiments.py."""
    known = [*ARMS, *METHODS]
    names = sorted({row["arm"] for row in rows})
    places = {name: known.index(name) if name in known else len(known) for name in names}
    return sorted(names, key=lambda name: (name.startswith("isa"), places[name]))


def betas(rows: Iterable[Row], arm: str | None = None) -> list[float]:
    """All betas, or those of an arm."""
    return sorted({float(row["beta"]) for row in rows if arm in (None, row["arm"])})


def scores(rows: Iterable[Row], arm: str, beta: float, key: str) -> dict[int, float]:
    """The score of each seed of an arm, without runs that diverged or lack the score."""
    chosen = [row for row in rows if (row["arm"], float(row["beta"])) == (arm, beta)]
    pairs = [(row["seed"], row.get(key)) for row in chosen if row["status"] == "done"]
    return {seed: float(x) for seed, x in pairs if x is not None and math.isfinite(x)}


def first_look(rows: Sequence[Row]) -> int:
    """Pairs at the first look of the experiment `paper`, as recorded in all of its rows."""
    plans = {row.get("planned") for row in rows}
    if len(plans) != 1 or not all(isinstance(pairs, int) and pairs > 0 for pairs in plans):
        raise UsageError(
            "all rows of paper must have the same positive number of pairs in the column planned, "
            f"but they have {', '.join(sorted(map(str, plans)))}"
        )
    return plans.pop()


def missing_runs(rows: Sequence[Row]) -> set[tuple[str, float, int]]:
    """Arm, beta and seed of the planned runs that have no row yet."""
    runs = experiments().get(rows[0]["experiment"], [])
    wanted = {(run.arm, run.config.beta, run.config.seed) for run in runs}
    if rows[0]["experiment"] == "paper":
        wanted = due(wanted, rows)
    return wanted - {(row["arm"], float(row["beta"]), row["seed"]) for row in rows}


def due(
    runs: Iterable[tuple[str, float, int]], rows: Sequence[Row]
) -> set[tuple[str, float, int]]:
    """The runs of the look that is due: the second, for arms that have begun it."""
    first = first_look(rows)
    begun = {row["arm"] for row in rows if row["seed"] > first}
    last = {True: second_look(first), False: first}
    return {(arm, beta, seed) for arm, beta, seed in runs if seed <= last[arm in begun]}


def looked_at(rows: Sequence[Row]) -> Sequence[Row]:
    """The rows whose scores may be shown: of `paper` those up to the last look, else all."""
    if rows[0]["experiment"] != "paper":
        return rows
    of_arms = [
        {row["seed"] for row in rows if (row["arm"], float(row["beta"])) == (arm, 1.0)}
        for arm in PRIMARY
    ]
    made, first = set.intersection(*of_arms), first_look(rows)
    taken = [n for n in (first, second_look(first)) if made >= set(range(1, n + 1))]
    return [row for row in rows if row["seed"] <= max(taken, default=0)]


def planned(rows: Sequence[Row]) -> set[tuple[str, float, int]]:
    """Arm, beta and seed of every run of the experiment, whether finished or not."""
    if rows[0]["experiment"] in experiments():
        seen = {(row["arm"], float(row["beta"]), row["seed"]) for row in rows}
        return seen | missing_runs(rows)
    seeds = {row["seed"] for row in rows}
    return {(arm, beta, s) for arm in arms(rows) for beta in betas(rows, arm) for s in seeds}


def curves(rows: Sequence[Row], arm: str, shared: Sequence[float]) -> dict[int, np.ndarray]:
    """MIG and log p(x|z), (betas, 2), of the seeds that have both at each beta."""
    cells = [scores(rows, arm, beta, key) for beta in shared for key in ("mig", "log_px")]
    seeds = sorted(set.intersection(*(set(cell) for cell in cells)))
    return {seed: np.array([cell[seed] for cell in cells]).reshape(-1, 2) for seed in seeds}


# The smallest effects of interest: the tests may exclude differences as large as these or larger.
SMALLEST = {"mig": 0.05, "trade-off": 0.05, "log_px": 1.0}
RELATIVE = 0.3  # the same as a fraction of the baseline's mean, for measures in units of the MIG
FAMILIES = ("primary", "secondary", "claims", "parts", "controls", "post hoc")


@dataclass(frozen=True)
class Question:
    """A difference to test: between two arms, at one beta or over several."""

    family: str  # tests of one family are corrected together
    claim: str
    arm: str
    against: str
    betas: tuple[float, ...]
    measure: str
    expected: int = 1  # sign of the claimed difference

    @property
    def pair(self) -> tuple[str, str]:
        """Both arms."""
        return self.arm, self.against

    @property
    def beta(self) -> float | None:
        """The beta; None for a whole curve."""
        return None if self.measure == "trade-off" else self.betas[0]


def questions(rows: Sequence[Row]) -> list[Question]:
    """The questions of an experiment, family by family."""
    paper = rows[0]["experiment"] == "paper"
    found = list(of_the_paper() if paper else of_other_experiments(rows))
    return [question for family in FAMILIES for question in found if question.family == family]


def of_the_paper() -> Iterator[Question]:
    """The questions of the experiment `paper`."""
    normal, isa = PRIMARY
    yield Question("primary", "4.1", isa, normal, (1.0,), "mig")
    yield Question("secondary", "4.1", isa, "normal-0.495", (1.0,), "mig")
    yield Question("secondary", "4.1", "isa-4-4", normal, (1.0,), "mig")
    # The signs are those observed at the rung `medium`, where these were not yet questions.
    yield Question("secondary", "log p", isa, normal, (1.0,), "log_px", -1)
    yield Question("secondary", "log p", isa, "normal-0.495", (1.0,), "log_px")
    yield Question("secondary", "log p", "isa-4-4", normal, (1.0,), "log_px")
    yield Question("secondary", "log p", "normal-0.495", normal, (1.0,), "log_px", -1)
    against, arm = WEIGHTED
    yield Question("secondary", "4.2", arm, against, (1.0, *WEIGHTED_BETAS), "trade-off")
    for measure in ("mig", "log_px"):
        for beta in WEIGHTED_BETAS:
            yield Question("secondary", "4.2, parts", arm, against, (beta,), measure)


def with_shared(rows: Iterable[Row]) -> list[Row]:
    """Add the rows of the primary arms of `paper` again, as the weighted arms at beta 1.

    There the TCVAE objective equals the ELBO, so these arms are not trained separately.
    """
    rows, names = list(rows), dict(zip(PRIMARY, WEIGHTED, strict=True))
    again = [row for row in rows if row["arm"] in names and float(row["beta"]) == 1.0]
    return rows + [row | {"arm": names[row["arm"]]} for row in again]


def pairs(names: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """The pairs of arms to compare, for either claim and the controls."""
    isa = [name for name in names if name.startswith("isa")]
    priors = [(name, "normal") for name in isa] + [("isa-released", "normal-0.495")]
    objectives = [(name, name.removeprefix("isa-").removesuffix("-learned")) for name in isa]
    objectives += [("isa-learned", "beta-vae"), ("isa-learned", "beta-tcvae")]
    known = [("beta-tcvae", "beta-vae"), ("isa-beta-tcvae", "isa-beta-vae")]
    known += [("normal-0.495", "normal")]
    return {
        claim: [pair for pair in dict.fromkeys(found) if set(pair) <= set(names)]
        for claim, found in (("4.1", priors), ("4.2", objectives), ("control", known))
    }


def of_other_experiments(rows: Sequence[Row]) -> Iterator[Question]:
    """The questions that the arms and betas of an experiment allow."""
    chosen, one = pairs(arms(rows)), (1.0,)
    at_one = chosen["4.1"] if 1.0 in betas(rows) else []
    for pair in at_one:
        yield Question("claims", "4.1", *pair, one, "mig")
    for pair in chosen["4.2"]:
        shared = common_betas(rows, pair)
        for measure in ("mig", "log_px"):
            for beta in shared:
                yield Question("parts", "4.2, parts", *pair, (beta,), measure)
        if len(shared) > 1:
            yield Question("claims", "4.2", *pair, shared, "trade-off")
    for pair in chosen["control"]:
        shared = common_betas(rows, pair)
        if len(shared) > 1:
            yield Question("controls", "control", *pair, shared, "trade-off")
        elif shared == one:
            yield Question("controls", "control", *pair, one, "mig")
            at_one = [*at_one, pair]
    if rows[0]["experiment"].startswith("fig5a"):
        for pair in at_one:
            yield Question("post hoc", "post hoc", *pair, one, "log_px")


def common_betas(rows: Sequence[Row], pair: tuple[str, str]) -> tuple[float, ...]:
    """The betas that both arms have."""
    first, second = (set(betas(rows, arm)) for arm in pair)
    return tuple(sorted(first & second))
