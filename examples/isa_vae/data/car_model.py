"""Cars for the cars3d stand-in: boxes with slanted sides and wheels, with random proportions."""

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.mesh import face_normals, lambert, rasterise

SEED = 2015
VIEW = 5.1  # width of an image in metres
LIGHT = np.array([[-0.5, 0.8, 0.6]])  # from the upper left, whatever the pose of the car
AMBIENT = 0.45
GLASS, RUBBER, STEEL, DARK = (
    (0.16, 0.2, 0.26),
    (0.1, 0.1, 0.1),
    (0.66, 0.67, 0.7),
    (0.2, 0.2, 0.21),
)
LAMP, BRAKE = (1.0, 0.95, 0.7), (0.75, 0.05, 0.05)

Colour = tuple[float, float, float]
Span = tuple[float, float]


@dataclass(frozen=True)
class Solid:
    """A closed mesh with one or more colours."""

    vertices: NDArray[np.float64]  # (V, 3), in metres; the car points along x, y is up
    triangles: NDArray[np.int64]  # (T, 3), counter-clockwise from outside
    colours: NDArray[np.float64]  # (T, 3), red, green and blue from 0 to 1


def join(solids: list[Solid]) -> Solid:
    """Merge several meshes into one."""
    starts = np.cumsum([0] + [len(solid.vertices) for solid in solids[:-1]])
    return Solid(
        np.concatenate([solid.vertices for solid in solids]),
        np.concatenate([s.triangles + start for s, start in zip(solids, starts, strict=True)]),
        np.concatenate([solid.colours for solid in solids]),
    )


def block(
    colour: Colour,
    y: Span,
    x: Span,
    z: float,
    top_x: Span | None = None,
    top_z: float | None = None,
) -> Solid:
    """A box between two heights: x from rear to front, z to both sides, optionally tapered."""
    top_x, top_z = top_x or x, z if top_z is None else top_z
    corners = [
        (px, height, side * pz)
        for height, span, pz in ((y[0], x, z), (y[1], top_x, top_z))
        for px, side in ((span[0], 1), (span[1], 1), (span[1], -1), (span[0], -1))
    ]
    quads = [(0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7), (4, 5, 6, 7), (3, 2, 1, 0)]
    triangles = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    return Solid(np.array(corners, dtype=float), triangles, np.tile(colour, (12, 1)))


def disc(colour: Colour, centre: Span, radius: float, z: Span, sides: int = 20) -> Solid:
    """A cylinder around an axis parallel to z through (x, y)."""
    angle = 2 * np.pi * np.arange(sides) / sides
    rim = np.stack(
        [centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], axis=1
    )
    rings = [np.column_stack([rim, np.full(sides, depth)]) for depth in z]
    hubs = np.array([(*centre, z[0]), (*centre, z[1])])
    k = np.arange(sides)
    after, back, front = (k + 1) % sides, np.full(sides, 2 * sides), np.full(sides, 2 * sides + 1)
    corners = [
        (k, after, after + sides),
        (k, after + sides, k + sides),
        (back, after, k),
        (front, k + sides, after + sides),
    ]
    triangles = np.concatenate([np.stack(c, axis=1) for c in corners])
    return Solid(np.concatenate([*rings, hubs]), triangles, np.tile(colour, (4 * sides, 1)))


def make_car(model: int) -> Solid:
    """Make the car with a given number, which does not depend on how many are rendered."""
    rng = np.random.default_rng([SEED, model])
    paint = paint_of(rng)
    length, half = rng.uniform(3.2, 4.5), rng.uniform(0.78, 0.98)
    wheel, floor = rng.uniform(0.29, 0.4), rng.uniform(0.16, 0.32)
    waist = floor + rng.uniform(0.5, 0.72)  # between body and windows
    roof = waist + rng.uniform(0.38, 0.72)
    rear, front = -length / 2, length / 2
    hood, trunk = length * rng.uniform(0.12, 0.32), length * rng.uniform(0.01, 0.24)
    cabin = (rear + trunk, front - hood)
    rake = (roof - waist) * rng.uniform(0.05, 0.9, 2)  # of rear window and windscreen
    top = (cabin[0] + rake[0], cabin[1] - rake[1] * 1.2)
    nose = rng.uniform(0.0, 0.15)
    solids = [
        block(
            paint,
            (floor, waist),
            (rear, front),
            half,
            (rear + nose / 2, front - nose),
            half * 0.94,
        ),
        *make_cabin(paint, cabin, top, (waist, roof), half),
        block(DARK, (floor - 0.02, floor + 0.14), (rear - 0.07, front + 0.07), half * 0.96),
        *make_lamps(rear, front, floor + 0.6 * (waist - floor), half, rng.uniform(0.06, 0.13)),
    ]
    axle = rng.uniform(0.58, 0.66) * length / 2
    for x in (-axle, axle):
        solids += make_wheels((x, wheel), wheel, half)
    return join(solids)


