"""Reference values at 50 digits: plain recursion from the paper, no code of the library.

A tree is nested tuples of coordinates; ``p`` maps every inner node (the tuple itself: no two are
equal) to its exponent. Floats enter exactly, so a float32 input is compared at its own value.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from mpmath import MPContext

Node: TypeAlias = "int | tuple[Node, ...]"
Real = Any  # mpmath is not typed
Exponents = Mapping[Node, Real]
LogDensity = Callable[[Real], Real]  # of the radius

mp = MPContext()
mp.dps = 50
mpf = mp.mpf


@lru_cache(maxsize=100_000)
def _cached(name: str, x: Real, precision: int) -> Real:
    """A tree asks for the same numbers again and again."""
    return getattr(mp, name)(x)


def loggamma(x: Real) -> Real:
    return _cached("loggamma", x, mp.prec)


def digamma(x: Real) -> Real:
    return _cached("digamma", x, mp.prec)


# The tree -------------------------------------------------------------------------------------


def breadth_first(root: Node) -> list[tuple[Node, ...]]:
    """The inner nodes, root first: the order of the library's exponents."""
    found = [root]
    for node in found:  # grows while we walk it
        found.extend(child for child in node if isinstance(child, tuple))
    return found


def leaves(node: Node) -> list[int]:
    """The coordinates under a node, as written."""
    if isinstance(node, int):
        return [node]
    return [leaf for child in node for leaf in leaves(child)]


def size(node: Node) -> int:
    return len(leaves(node))


def path(node: Node, leaf: int) -> Iterator[tuple[Node, Node]]:
    """(parent, child) from ``node`` down to ``leaf``."""
    if isinstance(node, int):
        return
    child = next(child for child in node if leaf in leaves(child))
    yield node, child
    yield from path(child, leaf)


def name_exponents(root: Node, exponents: Iterable[float]) -> dict[Node, Real]:
    return {node: mpf(p) for node, p in zip(breadth_first(root), exponents, strict=True)}


# The function f, eq. 9 and its generalisation to any tree ---------------------------------------


def norm(node: Node, x: Sequence[Real], p: Exponents) -> Real:
    if isinstance(node, int):
        return abs(mpf(x[node]))
    return sum(norm(child, x, p) ** p[node] for child in node) ** (1 / p[node])


def norms(node: Node, x: Sequence[Real], p: Exponents) -> dict[Node, Real]:
    """`norm` of every node and leaf under (and of) a node, each computed once."""
    if isinstance(node, int):
        return {node: abs(mpf(x[node]))}
    below: dict[Node, Real] = {}
    for child in node:
        below.update(norms(child, x, p))
    return {**below, node: sum(below[child] ** p[node] for child in node) ** (1 / p[node])}


def norm_gradient(root: Node, x: Sequence[Real], p: Exponents) -> list[Real]:
    """df/dx by the chain rule: dv_I/dv_c = (v_c / v_I)^(p_I - 1); 0 at an exact zero."""
    gradient, value = [mpf(0)] * size(root), norms(root, x, p)

    def descend(node: Node, factor: Real) -> None:
        if isinstance(node, int):
            gradient[node] = factor * mp.sign(x[node])
            return
        for child in node:
            if value[child]:
                descend(child, factor * (value[child] / value[node]) ** (p[node] - 1))

    descend(root, mpf(1))
    return gradient


def log_norm_exponent_gradient(root: Node, x: Sequence[Real], p: Exponents) -> list[Real]:
    """d log f/dp_I, in the order of the nodes; 0 where all coordinates under I are zero.

    With the shares w_c = (v_c / v_I)^p of v_I^p = sum_c v_c^p, d log v_I/d log v_c = w_c and
    p^2 d log v_I/dp = sum_c w_c log w_c. A share near 1 takes log1p of the others: the product
    with a large (r / s)^p0 would otherwise magnify the fiftieth digit.
    """
    gradient, value = {node: mpf(0) for node in breadth_first(root)}, norms(root, x, p)

    def descend(node: Node, weight: Real) -> None:
        shares = [(value[child] / value[node]) ** p[node] for child in node]
        for i, (child, share) in enumerate(zip(node, shares, strict=True)):
            others = sum(shares[:i] + shares[i + 1 :])
            if share:
                log_share = mp.log1p(-others) if others < 0.5 else mp.log(share)
                gradient[node] += weight * share * log_share / p[node] ** 2
                if isinstance(child, tuple):
                    descend(child, weight * share)

    if value[root]:
        descend(root, mpf(1))
    return list(gradient.values())


# The sphere of f, eq. 8 -------------------------------------------------------------------------


def beta_form_log_surface(root: Node, p: Exponents) -> Real:
    """log S_f(1) by the first line of eq. 8, a product of beta functions, not telescoped."""
    total = size(root) * mp.log(2)
    for node in breadth_first(root):
        total -= (len(node) - 1) * mp.log(p[node])
        below = size(node[0])
        for child in node[1:]:
            total += mp.log(mp.beta(below / p[node], size(child) / p[node]))
            below += size(child)
    return total


