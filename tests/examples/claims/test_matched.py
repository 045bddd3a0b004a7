"""The MIG at matched log p(x|z) by hand and by quadrature, and its size and bias by simulation."""

import numpy as np
import pytest

from claims import statistics
from claims.bootstrap import expanded_interval, resampled
from claims.statistics import below_p, permutation_p

# Shaped like the curves of fig5b-quick: means of nine betas, and spreads of log p(x|z).
MIG = np.array([0.060, 0.085, 0.090, 0.110, 0.115, 0.120, 0.125, 0.135, 0.140])
JAGGED = np.array([0.068, 0.105, 0.072, 0.124, 0.105, 0.126, 0.131, 0.131, 0.140])
LOG_PX = np.array([-103.7, -105.9, -106.1, -107.3, -108.4, -109.7, -110.9, -112.4, -115.1])
SPREAD = np.array([2.1, 2.0, 2.0, 1.3, 1.0, 0.6, 0.7, 1.2, 1.2])
D = np.array([0.05, 0.0])  # a difference of MIG


def curve(*points):
    """One seed of one arm, from (MIG, log p(x|z)) of each beta."""
    return np.array(points, float)[None]


def difference(a, b):
    first, second = statistics.matched_levels(a[None], b[None])
    return (first - second).item()


def test_levels_by_hand():
    a = curve((0.1, -10.0), (0.3, -14.0), (0.2, -20.0))
    b = curve((0.0, -12.0), (0.2, -16.0))
    first, second = (x.item() for x in statistics.matched_levels(a[None], b[None]))
    # between -16 and -12: a is 0.2 at -12, 0.3 at -14 and 0.3 - 0.1 / 3 at -16
    assert first == pytest.approx(((0.2 + 0.3) / 2 * 2 + (0.3 + 0.3 - 0.1 / 3) / 2 * 2) / 4)
    assert second == pytest.approx(0.1)


def test_area_by_quadrature():
    generator = np.random.default_rng(0)
    curves = np.stack([generator.random((5, 7)), generator.normal(size=(5, 7))], -1)
    curves = statistics.in_order(curves)
    low, high = curves[:, 1, 1] + 0.01, curves[:, 5, 1] + 0.02
    found = statistics.area(curves, low, high)
    for k, (mig, log_px) in enumerate(np.moveaxis(curves, -1, 1)):
        x = low[k] + (high[k] - low[k]) * (np.arange(200_000) + 0.5) / 200_000
        wanted = np.interp(x, log_px, mig).mean() * (high[k] - low[k])
        assert found[k] == pytest.approx(wanted, abs=1e-7)


def test_points_count_in_the_order_of_their_log_px():
    points = [(0.1, -10.0), (0.3, -14.0), (0.2, -12.0)]
    b = curve((0.0, -10.0), (0.0, -14.0))
    assert difference(curve(*points), b) == difference(curve(*points[::-1]), b)


def test_two_points_in_one_place_are_no_division_by_zero():
    a = curve((0.1, -10.0), (0.3, -12.0), (0.5, -12.0), (0.5, -14.0))
    found = difference(a, curve((0.0, -10.0), (0.0, -14.0)))
    assert found == pytest.approx((0.2 + 0.5) / 2)


def test_a_shift_of_the_mig_is_the_difference_and_one_of_both_changes_nothing():
    a = np.stack([np.tile(MIG, (4, 1)), np.tile(LOG_PX, (4, 1))], -1)
    assert difference(a + D, a) == pytest.approx(0.05, abs=1e-12)
    moved = a + np.array([0.02, 5.0])
    assert difference(moved, moved) == 0


def test_curves_that_do_not_meet_have_no_level_and_decide_nothing():
    a = np.stack([np.tile(MIG, (8, 1)), np.tile(LOG_PX, (8, 1))], -1)
    far = a + np.array([0.5, 40.0])
    assert np.isnan(difference(far, a))
    assert permutation_p(far, a, True, levels=statistics.matched_levels) == 1.0
    assert below_p(far, a, True, levels=statistics.matched_levels) == 1.0


def pairs(generator, spreads, mig, seeds=8):
    """Seeds of two arms with one true curve, (seeds, betas, 2) each."""
    return [
        np.stack(
            [
                mig + spread * generator.normal(size=(seeds, 9)),
                LOG_PX + SPREAD * generator.normal(size=(seeds, 9)),
            ],
            -1,
        )
        for spread in spreads
    ]


def best(curves, low, high):
    """What `levels` replaced: the best MIG with log p(x|z) >= t, averaged over t."""
    mig, log_px = np.moveaxis(statistics.in_order(curves)[..., ::-1, :], -1, 0)
    edges = np.concatenate([log_px.clip(low, high), np.full((*log_px.shape[:-1], 1), low)], -1)
    return -(np.maximum.accumulate(mig, -1) * np.diff(edges)).sum(-1) / (high - low)


@pytest.mark.slow
@pytest.mark.parametrize("mig", [MIG, JAGGED], ids=["smooth", "jagged"])
@pytest.mark.parametrize("spreads", [(0.09, 0.05), (0.05, 0.09), (0.05, 0.05)])
def test_one_true_curve_makes_no_difference_whatever_the_spreads(mig, spreads):
    generator, runs = np.random.default_rng(7), 500
    drawn = [pairs(generator, spreads, mig) for _ in range(runs)]
    found = np.array([difference(a, b) for a, b in drawn])
    rejected = np.mean(
        [permutation_p(a, b, True, levels=statistics.matched_levels) <= 0.05 for a, b in drawn]
    )
    assert abs(found.mean()) < 3 * found.std() / runs**0.5 < 0.002
    assert 0.025 < rejected < 0.08


def test_what_it_replaced_rewards_the_arm_that_varies_more():
    """The reason for the measure: a maximum of noisy means is larger where there is more noise."""
    generator = np.random.default_rng(7)
    found = []
    for _ in range(500):
        a, b = (x.mean(0) for x in pairs(generator, (0.09, 0.05), MIG))
        low, high = np.concatenate([a, b])[:, 1].min(), np.concatenate([a, b])[:, 1].max()
        found.append(best(a, low, high) - best(b, low, high))
    assert 0.008 < np.mean(found) < 0.014


@pytest.mark.slow
@pytest.mark.parametrize("spreads", [(0.09, 0.05), (0.05, 0.05)])
def test_a_true_difference_of_d_is_covered_and_seldom_excluded(spreads):
    generator, runs, excluded, covered = np.random.default_rng(8), 400, 0, 0
    for seed in range(runs):
        a, b = pairs(generator, spreads, MIG)
        a += D
        excluded += below_p(a - D, b, True, levels=statistics.matched_levels) <= 0.05
        first, second = resampled(a, b, True, statistics.matched_levels, 400, seed)
        low, high = expanded_interval(first - second, 8, 8, True)
        covered += low <= D[0] <= high
    assert 0.005 < excluded / runs < 0.05
    assert covered / runs > 0.92
