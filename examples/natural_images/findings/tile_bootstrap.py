"""Intervals for means over held-out patches, by resampling the tiles that they come from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A mean over all held-out patches, and its 95 % interval."""

    mean: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """The estimate as a dictionary of plain values."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


class TileBootstrap:
    """A bootstrap that uses the same resampled tiles for every estimate, so estimates are paired.

    Patches of a tile overlap and look alike, so whole tiles are drawn, with replacement and within
    each photograph; each patch counts as often as its tile was drawn.
    """

    def __init__(self, tiles: IntArray, photographs: IntArray, resamples: int, seed: int) -> None:
        self.tiles, self.sizes = tiles, np.bincount(tiles)
        owner = np.zeros(len(self.sizes), int)
        owner[tiles] = photographs
        generator = np.random.default_rng(seed)
        self.counts = np.zeros((resamples, len(self.sizes)))
        for photograph in np.unique(owner):
            (mine,) = np.nonzero(owner == photograph)
            even = np.full(len(mine), 1 / len(mine))
            self.counts[:, mine] = generator.multinomial(len(mine), even, size=resamples)

    def means(self, values: Array) -> Array:
        """The mean over all drawn patches, for each resample."""
        sums = np.bincount(self.tiles, values, len(self.sizes))
        return np.asarray(self.counts @ sums / (self.counts @ self.sizes))

    def estimate(self, values: Array) -> Estimate:
        """Estimate from one value per patch; for a paired comparison, pass the differences."""
        low, high = np.quantile(self.means(values), [0.025, 0.975])
        return Estimate(float(values.mean()), float(low), float(high))
