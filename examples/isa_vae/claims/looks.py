"""Two looks at one comparison, with the error of 5 % split beforehand.

The errors spent are those of Lan and DeMets (1983) in the manner of O'Brien and Fleming: little at
the first look, nearly all at the second. The means at n1 of n2 pairs and at all n2 are taken for
normals with a correlation of sqrt(n1 / n2).

A p value of a look is restated as the least total error at which that look would have decided (a
repeated p value: Jennison and Turnbull 2000, section 9.4; with Holm's method, Ye, Li, Liu and Yao
2013). So tests at different looks are corrected together, and all are compared with 5 %.
"""

import itertools
import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from claims.statistics import LEVEL, NORMAL, POWER
from sweeps.experiments import second_look

NODES, WEIGHTS = np.polynomial.legendre.leggauss(80)
BEYOND = 9.0  # an abs(z) that no look has


def missed(
    bounds: tuple[float, float], fraction: float, drifts: tuple[float, float] = (0.0, 0.0)
) -> float:
    """Chance that two looks stay within their bounds on abs(z).

    Args:
        bounds: Of the first and the second look.
        fraction: Pairs at the first look over those at the second.
        drifts: Means of both z.
    """
    edge, rest = min(bounds[0], BEYOND), math.sqrt(1 - fraction)
    first = edge * NODES - drifts[0]
    middle = drifts[1] + math.sqrt(fraction) * first  # mean of the second z, given the first
    inside = [
        NORMAL.pdf(x) * (NORMAL.cdf((bounds[1] - m) / rest) - NORMAL.cdf((-bounds[1] - m) / rest))
        for x, m in zip(first, middle, strict=True)
    ]
    return edge * float(WEIGHTS @ np.array(inside))


def bound(p: float) -> float:
    """The abs(z) with that two-sided p."""
    return -NORMAL.inv_cdf(p / 2)


def spent(total: float, fraction: float) -> float:
    """Error of the first look, two-sided, of a total error: O'Brien and Fleming's function."""
    return 2 * NORMAL.cdf(-bound(total) / math.sqrt(fraction))


def levels(fraction: float, total: float = LEVEL) -> tuple[float, float]:
    """Levels of both looks that have the total error together."""
    first = spent(total, fraction)
    low, high = 0.0, total
    for _ in range(60):
        level = (low + high) / 2
        found = 1 - missed((bound(first), bound(level)), fraction)
        low, high = (low, level) if found > total else (level, high)
    return first, low


def restated(p: float, look: int, fraction: float) -> float:
    """The least total error at which a p value of the first or the second look would decide."""
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
        """Looks that were taken, with these seeds made: a look needs all of seeds 1 to its n."""
        done = [set(range(1, n + 1)) <= set(made) for n in self.pairs]
        return sum(done)


def plan(pairs: int) -> Plan:
    """Two looks, the first at that many pairs."""
    later = second_look(pairs)
    return Plan((pairs, later), levels(pairs / later))


def power(difference: float, sd: float, pairs: int) -> tuple[float, float]:
    """Chance to find a difference of means at the first look, and at either of both looks.

    Args:
        difference: Of the means.
        sd: Of the differences of pairs.
        pairs: At the first look.
    """
    looks = plan(pairs)
    bounds = bound(looks.levels[0]), bound(looks.levels[1])
    first, second = (  # the variance is estimated too (Guenther 1981), as in compare.detectable
        difference / sd * math.sqrt(max(n - z**2 / 2, 0.0))
        for n, z in zip(looks.pairs, bounds, strict=True)
    )
    alone = NORMAL.cdf(first - bounds[0]) + NORMAL.cdf(-first - bounds[0])
    return alone, 1 - missed(bounds, looks.fraction, (first, second))


def pairs_needed(difference: float, sd: float) -> tuple[int, int]:
    """Least pairs planned to find a difference with 80 %: at the first look, at either."""
    reached = [
        next(n for n in itertools.count(6) if power(difference, sd, n)[look] >= POWER)
        for look in (0, 1)
    ]
    return reached[0], reached[1]
