"""The compiled kernels, which are loaded, checked and selected when this module is imported.

``LPNESTED_KERNELS`` selects an instruction set instead of the best that the CPU supports, or
``off``.
"""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from lpnested.ops.digest import digest

__all__ = [
    "LIBRARY",
    "SOURCES",
    "call",
    "in_use",
    "parallel_for",
    "register_cuda",
    "status",
    "using",
]

SOURCES = Path(__file__).parent / "native"
LIBRARY = Path(__file__).parent / "_kernels.so"  # the same name on every platform

INSTRUCTION_SETS = ("avx512", "avx2", "neon")
_TORCH = {"win32": "torch_cpu.dll", "darwin": "libtorch_cpu.dylib"}

_P, _N = ctypes.c_void_p, ctypes.c_int64
_SIGNATURES = {
    "lpnested_density": (_P, _P, _P, _P),
    "lpnested_density_backward": (_P, _N, _P, _N, _P, _P, _P, _P),
    "lpnested_norm": (_P, _P),
    "lpnested_norm_backward": (_P, _P, _P, _P, _P),
    "lpnested_draw_nested": (
        *(_P, _P, _N, _N, _N, _P, _N, _N),
        *(_P, _N, _P, _N, _P, _N),
        *(_P, _P, _N, _P),
    ),
    "lpnested_draw_log_gamma": (_P, _N, _N, _P, _P, _N, _P),
}

_library: ctypes.CDLL | None = None
_in_use = ""
_on_cuda = ""
_why_not = "no compiled kernels: there was no C++ compiler when lpnested was installed"


def in_use(device: str = "cpu") -> str:
    """Return the name of the kernels in use on a device type, or an empty string."""
    return _in_use if device == "cpu" else _on_cuda if device == "cuda" else ""


def register_cuda(name: str) -> None:
    """Record the name of the kernels that are registered for CUDA."""
    global _on_cuda
    _on_cuda = name


def status() -> str:
    """Return the CPU backend, and if it is the reference, why."""
    return f"kernels ({_in_use})" if _in_use else f"reference ({_why_not})"


def call(name: str, *arguments: object) -> None:
    """Call a function of the library, which returns nonzero if it is out of memory."""
    if getattr(_library, name)(*arguments):
        raise MemoryError(f"{name} could not allocate its working memory")


@contextmanager
def using(name: str) -> Iterator[str]:
    """Use an instruction set temporarily, for tests: ``off`` for none, empty for the best."""
    global _in_use, _why_not
    before, why = _in_use, _why_not
    try:
        _choose(name)
        yield _in_use
    finally:
        _choose(before or "off")
        _why_not = why


def _choose(name: str) -> None:
    global _in_use, _why_not
    if name == "off":
        _in_use, _why_not = "", "switched off by LPNESTED_KERNELS"
        return
    if name and name not in INSTRUCTION_SETS:
        raise ValueError(
            f"LPNESTED_KERNELS must be off or one of {', '.join(INSTRUCTION_SETS)}, but got {name}"
        )
    found = None if _library is None else _library.lpnested_use(name.encode())
    if name and found is None:
        raise ValueError(f"LPNESTED_KERNELS is {name}, but {_why_not}")
    _in_use = "" if found is None else found.decode()


def _load() -> None:
    global _library, _why_not
    if not LIBRARY.exists():
        return
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        _why_not = f"the compiled kernels can't be loaded: {error}"
        return
    try:
        library.lpnested_source.restype = library.lpnested_use.restype = ctypes.c_char_p
        library.lpnested_use.argtypes = [ctypes.c_char_p]
        built_from = library.lpnested_source().decode()
    except AttributeError:
        built_from = ""
    if not built_from or (SOURCES.exists() and built_from != digest(SOURCES)):
        _why_not = "the compiled kernels do not match their sources: reinstall lpnested"
        warnings.warn(f"lpnested: {_why_not}", RuntimeWarning, stacklevel=2)
        return
    for name, types in _SIGNATURES.items():
        getattr(library, name).argtypes = types
    _library, _why_not = library, "this CPU supports none of the kernels' instruction sets"


def _address_of_parallel_for() -> int:
    name = _TORCH.get(sys.platform, "libtorch_cpu.so")
    try:
        torch_cpu = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / name))
        return ctypes.cast(torch_cpu.torch_parallel_for, ctypes.c_void_p).value or 0
    except (OSError, AttributeError):
        return 0


parallel_for = _address_of_parallel_for()
"""The address of torch's parallel loop, or 0 for a single thread."""

_load()
_choose(os.environ.get("LPNESTED_KERNELS", ""))
