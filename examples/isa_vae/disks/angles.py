"""Analysis of mechanism.py's runs: intervals, tests against the normal prior, and the force."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from claims.statistics import detectable, holm, permutation_p
from disks.autoencoders import Arm

RESAMPLES = 10_000  # for bootstrap intervals and the trend test
LINEAR = 0.9  # R^2 above which a code counts as linear

Row = dict[str, Any]
Numbers = NDArray[np.float64]


def force(arm: Arm, points: int = 1000) -> float:
    """Nats by which the prior favours two uniform factors of variance 1 along its axes.

    Equals the force of examples/toys for a subspace of two, by the midpoint rule.
    """
    if arm.exponents is None:
        return 0.0
    ticks = 3**0.5 * ((torch.arange(points) + 0.5) * 2 / points - 1)
    aligned = torch.cartesian_prod(ticks, ticks)
    diagonal = torch.stack([aligned[:, 0] - aligned[:, 1], aligned.sum(1)], -1) / 2**0.5
    expected = [arm.prior.log_prob(z).double().mean() for z in (aligned, diagonal)]
    return float(expected[0] - expected[1])


def values(rows: Sequence[Row], arm: str, key: str, r2: float = -math.inf) -> Numbers:
    """A column of the counted runs of an arm with at least this R^2."""
    mine = [row for row in rows if row["arm"] == arm and row["counted"]]
    chosen = [row[key] for row in mine if row["r2"] >= r2]
    return np.array(chosen, dtype=np.float64)


def interval(data: Numbers, centre: str) -> list[float]:
    """95 % percentile bootstrap interval for the mean or the median."""
    draws = np.random.default_rng(0).choice(data, (RESAMPLES, len(data)))
    middles: Numbers = getattr(np, centre)(draws, axis=1)
    low, high = np.quantile(middles, (0.025, 0.975))
    return [float(low), float(high)]


def describe(data: Numbers) -> Row | None:
    """Mean, median, their intervals and the standard deviation; None without data."""
    if len(data) == 0:
        return None
    return {
        "n": len(data),
        "mean": float(data.mean()),
        "mean_95": interval(data, "mean"),
        "median": float(np.median(data)),
        "median_95": interval(data, "median"),
        "sd": float(data.std(ddof=1)) if len(data) > 1 else None,
    }


def overview(rows: Sequence[Row], arms: Sequence[Arm]) -> list[Row]:
    """Summarise each arm over its counted runs."""
    return [
        {
            "arm": arm.name,
            "exponents": arm.exponents,
            "force_nats": force(arm),
            "runs": sum(r["arm"] == arm.name for r in rows),
            "diverged": sum(r["arm"] == arm.name and r["status"] == "diverged" for r in rows),
            "counted": len(values(rows, arm.name, "angle")),
            "linear": len(values(rows, arm.name, "angle", LINEAR)),
            "angle": describe(values(rows, arm.name, "angle")),
            "angle_of_linear": describe(values(rows, arm.name, "angle", LINEAR)),
            "mig": describe(values(rows, arm.name, "mig")),
            "log_px_mean": mean(values(rows, arm.name, "log_px")),
            "kl_mean": mean(values(rows, arm.name, "kl")),
        }
        for arm in arms
    ]


def mean(data: Numbers) -> float | None:
    """Mean of the data; None without data."""
    return float(data.mean()) if len(data) else None


def mann_whitney(first: Numbers, second: Numbers) -> float:
    """Two-sided p value by the normal approximation with continuity correction, without ties."""
    m, n = len(first), len(second)
    wins = float((first[:, None] > second).sum() + 0.5 * (first[:, None] == second).sum())
    distance = max(0.0, abs(wins - m * n / 2) - 0.5)
    return math.erfc(distance / math.sqrt(m * n * (m + n + 1) / 6))


def against_normal(rows: Sequence[Row], arm: Arm, key: str, r2: float = -math.inf) -> Row | None:
    """Compare a column of an arm with the normal arm; None if either has fewer than two runs."""
    own, normal = values(rows, arm.name, key, r2), values(rows, "normal", key, r2)
    if min(len(own), len(normal)) < 2:
        return None
    squares = ((own - own.mean()) ** 2).sum() + ((normal - normal.mean()) ** 2).sum()
    pooled = math.sqrt(squares / (len(own) + len(normal) - 2))
    return {
        "arm": arm.name,
        "n": [len(own), len(normal)],
        "difference_of_means": float(own.mean() - normal.mean()),
        "detectable_difference": detectable(pooled, len(own), len(normal)),
        "mann_whitney": mann_whitney(own, normal),
        "permutation": permutation_p(own, normal, paired=False),
    }


def comparisons(rows: Sequence[Row], arms: Sequence[Arm], key: str, r2: float = -math.inf) -> Row:
    """Compare all priors with the normal one, corrected together; the control on its own."""
    family = [against_normal(rows, arm, key, r2) for arm in arms if arm.exponents is not None]
    lines = [line for line in family if line is not None]
    for test in ("mann_whitney", "permutation"):
        adjusted = holm([line[test] for line in lines])
        for line, p in zip(lines, adjusted, strict=True):
            line[f"{test}_holm"] = p
    control = [against_normal(rows, arm, key, r2) for arm in arms if arm.diamond]
    return {"priors": lines, "control": [line for line in control if line is not None]}


def ranks(data: Numbers) -> Numbers:
    """Rank the values from 0; ties share their mean rank."""
    above = (data[:, None] > data).sum(1) + 0.5 * ((data[:, None] == data).sum(1) - 1)
    return np.asarray(above, dtype=np.float64)


def trend(rows: Sequence[Row], arms: Sequence[Arm], r2: float = -math.inf) -> Row | None:
    """Spearman's correlation of force and angle over all runs, with a permutation p value."""
    upright = [arm for arm in arms if not arm.diamond]
    angles = [values(rows, arm.name, "angle", r2) for arm in upright]
    forces = [np.full(len(a), force(arm)) for arm, a in zip(upright, angles, strict=True)]
    x, y = ranks(np.concatenate(forces)), ranks(np.concatenate(angles))
    if len(x) < 3 or x.std() == 0 or y.std() == 0:
        return None
    x, y = ((v - v.mean()) / np.linalg.norm(v - v.mean()) for v in (x, y))
    shuffled = np.random.default_rng(0).permuted(np.tile(y, (RESAMPLES, 1)), axis=1) @ x
    extreme = np.abs(shuffled) >= abs(x @ y) - 1e-12
    p = float((extreme.sum() + 1) / (RESAMPLES + 1))
    return {"n": len(x), "spearman": float(x @ y), "permutation": p}
