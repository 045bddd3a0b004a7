"""Statistics of a difference between two arms: pure functions of NumPy arrays.

Every function that draws random numbers takes a seed and is deterministic. Arms that share seeds
are compared pair by pair: the seed fixes weights, batches and noise, whose common effect on two
runs cancels in the difference. Intervals are in bootstrap.py.

Two trade-off curves are compared by the MIG at matched log p(x|z), where they overlap. A curve
consists of the mean MIG and mean log p(x|z) of an arm at each beta, joined by straight lines in
the order of log p(x|z). Its level is the mean MIG over the range of log p(x|z) that both curves
cover. This takes no maximum of noisy numbers, which would favour the arm that varies more; the
range is recomputed in every resample.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
# The statistic to compare: one number per arm, from resamples of its values, (resamples, n, ...).
Levels = Callable[[Array, Array], tuple[Array, Array]]
NORMAL = NormalDist()
RESAMPLES = 9_999
POWER, LEVEL = 0.8, 0.05  # power of the detectable difference, and two-sided level


def means(a: Array, b: Array) -> tuple[Array, Array]:
    """Mean of each arm, (resamples, n) -> (resamples)."""
    return a.mean(1), b.mean(1)


def medians(a: Array, b: Array) -> tuple[Array, Array]:
    """Median of each arm, (resamples, n) -> (resamples)."""
    return np.median(a, axis=1), np.median(b, axis=1)


@dataclass(frozen=True)
class Summary:
    """Moments and order statistics; None if there are too few values."""

    n: int
    mean: float | None = None
    median: float | None = None
    sd: float | None = None
    min: float | None = None
    q1: float | None = None
    q3: float | None = None
    max: float | None = None


def summary(x: ArrayLike) -> Summary:
    """Describe a sample, (n,); sd estimates that of the population, with n - 1."""
    x = np.asarray(x, float)
    if not len(x):
        return Summary(0)
    low, q1, median, q3, high = np.quantile(x, [0, 0.25, 0.5, 0.75, 1]).tolist()
    sd = float(x.std(ddof=1)) if len(x) > 1 else None
    return Summary(len(x), float(x.mean()), median, sd, low, q1, q3, high)


def check_sizes(a: Array, b: Array, paired: bool, least: int) -> None:
    """Raise ValueError for samples that are too small, or cannot be paired."""
    if paired and len(a) != len(b):
        raise ValueError(f"paired samples must have equal length, but got {len(a)} and {len(b)}")
    if min(len(a), len(b)) < least:
        raise ValueError(f"expected at least {least} values each, but got {len(a)} and {len(b)}")


def permutation_p(
    a: ArrayLike,
    b: ArrayLike,
    paired: bool,
    resamples: int = RESAMPLES,
    seed: int = 0,
    levels: Levels = means,
) -> float:
    """Two-sided p value of no difference, by swapping the values of pairs or permuting labels.

    Exact if there are at most ``resamples`` arrangements; else (1 + count) / (1 + B) over B random
    ones. With n pairs it is at least 2 / 2^n, so p < 0.05 needs 6 pairs or more.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    check_sizes(a, b, paired, least=1)
    both = np.concatenate([a, b])
    first, second, exact = arrangements(len(a), len(b), paired, resamples, seed)
    (observed,) = np.abs(np.subtract(*levels(a[None], b[None])))
    found = np.abs(np.subtract(*levels(both[first], both[second])))
    rounding = 1e-12 * (1 + np.abs(both).max())
    count = int((~(found < observed - rounding)).sum())  # undefined values count as extreme
    return count / len(found) if exact else (1 + count) / (1 + resamples)


