"""The digest of the sources of the compiled kernels. The build runs this file without torch."""

from hashlib import sha256
from pathlib import Path

__all__ = ["digest"]


def digest(sources: Path) -> str:
    """Return a digest of the C++ files in a folder."""
    hashed = sha256()
    for path in sorted([*sources.glob("*.h"), *sources.glob("*.cpp")]):
        hashed.update(path.name.encode() + b"\0" + path.read_bytes())
    return hashed.hexdigest()[:16]
