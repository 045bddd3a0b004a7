"""Render dSprites: three outlines, filled row by row without anti-aliasing.

The original images were filled by Love2D: vertices are snapped to 1/256 pixel, and a pixel is on
iff its centre lies inside the polygon (even-odd rule). After snapping, all numbers are integers or
quotients whose ceiling is exact, so an image does not depend on rounding.

All original images that we could check are reproduced exactly, but a few others must differ: the
published set has 2 fewer lit pixels, and by the mean of its images' standard deviations at least
14 of 3.02e9 pixels differ (tests/examples/data/test_data.py). Vertices in float32, as in a
graphics library, would move some tens of pixels; the arithmetic of the original is not known.
"""

from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

FACTORS = ("color", "shape", "scale", "orientation", "posX", "posY")
SIZES = (1, 3, 6, 40, 32, 32)  # factor sizes, in the column order of the npz; posY varies fastest
MIG_FACTORS = ("scale", "orientation", "posX", "posY")  # Chen et al. leave shape out
SHAPES = ("square", "ellipse", "heart")

SUBPIXEL = 256  # vertices live on a grid of 1/256 pixel
RADIUS = 9.6  # half of 0.3 x 64 pixels
CENTRES = 16 + 32 * np.arange(32) / 31  # of both posX and posY, in pixels

# PREFIX[k] has pixels k, ..., 63 of a row on; pixel i is bit i. The XOR of two is a span.
PREFIX = np.array([(2**64 - 1) >> k << k for k in range(64)] + [0], dtype=np.uint64)


@cache
def outline(shape: int) -> NDArray[np.float64]:
    """Vertices of a shape at scale 1 and orientation 0, x right and y up, in pixels: (V, 2)."""
    if SHAPES[shape] == "square":
        return RADIUS * np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
    if SHAPES[shape] == "ellipse":
        t = 2 * np.pi * np.arange(100) / 100
        return RADIUS * np.stack([1.33 * np.cos(t), np.sin(t) / 1.33], axis=-1)
    t = 2 * np.pi * np.arange(150) / 150
    lobes = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return 2 * RADIUS * np.stack([np.sin(t) ** 3 / 2, 0.075 + lobes / 29], axis=-1)


def vertices(shape: int, scale: int, orientation: int) -> tuple[NDArray[np.float64], ...]:
    """Snapped x for every posX and y (down) for every posY, in 1/256 pixel; both (32, V)."""
    theta = 2 * np.pi * (orientation % 39) / 39  # orientation 39 is a full turn: the same picture
    x, y = (0.5 + 0.1 * scale) * outline(shape).T
    right = x * np.cos(theta) - y * np.sin(theta)
    down = -(x * np.sin(theta) + y * np.cos(theta))
    snap = [np.floor((CENTRES[:, None] + v) * SUBPIXEL + 0.5) for v in (right, down)]
    return snap[0], snap[1]


