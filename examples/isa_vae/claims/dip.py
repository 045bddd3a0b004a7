"""Hartigan's dip test: whether a sample has more than one mode."""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from claims.statistics import Array


def dip(x: ArrayLike) -> float:
    """Hartigan's dip: the smallest distance of the empirical distribution to a unimodal one.

    Within a shrinking modal interval the greatest convex minorant and the least concave majorant
    are compared with each other, outside it with the data (Hartigan and Hartigan 1985).
    """
    x, count = np.unique(np.asarray(x, float), return_counts=True)
    after = np.cumsum(count) / count.sum()
    before = after - count / count.sum()
    low, high, found = 0, len(x) - 1, float(count.max() / count.sum())
    while True:
        part = slice(low, high + 1)
        lower = hull(x[part], before[part])
        upper = hull(x[part], -after[part])
        minorant = np.interp(x[part], x[part][lower], before[part][lower])
        majorant = np.interp(x[part], x[part][upper], after[part][upper])
        touching = np.union1d(lower, upper)
        gap = (majorant - minorant)[touching]
        at = touching[gap.argmax()]
        left, right = int(lower[lower <= at][-1]), int(upper[upper >= at][0])
        if gap.max() <= found or (low + left, low + right) == (low, high):
            return found / 2
        missed = (after[part] - minorant)[: left + 1].max()
        found = max(found, missed, (majorant - before[part])[right:].max())
        low, high = low + left, low + right


def hull(x: Array, y: Array) -> NDArray[np.int64]:
    """Indices of the corners of the greatest convex function below the points."""
    corners: list[int] = []
    X, Y = x.tolist(), y.tolist()
    for k in range(len(X)):
        while len(corners) > 1:
            i, j = corners[-2:]
            if (Y[j] - Y[i]) * (X[k] - X[i]) <= (Y[k] - Y[i]) * (X[j] - X[i]):
                break
            corners.pop()
        corners.append(k)
    return np.array(corners)


def dip_p(x: ArrayLike, simulations: int = 999, seed: int = 0) -> float | None:
    """P value of unimodality, by simulation: small if the sample has two or more modes.

    The null distribution is that of uniform samples, the least favourable one. Fitting a mixture
    of two normals would call any skewed distribution bimodal, and the MIG, which is never negative
    and mostly small, is skewed; the dip is not misled by a long tail.
    """
    n = len(np.asarray(x))
    if n < 4:
        return None
    return (1 + int((uniform_dips(n, simulations, seed) >= dip(x) - 1e-12).sum())) / (
        1 + simulations
    )


@lru_cache
def uniform_dips(n: int, simulations: int, seed: int) -> Array:
    """Dips of uniform samples of size n, (simulations,)."""
    generator = np.random.default_rng([seed, n])
    return np.array([dip(row) for row in generator.random((simulations, n))])
