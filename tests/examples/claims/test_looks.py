"""looks.py against quadrature, scipy's multivariate normal, and simulation."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats

from claims import looks
from claims.questions import scores
from claims.statistics import detectable
from sweeps.experiments import FEWEST_PAIRS, MOST_PAIRS, PRIMARY, SECONDARY, second_look
from sweeps.rows import read_rows

pytestmark = pytest.mark.slow

PAGE = Path(looks.__file__).parents[1] / "PROTOCOL.md"
FOLDER = Path(looks.__file__).parents[1] / "results"

FRACTIONS = [18 / 27, 19 / 29, 34 / 51, 0.5]


def within(bounds, fraction, drifts=(0.0, 0.0)):
    """The chance of `looks.missed` by scipy's bivariate normal."""
    rho = math.sqrt(fraction)
    normal = stats.multivariate_normal(drifts, [[1, rho], [rho, 1]])
    return normal.cdf(bounds, lower_limit=[-bound for bound in bounds])


@pytest.mark.parametrize("fraction", FRACTIONS)
@pytest.mark.parametrize("bounds", [(2.4, 2.01), (1.0, 3.0), (8.0, 2.0), (40.0, 1.96)])
@pytest.mark.parametrize("drifts", [(0.0, 0.0), (1.5, 2.2)])
def test_chance_of_two_looks_is_scipys(fraction, bounds, drifts):
    found = looks.missed(bounds, fraction, drifts)
    assert found == pytest.approx(within(bounds, fraction, drifts), abs=1e-8)


def test_chance_of_two_looks_by_quadrature():
    rho, (first, second) = math.sqrt(2 / 3), (2.4, 2.01)

    def density(y, x):
        square = (x * x - 2 * rho * x * y + y * y) / (1 - rho**2)
        return math.exp(-square / 2) / (2 * math.pi * math.sqrt(1 - rho**2))

    wanted, _ = integrate.dblquad(density, -first, first, -second, second)
    assert looks.missed((first, second), 2 / 3) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("fraction", FRACTIONS)
@pytest.mark.parametrize("total", [0.05, 0.05 / 11])
def test_levels_spend_the_error_as_obrien_and_fleming_do(fraction, total):
    first, second = looks.levels(fraction, total)
    z = stats.norm.isf(total / 2)
    assert first == pytest.approx(2 * stats.norm.sf(z / math.sqrt(fraction)), rel=1e-9)
    bounds = tuple(stats.norm.isf(level / 2) for level in (first, second))
    assert 1 - within(bounds, fraction) == pytest.approx(total, abs=1e-8)
    assert first < second < total < first + second


@pytest.mark.parametrize("pairs", [FEWEST_PAIRS, 25, MOST_PAIRS])
def test_two_looks_together_err_in_one_of_twenty(pairs):
    """Sign-flip tests of normal differences, at both looks, by their t approximation."""
    plan, runs = looks.plan(pairs), 20_000
    assert plan.pairs == (pairs, second_look(pairs))
    x = np.random.default_rng(pairs).normal(size=(runs, plan.pairs[1]))
    found = [
        stats.ttest_1samp(x[:, :n], 0, axis=1).pvalue < level
        for n, level in zip(plan.pairs, plan.levels, strict=True)
    ]
    assert found[0].mean() == pytest.approx(plan.levels[0], abs=0.004)
    assert (found[0] | found[1]).mean() == pytest.approx(0.05, abs=0.006)


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_a_restated_p_decides_where_the_look_does(fraction):
    for total in (0.05, 0.01, 0.05 / 11):
        for look, level in enumerate(looks.levels(fraction, total), 1):
            assert looks.restated(level, look, fraction) == pytest.approx(total, rel=1e-6)
    for look in (1, 2):
        p = [looks.restated(p, look, fraction) for p in (1e-4, 0.01, 0.04, 0.2, 0.7, 1.0)]
        assert p == sorted(p) and p[-1] == 1.0


def test_a_family_of_two_looks_each_errs_in_one_of_twenty():
    """Any of four true hypotheses, three of them looked at twice, is restated below 5 % / 4."""
    generator, plan, runs = np.random.default_rng(4), looks.plan(20), 20_000
    bounds = [looks.bound(level) for level in looks.levels(plan.fraction, 0.05 / 4)]
    first, more = generator.normal(size=(2, runs, 4))
    second = math.sqrt(plan.fraction) * first + math.sqrt(1 - plan.fraction) * more
    found = (np.abs(first) > bounds[0]).any(1) | (np.abs(second[:, :3]) > bounds[1]).any(1)
    assert 0.03 < found.mean() < 0.053


