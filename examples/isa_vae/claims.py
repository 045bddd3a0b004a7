"""What is asked of the runs of an experiment: which arms are compared, in which families of tests.

PROTOCOL.md says why. The experiment `paper` has one primary question, the paper's claim 4.1, which
is tested alone, and a family of secondary ones, all of them named here whether they were run or
not. Every other experiment has those that its arms allow.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from experiments import PRIMARY, WEIGHTED, WEIGHTED_BETAS
from outcomes import arms, betas
from table import Row

# The smallest effects of interest: a difference as large as these, or larger, may be excluded.
SMALLEST = {"mig": 0.05, "trade-off": 0.05, "log_px": 1.0}
RELATIVE = 0.3  # the same as a part of the baseline's mean, for the measures in units of the MIG
FAMILIES = ("primary", "secondary", "claims", "parts", "controls", "post hoc")


@dataclass(frozen=True)
class Question:
    """A difference that is looked at: of two arms, at one beta or over several."""

    family: str  # that is corrected together
    claim: str
    arm: str
    against: str
    betas: tuple[float, ...]
    measure: str
    expected: int = 1  # sign of the difference that is claimed

    @property
    def pair(self) -> tuple[str, str]:
        """Both arms."""
        return self.arm, self.against

    @property
    def beta(self) -> float | None:
        """The beta; None for a whole curve."""
        return None if self.measure == "trade-off" else self.betas[0]


def questions(rows: Sequence[Row]) -> list[Question]:
    """Those of an experiment, family by family."""
    paper = rows[0]["experiment"] == "paper"
    asked = list(of_the_paper() if paper else of_other_experiments(rows))
    return [question for family in FAMILIES for question in asked if question.family == family]


def of_the_paper() -> Iterator[Question]:
    """Those of the experiment `paper`."""
    normal, isa = PRIMARY
    yield Question("primary", "4.1", isa, normal, (1.0,), "mig")
    yield Question("secondary", "4.1", isa, "normal-0.495", (1.0,), "mig")
    yield Question("secondary", "4.1", "isa-4-4", normal, (1.0,), "mig")
    # The signs are those that the rung `medium` had, where this was seen and not asked before.
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
    """The rows of `paper`, those of its primary arms once more as the weighted ones at beta 1.

    There the objective of the TCVAE is the bound itself, so that they are not trained again.
    """
    rows, names = list(rows), dict(zip(PRIMARY, WEIGHTED, strict=True))
    again = [row for row in rows if row["arm"] in names and float(row["beta"]) == 1.0]
    return rows + [row | {"arm": names[row["arm"]]} for row in again]


def pairs(names: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """For either claim, and the controls, the arms, each with what it is compared with."""
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
    """Those that the arms and betas of an experiment allow."""
    chosen, alone = pairs(arms(rows)), (1.0,)
    at_one = chosen["4.1"] if 1.0 in betas(rows) else []
    for pair in at_one:
        yield Question("claims", "4.1", *pair, alone, "mig")
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
        elif shared == alone:
            yield Question("controls", "control", *pair, alone, "mig")
            at_one = [*at_one, pair]
    if rows[0]["experiment"].startswith("fig5a"):
        for pair in at_one:
            yield Question("post hoc", "post hoc", *pair, alone, "log_px")


def common_betas(rows: Sequence[Row], pair: tuple[str, str]) -> tuple[float, ...]:
    """The betas that both arms have."""
    first, second = (set(betas(rows, arm)) for arm in pair)
    return tuple(sorted(first & second))
