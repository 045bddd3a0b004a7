"""Which runs train together, and in which order: fixed before the first run, by time alone.

A wave consists of a few seeds of a few arms. The primary comparison comes first, until its pairs
are complete; then two of its seeds again in pure float32, as a check of TF32; then the other
priors and the weighted total correlations, on the same seeds; finally, more pairs for the second
look.
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

CHECKED = (1, 2)  # seeds that are also trained in pure float32
Identity = tuple[str, str, float, int]  # experiment, arm, beta, seed


@dataclass(frozen=True)
class Phase:
    """Arms that train together, on several seeds."""

    experiment: str
    arms: tuple[tuple[str, float], ...]  # each with its beta
    seeds: tuple[int, ...]
    width: int  # seeds per wave


@dataclass(frozen=True)
class Wave:
    """Runs that train side by side, grouped by seed."""

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
    """All phases in order, for a primary comparison of `planned` pairs."""
    seeds, at_one = tuple(range(1, planned + 1)), 1.0
    further = tuple(range(planned + 1, second_look(planned) + 1))
    primary, secondary = (tuple((arm, at_one) for arm in names) for names in (PRIMARY, SECONDARY))
    weighted = tuple((arm, beta) for beta in WEIGHTED_BETAS for arm in WEIGHTED)
    # At batch size 2048, log q(z_i | x_j) for all 20 latents is 336 MB; the four weighted runs of
    # a seed keep eleven of these for the gradient, 3.8 GB, so these waves have only one seed.
    return [
        Phase("paper", primary, seeds, width),
        Phase("paper-float32", primary, CHECKED, width),
        Phase("paper", secondary, seeds, width),
        Phase("paper", weighted, seeds, 1),
        Phase("paper", primary, further, width),
    ]


def waves(planned: int, width: int, finished: Iterable[Identity]) -> Iterator[Wave]:
    """Yield the remaining waves; a seed with any missing arm is trained with all its arms."""
    done = set(finished)
    for phase in phases(planned, width):
        wanted = {
            seed: {(phase.experiment, arm, beta, seed) for arm, beta in phase.arms}
            for seed in phase.seeds
        }
        left = [seed for seed, keys in wanted.items() if not keys <= done]
        for start in range(0, len(left), phase.width):
            yield Wave(phase, tuple(left[start : start + phase.width]))


def identity_of(row: Row) -> Identity:
    """Identity of a row: experiment, arm, beta and seed."""
    return row["experiment"], row["arm"], float(row["beta"]), row["seed"]


def identity_of_run(run: Run) -> Identity:
    """Identity of a run, like `identity_of`."""
    return run.experiment, run.arm, run.config.beta, run.config.seed


def pairs_that_fit(seconds: float, wave_seconds: float, width: int) -> int:
    """The number of pairs of the primary comparison, determined by time alone.

    It is the even number that fits into the first session, limited to 18 to 34.
    """
    fit = width * math.floor(max(0.0, seconds) / wave_seconds)
    return min(MOST_PAIRS, max(FEWEST_PAIRS, fit - fit % 2))


def planned_of(rows: Sequence[Row]) -> int | None:
    """The number of pairs that an earlier session has fixed; None if there was none."""
    found = {int(row["planned"]) for row in rows if row.get("planned") is not None}
    if len(found) > 1:
        raise UsageError(f"rows were planned with different numbers of pairs, {sorted(found)}")
    return found.pop() if found else None