def test_a_look_needs_all_of_its_seeds():
    plan = looks.plan(18)
    assert plan.taken([]) == plan.taken(range(1, 18)) == plan.taken(range(2, 60)) == 0
    assert plan.taken(range(1, 19)) == plan.taken(range(27)) == 1
    assert plan.taken(range(1, 28)) == plan.taken(range(60)) == 2


@pytest.mark.parametrize(("sd", "pairs"), [(0.07, 18), (0.10, 34), (0.14, 34)])
def test_power_by_simulation(sd, pairs):
    plan, runs = looks.plan(pairs), 20_000
    x = np.random.default_rng(1).normal(0.05, sd, size=(runs, plan.pairs[1]))
    found = [
        stats.ttest_1samp(x[:, :n], 0, axis=1).pvalue < level
        for n, level in zip(plan.pairs, plan.levels, strict=True)
    ]
    alone, either = looks.power(0.05, sd, pairs)
    assert alone == pytest.approx(found[0].mean(), abs=0.012)
    assert either == pytest.approx((found[0] | found[1]).mean(), abs=0.012)


@pytest.mark.slow
def test_the_pairs_needed_are_the_fewest():
    for sd in (0.07, 0.14):
        for look, pairs in enumerate(looks.pairs_needed(0.05, sd)):
            reached = [looks.power(0.05, sd, n)[look] for n in (pairs - 1, pairs)]
            assert reached[0] < 0.8 <= reached[1]


@pytest.mark.slow
def test_the_protocol_states_what_is_computed():
    text = PAGE.read_text(encoding="utf-8")
    plan = looks.plan(FEWEST_PAIRS)
    assert plan.fraction == looks.plan(MOST_PAIRS).fraction == pytest.approx(2 / 3)
    assert (
        "p < {:.4f} at the first look and at p < {:.4f} at the second".format(*plan.levels) in text
    )
    cover = [f"{100 * (1 - level):.1f} %" for level in plan.levels]
    assert f"its coverage, {cover[0]} and {cover[1]}" in text
    for sd in (0.07, 0.10, 0.14):
        one = next(n for n in range(6, 99) if detectable(sd, n) <= 0.05)
        first, either = looks.pairs_needed(0.05, sd)
        line = f"| {sd:.2f} | {one} | {first} | {either} ({second_look(either)}) |"
        assert line in text
    for pairs in (FEWEST_PAIRS, MOST_PAIRS):
        found = [looks.power(0.05, sd, pairs) for sd in (0.07, 0.10, 0.14)]
        for look in zip(*found, strict=True):
            assert "{:.0%}, {:.0%} and {:.0%}".format(*look).replace("%", " %") in text
    rung = {}
    for name in ("quick", "medium"):
        values = scores(read_rows(FOLDER / f"fig5a-{name}.csv"), "normal", 1.0, "mig").values()
        rung[name] = 0.05 / np.mean(list(values))
    assert (
        f"{rung['quick']:.0%}".replace("%", " %") + " of the\nbaseline's mean at `quick`" in text
    )
    assert f"{rung['medium']:.0%}".replace("%", " %") + " at `medium`" in text


def test_the_protocol_states_what_log_px_was_at_medium():
    text = PAGE.read_text(encoding="utf-8")
    rows = read_rows(FOLDER / "fig5a-medium.csv")
    found = {arm: scores(rows, arm, 1.0, "log_px") for arm in PRIMARY + SECONDARY}
    normal, isa, scaled, strong = (
        np.array([found[arm][seed] for seed in range(10)])
        for arm in ("normal", "isa-released", "normal-0.495", "isa-4-4")
    )
    for d, words in (
        (
            (isa + scaled - normal - strong) / 2,
            "{:.1f} nats below those of variance 1 (paired t {:.1f};",
        ),
        ((isa + scaled) / 2 - normal, "without (4, 4) among the latter {:.1f}, t {:.1f})"),
        (strong - normal, "(4, 4) is {:.1f} above the normal prior (t {:.1f})"),
    ):
        assert words.format(abs(d.mean()), stats.ttest_1samp(d, 0).statistic) in text
