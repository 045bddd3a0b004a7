"""The backend in use for each type of device."""

from __future__ import annotations

import os

from lpnested.ops import calls, library

__all__ = ["backends"]


def backends() -> dict[str, str]:
    """Return the backend of the density for each type of device, and why it is the reference.

    Two environment variables are read when lpnested is imported: ``LPNESTED_KERNELS`` selects an
    instruction set of the CPU kernels, or ``off``; ``LPNESTED_TRITON=1`` enables the CUDA kernels.

    Example:
        >>> import lpnested
        >>> lpnested.backends()["other"]
        'reference'
    """
    triton = library.in_use("cuda")
    cuda = f"kernels ({triton})" if triton else "reference (LPNESTED_TRITON=1 enables kernels)"
    return {"cpu": library.status(), "cuda": cuda, "other": "reference"}


def _enable_triton() -> None:
    """Enable the Triton kernels, which are opt-in until tested and benchmarked on a GPU."""
    try:
        from lpnested.ops import triton_calls
    except ImportError as error:
        raise ImportError("LPNESTED_TRITON=1 needs Triton: pip install triton") from error

    calls.register_backend(triton_calls, "CUDA")
    library.register_cuda("Triton")


if os.environ.get("LPNESTED_TRITON") == "1":
    _enable_triton()
