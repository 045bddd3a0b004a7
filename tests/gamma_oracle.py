"""The incomplete gamma functions at 50 digits, from their series and their continued fraction."""

import mpmath
from mpmath import MPContext

mp = MPContext()
mp.dps = 50
Real = mpmath.mpf


def log_tails(a: Real, x: Real) -> tuple[Real, Real]:
    """log P and log Q by DLMF 8.11.4 (a series) left of a + 1 and 8.9.2 (a fraction) right."""
    density = a * mp.log(x) - x - mp.loggamma(a)
    if x < a + 1:
        log_p = density + mp.log(_series(a, x))
        return log_p, mp.log1p(-mp.exp(log_p))
    log_q = density + mp.log(_fraction(a, x))
    return mp.log1p(-mp.exp(log_q)), log_q


def _series(a: Real, x: Real) -> Real:
    term = total = 1 / a
    k = a
    while term > total * mp.eps / 100:
        k += 1
        term *= x / k
        total += term
    return total


def _fraction(a: Real, x: Real) -> Real:
    """By the method of Lentz."""
    b = x + 1 - a
    c, d = mp.inf, 1 / b
    total, i = d, 0
    factor = mp.inf
    while abs(factor - 1) > 10 * mp.eps:
        i += 1
        numerator = -i * (i - a)
        b += 2
        d = 1 / (numerator * d + b)
        c = b + numerator / c
        factor = c * d
        total *= factor
    return total
