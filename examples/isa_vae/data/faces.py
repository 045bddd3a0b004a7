"""3D Faces: read from the original file, or a stand-in rendered from a CC0 head.

The original renders of the Basel face model may not be redistributed, so without them we render
our own: other heads in other light, with the same four factors. Never compare numbers on the two.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from data.head_model import Head, make_head
from data.mesh import halve, lambert, rasterise, rotation, spread, unit, write_sheet
from data.pictures import Pictures, read_cache, write_cache
from usage import reason

FACTORS = ("identity", "azimuth", "elevation", "lighting")
SIZES = (50, 21, 11, 11)  # factor sizes in the original file; lighting varies fastest
MIG_FACTORS = ("azimuth", "elevation", "lighting")  # Chen et al. leave identity out

CACHE_NAME = "faces-stand-in-v1"  # increment when an image changes
AZIMUTH, ELEVATION, LIGHTING = (-90, 90), (-25, 25), (-80, 80)  # first and last angle, degrees
VIEW = 2.7  # width of an image in decimetres
AMBIENT = 0.08


def load_faces_pth(path: str | Path, progress: bool = False) -> Pictures:
    """Load the original set, or a subset with any factor sizes, from `basel_face_renders.pth`.

    Reading takes a second, so `progress` is ignored.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected basel_face_renders.pth")
    images = read_tensor(path)
    return Pictures(
        images.numpy().reshape(-1, 64 * 64),
        all_classes(images.shape[:4]),
        source=str(path),
        factors=FACTORS,
        mig_factors=MIG_FACTORS,
    )


def read_tensor(path: Path) -> Tensor:
    """Read the tensor in a file without executing anything; any other content is rejected."""
    try:
        # Not memory-mapped: if another process truncated the file, this one would crash.
        images = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch can raise anything for a foreign file
        raise ValueError(wrong(path, f"not a readable tensor: {reason(error)}")) from error
    if type(images) is not Tensor:
        raise ValueError(wrong(path, f"holds a {type(images).__name__}"))
    plain = images.layout == torch.strided and images.device.type == "cpu"
    if not plain or images.dtype != torch.uint8 or images.shape[4:] != (64, 64):
        raise ValueError(wrong(path, f"holds {images.dtype} of shape {tuple(images.shape)}"))
    # With strides of zero a few bytes can claim to be a huge tensor.
    if images.numel() == 0 or not images.is_contiguous():
        raise ValueError(
            wrong(path, f"its tensor {tuple(images.shape)} is empty or not contiguous")
        )
    return images


def wrong(path: Path, found: str) -> str:
    return (
        f"{path}: {found}; expected basel_face_renders.pth, one contiguous torch.uint8 tensor of "
        "shape (identity, azimuth, elevation, lighting, 64, 64)"
    )


def draw_faces(
    cache: Path | None = None, progress: bool = False, sizes: Sequence[int] = SIZES
) -> Pictures:
    """Render the stand-in in a few minutes, or read it from the cache.

    Args:
        cache: Cache folder for the images, 520 MB at full size.
        progress: Whether to show a progress bar.
        sizes: Number of identities, azimuths, elevations and lightings.
    """
    name = "x".join(str(size) for size in sizes)
    path = cache / f"{CACHE_NAME}-{name}.npy" if cache else None
    classes = all_classes(sizes)
    packed = read_cache(path, (len(classes), 64 * 64)) if path else None
    if packed is None:
        packed = render_faces(sizes, progress).reshape(len(classes), 64 * 64)
        if path:
            write_cache(path, packed)
    source = f"stand-in: {sizes[0]} heads varied from one CC0 mesh"
    return Pictures(packed, classes, source, factors=FACTORS, mig_factors=MIG_FACTORS)


def all_classes(sizes: Sequence[int]) -> NDArray[np.int64]:
    """Factors of a whole set, in the order of the original file: (N, 4)."""
    return np.stack(np.unravel_index(np.arange(np.prod(sizes)), tuple(sizes)), axis=-1)


def render_faces(sizes: Sequence[int], progress: bool = False) -> NDArray[np.uint8]:
    """Render all heads in all poses and lights: (*sizes, 64, 64)."""
    images = np.empty((*sizes, 64, 64), dtype=np.uint8)
    lights = light_directions(sizes[3])
    for i in tqdm(range(sizes[0]), desc="drawing heads", unit="head", disable=not progress):
        head = make_head(i)
        for j, azimuth in enumerate(spread(sizes[1], *AZIMUTH)):
            for k, elevation in enumerate(spread(sizes[2], *ELEVATION)):
                images[i, j, k] = render(head, rotation(azimuth, elevation), lights)
    return images


def light_directions(count: int) -> NDArray[np.float64]:
    """Directions to the light, from the viewer's left via the front to the right: (L, 3)."""
    angle = np.radians(spread(count, *LIGHTING))
    return unit(np.stack([np.sin(angle), np.full(count, 0.3), np.cos(angle)], axis=-1))


def render(
    head: Head, pose: NDArray[np.float64], lights: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Render one head in one pose under each light, on black: (L, 64, 64)."""
    size = 2 * 64  # four samples per pixel
    points = head.vertices @ pose.T * (size / VIEW) + np.array([size / 2, size / 2, 0])
    pixel, triangle, weights = rasterise(points, head.triangles, size)
    corners = head.triangles[triangle]
    normals = np.einsum("kp,pkc->pc", weights, head.normals[corners]) @ pose.T
    tones = np.einsum("kp,pk->p", weights, head.tones[corners])
    canvas = np.zeros((len(lights), size * size))
    canvas[:, pixel] = 255 * tones * lambert(normals, lights, AMBIENT)
    return halve(canvas.reshape(-1, size, size))


def contact_sheet(path: str | Path) -> None:
    """Write a sheet with 24 people, then one of them by azimuth, elevation and lighting."""
    lights, ahead, one = light_directions(12), rotation(0, 0), make_head(0)
    people = [render(make_head(k), ahead, lights[4:5]) for k in range(24)]
    turned = [render(one, rotation(a, 0), lights[4:5]) for a in spread(12, *AZIMUTH)]
    nodding = [render(one, rotation(20, e), lights[4:5]) for e in spread(12, *ELEVATION)]
    images = np.concatenate([*people, *turned, *nodding, render(one, ahead, lights)])
    write_sheet(images[:, None], 12, path)
