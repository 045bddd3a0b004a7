"""People for the 3D Faces stand-in: a CC0 head with random combinations of shape targets.

The mesh is the head of the MakeHuman base mesh; its licence is heads/LICENSE.CC0.md.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.mesh import vertex_normals

MESH = Path(__file__).parent / "heads" / "makehuman_head.npz"
SEED = 2019
EYES = slice(-144, None)  # the vertices of both eyeballs come last in the mesh
LIPS = ("mouth/mouth-upperlip-volume-incr", "mouth/mouth-lowerlip-volume-incr")
PIVOT = np.array([0, -0.12, -0.75])  # approximate vector from the eyes to the middle of the skull
OPPOSITES = {  # suffixes of targets that are the two ends of one axis
    "decr": "incr",
    "down": "up",
    "in": "out",
    "backward": "forward",
    "concave": "convex",
    "compress": "uncompress",
}
INVERSE = {plus: minus for minus, plus in OPPOSITES.items()}


@dataclass(frozen=True)
class Targets:
    """Shape targets: their names and the displacement of each vertex."""

    names: tuple[str, ...]
    deltas: NDArray[np.float64]  # (targets, vertices, 3)


@dataclass(frozen=True)
class Head:
    """One person facing the viewer, in decimetres from the middle of the skull."""

    vertices: NDArray[np.float64]  # (V, 3)
    normals: NDArray[np.float64]  # (V, 3)
    tones: NDArray[np.float64]  # grey of each vertex, from 0 to 1: (V,)
    triangles: NDArray[np.int64]  # (T, 3)


@cache
def read_mesh() -> tuple[NDArray[np.float64], NDArray[np.int64], Targets]:
    """Read vertices (V, 3), triangles (T, 3) and shape targets of the mesh."""
    with np.load(MESH, allow_pickle=False) as file:
        targets = Targets(tuple(file["names"].tolist()), file["deltas"].astype(np.float64))
        return file["vertices"].astype(np.float64), file["triangles"].astype(np.int64), targets


def make_head(identity: int) -> Head:
    """Make the person with a given number, who does not depend on the others."""
    base, triangles, targets = read_mesh()
    weights = target_weights(identity, targets.names)
    vertices = base + np.tensordot(weights, targets.deltas, axes=1)
    vertices -= vertices[EYES].mean(0) + PIVOT  # removes differences in body height
    tones = tones_of(identity, base, targets)
    edge = open_edge(triangles)
    longer = vertices[edge[:, 0]] + np.array([0, -2.0, -0.4])
    vertices = np.concatenate([vertices, longer])
    triangles = np.concatenate([triangles, band(edge, len(base))])
    normals = vertex_normals(vertices, triangles)
    return Head(vertices, normals, np.concatenate([tones, tones[edge[:, 0]]]), triangles)


def target_weights(identity: int, names: tuple[str, ...]) -> NDArray[np.float64]:
    """Random weights of the shape targets for a person: (targets,)."""
    rng = np.random.default_rng([SEED, identity])
    weights = np.zeros(len(names))
    for minus, plus in axes(names):
        strength = float(np.clip(0.25 * rng.normal(), -1, 1))
        weights[plus if strength > 0 else minus] = abs(strength)
    kinds = [k for k, name in enumerate(names) if name.startswith("macrodetails/")]
    weights[kinds] = rng.dirichlet(np.full(len(kinds), 0.5))  # the targets of whole people
    return weights


def axes(names: tuple[str, ...]) -> list[tuple[list[int], list[int]]]:
    """Axes of variation: the targets at the low end and those at the high end of each.

    Left and right form one axis, since faces are nearly symmetric. A target without an opposite
    has no low end. Translations of the head are ignored, and targets of whole people are blended
    separately.
    """
    ends: dict[str, tuple[list[int], list[int]]] = {}
    for k, name in enumerate(names):
        if name.startswith(("macrodetails/", "head/head-trans")):
            continue
        stem, _, end = name.rpartition("-")
        minus = end if end in OPPOSITES else INVERSE.get(end, "")
        paired = {f"{stem}-{minus}", f"{stem}-{OPPOSITES.get(minus)}"} <= set(names)
        key = re.sub("/[lr]-", "/", f"{stem}-{minus}" if paired else name)
        ends.setdefault(key, ([], []))[not (paired and end == minus)].append(k)
    return list(ends.values())


def tones_of(
    identity: int, vertices: NDArray[np.float64], targets: Targets
) -> NDArray[np.float64]:
    """Grey value of each vertex: a random skin tone, darker lips, eyes with an iris."""
    tones = np.full(len(vertices), np.random.default_rng([SEED, identity, 1]).uniform(0.55, 0.9))
    for name in LIPS:
        moved = np.linalg.norm(targets.deltas[targets.names.index(name)], axis=-1)
        tones *= 1 - 0.4 * np.clip(2 * moved / moved.max(), 0, 1)
    front = vertices[EYES, 2]
    tones[EYES] = np.where(front > front.max() - 0.03, 0.1, 0.95)
    return tones


def open_edge(triangles: NDArray[np.int64]) -> NDArray[np.int64]:
    """Edges with a triangle on only one side, where the neck was cut: (E, 2)."""
    edges = np.concatenate([triangles[:, [k, (k + 1) % 3]] for k in range(3)])
    known = {tuple(edge) for edge in edges.tolist()}
    return np.array([edge for edge in edges.tolist() if (edge[1], edge[0]) not in known])


def band(edge: NDArray[np.int64], start: int) -> NDArray[np.int64]:
    """Triangles between an open edge and a copy of its vertices from `start` on: (2 E, 3)."""
    copy = {vertex: start + k for k, vertex in enumerate(edge[:, 0].tolist())}
    quads = [(b, a, copy[a], copy[b]) for a, b in edge.tolist()]
    return np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
