"""Freed memory is kept, in a process of its own."""

import platform
import subprocess
import sys

import pytest
from conftest import environment

PROGRAM = """
import ctypes
import resource
from recbole_hns.ops.allocator import keep_freed_memory
keep_freed_memory()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.malloc.argtypes = [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    memory = library.malloc(2**26)  # more than glibc ever keeps by itself
    ctypes.memset(memory, 1, 2**26)
    library.free(memory)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's setting")
@pytest.mark.parametrize("chosen", [{}, {"MALLOC_TRIM_THRESHOLD_": "131072"}])
def test_freed_memory_is_kept_unless_the_user_chose(chosen):
    inherited = {k: v for k, v in environment().items() if not k.startswith("MALLOC_")}
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**inherited, **chosen},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (int(output) > 8_000) == bool(chosen)
