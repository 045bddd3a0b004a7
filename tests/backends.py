"""The backends of the one operation that are here, by name."""

from contextlib import AbstractContextManager

from lpnested.ops import library

KERNELS = library.in_use()
BACKENDS = ["kernels", "reference"] if KERNELS else ["reference"]


def using(backend: str) -> AbstractContextManager[str]:
    """Within it that backend serves."""
    return library.using(KERNELS if backend == "kernels" else "off")
