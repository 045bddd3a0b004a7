"""What is trained together, and in which order: fixed before the first run, by time alone.

A wave is a few seeds of a few arms. The primary comparison comes first, until it has its pairs;
then two of its seeds again in pure float32, as a check of TF32; then the other priors, and the
weighted total correlations, on the same seeds; and last, more pairs for the second look.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from config import UsageError
from sweeps.experiments import (
    FEWEST_PAIRS,
    MOST_PAIRS,
    PRIMARY,
    SECONDARY,
    WEIGHTED,
    WEIGHTED_BETAS,
    Run,
    experiments,
    second_look,
)
from sweeps.rows import Row

CHECKED = (1, 2)  # seeds that are trained in pure float32 as well
Identity = tuple[str, str, float, int]  # experiment, arm, beta, seed


@dataclass(frozen=True)
class Phase:
    """Arms that are trained together, on some seeds."""

    experiment: str
    arms: tuple[tuple[str, float], ...]  # each with its beta
    seeds: tuple[int, ...]
    width: int  # seeds in a wave


@dataclass(frozen=True)
class Wave:
    """Runs that train side by side, those of a seed together."""

    phase: Phase
    seeds: tuple[int, ...]

    @property
    def runs(self) -> list[list[Run]]:
        """The arms of each seed."""
        table = runs_of(self.phase.experiment)
        return [[table[arm, beta, seed] for arm, beta in self.phase.arms] for seed in self.seeds]


@cache
def runs_of(experiment: str) -> dict[tuple[str, float, int], Run]:
    """All runs of an experiment, by arm, beta and seed."""
    runs = experiments()[experiment]
    return {(run.arm, run.config.beta, run.config.seed): run for run in runs}


def phases(planned: int, width: int) -> list[Phase]:
    """All of them, in their order, where the primary comparison has that many pairs."""
    seeds, at_one = tuple(range(1, planned + 1)), 1.0
    further = tuple(range(planned + 1, second_look(planned) + 1))
    primary, secondary = (tuple((arm, at_one) for arm in names) for names in (PRIMARY, SECONDARY))
    weighted = tuple((arm, beta) for beta in WEIGHTED_BETAS for arm in WEIGHTED)
    # At 2048 pictures log q(z_i | x_j) of each latent is 336 MB; the four weighted runs of a seed
    # keep eleven of these for the gradient, 3.8 GB, so there is one seed in a wave of them.
    return [
        Phase("paper", primary, seeds, width),
        Phase("paper-float32", primary, CHECKED, width),
        Phase("paper", secondary, seeds, width),
        Phase("paper", weighted, seeds, 1),
        Phase("paper", primary, further, width),
    ]


def waves(planned: int, width: int, finished: Iterable[Identity]) -> Iterator[Wave]:
    """What is left to do. A seed of which an arm is missing is trained with all its arms."""
    there = set(finished)
    for phase in phases(planned, width):
        wanted = {
            seed: {(phase.experiment, arm, beta, seed) for arm, beta in phase.arms}
            for seed in phase.seeds
        }
        left = [seed for seed, keys in wanted.items() if not keys <= there]
        for start in range(0, len(left), phase.width):
            yield Wave(phase, tuple(left[start : start + phase.width]))


def identity_of(row: Row) -> Identity:
    """What tells a row from the others."""
    return row["experiment"], row["arm"], float(row["beta"]), row["seed"]


def identity_of_run(run: Run) -> Identity:
    """As `identity_of`, of a run."""
    return run.experiment, run.arm, run.config.beta, run.config.seed


def pairs_that_fit(seconds: float, wave_seconds: float, width: int) -> int:
    """The number of pairs of the primary comparison, from nothing but time.

    It is what fits into the first session, from 18 to 34, and even, as waves are.
    """
    fit = width * math.floor(max(0.0, seconds) / wave_seconds)
    return min(MOST_PAIRS, max(FEWEST_PAIRS, fit - fit % 2))


def planned_of(rows: Sequence[Row]) -> int | None:
    """The number of pairs that an earlier session has fixed; None before there is one."""
    found = {int(row["planned"]) for row in rows if row.get("planned") is not None}
    if len(found) > 1:
        raise UsageError(
            f"rows were planned with {sorted(found)} pairs: they are of two protocols"
        )
    return found.pop() if found else None