def below_p(
    a: ArrayLike,
    b: ArrayLike,
    paired: bool,
    resamples: int = RESAMPLES,
    seed: int = 0,
    levels: Levels = means,
) -> float:
    """P value of "a is at least b", small if a is below: the two-sided one, or 1 if a is above.

    It is two-sided so that it agrees with the end of an interval at the same level. To test for a
    difference of d or more, pass a - d and b.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    (difference,) = np.subtract(*levels(a[None], b[None]))
    return permutation_p(a, b, paired, resamples, seed, levels) if difference < 0 else 1.0


def arrangements(
    n: int, m: int, paired: bool, resamples: int, seed: int
) -> tuple[Indices, Indices, bool]:
    """Indices of either arm among all n + m values, (arrangements, n) and (arrangements, m).

    The third result is whether these are all arrangements: if there are at most ``resamples``.
    """
    generator = np.random.default_rng(seed)
    if paired:
        exact = 2**n <= resamples
        signs = all_signs(n) if exact else generator.choice([-1.0, 1.0], size=(resamples, n))
        swapped = n * (signs < 0)
        return np.arange(n) + swapped, np.arange(n) + n - swapped, exact
    exact = math.comb(n + m, n) <= resamples
    if exact:
        parts = [
            [*chosen, *(k for k in range(n + m) if k not in chosen)]
            for chosen in itertools.combinations(range(n + m), n)
        ]
        order = np.array(parts)
    else:
        order = generator.permuted(np.tile(np.arange(n + m), (resamples, 1)), axis=1)
    return order[:, :n], order[:, n:], exact


def all_signs(n: int) -> Array:
    """Every choice of n signs, (2^n, n)."""
    return np.array(list(itertools.product((1.0, -1.0), repeat=n)))


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Adjust the p values of a family (Holm 1979); None, a pending test, counts as one."""
    tested = sorted((value, k) for k, value in enumerate(p) if value is not None)
    adjusted: list[float | None] = [None] * len(p)
    highest = 0.0
    for rank, (value, k) in enumerate(tested):
        highest = max(highest, min(1.0, (len(p) - rank) * value))
        adjusted[k] = highest
    return adjusted


def detectable(sd: float, n: int, m: int | None = None, level: float = LEVEL) -> float | None:
    """Difference of means detected with 80 % power, two-sided.

    Args:
        sd: Standard deviation of the differences within pairs; if unpaired, pooled over the arms.
        n: Number of pairs, or of runs of one arm.
        m: Number of runs of the other arm; None for pairs.
        level: Level of the test.

    Returns:
        The difference for normals (Guenther 1981), accurate to 1 % for 10 runs and to 5 % for 5;
        None for too few runs.
    """
    z, total = NORMAL.inv_cdf(1 - level / 2), n + (m or 0)
    if min(n, m or n) < 2 or total < 3:
        return None
    spread = 1 / n + (1 / m if m else 0)
    correction = 1 - z**2 / (2 * total)  # for the estimated variance
    return (z + NORMAL.inv_cdf(POWER)) * sd * math.sqrt(spread / correction)


def matched_levels(a: Array, b: Array) -> tuple[Array, Array]:
    """Level of the mean curve of each arm; NaN if the curves do not overlap in log p(x|z).

    Args:
        a: MIG and log p(x|z) of one arm's seeds, (resamples, seeds, betas, 2).
        b: The same for the other arm.

    Returns:
        The levels, both (resamples,).
    """
    first, second = in_order(a.mean(1)), in_order(b.mean(1))
    low = np.maximum(first[:, 0, 1], second[:, 0, 1])
    high = np.minimum(first[:, -1, 1], second[:, -1, 1])
    width = np.where(high > low, high - low, np.nan)
    return area(first, low, high) / width, area(second, low, high) / width


def in_order(curves: Array) -> Array:
    """Sort the points of curves, (..., points, 2), by log p(x|z)."""
    order = np.argsort(curves[..., 1], axis=-1, kind="stable")
    return np.take_along_axis(curves, order[..., None], axis=-2)


def area(curves: Array, low: ArrayLike, high: ArrayLike) -> Array:
    """Integral of the MIG over log p(x|z) between two limits, along straight lines.

    Args:
        curves: Points sorted by log p(x|z), (..., points, 2).
        low: Lower limit, (...).
        high: Upper limit, (...).
    """
    mig, log_px = np.moveaxis(curves, -1, 0)
    ends = log_px.clip(np.asarray(low)[..., None], np.asarray(high)[..., None])
    width = np.diff(log_px)
    slope = np.diff(mig) / np.where(width > 0, width, 1.0)
    middle = (ends[..., 1:] + ends[..., :-1]) / 2
    height = mig[..., :-1] + slope * (middle - log_px[..., :-1])
    return (height * np.diff(ends)).sum(-1)
