"""Which backend serves which device."""

from __future__ import annotations

from lpnested.ops import library

__all__ = ["backends"]


def backends() -> dict[str, str]:
    """Which backend of the density serves which kind of device, and why where it is not a kernel.

    ``LPNESTED_KERNELS`` in the environment names an instruction set of the CPU's kernels, or is
    ``off``; it is read when lpnested is imported.

    Example:
        >>> import lpnested
        >>> lpnested.backends()["other"]
        'reference'
    """
    return {"cpu": library.status(), "other": "reference"}
