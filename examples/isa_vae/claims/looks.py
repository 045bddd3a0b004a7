"""Two looks at one comparison, with an error of 5 % allocated to them in advance.

The error spending function is that of Lan and DeMets (1983) in the style of O'Brien and Fleming:
little at the first look, nearly all at the second. The means at n1 of n2 pairs and at all n2 are
taken to be normal with a correlation of sqrt(n1 / n2).

The p value of a look is restated as the smallest total error at which that look would have decided
(a repeated p value: Jennison and Turnbull 2000, section 9.4; with Holm's method, Ye, Li, Liu and
Yao 2013). So tests at different looks can be corrected together, and all are compared with 5 %.
"""

import itertools
import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from claims.statistics import LEVEL, NORMAL, POWER
from sweeps.experiments import second_look

NODES, WEIGHTS = np.polynomial.legendre.leggauss(80)
BEYOND = 9.0  # an abs(z) that no look reaches


def missed(
    bounds: tuple[float, float], fraction: float, drifts: tuple[float, float] = (0.0, 0.0)
) -> float:
    """Probability that both looks stay within their bounds on abs(z).

    Args:
        bounds: Bounds of the first and the second look.
        fraction: Pairs at the first look over those at the second.
        drifts: Means of z at both looks.
    """
    edge, rest = min(bounds[0], BEYOND), math.sqrt(1 - fraction)
    first = edge * NODES - drifts[0]
    middle = drifts[1] + math.sqrt(fraction) * first  # conditional mean of the second z
    inside = [
        NORMAL.pdf(x) * (NORMAL.cdf((bounds[1] - m) / rest) - NORMAL.cdf((-bounds[1] - m) / rest))
        for x, m in zip(first, middle, strict=True)
    ]
    return edge * float(WEIGHTS @ np.array(inside))


def bound(p: float) -> float:
    """The abs(z) with a given two-sided p value."""
    return -NORMAL.inv_cdf(p / 2)


def spent(total: float, fraction: float) -> float:
    """Two-sided error spent at the first look, by O'Brien and Fleming's spending function."""
    return 2 * NORMAL.cdf(-bound(total) / math.sqrt(fraction))


def levels(fraction: float, total: float = LEVEL) -> tuple[float, float]:
    """Levels of both looks that together have the total error."""
    first = spent(total, fraction)
    low, high = 0.0, total
    for _ in range(60):
        level = (low + high) / 2
        found = 1 - missed((bound(first), bound(level)), fraction)
        low, high = (low, level) if found > total else (level, high)
    return first, low


def restated(p: float, look: int, fraction: float) -> float:
    """The smallest total error at which a p value of the first or second look would decide."""
    if p >= 1 or look == 1:
        return min(1.0, 2 * NORMAL.cdf(-bound(min(p, 1.0)) * math.sqrt(fraction)))
    low, high = p, 1.0
    for _ in range(60):
        total = (low + high) / 2
        found = 1 - missed((bound(spent(total, fraction)), bound(p)), fraction)
        low, high = (total, high) if found > total else (low, total)
    return high


@dataclass(frozen=True)
class Plan:
    """Pairs and levels of the looks at one comparison: two of them, or one at 5 %."""

    pairs: tuple[int, ...]
    levels: tuple[float, ...]

    @property
    def fraction(self) -> float:
        """Pairs at the first look over those at the last."""
        return self.pairs[0] / self.pairs[-1]

    def taken(self, made: Collection[int]) -> int:
        """Number of looks taken, given the finished seeds: a look needs all of seeds 1 to n."""
        done = [set(range(1, n + 1)) <= set(made) for n in self.pairs]
        return sum(done)


def plan(pairs: int) -> Plan:
    """Plan two looks, the first at `pairs` pairs."""
    later = second_look(pairs)
    return Plan((pairs, later), levels(pairs / later))


def power(difference: float, sd: float, pairs: int) -> tuple[float, float]:
    """Probability of detecting a difference of means at the first look, and at either look.

    Args:
        difference: Difference of the means.
        sd: Standard deviation of the differences within pairs.
        pairs: Number of pairs at the first look.
    """
    looks = plan(pairs)
    bounds = bound(looks.levels[0]), bound(looks.levels[1])
    first, second = (  # corrected for the estimated variance (Guenther 1981), as in `detectable`
        difference / sd * math.sqrt(max(n - z**2 / 2, 0.0))
        for n, z in zip(looks.pairs, bounds, strict=True)
    )
    alone = NORMAL.cdf(first - bounds[0]) + NORMAL.cdf(-first - bounds[0])
    return alone, 1 - missed(bounds, looks.fraction, (first, second))


def pairs_needed(difference: float, sd: float) -> tuple[int, int]:
    """Smallest plan that detects a difference with 80 % power: at the first look, at either."""
    reached = [
        next(n for n in itertools.count(6) if power(difference, sd, n)[look] >= POWER)
        for look in (0, 1)
    ]
    return reached[0], reached[1]
