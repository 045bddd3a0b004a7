"""Intervals over tiles, against the same resampling written out tile by tile."""

import numpy as np
import pytest

from findings.rows_of_fits import outcome
from findings.tile_bootstrap import TileBootstrap

RESAMPLES = 3000


@pytest.fixture(scope="module")
def drawn():
    """Values of patches in tiles of different sizes: 8 of one photograph and 5 of another."""
    generator = np.random.default_rng(1)
    sizes = generator.integers(3, 30, 13)
    tiles = np.repeat(np.arange(13), sizes)
    photographs = (tiles >= 8).astype(int)
    values = generator.normal(size=13)[tiles] + 0.3 * generator.normal(size=len(tiles))
    return tiles, photographs, values


def test_means_are_those_of_the_patches_of_the_drawn_tiles(drawn):
    tiles, photographs, values = drawn
    bootstrap = TileBootstrap(tiles, photographs, 50, seed=0)
    assert (bootstrap.counts[:, :8].sum(1) == 8).all()
    assert (bootstrap.counts[:, 8:].sum(1) == 5).all()
    for counts, mean in zip(bootstrap.counts, bootstrap.means(values), strict=True):
        pooled = np.concatenate(
            [values[tiles == k] for k in range(13) for _ in range(int(counts[k]))]
        )
        assert mean == pytest.approx(pooled.mean())


def test_the_interval_is_that_of_a_direct_computation(drawn):
    tiles, photographs, values = drawn
    found = TileBootstrap(tiles, photographs, RESAMPLES, seed=0).estimate(values)
    generator, means = np.random.default_rng(7), []
    for _ in range(RESAMPLES):
        chosen = [*generator.choice(8, 8), *(8 + generator.choice(5, 5))]
        means.append(np.concatenate([values[tiles == k] for k in chosen]).mean())
    low, high = np.percentile(means, [2.5, 97.5])
    spread = np.std(means)
    assert found.mean == pytest.approx(values.mean())
    assert abs(found.low - low) < 0.15 * spread and abs(found.high - high) < 0.15 * spread


def test_differences_are_paired(drawn):
    tiles, photographs, values = drawn
    bootstrap = TileBootstrap(tiles, photographs, 500, seed=0)
    shifted = values - 0.25
    paired = bootstrap.means(values) - bootstrap.means(shifted)
    assert np.allclose(bootstrap.means(values - shifted), paired)
    gain = bootstrap.estimate(values - shifted)
    assert gain.low == pytest.approx(0.25) and gain.high == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.1, 0.3, "as expected"), (-0.3, -0.1, "the other way"), (-0.1, 0.1, "undecided")],
)
def test_an_interval_says_what_came_out(low, high, word):
    assert outcome({"mean": 0.0, "low": low, "high": high}) == word
