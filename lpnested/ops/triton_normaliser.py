r"""The constant of the log density over a tree, in Triton, always in float64.

.. math:: \log p - \log\Gamma(n/p) - n \log s - \log S_f(1)

Each program computes it once for its batch columns, with the nodes distributed over the lanes; the
cost is small compared to the rows, even where float64 is slow. Measured against 50 digits over
shapes of 1e-6 to 1e9, the error of `log_gamma` is within 2.4 eps and that of `digamma` within
9.4 eps, relative to the larger of 1 and the value.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lpnested.ops.triton_math import LN2, natural_log, polynomial, positive

__all__ = ["constant_of_lanes", "slope_in_exponent", "slopes_in_radius"]

# log Gamma(1 + t) / (t (t - 1)) for 0 <= t <= 1, a relative minimax fit, highest power first.
LOG_GAMMA = tl.constexpr(
    (
        *(-7.990800442358521e-06, 9.605314873976487e-05, -0.000549067874675356),
        *(0.0019952646832475107, -0.005210616526136161, 0.010515552627550374),
        *(-0.017297402925964534, 0.02428182393199362, -0.03037643956048016),
        *(0.03527033792464253, -0.039349904424456086, 0.043245983443607666),
        *(-0.04750669520240469, 0.052550037316250554, -0.05877711300790215),
        *(0.06673164737053891, -0.07731816291490562, 0.09223900820278767),
        *(-0.1151465425563139, 0.15543426586383635, -0.24525136852257967, 0.5772156649015329),
    )
)
HALF_LOG_2_PI = tl.constexpr(0.9189385332046728)
# Stirling's series in 1 / z^2, B_2k / (2k (2k - 1)), and its derivative, B_2k / 2k.
STIRLING = tl.constexpr(
    (
        *(0.17964437236883057, -0.029550653594771242, 0.00641025641025641),
        *(-0.0019175269175269176, 0.0008417508417508417, -0.0005952380952380953),
        *(0.0007936507936507937, -0.002777777777777778, 0.08333333333333333),
    )
)
STIRLING_SLOPE = tl.constexpr(
    (
        *(3.0539543302701198, -0.4432598039215686, 0.08333333333333333, -0.021092796092796094),
        *(0.007575757575757576, -0.004166666666666667, 0.003968253968253968),
        *(-0.008333333333333333, 0.08333333333333333),
    )
)


@triton.jit
def log_gamma(a: tl.tensor) -> tl.tensor:
    """Return log Gamma(a), a > 0, float64: a polynomial below 8, Stirling's series above."""
    near = a < 8.0
    below = tl.floor(a)
    t = a - below
    factors = tl.where(a < 1.0, 1.0 / a, 1.0)
    for k in tl.static_range(1, 7):
        factors *= tl.where(k < below, t + k, 1.0)
    log = natural_log(tl.where(near, factors, a))
    by_stirling = (a - 0.5) * log - a + HALF_LOG_2_PI + polynomial(1.0 / (a * a), STIRLING) / a
    return tl.where(near, t * (t - 1.0) * polynomial(t, LOG_GAMMA) + log, by_stirling)


@triton.jit
def digamma(a: tl.tensor) -> tl.tensor:
    """Return the derivative of log Gamma(a) for a > 0, in float64."""
    large = a > 1e9
    z = tl.where(large, a, a + 9.0)
    b = tl.where(large, 1.0, a)
    slope, rising = b * 0.0, b * 0.0 + 1.0
    for k in tl.static_range(9):
        slope = slope * (b + k) + rising
        rising = rising * (b + k)
    square = 1.0 / (z * z)
    series = natural_log(z) - 0.5 / z - square * polynomial(square, STIRLING_SLOPE)
    return series - tl.where(large, 0.0, slope / rising)