def paint_of(rng: np.random.Generator) -> Colour:
    """A random colour of any hue, or one of the greys that many cars have."""
    hue, saturation, value = rng.uniform(), rng.uniform(0.45, 1), rng.uniform(0.35, 0.95)
    return colorsys.hsv_to_rgb(hue, saturation if rng.uniform() < 0.75 else 0.03, value)


def make_cabin(paint: Colour, x: Span, top_x: Span, y: Span, half: float) -> list[Solid]:
    """The cabin in the car's colour, roof included, with slightly protruding windows."""
    z, top_z = half * 0.92, half * 0.74

    def slice_of(colour: Colour, low: float, high: float, out: float, shrink: float) -> Solid:
        """Part of the cabin between two heights in [0, 1], moved outwards and shortened in x."""

        def at(t: float) -> tuple[Span, float]:
            span = (x[0] + t * (top_x[0] - x[0]), x[1] + t * (top_x[1] - x[1]))
            return (span[0] + shrink, span[1] - shrink), z + t * (top_z - z) + out

        (span, side), (upper, upper_side) = at(low), at(high)
        heights = (y[0] + low * (y[1] - y[0]), y[0] + high * (y[1] - y[0]))
        return block(colour, heights, span, side, upper, upper_side)

    return [
        slice_of(paint, 0, 1, 0, 0),
        slice_of(GLASS, 0.08, 0.86, 0.012, 0.16),  # side windows
        slice_of(GLASS, 0.08, 0.86, -0.1, -0.012),  # windscreen and rear window
    ]


def make_lamps(rear: float, front: float, y: float, half: float, size: float) -> list[Solid]:
    """Two lamps in front and two behind, so that front and rear can be distinguished."""
    solids = []
    for colour, x in ((LAMP, front), (BRAKE, rear)):
        for side in (-1, 1):
            lamp = block(colour, (y - size, y + size), (x - 0.14, x + 0.04), 1.4 * size)
            shifted = lamp.vertices + np.array([0, 0, side * (half - 1.5 * size - 0.05)])
            solids.append(Solid(shifted, lamp.triangles, lamp.colours))
    return solids


def make_wheels(centre: Span, radius: float, half: float) -> list[Solid]:
    """Both wheels of an axle: arches in the body, tyres and hubs."""
    inner, outer = half - 0.2, half + 0.02
    return [
        disc(colour, centre, share * radius, depth)
        for side in (-1, 1)
        for colour, share, out in ((DARK, 1.18, 0.0), (RUBBER, 1.0, 0.02), (STEEL, 0.58, 0.03))
        for depth in [tuple(sorted((side * inner, side * (outer + out))))]
    ]


def render(car: Solid, pose: NDArray[np.float64], size: int = 128) -> NDArray[np.uint8]:
    """Render a car in one pose on white: (size, size, 3)."""
    scale = size / VIEW
    vertices = (car.vertices - np.array([0, 0.7, 0])) @ pose.T
    points = vertices * scale + np.array([size / 2, size / 2, 0])
    pixel, triangle, _ = rasterise(points, car.triangles, size)
    light = lambert(face_normals(vertices, car.triangles), LIGHT, AMBIENT)[0]
    canvas = np.full((size * size, 3), 255, dtype=np.uint8)
    canvas[pixel] = (255 * car.colours * light[:, None]).round().astype(np.uint8)[triangle]
    return canvas.reshape(size, size, 3)
