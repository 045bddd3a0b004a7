"""Data sets in memory, and dSprites: rendered and cached, or read from the original npz.

dSprites stays bit-packed (377 MB instead of 3 GB of bytes or 12 GB of floats) on the training
device, and batches are unpacked there by table lookup: no worker processes, no host transfers.
"""

import hashlib
import math
import os
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.dsprites_drawn import (
    FACTORS,
    MIG_FACTORS,
    SIZES,
    all_classes,
    as_bytes,
    render_dsprites,
    render_words,
)
from data.dsprites_file import read_npz

__all__ = [
    "FACTORS",
    "MIG_FACTORS",
    "SIZES",
    "Pictures",
    "as_pixels",
    "default_cache",
    "draw_dsprites",
    "load_dsprites_npz",
    "pack",
    "render_dsprites",
    "unpack",
]


@dataclass(frozen=True)
class Pictures:
    """Images and the factors that they show, row by row."""

    packed: NDArray[np.uint8]  # (N, bytes): a byte is a grey value, or eight binary pixels
    classes: NDArray[np.int64]  # (N, factors), integers from 0
    source: str  # "drawn", "stand-in: ...", or the file they were read from
    factors: tuple[str, ...] = FACTORS
    mig_factors: tuple[str, ...] = MIG_FACTORS  # factors that the MIG averages over
    shape: tuple[int, int, int] = (1, 64, 64)  # channels, height, width

    @property
    def pixels(self) -> int:
        """Number of values per image, channels included."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return len(self.packed)

    def fingerprint(self) -> str:
        """SHA-256 of images and factors, by which a resumed run recognises its data."""
        digest = hashlib.sha256(np.ascontiguousarray(self.packed))
        digest.update(np.ascontiguousarray(self.classes, dtype="<i8"))
        return digest.hexdigest()


def pack(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, 64, 64) zeros and ones -> (N, 512); pixel 8 i + j is bit j of byte i."""
    return np.packbits(images.reshape(len(images), -1), axis=-1, bitorder="little")


def unpack(packed: Tensor) -> Tensor:
    """(N, 512) uint8 -> (N, 4096) zeros and ones in float32, on the same device."""
    table = torch.arange(256, device=packed.device)[:, None] >> torch.arange(
        8, device=packed.device
    )
    return torch.nn.functional.embedding(packed.int(), (table & 1).float()).flatten(1)


def as_pixels(packed: Tensor, pixels: int) -> Tensor:
    """(N, bytes) uint8 -> (N, pixels) from 0 to 1; a byte is one pixel, or eight binary ones."""
    return unpack(packed) if packed.shape[1] < pixels else packed.float() / 255


def default_cache() -> Path:
    """$XDG_CACHE_HOME/lpnested, by default ~/.cache/lpnested."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lpnested"


def load_dsprites_npz(path: str | Path, progress: bool = False) -> Pictures:
    """Load the original set, or a subset, from its npz (dsprites_file.py)."""
    packed, classes = read_npz(Path(path), progress)
    return Pictures(packed, classes, source=str(path))


def draw_dsprites(cache: Path | None = None, progress: bool = False) -> Pictures:
    """Render all 737,280 images in a second or two, or read them from the cache."""
    classes = all_classes()
    packed = read_cache(cache / CACHE_NAME, (len(classes), 512)) if cache else None
    if packed is None:
        packed = as_bytes(render_words(classes, progress))
        if cache:
            write_cache(cache / CACHE_NAME, packed)
    return Pictures(packed, classes, source="drawn")


CACHE_NAME = "dsprites-drawn-v1.npy"


def read_cache(path: Path, shape: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Read a cached array; None if it is missing or damaged."""
    try:
        with path.open("rb") as file:
            packed = np.load(file, allow_pickle=False)
            digest = file.read()
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        warnings.warn(f"{path}: unreadable ({error}); drawing the set again", stacklevel=2)
        return None
    if packed.shape != shape or digest != hashlib.sha256(packed).digest():
        warnings.warn(f"{path}: incomplete or damaged; drawing the set again", stacklevel=2)
        return None
    return packed


def write_cache(path: Path, packed: NDArray[np.uint8]) -> None:
    """Write an npy followed by its SHA-256, atomically; warn if it cannot be written."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            temporary = file.name
            np.save(file, packed)
            file.write(hashlib.sha256(packed).digest())
        os.replace(temporary, path)
    except OSError as error:
        warnings.warn(f"{path}: cannot be written ({error}); continuing without it", stacklevel=2)
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
