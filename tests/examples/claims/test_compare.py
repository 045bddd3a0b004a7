"""statistics.py and bootstrap.py against scipy, known cases, brute force and simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy import optimize, stats

from claims import bootstrap, statistics
from claims.bootstrap import difference_interval
from claims.dip import dip, dip_p
from claims.statistics import below_p, detectable, holm, permutation_p

pytestmark = pytest.mark.slow

A = np.array([0.12, 0.20, 0.31, 0.05, 0.44, 0.18, 0.27, 0.33])
B = np.array([0.10, 0.16, 0.33, 0.01, 0.30, 0.12, 0.20, 0.21])


def test_summary_is_that_of_numpy_and_knows_small_samples():
    s = statistics.summary(A)
    assert (s.n, s.min, s.max) == (8, 0.05, 0.44)
    assert s.mean == pytest.approx(A.mean()) and s.sd == pytest.approx(stats.tstd(A))
    assert (s.q1, s.median, s.q3) == pytest.approx(tuple(np.quantile(A, [0.25, 0.5, 0.75])))
    assert statistics.summary([0.3]).sd is None and statistics.summary([]).mean is None


@pytest.mark.parametrize("df", [3, 9, 50])
def test_t_quantile(df):
    assert bootstrap.t_quantile(0.975, df) == pytest.approx(stats.t.ppf(0.975, df), rel=0.01)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(
    ("statistic", "levels"), [(np.mean, statistics.means), (np.median, statistics.medians)]
)
def test_interval_is_scipys_at_the_expanded_level(paired, statistic, levels):
    n, df = len(A), len(A) - 1 if paired else 2 * len(A) - 2
    reference = stats.bootstrap(
        (A, B),
        lambda a, b, axis: statistic(a, axis=axis) - statistic(b, axis=axis),
        paired=paired,
        method="percentile",
        confidence_level=bootstrap.expanded_level(0.95, n, df),
        rng=1,
    ).confidence_interval
    found = difference_interval(A, B, paired, levels)
    assert found == pytest.approx(tuple(reference), abs=0.015)


def test_pairs_are_used_and_seeds_repeat():
    low, high = difference_interval(A, B, paired=True)
    wide_low, wide_high = difference_interval(A, B, paired=False)
    assert high - low < (wide_high - wide_low) / 2
    assert (low, high) == difference_interval(A, B, paired=True)
    assert permutation_p(A, B, True, 50, seed=3) == permutation_p(A, B, True, 50, seed=3)


@pytest.mark.parametrize(("paired", "kind"), [(True, "samples"), (False, "independent")])
@pytest.mark.parametrize("size", [5, 8])
def test_permutation_p_is_scipys(paired, kind, size):
    a, b = A[:size], B[:size]
    reference = stats.permutation_test(
        (a, b),
        lambda a, b, axis: np.abs(a.mean(axis) - b.mean(axis)),
        permutation_type=kind,
        alternative="greater",
        n_resamples=np.inf,
        vectorized=True,
    ).pvalue
    exact = permutation_p(a, b, paired, resamples=20_000)
    assert exact == pytest.approx(reference, abs=1e-12)
    assert permutation_p(a, b, paired, resamples=30) == pytest.approx(reference, abs=0.25)


def test_permutation_p_at_its_ends():
    assert permutation_p([1, 2, 3, 4], [0, 1, 2, 3], True) == 2 / 16
    assert permutation_p([1, 1], [1, 1], True) == 1.0
    assert permutation_p([5, 6, 7], [1, 2, 3], False) == 2 / 20
    assert permutation_p(np.arange(30.0) + 99, np.arange(30.0), True, 99) == 1 / 100


def test_wrong_samples_are_refused():
    with pytest.raises(ValueError, match="equal length, but got 2 and 3"):
        permutation_p([1, 2], [1, 2, 3], True)
    with pytest.raises(ValueError, match="2 values each, but got 1 and 3"):
        difference_interval([1], [1, 2, 3], False)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02, None, 0.3]) == pytest.approx([0.06, None, 0.6])  # one is to be made yet
    assert holm([]) == []


@pytest.mark.parametrize("n", [5, 10, 50])
@pytest.mark.parametrize("paired", [True, False])
def test_detectable_difference_has_its_power(n, paired):
    difference = detectable(0.07, n, None if paired else n)
    df = n - 1 if paired else 2 * n - 2
    shift = difference / 0.07 * math.sqrt(n if paired else n / 2)
    limit = stats.t.ppf(0.975, df)
    power = stats.nct.sf(limit, df, shift) + stats.nct.cdf(-limit, df, shift)
    assert power == pytest.approx(0.8, abs=0.04 if n == 5 else 0.01)


def test_detectable_difference_needs_runs():
    assert detectable(0.1, 2) is None and detectable(0.1, 1, 9) is None
    assert detectable(0.07, 10, 10) == pytest.approx(0.09, abs=0.005)  # as in the design's notes


@pytest.mark.parametrize("paired", [True, False])
def test_size_and_coverage_by_simulation(paired):
    generator, runs, shift = np.random.default_rng(5), 400, 0.3
    covered, rejected = 0, 0
    for seed in range(runs):
        a, b = generator.gamma(2, size=(2, 10)) / math.sqrt(2)  # skewed, as a MIG is
        low, high = difference_interval(a + shift, b, paired, resamples=400, seed=seed)
        covered += low <= shift <= high
        rejected += permutation_p(a, b, paired, resamples=199, seed=seed) <= 0.05
    assert 0.92 < covered / runs < 0.985
    assert 0.02 < rejected / runs < 0.08


@pytest.mark.parametrize("paired", [True, False])
def test_below_p_is_that_of_no_difference_on_one_side(paired):
    assert below_p(B, A, paired) == permutation_p(B, A, paired) < 0.4
    assert below_p(A, B, paired) == 1.0
    assert below_p(A - 0.2, B, paired) == permutation_p(A - 0.2, B, paired)


@pytest.mark.parametrize("paired", [True, False])
def test_what_lies_beyond_the_interval_is_excluded(paired):
    """The end of the interval is about the least d for which "d or more" is excluded at 5 %."""
    generator = np.random.default_rng(2)
    a, b = generator.normal(0.2, 0.05, size=(2, 30))
    _, high = difference_interval(a, b, paired)
    assert below_p(a - high - 0.003, b, paired) < 0.05 < below_p(a - high + 0.003, b, paired)


@pytest.mark.parametrize("paired", [True, False])
def test_a_difference_of_d_is_excluded_too_often_in_one_of_forty(paired):
    """Half of the two-sided 5 %: the other half lie above d. The values here are less d."""
    generator, runs = np.random.default_rng(6), 800
    excluded = 0
    for seed in range(runs):
        a, b = generator.normal(size=(2, 9))
        excluded += below_p(a, b, paired, resamples=199, seed=seed) <= 0.05
    assert 0.012 < excluded / runs < 0.042


def test_arrangements_are_all_or_a_sample():
    first, second, exact = statistics.arrangements(3, 3, True, 8, 0)
    assert exact and len({tuple(row) for row in first.tolist()}) == 8
    assert (np.sort(np.hstack([first, second])) == np.arange(6)).all()
    assert not statistics.arrangements(3, 3, True, 7, 0)[2]
    first, second, exact = statistics.arrangements(2, 3, False, 10, 0)
    assert exact and len({tuple(row) for row in first.tolist()}) == 10
    assert (np.sort(np.hstack([first, second])) == np.arange(5)).all()
    assert not statistics.arrangements(2, 3, False, 9, 0)[2]


def dip_by_linear_programming(x):
    """Least distance to a convex-concave function, over all places of the mode."""
    n = len(x)
    after, before = np.arange(1, n + 1) / n, np.arange(n) / n
    best = 1.0
    for mode in range(n):  # g_0 .. g_mode convex, an atom at the mode, h_mode .. h_(n-1) concave
        point = {("g", k): k for k in range(mode + 1)}
        point |= {("h", k): k + 1 for k in range(mode, n)}
        rows, limits = [], []

        def add(terms, limit, rows=rows, limits=limits):
            row = np.zeros(n + 2)
            for where, value in terms:
                row[where] += value
            rows.append(row)
            limits.append(limit)

        eps = n + 1
        for (_, k), at in point.items():
            add([(at, -1), (eps, -1)], -(after if at != mode else before)[k])
            add([(at, 1), (eps, -1)], (before if at != mode + 1 else after)[k])
        for at in range(n):
            add([(at, 1), (at + 1, -1)], 0)  # nowhere decreasing
        for side, sign in (("g", 1), ("h", -1)):
            own = [k for s, k in point if s == side]
            for i, j, k in zip(own, own[1:], own[2:], strict=False):
                first, second = x[j] - x[i], x[k] - x[j]
                slopes = [(j, 1 / first + 1 / second), (i, -1 / first), (k, -1 / second)]
                add([(point[side, at], sign * value) for at, value in slopes], 0)
        cost = np.eye(n + 2)[eps]
        solved = optimize.linprog(cost, np.array(rows), limits, bounds=[(0, 1)] * (n + 2))
        best = min(best, solved.fun)
    return best


@pytest.mark.parametrize("seed", range(12))
def test_dip_by_brute_force(seed):
    generator = np.random.default_rng(seed)
    x = np.sort(generator.random(9) ** (1 + seed % 3) + (seed % 2) * generator.integers(2, size=9))
    assert dip(x) == pytest.approx(dip_by_linear_programming(x), abs=1e-6)


def test_dip_of_known_shapes():
    assert dip(np.arange(20)) == pytest.approx(1 / 40)  # even spacing: the least there is
    assert dip([0] * 10 + [1] * 10) == pytest.approx(0.25)  # two atoms: the most
    assert dip([0.5, 0.5]) == pytest.approx(0.5)
    x = np.random.default_rng(0).normal(size=60)
    assert dip(3 - 7 * x) == pytest.approx(dip(x))


def test_dip_tells_two_modes_from_a_long_tail():
    generator = np.random.default_rng(1)
    two = np.concatenate([generator.normal(0.1, 0.02, 25), generator.normal(0.3, 0.03, 25)])
    assert dip_p(two) < 0.01
    assert dip_p(generator.lognormal(0, 1, 50)) > 0.2
    assert dip_p([0.1, 0.2, 0.3]) is None


def test_every_arrangement_of_signs_once():
    rows = {tuple(row) for row in statistics.all_signs(4).tolist()}
    assert rows == set(itertools.product((1, -1), repeat=4))