def log_surface(root: Node, p: Exponents) -> Real:
    """log S_f(1) by the second line of eq. 8."""
    total = size(root) * mp.log(2)
    for node in breadth_first(root):
        total -= (len(node) - 1) * mp.log(p[node]) + loggamma(size(node) / p[node])
        total += sum(loggamma(size(child) / p[node]) for child in node)
    return total


def log_surface_gradient(root: Node, p: Exponents) -> list[Real]:
    """d log S/dp_I, in the order of the nodes."""

    def rate(node: Node, of: Node) -> Real:
        return size(of) / p[node] ** 2 * digamma(size(of) / p[node])

    return [
        rate(node, node) - sum(rate(node, child) for child in node) - (len(node) - 1) / p[node]
        for node in breadth_first(root)
    ]


def log_volume(root: Node, p: Exponents) -> Real:
    return log_surface(root, p) - mp.log(size(root))


def log_sphere_moment(root: Node, orders: Sequence[float], p: Exponents) -> Real:
    """log E prod |u_i|^k_i on the sphere: Dirichlet moments node by node."""
    total = mpf(0)
    for node in breadth_first(root):
        for part, sign in [(node, -1), *((child, 1) for child in node)]:
            order = sum(mpf(orders[leaf]) for leaf in leaves(part))
            total += sign * loggamma((size(part) + order) / p[node])
            total -= sign * loggamma(size(part) / p[node])
    return total


def mean_log_sphere(root: Node, leaf: int, p: Exponents) -> Real:
    """E log|u_i| on the sphere."""
    return sum(
        (digamma(size(child) / p[node]) - digamma(size(node) / p[node])) / p[node]
        for node, child in path(root, leaf)
    )


# Radial log densities ---------------------------------------------------------------------------


def generalized_gamma(dim: float, p: float, scale: float) -> LogDensity:
    """Eq. 11 with s = scale^p."""
    n, p, s = mpf(dim), mpf(p), mpf(scale)
    constant = mp.log(p) - loggamma(n / p) - n * mp.log(s)
    return lambda r: constant + (n - 1) * mp.log(r) - (r / s) ** p


def gamma(concentration: float, rate: float) -> LogDensity:
    a, b = mpf(concentration), mpf(rate)
    constant = a * mp.log(b) - loggamma(a)
    return lambda r: constant + (a - 1) * mp.log(r) - b * r


def chi2(df: float) -> LogDensity:
    return gamma(mpf(df) / 2, mpf(1) / 2)


def exponential(rate: float) -> LogDensity:
    return gamma(1, rate)


def weibull(scale: float, concentration: float) -> LogDensity:
    s, k = mpf(scale), mpf(concentration)
    return lambda r: mp.log(k / s) + (k - 1) * mp.log(r / s) - (r / s) ** k


def log_normal(loc: float, scale: float) -> LogDensity:
    m, s = mpf(loc), mpf(scale)
    constant = -mp.log(s) - mp.log(2 * mp.pi) / 2
    return lambda r: constant - mp.log(r) - ((mp.log(r) - m) / s) ** 2 / 2


def half_normal(scale: float) -> LogDensity:
    s = mpf(scale)
    return lambda r: mp.log(2 / mp.pi) / 2 - mp.log(s) - (r / s) ** 2 / 2


def half_cauchy(scale: float) -> LogDensity:
    s = mpf(scale)
    return lambda r: mp.log(2 / (mp.pi * s)) - mp.log(1 + (r / s) ** 2)


def pareto(scale: float, alpha: float) -> LogDensity:
    s, a = mpf(scale), mpf(alpha)
    return lambda r: mp.log(a / s) - (a + 1) * mp.log(r / s) if r >= s else mp.ninf


def mixture(weights: Sequence[float], parts: Sequence[LogDensity]) -> LogDensity:
    """A mixture of radial densities; the weights are normalised here."""
    total = sum(mpf(w) for w in weights)

    def log_density(r: Real) -> Real:
        logs = [mp.log(mpf(w) / total) + part(r) for w, part in zip(weights, parts, strict=True)]
        top = max(logs)
        return top + mp.log(sum(mp.exp(value - top) for value in logs))

    return log_density


# The distribution, eq. 7 -----------------------------------------------------------------------


def log_prob(root: Node, x: Sequence[float], p: Exponents, radial: LogDensity) -> Real:
    r = norm(root, x, p)
    return radial(r) - (size(root) - 1) * mp.log(r) - log_surface(root, p)


def log_prob_gradient(
    root: Node, x: Sequence[float], p: Exponents, radial: LogDensity
) -> tuple[list[Real], list[Real]]:
    """The gradient of `log_prob` in x and in the exponents, the radial density held fixed."""
    r = norm(root, x, p)
    slope = mp.diff(lambda t: radial(mp.exp(t)), mp.log(r)) - (size(root) - 1)  # d/d log r
    in_x = [slope * g / r for g in norm_gradient(root, x, p)]
    in_p = [
        slope * along_norm - along_surface
        for along_norm, along_surface in zip(
            log_norm_exponent_gradient(root, x, p), log_surface_gradient(root, p), strict=True
        )
    ]
    return in_x, in_p


