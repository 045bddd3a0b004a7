r"""The functions of one number that the Triton kernels need, in float32 and float64.

The card's own float32 logarithm and power of two are approximations that lose digits near 1, so
both are polynomials here, and the interpreter works with the same ones. A number is held by its
logarithm to base 2 as a pair: an integral exponent and a fraction. A power of it is then formed
without the error of its exponent, as long as the exponent has fewer than 12 bits: the product with
the upper half of :math:`p` is exact, whether or not a compiler fuses it with a sum.

The largest errors, measured over the arguments that occur: ``exp2_fraction`` 1.0 ulp in float32
and float64, the fraction of ``log2_pair`` 1.5 ulp, ``log_gamma`` 6 ulp of the larger of 1 and
itself, all against 50 digits.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = [
    "FAR",
    "LARGEST_32",
    "LARGEST_64",
    "LN2",
    "bounded",
    "digamma",
    "exp2_fraction",
    "log2_pair",
    "log_gamma",
    "natural_log",
    "positive",
    "saturated",
    "scaled",
    "share",
    "significand",
    "split",
    "times",
]

LN2 = tl.constexpr(0.6931471805599453)
LARGEST_32, LARGEST_64 = tl.constexpr(3.4028234663852886e38), tl.constexpr(1.7976931348623157e308)
FAR = tl.constexpr(1e6)  # the exponent of an infinity, and with a minus sign of a zero

# Highest power first. Relative minimax fits: of 2^f for |f| <= 1/2, of log2(1 + t) / t for
# 1 + t within a square root of 2 of 1, of log Gamma(1 + t) / (t (t - 1)) for 0 <= t <= 1.
EXP2_32 = tl.constexpr(
    (
        *(0.00015345323481597006, 0.0013400460593402386, 0.009618494659662247),
        *(0.055503275245428085, 0.24022646248340607, 0.6931471824645996, 1.0),
    )
)
EXP2_64 = tl.constexpr(
    (
        *(2.5622968714028155e-11, 4.456716371492903e-10, 7.054977922189117e-09),
        *(1.0178050966911239e-07, 1.3215486579481418e-06, 1.5252733856717548e-05),
        *(0.00015403530393671253, 0.0013333558146390045, 0.009618129107628302),
        *(0.0555041086648217, 0.24022650695910072, 0.6931471805599453, 1.0),
    )
)
LOG2_32 = tl.constexpr(
    (
        *(-0.1099502444267273, 0.1861753612756729, -0.19106265902519226, 0.20460055768489838),
        *(-0.23961740732192993, 0.2885674238204956, -0.3606966435909271, 0.4808982312679291),
        *(-0.7213473320007324, 1.4426950216293335),
    )
)
LOG2_64 = tl.constexpr(
    (
        *(-0.03496855571112542, 0.08233637627935411, -0.09080390899603417, 0.07819148256357364),
        *(-0.07675862582121228, 0.08389577372782016, -0.09046572974439013, 0.09630924822576545),
        *(-0.1030366643950321, 0.11096726158103307, -0.12022476416655357, 0.13115448891065587),
        *(-0.14426951143492903, 0.16029943893270202, -0.18033687976311039, 0.2060992917028444),
        *(-0.2404491734869418, 0.2885390081766877, -0.36067376022220776, 0.48089834696299105),
        *(-0.7213475204444818, 1.4426950408889634),
    )
)
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
# Of Stirling's series in 1 / z^2, B_2k / (2k (2k - 1)), and of its derivative, B_2k / 2k.
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


@triton.constexpr_function
def length(coefficients: tuple[float, ...]) -> int:
    return len(coefficients)


@triton.jit
def polynomial(x: tl.tensor, coefficients: tl.constexpr) -> tl.tensor:
    total = x * 0.0 + coefficients[0]
    for k in tl.static_range(1, length(coefficients)):
        total = total * x + coefficients[k]
    return total


@triton.jit
def exp2_fraction(x: tl.tensor) -> tl.tensor:
    """2^x for |x| of at most about 1/2."""
    if x.dtype == tl.float32:
        result = polynomial(x, EXP2_32)
    else:
        result = polynomial(x, EXP2_64)
    return result


@triton.jit
def power_of_two(k: tl.tensor) -> tl.tensor:
    """2^k for an integral k whose power is a normal number."""
    if k.dtype == tl.float32:
        result = ((k.to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)
    else:
        result = ((k.to(tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)
    return result


@triton.jit
def log2_pair(x: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """log2 |x| as an integral exponent and a fraction of at most 1/2 in size; NaN for a NaN.

    In integers, so that no mode that flushes subnormal numbers matters.
    """
    if x.dtype == tl.float32:
        bits = x.to(tl.int32, bitcast=True) & 0x7FFFFFFF
        subnormal = bits < 0x00800000
        of = tl.where(subnormal, bits.to(tl.float32).to(tl.int32, bitcast=True), bits)
        k = (of - 0x3F3504F3) >> 23
        t = (of - (k << 23)).to(tl.float32, bitcast=True) - 1.0
        fraction = t * polynomial(t, LOG2_32)
        exponent = tl.where(subnormal, k - 149, k).to(tl.float32)
        infinite = bits == 0x7F800000
        nan = bits > 0x7F800000
    else:
        bits = x.to(tl.int64, bitcast=True) & 0x7FFFFFFFFFFFFFFF
        subnormal = bits < 0x0010000000000000
        of = tl.where(subnormal, bits.to(tl.float64).to(tl.int64, bitcast=True), bits)
        k = (of - 0x3FE6A09E667F3BCD) >> 52
        t = (of - (k << 52)).to(tl.float64, bitcast=True) - 1.0
        fraction = t * polynomial(t, LOG2_64)
        exponent = tl.where(subnormal, k - 1074, k).to(tl.float64)
        infinite = bits == 0x7FF0000000000000
        nan = bits > 0x7FF0000000000000
    exponent = tl.where(bits == 0, -FAR, tl.where(infinite, FAR, exponent))
    return exponent, tl.where(nan, x, fraction)


@triton.jit
def split(p: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """Upper and lower half of a number."""
    if p.dtype == tl.float32:
        upper = (p.to(tl.int32, bitcast=True) & -4096).to(tl.float32, bitcast=True)
    else:
        upper = (p.to(tl.int64, bitcast=True) & -134217728).to(tl.float64, bitcast=True)
    return upper, p - upper


@triton.jit
def times(
    upper: tl.tensor, lower: tl.tensor, exponent: tl.tensor, fraction: tl.tensor
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """p (exponent + fraction), for a p in two halves: as such a pair again, and as one number."""
    later = lower * exponent + (upper + lower) * fraction
    whole = upper * exponent + later
    rounded = tl.floor(whole + 0.5)
    return rounded, (upper * exponent - rounded) + later, whole


@triton.jit
def share(exponent: tl.tensor, fraction: tl.tensor) -> tl.tensor:
    """2^(exponent + fraction) for an exponent of about 0 or less; 0 where it is not normal."""
    if exponent.dtype == tl.float32:
        gone = exponent < -126.0
    else:
        gone = exponent < -1022.0
    return tl.where(gone, 0.0, exp2_fraction(fraction) * power_of_two(exponent))


@triton.jit
def scaled(factor: tl.tensor, exponent: tl.tensor, fraction: tl.tensor) -> tl.tensor:
    """2^(exponent + fraction) times a factor, in whose range it need not be itself."""
    if exponent.dtype == tl.float32:
        gone = exponent < -252.0
        exponent = tl.where(exponent > 254.0, 254.0, exponent)
    else:
        gone = exponent < -2044.0
        exponent = tl.where(exponent > 2046.0, 2046.0, exponent)
    half = tl.floor(exponent * 0.5)
    result = (exp2_fraction(fraction) * power_of_two(half)) * factor
    return tl.where(gone, 0.0, result * power_of_two(exponent - half))


@triton.jit
def bounded(x: tl.tensor, largest: tl.constexpr) -> tl.tensor:
    """The number, or the nearest of at most that size; a NaN stays one."""
    return tl.where(x > largest, largest, tl.where(x < -largest, -largest, x))


@triton.jit
def saturated(x: tl.tensor) -> tl.tensor:
    """The number, or in place of an infinity the largest one."""
    if x.dtype == tl.float32:
        result = bounded(x, LARGEST_32)
    else:
        result = bounded(x, LARGEST_64)
    return result


@triton.jit
def positive(x: tl.tensor) -> tl.tensor:
    """The number, or NaN where it is not positive and finite."""
    return tl.where((x > 0.0) & (x < float("inf")), x, float("nan"))


@triton.jit
def significand(x: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """A float64 number as one of about 1, or 0, times 2 to an integer, which is float64 too."""
    bits = x.to(tl.int64, bitcast=True)
    biased = (bits >> 52) & 0x7FF
    normal = (biased > 0) & (biased < 0x7FF)
    about_1 = (bits - ((biased - 1023) << 52)).to(tl.float64, bitcast=True)
    exponent = tl.where(normal, biased - 1023, 0).to(tl.float64)
    return tl.where(normal, about_1, tl.where(biased == 0, 0.0, x)), exponent


@triton.jit
def natural_log(x: tl.tensor) -> tl.tensor:
    exponent, fraction = log2_pair(x)
    return (exponent + fraction) * LN2


@triton.jit
def log_gamma(a: tl.tensor) -> tl.tensor:
    """log Gamma(a) for a > 0 in float64: below 8 by a polynomial, from there on by Stirling."""
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
    """The derivative of log Gamma(a) for a > 0, in float64."""
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
