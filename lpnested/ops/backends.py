"""Which backend serves which device."""

from __future__ import annotations

import os

from lpnested.ops import calls, library

__all__ = ["backends"]


def backends() -> dict[str, str]:
    """Which backend of the density serves which kind of device, and why where it is not a kernel.

    Read from the environment when lpnested is imported: ``LPNESTED_KERNELS`` names an instruction
    set of the CPU's kernels, or is ``off``; ``LPNESTED_TRITON=1`` turns on the kernels for CUDA.

    Example:
        >>> import lpnested
        >>> lpnested.backends()["other"]
        'reference'
    """
    triton = library.in_use("cuda")
    cuda = f"kernels ({triton})" if triton else "reference (LPNESTED_TRITON=1 turns on kernels)"
    return {"cpu": library.status(), "cuda": cuda, "other": "reference"}


def _turn_on_triton() -> None:
    """Not by default before its tests and its benchmark have passed on a card."""
    try:
        from lpnested.ops import triton_calls
    except ImportError as error:
        raise ImportError("LPNESTED_TRITON=1 needs Triton: pip install triton") from error

    calls.serve_by(triton_calls, "CUDA")
    library.serve_cuda("Triton")


if os.environ.get("LPNESTED_TRITON") == "1":
    _turn_on_triton()
