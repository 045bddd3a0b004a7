"""A small renderer of triangle meshes in NumPy: orthographic view, z-buffer, Lambert's law.

In space x points right, y up and z to the viewer. A triangle is visible if its corners run
counter-clockwise; back faces are culled, so a mesh should be closed.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DEPTH_STEPS = 2**30  # depths are integers, so that a depth and a triangle fit into one int64
SLACK = 1e-9  # a pixel centre on an edge belongs to both triangles despite rounding


def spread(count: int, low: float, high: float) -> NDArray[np.float64]:
    """`count` evenly spaced values from low to high; a single one is in the middle."""
    return np.linspace(low, high, count) if count > 1 else np.array([(low + high) / 2])


def rotation(azimuth: float, elevation: float) -> NDArray[np.float64]:
    """Rotation matrix for column vectors: around the vertical, then tilting towards the viewer.

    Angles are in degrees. Azimuth 90 turns the front to the right of the image; at elevation 90
    the viewer looks straight down.
    """
    a, e = np.radians([azimuth, elevation])
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    lean = np.array([[1, 0, 0], [0, np.cos(e), -np.sin(e)], [0, np.sin(e), np.cos(e)]])
    return lean @ turn


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normalise vectors to length one; zero vectors stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-300)


def face_normals(
    vertices: NDArray[np.float64], triangles: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Outward normal of each triangle, with a length of twice its area: (T, 3)."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def vertex_normals(
    vertices: NDArray[np.float64], triangles: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Area-weighted unit normal of the triangles around each vertex: (V, 3)."""
    normals = np.zeros((len(vertices), 3))
    np.add.at(normals, triangles.ravel(), np.repeat(face_normals(vertices, triangles), 3, axis=0))
    return unit(normals)


def rasterise(
    points: NDArray[np.float64], triangles: NDArray[np.integer], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Find the triangle that is visible at the centre of each pixel.

    Args:
        points: Vertices, (V, 3); x and y from 0 to `size` are in the image (y up), larger z is
            nearer.
        triangles: Corners, counter-clockwise if visible, (T, 3).
        size: Rows and columns of the image.

    Returns:
        For the P pixels covered by a triangle, in ascending order: the index (`size` x row +
        column, row 0 on top), the triangle, and the weights of its three corners, (3, P).
    """
    x, y, z = points[triangles].transpose(2, 1, 0)  # each (corner 3, T)
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    front = np.flatnonzero(area > 1e-12)
    x, y, z = x[:, front], y[:, front], nearness(z)[:, front]
    pair, column, row = boxes(x, y, size)
    a, b, c = planes(x, y, area[front])
    u, v = (a[k, pair] * column + b[k, pair] * row + c[k, pair] for k in (0, 1))
    inside = np.flatnonzero((u >= -SLACK) & (v >= -SLACK) & (u + v <= 1 + SLACK))
    pair, u, v = pair[inside], u[inside], v[inside]
    weights = np.stack([u, v, 1 - u - v])
    pixel = size * (size - 1 - row[inside]) + column[inside]
    depth = (weights * z[:, pair]).sum(0).round().astype(np.int64)
    key = depth << 32 | pair  # at equal depth the later triangle is visible
    buffer = np.full(size * size, -1)
    np.maximum.at(buffer, pixel, key)
    seen = np.flatnonzero(buffer[pixel] == key)
    seen = seen[np.argsort(pixel[seen])]
    return pixel[seen], front[pair[seen]], weights[:, seen]


def planes(
    x: NDArray[np.float64], y: NDArray[np.float64], area: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """Coefficients a, b, c of two corner weights a column + b row + c, rows up: each (2, T)."""
    x, y = x - 0.5, y - 0.5  # pixel 0 has its centre at 1/2
    right, up = x[[1, 2]], y[[1, 2]]  # the next corner, and the one after it
    right2, up2 = x[[2, 0]], y[[2, 0]]
    return (up - up2) / area, (right2 - right) / area, (right * up2 - right2 * up) / area


def nearness(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale depth to 0 ... DEPTH_STEPS; larger is nearer."""
    low, high = z.min(initial=np.inf), z.max(initial=-np.inf)
    return (z - low) * (DEPTH_STEPS / max(high - low, 1e-12))


def boxes(
    x: NDArray[np.float64], y: NDArray[np.float64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """All pixels in the bounding box of each triangle: triangle, column, row from the bottom."""
    (left, width), (bottom, height) = (interval(v, size) for v in (x, y))
    count = width * height
    triangle = np.repeat(np.arange(len(count)), count)
    within = np.arange(len(triangle)) - np.repeat(np.cumsum(count) - count, count)
    row = within // width[triangle]
    column = within - row * width[triangle]
    return triangle, left[triangle] + column, bottom[triangle] + row


def interval(v: NDArray[np.float64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First pixel with its centre in the span of the corners (3, T), and the number of them."""
    low = np.ceil(v.min(0) - 0.5 - SLACK).clip(0, size).astype(np.int64)
    high = np.floor(v.max(0) - 0.5 + SLACK).clip(-1, size - 1).astype(np.int64)
    return low, np.maximum(high - low + 1, 0)


def lambert(
    normals: NDArray[np.float64], lights: NDArray[np.float64], ambient: float
) -> NDArray[np.float64]:
    """Brightness, 0 to 1, of surfaces with normals (P, 3) under L light directions: (L, P)."""
    return ambient + (1 - ambient) * np.maximum(unit(lights) @ unit(normals).T, 0)


def halve(images: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Average every 2 x 2 pixels: (..., 2 h, 2 w), 0 to 255 -> (..., h, w) bytes."""
    images = images.astype(np.float64, copy=False)  # the sum of four bytes would overflow
    rows = images[..., ::2, :] + images[..., 1::2, :]
    return np.floor((rows[..., ::2] + rows[..., 1::2]) / 4 + 0.5).astype(np.uint8)


def write_sheet(images: NDArray[np.uint8], columns: int, path: str | Path) -> None:
    """Write images (N, channels, height, width) row by row into one png, with white gaps."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=255)
    grid = padded.reshape(-1, columns, *padded.shape[1:]).transpose(0, 3, 1, 4, 2)
    sheet = grid.reshape(grid.shape[0] * grid.shape[1], -1, grid.shape[-1])
    Image.fromarray(sheet.squeeze(-1) if sheet.shape[-1] == 1 else sheet).save(path, optimize=True)
