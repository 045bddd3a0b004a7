"""Both kinds of tiles, white: what is fitted to, and what is held out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from photographs.patches import Patches, draw, photographs
from photographs.whitening import Whitening, bits, fit_whitening

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """Patches of both kinds of tiles, and their white coordinates."""

    fitted: Patches
    held_out: Patches
    whitening: Whitening  # of the patches that are fitted to
    x: Array  # (N, dim): the white coordinates of those
    y: Array  # (M, dim): and of those held out

    def bits(self, log_prob: Array) -> Array:
        """Bits per component, from log densities of white coordinates."""
        return bits(log_prob, self.whitening)


def split(size: int, tile: int, shrink: int, totals: tuple[int, int], seed: int) -> Split:
    """A function of the settings.

    Args:
        size: Pixels along a side of a patch.
        tile: Pixels along a side of a tile.
        shrink: The photographs are averaged over squares of so many pixels.
        totals: Patches to fit to, and held out.
        seed: Of everything random.

    Raises:
        ValueError: Where the photographs have not so many patches.
    """
    images = photographs(shrink, seed)
    fitted = draw(images, size, tile, totals[0], held_out=False, seed=seed)
    held_out = draw(images, size, tile, totals[1], held_out=True, seed=seed)
    whitening = fit_whitening(fitted.pixels)
    return Split(fitted, held_out, whitening, whitening(fitted.pixels), whitening(held_out.pixels))