def crossings(y: NDArray[np.float64]) -> tuple[NDArray[np.int64], ...]:
    """Crossings of the outline with the centre lines of pixel rows, sorted by (posY, row).

    Returns:
        For each crossing: 64 posY + row, and the upper and lower vertex of its edge.
    """
    start = np.arange(y.shape[1])
    end = np.roll(start, -1)
    flipped = y[:, start] > y[:, end]
    upper, lower = np.where(flipped, end, start), np.where(flipped, start, end)
    # An edge owns the centre lines in (top, bottom], so a shared vertex counts once.
    top, bottom = (np.floor(np.take_along_axis(y, v, 1) / SUBPIXEL + 0.5) for v in (upper, lower))
    count = (bottom - top).astype(np.int64).ravel()
    edge = np.repeat(np.arange(count.size), count)
    within = np.arange(edge.size) - np.repeat(np.cumsum(count) - count, count)
    line = 64 * (edge // y.shape[1]) + top.ravel()[edge].astype(np.int64) + within
    order = np.argsort(line, kind="stable")
    return line[order], upper.ravel()[edge][order], lower.ravel()[edge][order]


def render_plane(shape: int, scale: int, orientation: int) -> NDArray[np.uint64]:
    """Render one sprite at all positions, 64 pixels per word: (posX 32, posY 32, row 64)."""
    x, y = vertices(shape, scale, orientation)
    line, upper, lower = crossings(y)
    pos_y, row = np.divmod(line, 64)
    above = SUBPIXEL * row + SUBPIXEL // 2 - y[pos_y, upper]
    height = y[pos_y, lower] - y[pos_y, upper]
    # The ceiling of the crossing's x minus half a pixel is the first pixel to the right. A float64
    # quotient of integers is an integer only if the exact one is, so the ceiling is exact.
    cut = x[:, upper] * (height - above) + x[:, lower] * above - height * (SUBPIXEL // 2)
    first = np.ceil(cut / (height * SUBPIXEL)).astype(np.int64)
    starts = np.flatnonzero(np.diff(line, prepend=-1))
    plane = np.zeros((32, 32 * 64), dtype=np.uint64)
    plane[:, line[starts]] = np.bitwise_xor.reduceat(PREFIX[first], starts, axis=1)
    return plane.reshape(32, 32, 64)


def render_dsprites(classes: ArrayLike) -> NDArray[np.uint8]:
    """Render the sprites with the given factors.

    Args:
        classes: Integers from 0, (N, 6): color, shape, scale, orientation, posX, posY.

    Returns:
        Images of zeros and ones, (N, 64, 64): 4 kB each, 3 GB for the whole set.
    """
    words = render_words(check_classes(classes))
    return np.unpackbits(as_bytes(words), axis=-1, bitorder="little").reshape(-1, 64, 64)


def render_words(classes: NDArray[np.int64], progress: bool = False) -> NDArray[np.uint64]:
    """Like render_dsprites, with 64 pixels per word: (N, row 64)."""
    words = np.empty((len(classes), 64), dtype=np.uint64)
    kind = np.ravel_multi_index(tuple(classes[:, 1:4].T), SIZES[1:4])
    order = np.argsort(kind, kind="stable")
    ends = np.flatnonzero(np.diff(kind[order], append=-1)) + 1
    blocks = [order[start:end] for start, end in pairwise([0, *ends])]
    for rows in tqdm(blocks, desc="drawing dSprites", unit="sprite", disable=not progress):
        shape, scale, orientation, pos_x, pos_y = classes[rows, 1:].T
        plane = render_plane(int(shape[0]), int(scale[0]), int(orientation[0]))
        words[rows] = plane[pos_x, pos_y]
    return words


def as_bytes(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """View (N, 64) words as (N, 512) bytes; pixel 8 i + j of an image is bit j of byte i."""
    return words.astype("<u8", copy=False).view(np.uint8)


def all_classes() -> NDArray[np.int64]:
    """Factors of the whole set, in its order: (737280, 6)."""
    return np.stack(np.unravel_index(np.arange(np.prod(SIZES)), SIZES), axis=-1)


def check_classes(classes: ArrayLike) -> NDArray[np.int64]:
    """Convert the classes to int64, or raise an error that names the invalid column."""
    array = np.asarray(classes)
    if array.ndim != 2 or array.shape[1] != len(FACTORS):
        raise ValueError(
            f"classes must have shape (N, 6), the columns {', '.join(FACTORS)}, "
            f"but got {array.shape}"
        )
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"classes must have an integer dtype, but got {array.dtype}")
    for column, (factor, size) in enumerate(zip(FACTORS, SIZES, strict=True)):
        wrong = np.flatnonzero((array[:, column] < 0) | (array[:, column] >= size))
        if wrong.size:
            raise ValueError(
                f"column {column} ({factor}) of classes must lie in 0..{size - 1}, "
                f"but row {wrong[0]} has {array[wrong[0], column]}"
            )
    return array.astype(np.int64)
