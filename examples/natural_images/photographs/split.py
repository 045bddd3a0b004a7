"""Whitened patches, to fit to and held out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from photographs.patches import Patches, draw, photographs
from photographs.whitening import Whitening, bits, fit_whitening

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """Patches to fit to and held out, and their whitened coordinates."""

    fitted: Patches
    held_out: Patches
    whitening: Whitening  # fitted to the patches of `fitted`
    x: Array  # (N, dim): whitened coordinates of `fitted`
    y: Array  # (M, dim): and of `held_out`

    def bits(self, log_prob: Array) -> Array:
        """Bits per component, from log densities of whitened coordinates."""
        return bits(log_prob, self.whitening)


def split(size: int, tile: int, shrink: int, totals: tuple[int, int], seed: int) -> Split:
    """Draw and whiten patches, to fit to and held out.

    Args:
        size: Side length of a patch in pixels.
        tile: Side length of a tile in pixels.
        shrink: Side length, in pixels, of the squares over which the photographs are averaged.
        totals: Numbers of patches to fit to and held out.
        seed: Seed of the noise and the patches.

    Raises:
        ValueError: If the photographs have too few patches.
    """
    images = photographs(shrink, seed)
    fitted = draw(images, size, tile, totals[0], held_out=False, seed=seed)
    held_out = draw(images, size, tile, totals[1], held_out=True, seed=seed)
    whitening = fit_whitening(fitted.pixels)
    return Split(fitted, held_out, whitening, whitening(fitted.pixels), whitening(held_out.pixels))
