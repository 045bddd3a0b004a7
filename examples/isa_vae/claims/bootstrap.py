"""Bootstrap intervals of a difference between two arms: pure functions of numpy arrays."""

import math

import numpy as np
from claims.statistics import LEVEL, NORMAL, RESAMPLES, Array, Levels, check_sizes, means
from numpy.typing import ArrayLike


def t_quantile(p: float, df: float) -> float:
    """Quantile of Student's t by its expansion in 1 / df (Abramowitz and Stegun 26.7.5)."""
    z = NORMAL.inv_cdf(p)
    return (
        z
        + (z**3 + z) / (4 * df)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * df**3)
    )


def expanded_level(confidence: float, n: int, df: int) -> float:
    """The level at which a percentile interval of a mean of n normals has that coverage.

    A bootstrap distribution is too narrow by sqrt(1 - 1 / n), and its tails are those of a normal,
    not of a t (Hesterberg 2015, "expanded percentile interval"). With ten seeds, 95 % needs 98 %.
    By simulation, 95 % intervals of paired means cover 95 % with 10 pairs, 90 % with 5, and only
    76 % with 3, whose resamples are too few.
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
    """Expanded percentile bootstrap interval of a difference.

    Args:
        a: Scores of one arm, (n, ...).
        b: Scores of the other, (m, ...); if paired, b[i] has the seed of a[i].
        paired: Whether pairs are resampled, or each arm for itself.
        levels: What is compared.
        confidence: Coverage that is aimed at.
        resamples: Number of bootstrap samples.
        seed: Of the resampling.
    """
    first, second = resampled(a, b, paired, levels, resamples, seed)
    return expanded_interval(
        first - second, len(np.asarray(a)), len(np.asarray(b)), paired, confidence
    )


def expanded_interval(
    found: Array, n: int, m: int, paired: bool, confidence: float = 1 - LEVEL
) -> tuple[float, float]:
    """Interval from a bootstrap sample of differences, of arms with n and m values."""
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
    """Bootstrap sample of what is compared, (resamples) for each arm."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    check_sizes(a, b, paired, least=2)
    generator = np.random.default_rng(seed)
    rows = generator.integers(len(a), size=(resamples, len(a)))
    other = rows if paired else generator.integers(len(b), size=(resamples, len(b)))
    return levels(a[rows], b[other])