def isa_log_prob(root: Node, x: Sequence[float], p: Exponents, scale: float) -> Real:
    """Radial eq. 11 with the root's exponent: the powers of r cancel, so r = 0 is no exception."""
    n, p0, s = size(root), p[root], mpf(scale)
    constant = mp.log(p0) - loggamma(n / p0) - n * mp.log(s) - log_surface(root, p)
    return constant - (norm(root, x, p) / s) ** p0


def isa_gradient(
    root: Node, x: Sequence[float], p: Exponents, scale: float
) -> tuple[list[Real], list[Real], Real]:
    """The gradient of `isa_log_prob` in x, in the exponents and in the scale."""
    n, p0, s = size(root), p[root], mpf(scale)
    r = norm(root, x, p)
    power = (r / s) ** p0
    in_x = [-p0 * power / r * g if g else mpf(0) for g in norm_gradient(root, x, p)]
    in_p = [
        -p0 * power * along_norm - along_surface
        for along_norm, along_surface in zip(
            log_norm_exponent_gradient(root, x, p), log_surface_gradient(root, p), strict=True
        )
    ]
    in_p[0] += 1 / p0 + n / p0**2 * digamma(n / p0) - (power * mp.log(r / s) if r else 0)
    return in_x, in_p, (p0 * power - n) / s


def isa_entropy(root: Node, p: Exponents, scale: float) -> Real:
    n, p0 = size(root), p[root]
    constant = loggamma(n / p0) - mp.log(p0) + n * mp.log(mpf(scale))
    return constant + n / p0 + log_surface(root, p)


def log_radial_moment(dim: float, p: float, scale: float, order: float) -> Real:
    """log E r^order for the generalised gamma."""
    n, p, k = mpf(dim), mpf(p), mpf(order)
    return k * mp.log(mpf(scale)) + loggamma((n + k) / p) - loggamma(n / p)


def mean_log_radius(dim: float, p: float, scale: float) -> Real:
    """E log r for the generalised gamma."""
    return mp.log(mpf(scale)) + digamma(mpf(dim) / mpf(p)) / mpf(p)


def radial_mean(radial: LogDensity, of: Callable[[Real], Real], span: float = 60) -> Real:
    """E of(r) by quadrature in t = log r, good to about 20 digits for light tails."""
    with mp.workdps(25):
        cuts = mp.linspace(-span, span, 25)
        return mp.quad(lambda t: mp.exp(radial(mp.exp(t)) + t) * of(mp.exp(t)), cuts)


def entropy(root: Node, p: Exponents, radial: LogDensity) -> Real:
    """h(rho) + (n - 1) E log r + log S, the first two by quadrature."""
    n = size(root)
    return radial_mean(radial, lambda r: (n - 1) * mp.log(r) - radial(r)) + log_surface(root, p)


# Marginals of one coordinate: linear space and numpy ---------------------------------------------


def spherical_marginal_cdf(t: np.ndarray, dim: int, p: float, radius: Any) -> np.ndarray:
    """P(|x_i| <= t) for an Lp-spherical x: |x_i| = r b^(1/p), b ~ Beta(1/p, (dim-1)/p).

    ``radius`` is scipy's distribution of r. Below r = t the probability is one; above it the
    integral over the quantiles of r is taken by Gauss-Legendre quadrature after a change of
    variables that flattens both ends.
    """
    from scipy.stats import beta

    nodes, weights = np.polynomial.legendre.leggauss(60)
    z = (nodes + 1) / 2
    share, weights = z**3 * (10 - 15 * z + 6 * z**2), weights * 15 * z**2 * (1 - z) ** 2
    below = radius.cdf(t)[:, None]
    ratio = np.minimum(t[:, None] / radius.isf((1 - below) * (1 - share)), 1.0)
    inside = beta.cdf(ratio**p, 1 / p, (dim - 1) / p)
    return (below + (1 - below) * (inside * weights).sum(-1, keepdims=True))[:, 0]


# Algorithm 1, naively: linear space, one node at a time ----------------------------------------


def naive_sample(
    root: Node, p: Mapping[Node, float], radius: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Algorithm 1 to the letter, with a radius per row; it underflows for large exponents."""
    count, dim = len(radius), size(root)
    x = np.empty((count, dim))

    def descend(node: Node, value: np.ndarray) -> None:
        if isinstance(node, int):
            x[:, node] = value
            return
        power = float(p[node])
        shares = rng.dirichlet([size(child) / power for child in node], size=count)
        for child, share in zip(node, shares.T, strict=True):
            descend(child, value * share ** (1 / power))

    descend(root, rng.beta(dim, 1, size=count))
    x /= naive_norm(root, x, p)[:, None]
    return radius[:, None] * x * rng.choice([-1.0, 1.0], size=x.shape)


def naive_norm(node: Node, x: np.ndarray, p: Mapping[Node, float]) -> np.ndarray:
    """f row by row in double precision, for brute force."""
    if isinstance(node, int):
        return np.abs(x[:, node])
    power = float(p[node])
    return sum(naive_norm(child, x, p) ** power for child in node) ** (1 / power)
