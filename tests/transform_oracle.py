"""Radial maps and nested radial factorization at 50 digits, node by node as in the paper."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gamma_oracle
import oracle
from oracle import Node, leaves, size

mp = gamma_oracle.mp
mpf = mp.mpf
Real = Any
Tails = Callable[[Real], tuple[Real, Real]]


class Radial(NamedTuple):
    """Of the logarithm of a radius: both tails as logarithms, and its log density."""

    tails: Tails
    log_density: Callable[[Real], Real]


def generalized_gamma(dim: float, p: float, scale: float) -> Radial:
    n, p, s = mpf(dim), mpf(p), mpf(scale)
    density = oracle.generalized_gamma(n, p, s)
    return Radial(
        lambda y: gamma_oracle.log_tails(n / p, mp.exp(p * (y - mp.log(s)))),
        lambda y: density(mp.exp(y)) + y,
    )


def log_normal(loc: float, scale: float) -> Radial:
    m, s = mpf(loc), mpf(scale)
    density = oracle.log_normal(m, s)
    return Radial(lambda y: _normal_tails((y - m) / s), lambda y: density(mp.exp(y)) + y)


def _normal_tails(z: Real) -> tuple[Real, Real]:
    smaller = mp.log(mp.erfc(abs(z) / mp.sqrt(2)) / 2)
    tails = smaller, mp.log1p(-mp.exp(smaller))
    return tails if z < 0 else tails[::-1]


def inverse_gamma(concentration: float, rate: float) -> Radial:
    a, b = mpf(concentration), mpf(rate)

    def log_density(y: Real) -> Real:
        return a * mp.log(b) - mp.loggamma(a) - a * y - b * mp.exp(-y)

    return Radial(lambda y: gamma_oracle.log_tails(a, b * mp.exp(-y))[::-1], log_density)


def half_cauchy(scale: float) -> Radial:
    s = mpf(scale)
    density = oracle.half_cauchy(s)

    def log_tail(z: Real) -> Real:
        return mp.log(2 / mp.pi * mp.atan(z))

    return Radial(
        lambda y: (log_tail(mp.exp(y) / s), log_tail(s * mp.exp(-y))),
        lambda y: density(mp.exp(y)) + y,
    )


def log_radius(source: Radial, target: Radial, log_r: Real) -> Real:
    """log g with F_t(g) = F_s(r), by bracketed Newton on log(-log) of the smaller tail."""
    tails = source.tails(log_r)
    side = 0 if tails[0] < tails[1] else 1
    wanted = mp.log(-tails[side])

    def difference(log_g: Real) -> tuple[Real, Real]:
        """Increasing in log g, and its slope."""
        tail = target.tails(log_g)[side]
        if not tail:
            return (mp.inf if side == 0 else -mp.inf), mpf(1)
        value = mp.log(-tail) - wanted
        return (value if side else -value), mp.exp(target.log_density(log_g) - tail) / -tail

    low = high = mpf(0)
    width = mpf(1)
    while difference(low)[0] > 0:
        low, width = low - width, 2 * width
    while difference(high)[0] < 0:
        high, width = high + width, 2 * width
    log_g = (low + high) / 2
    for _ in range(200):
        value, slope = difference(log_g)
        low, high = (low, log_g) if value > 0 else (log_g, high)
        new = log_g - value / slope
        new = new if low < new < high else (low + high) / 2
        log_g, step = new, new - log_g
        if abs(step) < mpf(10) ** -40 * (1 + abs(log_g)):
            return log_g
    raise ArithmeticError("Newton's method does not converge")


def factorized(
    root: Node, x: Sequence[float], p: Mapping[Node, Real], radial: Radial
) -> tuple[list[Real], Real]:
    """The factorized coordinates, and the sum of the nodes' differences of density generators."""
    y = [mpf(v) for v in x]
    log_det = mpf(0)

    def descend(node: Node, source: Radial) -> None:
        nonlocal log_det
        if isinstance(node, int):
            return
        n = size(node)
        target = generalized_gamma(n, p[node], 1)
        log_r = mp.log(oracle.norm(node, y, p))
        log_g = log_radius(source, target, log_r)
        log_det += source.log_density(log_r) - n * log_r
        log_det -= target.log_density(log_g) - n * log_g
        for leaf in leaves(node):
            y[leaf] *= mp.exp(log_g - log_r)
        for child in node:
            descend(child, generalized_gamma(size(child), p[node], 1))

    descend(root, radial)
    return y, log_det
