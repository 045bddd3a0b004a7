"""Bootstrap intervals for a difference between two arms: pure functions of NumPy arrays."""

import math

import numpy as np
from numpy.typing import ArrayLike

from claims.statistics import LEVEL, NORMAL, RESAMPLES, Array, Levels, check_sizes, means


def t_quantile(p: float, df: float) -> float:
    """Quantile of Student's t, by an expansion in 1 / df (Abramowitz and Stegun 26.7.5)."""
    z = NORMAL.inv_cdf(p)
    return (
        z
        + (z**3 + z) / (4 * df)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * df**3)
    )


def expanded_level(confidence: float, n: int, df: int) -> float:
    """Nominal level at which a percentile interval for the mean of n normals has this coverage.

    A bootstrap distribution is too narrow by sqrt(1 - 1 / n), and has the tails of a normal, not
    of a t distribution (Hesterberg 2015, "expanded percentile interval"). With ten seeds, a
    coverage of 95 % needs a level of 98 %. In simulations, 95 % intervals for paired means cover
    95 % with 10 pairs, 90 % with 5, and only 76 % with 3, which have too few distinct resamples.
    """
    t = t_quantile(0.5 + confidence / 2, df)
    return 1 - 2 * NORMAL.cdf(-t * math.sqrt(n / (n - 1)))


def difference_interval(
    a: ArrayLike,
    b: ArrayLike,
    paired: bool,
    levels: Levels = means,
    confidence: float = 1 - LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Expanded percentile bootstrap interval for a difference.

    Args:
        a: Scores of one arm, (n, ...).
        b: Scores of the other arm, (m, ...); if paired, b[i] has the seed of a[i].
        paired: Whether to resample pairs, rather than each arm independently.
        levels: The statistic to compare.
        confidence: Target coverage.
        resamples: Number of bootstrap samples.
        seed: Random seed of the resampling.
    """
    first, second = resampled(a, b, paired, levels, resamples, seed)
    return expanded_interval(
        first - second, len(np.asarray(a)), len(np.asarray(b)), paired, confidence
    )


def expanded_interval(
    found: Array, n: int, m: int, paired: bool, confidence: float = 1 - LEVEL
) -> tuple[float, float]:
    """Interval from bootstrapped differences between arms with n and m values."""
    df = n - 1 if paired else n + m - 2
    tail = (1 - expanded_level(confidence, min(n, m), df)) / 2
    low, high = np.nanquantile(found, [tail, 1 - tail]).tolist()
    return low, high


def resampled(
    a: ArrayLike,
    b: ArrayLike,
    paired: bool,
    levels: Levels = means,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Array, Array]:
    """Bootstrap the statistic of each arm; both (resamples,)."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    check_sizes(a, b, paired, least=2)
    generator = np.random.default_rng(seed)
    rows = generator.integers(len(a), size=(resamples, len(a)))
    other = rows if paired else generator.integers(len(b), size=(resamples, len(b)))
    return levels(a[rows], b[other])
