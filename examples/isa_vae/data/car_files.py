"""Files of cars3d: the archive or its folder, the list of models, and the images of a model.

The archive is read member by member and never unpacked, so no member can write to disk.
"""

import gzip
import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat, savemat, whosmat

ELEVATIONS, AZIMUTHS = 4, 24
IM_SHAPE = (128, 128, 3, AZIMUTHS, ELEVATIONS)
FOLDER = PurePosixPath("data/cars")
LARGEST = 2**26  # maximum bytes of a member; real ones have a few million


def read_folder(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of list.txt and of the models it names, from a folder."""
    folder = path / FOLDER
    if not (folder / "list.txt").is_file():
        raise ValueError("no data/cars/list.txt")
    content = (folder / "list.txt").read_bytes()
    yield "list.txt", content
    for name in listed(content):
        if not (folder / f"{name}.mat").is_file():
            raise ValueError(f"no data/cars/{name}.mat, which list.txt names")
        yield f"{name}.mat", (folder / f"{name}.mat").read_bytes()


def read_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of list.txt and of all models, in the order of the archive."""
    with gzip.open(path) as unzipped:
        with tarfile.open(fileobj=unzipped, mode="r|") as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts:
                    raise ValueError(f"member {member.name!r} points outside its folder")
                if name.parent != FOLDER or member.isdir() or name.name.startswith("."):
                    continue
                yield name.name, read_member(archive, member)
        while unzipped.read(2**20):  # reading to the end makes gzip check the CRC
            pass


def read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Read a regular file of reasonable size; links and devices are rejected."""
    file = archive.extractfile(member) if member.isreg() else None
    if file is None:
        raise ValueError(f"member {member.name!r} is a link or a device, not a regular file")
    if member.size > LARGEST:
        raise ValueError(f"member {member.name!r} has {member.size} bytes")
    return file.read()


def listed(content: bytes) -> list[str]:
    """Names of the models in list.txt, in its order, without file suffix."""
    names = [line.strip().removesuffix(".mat") for line in content.decode().splitlines()]
    names = [name for name in names if name]
    for name in names:
        if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
            raise ValueError(f"list.txt names {name!r}, which is not a file in its folder")
    if not names or len(set(names)) < len(names):
        raise ValueError("list.txt is empty, or names a model twice")
    return names


def read_im(content: bytes, name: str) -> NDArray[np.uint8]:
    """Read the array `im` of a .mat file: (row, column, colour, azimuth, elevation)."""
    file = io.BytesIO(content)
    try:
        kinds = {key: (shape, kind) for key, shape, kind in whosmat(file)}
        if kinds.get("im") != (IM_SHAPE, "uint8"):  # check before reading anything
            raise ValueError(f"im is {kinds.get('im', 'missing')}")
        file.seek(0)
        im = loadmat(file, variable_names=["im"])["im"]
        if im.shape != IM_SHAPE or im.dtype != np.uint8:
            raise ValueError(f"im is {im.dtype} of shape {im.shape}")
        return im
    except Exception as error:  # scipy can raise anything for a file that is not a .mat
        raise ValueError(f"{name}: {str(error) or type(error).__name__}") from error


def shrink(im: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average every 2 x 2 pixels, rounding half up: (elevation, azimuth, 3 x 64 x 64)."""
    wide = im.astype(np.uint16)
    rows = wide[::2] + wide[1::2]
    small = ((rows[:, ::2] + rows[:, 1::2] + 2) // 4).astype(np.uint8)
    return small.transpose(4, 3, 2, 0, 1).reshape(ELEVATIONS, AZIMUTHS, -1)


def write_im(path: Path, im: NDArray[np.uint8]) -> None:
    """Write a model in the format of the original files, without their `mask`."""
    savemat(path, {"im": im}, do_compression=True)
