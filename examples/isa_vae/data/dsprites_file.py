"""Read the original dSprites npz, packing images as they are read, without unpickling anything.

The file's `metadata` is a pickle and is not opened. The arrays are parsed as plain numbers, so an
array that claims to hold Python objects is rejected by its dtype.
"""

import hashlib
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data.dsprites_drawn import FACTORS, SIZES, check_classes

MD5 = (
    "7da33b31b13a06f4b04a70402ce90c2e"  # of the published file, according to a third-party loader
)
FULL = int(np.prod(SIZES))
READ_ERRORS = (  # from an archive that is damaged, encrypted or otherwise compressed
    *(zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, TypeError),
    *(RuntimeError, NotImplementedError),
)
CHUNK = 8192  # images read at a time: 32 MB

# A class is (value - first) / step.
FIRST = np.array([1.0, 1.0, 0.5, 0.0, 0.0, 0.0])
STEP = np.array([1.0, 1.0, 0.1, 2 * np.pi / 39, 1 / 31, 1 / 31])


def read_npz(path: Path, progress: bool = False) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read packed images (N, 512) and classes (N, 6) from an npz with `imgs` and `latents_*`."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected the dSprites npz")
    try:
        with zipfile.ZipFile(path) as archive:
            packed = read_images(archive, progress)
            classes = read_classes(archive, len(packed))
    except READ_ERRORS as error:
        reason = error.args[0] if error.args else type(error).__name__
        raise ValueError(
            f"{path}: not a readable dSprites npz ({reason}); expected a complete npz with "
            "imgs (N, 64, 64) uint8, all 0 or 1, and latents_classes or latents_values (N, 6)"
        ) from error
    if len(packed) == FULL:  # subsets have no published checksum
        warn_unless_published(path)
    return packed, classes


def warn_unless_published(path: Path) -> None:
    """Warn if the file differs from the published one; a recompressed copy is not an error."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != MD5:
        warnings.warn(f"{path}: md5 is {found}, the published file has {MD5}", stacklevel=2)


def read_images(archive: zipfile.ZipFile, progress: bool) -> NDArray[np.uint8]:
    """Read the member imgs.npy in chunks, so that its 3 GB are never in memory at once."""
    with archive.open("imgs.npy") as file:
        shape, dtype = read_header(file, "imgs")
        if shape[1:] != (64, 64) or dtype != np.uint8 or not 0 < shape[0] <= FULL:
            raise ValueError(f"imgs is {shape} {dtype}")
        packed = np.empty((shape[0], 512), dtype=np.uint8)
        bar = tqdm(total=shape[0], desc="reading images", unit="image", disable=not progress)
        for start in range(0, shape[0], CHUNK):
            rows = packed[start : start + CHUNK]
            images = read_numbers(file, (len(rows), 4096), dtype, "imgs")
            if images.max() > 1:
                raise ValueError(f"imgs has a pixel of value {images.max()}, not 0 or 1")
            rows[:] = np.packbits(images, axis=-1, bitorder="little")
            bar.update(len(rows))
        bar.close()
        read_end(file, "imgs")
    return packed


def read_classes(archive: zipfile.ZipFile, rows: int) -> NDArray[np.int64]:
    """Read latents_classes, or derive the classes from latents_values."""
    direct = "latents_classes.npy" in archive.namelist()
    name = "latents_classes" if direct else "latents_values"
    with archive.open(f"{name}.npy") as file:
        shape, dtype = read_header(file, name)
        if shape != (rows, len(FACTORS)) or dtype.kind not in ("iu" if direct else "iuf"):
            raise ValueError(f"{name} is {shape} {dtype}, for {rows} images")
        array = read_numbers(file, shape, dtype, name)
        read_end(file, name)
    return check_classes(array if direct else classes_of_values(array))


def classes_of_values(values: NDArray[np.generic]) -> NDArray[np.int64]:
    """Undo the scaling of latents_values: shape 1..3, scale 0.5..1, orientation 0..2 pi, ..."""
    steps = (values.astype(np.float64) - FIRST) / STEP
    for column, factor in enumerate(FACTORS):
        if not (np.abs(steps[:, column] - steps[:, column].round()) < 0.05).all():  # NaN fails too
            raise ValueError(f"latents_values has a value of {factor} that is not in dSprites")
    return steps.round().astype(np.int64)


def read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Read shape and dtype from the header of an npy member."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name} has npy version {version}")
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else (np.lib.format.read_array_header_2_0)
    )
    shape, fortran_order, dtype = read(file)
    if fortran_order and len(shape) > 1:
        raise ValueError(f"{name} is stored in Fortran order")
    return shape, dtype


def read_numbers(
    file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype, name: str
) -> NDArray[np.generic]:
    """Read the next numbers of a member; fewer bytes than expected are an error."""
    size = int(np.prod(shape)) * dtype.itemsize
    data = file.read(size)
    if len(data) < size:
        raise ValueError(f"{name} ends early")
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def read_end(file: IO[bytes], name: str) -> None:
    """Read past the last byte, which makes zipfile check the member's CRC."""
    if file.read(1):
        raise ValueError(f"{name} is longer than its header says")
