"""MIG at matched log p(x|z): two trade-off curves compared where both have points.

A curve is the mean MIG and the mean log p(x|z) of an arm at each beta, joined by straight lines in
the order of log p(x|z). Its level is the mean MIG over the range of log p(x|z) that both curves
have. No maximum is taken of numbers with noise, which would reward the arm that varies more; and
the range is part of what is computed, found anew in every resample.
"""

import numpy as np
from compare import Array
from numpy.typing import ArrayLike


def levels(a: Array, b: Array) -> tuple[Array, Array]:
    """Level of the mean curve of each arm: NaN if there is no log p(x|z) that both reach.

    Args:
        a: MIG and log p(x|z) of one arm's seeds, (resamples, seeds, betas, 2).
        b: Of the other.

    Returns:
        The levels, (resamples) each.
    """
    first, second = in_order(a.mean(1)), in_order(b.mean(1))
    low = np.maximum(first[:, 0, 1], second[:, 0, 1])
    high = np.minimum(first[:, -1, 1], second[:, -1, 1])
    width = np.where(high > low, high - low, np.nan)
    return area(first, low, high) / width, area(second, low, high) / width


def in_order(curves: Array) -> Array:
    """The points of curves, (..., points, 2), from the least log p(x|z) to the largest."""
    order = np.argsort(curves[..., 1], axis=-1, kind="stable")
    return np.take_along_axis(curves, order[..., None], axis=-2)


def area(curves: Array, low: ArrayLike, high: ArrayLike) -> Array:
    """Integral of the MIG over log p(x|z) between two limits, along straight lines.

    Args:
        curves: Points in the order of their log p(x|z), (..., points, 2).
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