@triton.jit
def of_nodes(
    tree: tl.tuple, k: tl.tensor, p: tl.tensor, inside: tl.tensor, SLOPE: tl.constexpr
) -> tl.tensor:
    """Return the terms of nodes in n log 2 - log S_f(1), or their derivatives in the exponents."""
    first_child, _, nodes, most_terms = tree
    first_term = first_child + nodes + 1 + tl.load(first_child + nodes)
    sizes = first_term + nodes + 1
    counts = sizes + tl.load(first_term + nodes)
    children = tl.load(first_child + k + 1, mask=inside, other=1)
    children -= tl.load(first_child + k, mask=inside, other=0)
    if SLOPE:
        total = (children - 1).to(tl.float64) / p
    else:
        total = (children - 1).to(tl.float64) * natural_log(p)
    first = tl.load(first_term + k, mask=inside, other=0)
    last = tl.load(first_term + k + 1, mask=inside, other=0)
    for i in range(most_terms):
        there = first + i < last
        size = tl.load(sizes + first + i, mask=there, other=1).to(tl.float64)
        count = tl.load(counts + first + i, mask=there, other=0).to(tl.float64)
        if SLOPE:
            total += count * (size / p) * (digamma(size / p) / p)
        else:
            total -= count * log_gamma(size / p)
    return tl.where(inside, total, 0.0)


@triton.jit
def parameter(pointer: tl.tensor, inside: tl.tensor) -> tl.tensor:
    """Load a parameter in float64, as NaN if it is not a positive number."""
    return positive(tl.load(pointer, mask=inside, other=1.0).to(tl.float64))


@triton.jit
def constant_of_lanes(
    tree: tl.tuple,
    exponents: tl.tuple,
    radius: tl.tuple,
    column: tl.tensor,
    inside: tl.tensor,
    SAMPLES: tl.constexpr,
    BATCH: tl.constexpr,
    HAS_DIM: tl.constexpr,
) -> tl.tensor:
    """Return the constant of batch columns, repeated for each sample of a block."""
    _, leaves, nodes, _ = tree
    pointer, along_batch, along_nodes = exponents
    total = tl.zeros((SAMPLES, BATCH), tl.float64)
    for start in range(0, nodes, SAMPLES):
        k = start + tl.arange(0, SAMPLES)[:, None]
        there = (k < nodes) & inside[None, :]
        p = parameter(pointer + column[None, :] * along_batch + k * along_nodes, there)
        total += of_nodes(tree, k, p, there, False)
    dim, p, scale, along_dim, along_p, along_scale = radius
    of_tree = tl.zeros((BATCH,), tl.float64) + leaves
    n = of_tree
    if HAS_DIM:
        n = parameter(dim + column * along_dim, inside)
    q = parameter(p + column * along_p, inside)
    s = parameter(scale + column * along_scale, inside)
    constant = tl.sum(total, axis=0) - of_tree * LN2
    constant += natural_log(q) - log_gamma(n / q) - n * natural_log(s)
    repeated = tl.broadcast_to(constant[None, :], (SAMPLES, BATCH))
    return tl.reshape(repeated, (SAMPLES * BATCH,))


@triton.jit
def slope_in_exponent(
    tree: tl.tuple, exponents: tl.tuple, k: tl.tensor, column: tl.tensor, inside: tl.tensor
) -> tl.tensor:
    """Return the derivative of the constant in the exponent of node k, for batch columns."""
    pointer, along_batch, along_nodes = exponents
    p = parameter(pointer + column * along_batch + k * along_nodes, inside)
    return of_nodes(tree, k + tl.zeros_like(column), p, inside, True)


@triton.jit
def slopes_in_radius(
    tree: tl.tuple,
    radius: tl.tuple,
    column: tl.tensor,
    inside: tl.tensor,
    HAS_DIM: tl.constexpr,
) -> tl.tuple:
    """Return the derivatives of the constant in dimension (without -log s), exponent and scale."""
    _, leaves, _, _ = tree
    dim, p, scale, along_dim, along_p, along_scale = radius
    n = tl.zeros_like(column).to(tl.float64) + leaves
    if HAS_DIM:
        n = parameter(dim + column * along_dim, inside)
    q = parameter(p + column * along_p, inside)
    s = parameter(scale + column * along_scale, inside)
    of_shape = digamma(n / q) / q
    return -of_shape, 1.0 / q + (n / q) * of_shape, -n / s
