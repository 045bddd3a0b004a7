"""Exact values beside what they are made of, at 50 digits: what an error is measured in.

No code of the library. A :class:`Known` number carries its condition: the sum of the magnitudes of
its terms, each times how much a relative error of one unit in what it was made from moves it. In a
term that goes with a node or a coordinate, that is the factor
:math:`1 + p_{\\max} (1 + |\\log_2(|x_i| / f)|)`, with the largest coordinate under it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from oracle import (
    Node,
    Real,
    breadth_first,
    digamma,
    leaves,
    loggamma,
    mp,
    mpf,
    name_exponents,
    norms,
    size,
)

ZERO = mpf(0)
TINY, EPS = mpf(2) ** -1022, mpf(2) ** -52  # of float64: weights and shares are known to the first


@dataclass(frozen=True)
class Known:
    """A number and its condition."""

    exact: Real
    condition: Real

    def __add__(self, other: Known) -> Known:
        return Known(self.exact + other.exact, self.condition + other.condition)

    def __mul__(self, other: Known) -> Known:
        return Known(self.exact * other.exact, self.condition * other.condition)


def term(exact: Real, factor: Real = 1) -> Known:
    return Known(exact, abs(exact) * factor)


def total(terms: Sequence[Known]) -> Known:
    return sum(terms, Known(ZERO, ZERO))


class Norm:
    """The norm of one row, with the derivatives of its logarithm."""

    def __init__(self, root: Node, exponents: Sequence[float], row: Sequence[float]) -> None:
        self.root, self.row = root, [mpf(x) for x in row]
        self.p = name_exponents(root, exponents)
        self.largest = max(self.p.values())  # of the exponents
        self.norms = norms(root, self.row, self.p)
        self.value = self.norms[root]

    @cached_property
    def distances(self) -> dict[Node, Real]:
        """How far below the norm the largest coordinate under a node is, as log2."""
        return {
            node: abs(mp.log(largest / self.value)) / mp.log(2)
            for node in self.norms
            for largest in [max(abs(self.row[i]) for i in leaves(node))]
            if largest
        }

    @cached_property
    def factors(self) -> dict[Node, Real]:
        return {node: 1 + self.largest * (1 + x) for node, x in self.distances.items()}

    @property
    def log(self) -> Known:
        log = mp.log(self.value)
        return Known(log, abs(log) + 1)

    @cached_property
    def shares(self) -> dict[Node, list[Real]]:
        """Of its children in each node, (f_c / f_I)^p."""
        return {
            node: [(self.norms[c] / whole) ** p if whole else ZERO for c in node]
            for node, p in self.p.items()
            for whole in [self.norms[node]]
        }

    @cached_property
    def weights(self) -> dict[Node, Real]:
        """The product of the shares from the root down: d log f / d log f_c."""
        found = {self.root: mpf(1) if self.value else ZERO}
        for node in breadth_first(self.root):
            for child, share in zip(node, self.shares[node], strict=True):
                found[child] = found[node] * share
        return found

    @cached_property
    def in_value(self) -> list[Known | None]:
        return [self._in_coordinate(i, x) for i, x in enumerate(self.row)]

    def _in_coordinate(self, i: int, x: Real) -> Known | None:
        """Nothing is known of a coordinate that is subnormal in float64."""
        if abs(x) < TINY:
            return None if x else term(ZERO)
        weight = self.weights[i]
        return Known(weight / x, (weight + TINY / EPS) / abs(x) * self.factors[i])

    def least(self, x: Real) -> Known:
        """What a product of weight and slope that is below 2^-1022 adds to the condition."""
        return Known(ZERO, TINY / EPS / abs(x) if x else ZERO)

    @cached_property
    def in_exponents(self) -> list[Known]:
        """The logarithm of a share counts as one more than its magnitude."""
        return [total([t + unit for t, unit in self._entropies[node]]) for node in self.p]

    @cached_property
    def strictly_in_exponents(self) -> list[Known]:
        """Each term is known as well as it is small."""
        return [total([t for t, _ in self._entropies[node]]) for node in self.p]

    @cached_property
    def _entropies(self) -> dict[Node, list[tuple[Known, Known]]]:
        return {node: list(self._entropy(node)) for node in self.p}

    def _entropy(self, node: tuple[Node, ...]) -> Iterator[tuple[Known, Known]]:
        """The terms of p^2 d log f_I / dp = sum_c s_c log s_c, over p^2, weighed.

        Beside each is what one more in its logarithm adds to the condition.
        """
        weight, shares, square = self.weights[node], self.shares[node], self.p[node] ** 2
        whole = sum(shares)
        for child, share in zip(node, shares, strict=True):
            if share and len(node) > 1:
                others = whole - share if share < 0.5 else sum(x for x in shares if x is not share)
                log = mp.log1p(-others) if others < 0.5 else mp.log(share)
                size = (weight * share + TINY / EPS) * self.factors[child] / square
                yield Known(weight * share * log / square, size * abs(log)), Known(ZERO, size)


class Sphere:
    """The logarithm of the surface area. A node with one child has a factor of exactly 1."""

    def __init__(self, root: Node, exponents: Sequence[float]) -> None:
        self.root, self.p = root, name_exponents(root, exponents)

    @cached_property
    def log_area(self) -> Known:
        terms = [size(self.root) * mp.log(2)]
        for node, p in self.p.items():
            if len(node) > 1:
                terms += [-(len(node) - 1) * mp.log(p), -loggamma(size(node) / p)]
                terms += [loggamma(size(child) / p) for child in node]
        return total([term(t) for t in terms])

    @cached_property
    def in_exponents(self) -> list[Known]:
        return [total([term(t) for t in self._slopes(node)]) for node in self.p]

    def _slopes(self, node: tuple[Node, ...]) -> Iterator[Real]:
        if len(node) > 1:
            p = self.p[node]
            yield -(len(node) - 1) / p
            for part, sign in [(node, 1), *((child, -1) for child in node)]:
                yield sign * size(part) / p**2 * digamma(size(part) / p)


@dataclass(frozen=True)
class Density:
    """A log density of one row, with its gradient by name."""

    value: Known
    gradients: dict[str, list[Known | None]]


def density(
    norm: Norm,
    sphere: Sphere,
    normaliser: Known,
    beside: Real,
    slope: Known,
    parameters: dict[str, Known],
) -> Density:
    """``normaliser`` is of the radius alone; ``slope`` in the logarithm of the norm."""
    area = Known(-sphere.log_area.exact, sphere.log_area.condition)
    value = normaliser.exact + area.exact + beside
    moved = abs(slope.exact) * sum(norm.weights[i] for i in range(size(norm.root)))
    condition = abs(value) + moved + normaliser.condition + area.condition
    in_exponents, strictly = (
        [
            slope * along + Known(-across.exact, across.condition)
            for along, across in zip(derivatives, sphere.in_exponents, strict=True)
        ]
        for derivatives in (norm.in_exponents, norm.strictly_in_exponents)
    )
    return Density(
        Known(value, condition),
        {
            "value": [
                known and slope * known + norm.least(x)
                for x, known in zip(norm.row, norm.in_value, strict=True)
            ],
            "exponents": in_exponents,
            "exponents, strictly": strictly,
            **{name: [known] for name, known in parameters.items()},
        },
    )


def gamma(norm: Norm, sphere: Sphere, dim: float, p: float, scale: float) -> Density:
    """With a generalized gamma radius; where its dimension is the tree's, the origin has a place.

    .. math:: \\log p - \\log\\Gamma(n/p) - n \\log s - \\log S + (n - d) \\log f - (f/s)^p
    """
    n, p, s = mpf(dim), mpf(p), mpf(scale)
    excess, distance = n - size(norm.root), norm.distances.get(norm.root, ZERO)
    factor = 1 + max(norm.largest, p) * (1 + distance)
    power = (norm.value / s) ** p
    log_r = norm.log if norm.value else Known(ZERO, ZERO)
    log_ratio = log_r.exact - mp.log(s) if norm.value else ZERO
    normaliser = total([term(t) for t in (mp.log(p), -loggamma(n / p), -n * mp.log(s))])
    in_p = total([term(1 / p), term(n / p**2 * digamma(n / p))])
    parameters = {
        "dim": total([log_r, term(-digamma(n / p) / p), term(-mp.log(s))]),
        "p": in_p + Known(-power * log_ratio, power * (abs(log_ratio) + 1) * factor),
        "scale": term(-n / s) + term(p * power / s, factor),
    }
    slope = term(excess) + Known(-p * power, p * (power * factor + TINY / EPS))
    beside = excess * log_r.exact - power
    return density(norm, sphere, normaliser, beside, slope, parameters)


def log_normal(norm: Norm, sphere: Sphere, loc: float, scale: float) -> Density:
    """With a log-normal radius, which takes the way of any radius."""
    d, s = size(norm.root), mpf(scale)
    z = (norm.log.exact - mpf(loc)) / s
    terms = [-z * z / 2, -mp.log(s), -mp.log(2 * mp.pi) / 2, -d * norm.log.exact]
    moves = (norm.log.condition + abs(mpf(loc))) / s  # what z is made of
    parameters = {
        "loc": Known(z / s, moves / s),
        "scale": term(-1 / s) + Known(z * z / s, abs(z) * moves / s),
    }
    slope = Known(-z / s, moves / s) + term(mpf(-d))
    return density(norm, sphere, total([term(t) for t in terms]), ZERO, slope, parameters)
