"""cars3d: read from its archive or its folder, or a stand-in of boxes on wheels.

Numbers on the stand-in are never compared with numbers on the real set.
"""

import gzip
import hashlib
import tarfile
import tempfile
import warnings
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data.car_files import (
    AZIMUTHS,
    ELEVATIONS,
    FOLDER,
    IM_SHAPE,
    listed,
    read_archive,
    read_folder,
    read_im,
    shrink,
    write_im,
)
from data.car_model import make_car, render
from data.mesh import halve, rotation, write_sheet
from data.pictures import Pictures

FACTORS = ("elevation", "azimuth", "model")
# The MIG covers only the pose, as in the code of the ISA-VAE paper: models have no order, so no
# single latent can be expected to encode them. Chen et al. likewise leave out identity.
MIG_FACTORS = ("elevation", "azimuth")
MD5 = "4e866a7919c1beedf53964e6f7a23686"  # of the published archive

CACHE_NAME = "cars-stand-in-v1"  # increment when an image changes
CHECKSUM = "sha256"  # file next to data/ that reveals a damaged cache


def load_cars3d(path: str | Path, progress: bool = False) -> Pictures:
    """Load the original set from `nips2015-analogy-data.tar.gz` or the folder it unpacks to."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; expected nips2015-analogy-data.tar.gz")
    try:
        files = read_folder(path) if path.is_dir() else read_archive(path)
        pictures = gather(tqdm(files, "reading cars", disable=not progress), str(path))
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        raise ValueError(
            f"{path}: not a readable cars3d set ({error}); expected a complete "
            "nips2015-analogy-data.tar.gz or its folder, with data/cars/list.txt and, for each "
            f"of its lines, a car_NNN_mesh.mat with im {IM_SHAPE} uint8"
        ) from error
    if path.is_file():
        warn_unless_published(path)
    return pictures


def warn_unless_published(path: Path) -> None:
    """Warn if the archive differs from the published one; a repacked archive is not an error."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != MD5:
        warnings.warn(f"{path}: md5 is {found}, the published file has {MD5}", stacklevel=3)


def gather(files: Iterable[tuple[str, bytes]], source: str) -> Pictures:
    """Collect the models in the order of list.txt, ignoring other files."""
    names: list[str] = []
    models: dict[str, NDArray[np.uint8]] = {}
    for name, content in files:
        if name == "list.txt":
            names = listed(content)
        elif name.endswith(".mat"):
            models[name.removesuffix(".mat")] = shrink(read_im(content, name))
    if not names:
        raise ValueError("no data/cars/list.txt")
    missing = [name for name in names if name not in models]
    if missing:
        raise ValueError(f"no data/cars/{missing[0]}.mat, which list.txt names")
    return as_pictures([models[name] for name in names], source)


def as_pictures(models: list[NDArray[np.uint8]], source: str) -> Pictures:
    """Merge the images of models, (elevation, azimuth, bytes), with the model varying fastest."""
    sizes = (ELEVATIONS, AZIMUTHS, len(models))
    packed = np.stack(models, axis=2).reshape(-1, 3 * 64 * 64)
    classes = np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=-1)
    return Pictures(packed, classes, source, FACTORS, MIG_FACTORS, shape=(3, 64, 64))


def draw_cars(cache: Path | None = None, progress: bool = False, models: int = 183) -> Pictures:
    """Render the stand-in in a minute or two, or read it from the cache.

    Args:
        cache: Folder in which the images are stored in the layout of the original set.
        progress: Whether to show a progress bar.
        models: Number of cars; car k is the same in every set.
    """
    source = f"stand-in: {models} cars of boxes and wheels"
    if cache is None:
        return as_pictures([shrink(im) for im in render_cars(models, progress)], source)
    folder = cache / f"{CACHE_NAME}-{models}"
    pictures = read_cache(folder, progress)
    if pictures is None:
        try:
            write_cache(folder, models, progress)
        except OSError as error:
            reason = f"cannot be written ({error}); continuing without it"
            warnings.warn(f"{folder}: {reason}", stacklevel=2)
            return draw_cars(None, progress, models)
        pictures = load_cars3d(folder, progress)
    return replace(pictures, source=source)


def render_cars(models: int, progress: bool) -> Iterator[NDArray[np.uint8]]:
    """Yield each car in all poses, in the layout of the original .mat files."""
    for k in tqdm(range(models), "drawing cars", unit="car", disable=not progress):
        car, im = make_car(k), np.empty(IM_SHAPE, dtype=np.uint8)
        for i in range(AZIMUTHS):
            for j in range(ELEVATIONS):
                im[..., i, j] = render(car, pose(i, j))
        yield im


def pose(azimuth: int, elevation: int) -> NDArray[np.float64]:
    """The rotation for two classes: 15 degrees per azimuth step, 10 per elevation step."""
    return rotation(360 * azimuth / AZIMUTHS, 10 * elevation)


def read_cache(folder: Path, progress: bool) -> Pictures | None:
    """Read the cached set; None if it is missing or damaged."""
    if not folder.exists():
        return None
    try:
        if (folder / CHECKSUM).read_text() == checksum(folder):
            return load_cars3d(folder, progress)
        reason = "incomplete or damaged"
    except (OSError, ValueError) as error:
        reason = f"unreadable ({error})"
    warnings.warn(f"{folder}: {reason}; drawing the set again", stacklevel=3)
    return None


def write_cache(folder: Path, models: int, progress: bool) -> None:
    """Render the set into a folder, atomically: it is renamed once it is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as temporary:
        new = Path(temporary) / "new"
        (new / FOLDER).mkdir(parents=True)
        names = [f"car_{k:03d}_mesh" for k in range(1, models + 1)]
        for name, im in zip(names, render_cars(models, progress), strict=True):
            write_im(new / FOLDER / f"{name}.mat", im)
        (new / FOLDER / "list.txt").write_text("\n".join(names) + "\n")
        (new / CHECKSUM).write_text(checksum(new))
        if folder.exists():  # a damaged one: deleted with the temporary folder
            folder.rename(Path(temporary) / "old")
        new.rename(folder)


def checksum(folder: Path) -> str:
    """SHA-256 of the names and contents of the files of a set."""
    digest = hashlib.sha256()
    for path in sorted((folder / FOLDER).iterdir()):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def contact_sheet(path: str | Path) -> None:
    """Write a sheet with 24 cars, then one car by azimuth and elevation: six rows of twelve."""
    cars = [render(make_car(k), pose(2 + 11 * (k // 12), 2)) for k in range(24)]
    turned = [render(make_car(17), pose(i, j)) for j in range(4) for i in range(0, 24, 2)]
    images = np.stack([halve(image.transpose(2, 0, 1)) for image in cars + turned])
    write_sheet(images, 12, path)
