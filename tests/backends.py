"""The backends of the one operation that are here, by name."""

from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from lpnested.ops import library

KERNELS = library.in_use()
BACKENDS = ["kernels", "reference"] if KERNELS else ["reference"]

# Of a test in a file whose others run on every backend, and which no backend changes.
once = pytest.mark.parametrize("backend", BACKENDS[:1], indirect=True)


def using(backend: str) -> AbstractContextManager[str]:
    """Within it that backend serves."""
    return library.using(KERNELS if backend == "kernels" else "off")


def in_turn() -> Iterator[str]:
    """Each backend serves one round of a loop: for examples and exact values that are dear."""
    for backend in BACKENDS:
        with using(backend):
            yield backend
