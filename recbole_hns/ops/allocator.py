"""What the C library does with the memory that a step has freed."""

import ctypes
import functools
import os
import platform

# of glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


@functools.cache
def keep_freed_memory() -> None:
    """Have this process keep freed memory for its next use, where glibc is the C library.

    A step, and a batch of an evaluation, allocates and frees matrices of many MiB. glibc gives
    those back to the system, which has to clear each page when the next one takes it again; that
    was up to a third of a step. Who sets ``MALLOC_TRIM_THRESHOLD_`` or ``MALLOC_MMAP_THRESHOLD_``
    has it as set.
    """
    chosen = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys()
    if chosen or platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    library.mallopt(_M_MMAP_THRESHOLD, 2**30)
