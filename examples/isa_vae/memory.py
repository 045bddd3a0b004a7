"""Keeping freed memory, so that a step does not page its large temporaries in anew."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h
_ONE_GIB = 2**30


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep what is freed up to 1 GiB; whether there was one to tell.

    A batch of 2048 pictures in float is 32 MiB, which malloc would map and unmap each time: the
    kernel then clears every page, which costs more than using it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    settings = ((_MMAP_THRESHOLD, _ONE_GIB), (_TRIM_THRESHOLD, _ONE_GIB), (_TOP_PAD, 2**26))
    done = [mallopt(name, value) for name, value in settings]
    return all(done)
