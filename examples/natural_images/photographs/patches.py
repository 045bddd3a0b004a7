"""Patches of the two photographs of scikit-learn, from fitted and from held-out tiles."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
PERIOD, HELD_OUT = 3, 2  # a tile is held out where (row + column) % PERIOD == HELD_OUT


@dataclass(frozen=True)
class Patches:
    """Patches, one per row, and their positions."""

    pixels: Array  # (N, size * size), row by row
    photograph: IntArray  # (N,)
    corner: IntArray  # (N, 2): the row and the column of the upper left pixel
    tile: IntArray  # (N, 2): the row and the column of its tile

    @property
    def tile_index(self) -> IntArray:
        """The number of each patch's tile, counted by photograph, row and column."""
        places = np.column_stack([self.photograph, self.tile])
        return np.unique(places, axis=0, return_inverse=True)[1].reshape(-1)


def photographs(shrink: int, seed: int) -> list[Array]:
    """The two photographs in grey, levels 0 to 256, averaged over squares of side `shrink` pixels.

    Uniform noise of width 1 is added to the integer levels: without it, densities would be
    unbounded.
    """
    generator = np.random.default_rng(seed)
    images = []
    for image in load_sample_images().images:
        grey = (image + generator.random(image.shape)) @ np.array(LUMINANCE)
        rows, columns = (side // shrink for side in grey.shape)
        squares = grey[: rows * shrink, : columns * shrink].reshape(rows, shrink, columns, shrink)
        images.append(squares.mean((1, 3)))
    return images


def corners(shape: tuple[int, int], size: int, tile: int) -> IntArray:
    """The upper left pixel of every patch that lies within one tile, ``(N, 2)``."""
    rows, columns = (
        start[start // tile == (start + size - 1) // tile]
        for start in (np.arange(side - size + 1) for side in shape)
    )
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)


def is_held_out(tile: IntArray) -> NDArray[np.bool_]:
    """Which of the tiles ``(N, 2)`` are held out: every third of a row, shifted row by row."""
    return tile.sum(1) % PERIOD == HELD_OUT


def draw(
    images: Sequence[Array], size: int, tile: int, total: int, held_out: bool, seed: int
) -> Patches:
    """Draw distinct patches, equally many from each photograph, from fitted or held-out tiles."""
    generator = np.random.default_rng([seed, held_out])
    parts = []
    for number, image in enumerate(images):
        found = corners((image.shape[0], image.shape[1]), size, tile)
        found = found[is_held_out(found // tile) == held_out]
        share = total // len(images)
        if share > len(found):
            raise ValueError(
                f"photograph {number} has {len(found)} such patches, fewer than {share}"
            )
        chosen = found[np.sort(generator.choice(len(found), share, replace=False))]
        windows = np.lib.stride_tricks.sliding_window_view(image, (size, size))
        pixels = windows[chosen[:, 0], chosen[:, 1]].reshape(share, size * size)
        parts.append((pixels, np.full(share, number), chosen, chosen // tile))
    return Patches(*(np.concatenate(column) for column in zip(*parts, strict=True)))
