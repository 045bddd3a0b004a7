"""What the rows of an experiment hold: its arms, betas and scores."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from config import UsageError
from experiments import ARMS, METHODS, PRIMARY, experiments, second_look
from table import Row


def arms(rows: Iterable[Row]) -> list[str]:
    """Names of the arms: those with a normal prior first, and in the order of experiments.py."""
    known = [*ARMS, *METHODS]
    names = sorted({row["arm"] for row in rows})
    places = {name: known.index(name) if name in known else len(known) for name in names}
    return sorted(names, key=lambda name: (name.startswith("isa"), places[name]))


def betas(rows: Iterable[Row], arm: str | None = None) -> list[float]:
    """All betas, or those of an arm."""
    return sorted({float(row["beta"]) for row in rows if arm in (None, row["arm"])})


def scores(rows: Iterable[Row], arm: str, beta: float, key: str) -> dict[int, float]:
    """The score of each seed of an arm; without the runs that diverged or have none."""
    chosen = [row for row in rows if (row["arm"], float(row["beta"])) == (arm, beta)]
    pairs = [(row["seed"], row.get(key)) for row in chosen if row["status"] == "done"]
    return {seed: float(x) for seed, x in pairs if x is not None and math.isfinite(x)}


def first_look(rows: Sequence[Row]) -> int:
    """Pairs at the first look of the experiment `paper`: all of its rows name the number."""
    named = {row.get("planned") for row in rows}
    if len(named) != 1 or not all(isinstance(pairs, int) and pairs > 0 for pairs in named):
        raise UsageError(
            "the rows of paper must all name the number of pairs that was planned, in the column "
            f"planned, and one number, but name {', '.join(sorted(map(str, named)))}"
        )
    return named.pop()


def unmade(rows: Sequence[Row]) -> set[tuple[str, float, int]]:
    """Arm, beta and seed of the runs that are wanted and have no row yet."""
    runs = experiments().get(rows[0]["experiment"], [])
    wanted = {(run.arm, run.config.beta, run.config.seed) for run in runs}
    if rows[0]["experiment"] == "paper":
        wanted = due(wanted, rows)
    return wanted - {(row["arm"], float(row["beta"]), row["seed"]) for row in rows}


def due(
    runs: Iterable[tuple[str, float, int]], rows: Sequence[Row]
) -> set[tuple[str, float, int]]:
    """Those of the look that is due: the second, for the arms of which it was begun."""
    first = first_look(rows)
    begun = {row["arm"] for row in rows if row["seed"] > first}
    last = {True: second_look(first), False: first}
    return {(arm, beta, seed) for arm, beta, seed in runs if seed <= last[arm in begun]}


def looked_at(rows: Sequence[Row]) -> Sequence[Row]:
    """All of them; of `paper` those up to the last look that was taken."""
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
    """Arm, beta and seed of every run of the experiment, whether it was made or not."""
    if rows[0]["experiment"] in experiments():
        seen = {(row["arm"], float(row["beta"]), row["seed"]) for row in rows}
        return seen | unmade(rows)
    seeds = {row["seed"] for row in rows}
    return {(arm, beta, s) for arm in arms(rows) for beta in betas(rows, arm) for s in seeds}


def curves(rows: Sequence[Row], arm: str, shared: Sequence[float]) -> dict[int, np.ndarray]:
    """MIG and log p(x|z) of the seeds that have both at each of the betas, (betas, 2)."""
    cells = [scores(rows, arm, beta, key) for beta in shared for key in ("mig", "log_px")]
    seeds = sorted(set.intersection(*(set(cell) for cell in cells)))
    return {seed: np.array([cell[seed] for cell in cells]).reshape(-1, 2) for seed in seeds}
