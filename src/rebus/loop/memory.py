"""Keep the memory of a training step for the next one, instead of giving it back and having it zeroed anew.

A step allocates and frees the same hundreds of megabytes as the one before. The C library of Linux gives large blocks
back at once, and the system then clears each page again: with two cores, 10 to 20% of a step. Knows no model.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # of glibc's mallopt
_NEVER = 2**31 - 1
_PAD = 64 << 20  # bytes asked for at a time
_DEFAULTS = {_TRIM_THRESHOLD: 128 << 10, _TOP_PAD: 128 << 10, _MMAP_MAX: 65536}


@contextmanager
def kept_memory() -> Iterator[bool]:
    """Within this context freed memory stays with the process; after it, it is given back.

    Yields:
        Whether it does: False with another C library than glibc.
    """
    library = _glibc()
    if library is None:
        yield False
        return
    for option, value in {_MMAP_MAX: 0, _TRIM_THRESHOLD: _NEVER, _TOP_PAD: _PAD}.items():
        library.mallopt(option, value)
    try:
        yield True
    finally:
        for option, value in _DEFAULTS.items():
            library.mallopt(option, value)
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - only glibc has it
        library.mallopt, library.malloc_trim  # noqa: B018
    except (OSError, AttributeError):
        return None
    return library
