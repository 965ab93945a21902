"""Freed memory is kept, in a process of its own."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import recbole_hns

PROGRAM = """
import resource
import torch
from recbole_hns.ops.allocator import keep_freed_memory
torch.set_num_threads(1)
keep_freed_memory()
# 64 MiB, more than glibc ever keeps by itself; a few times, as PyTorch asks for some bytes more to
# align them, so that at first what was freed is too small for the next
for _ in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's setting")
@pytest.mark.parametrize("chosen", [{}, {"MALLOC_TRIM_THRESHOLD_": "131072"}])
def test_freed_memory_is_kept_unless_the_user_chose(chosen):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    environment["PYTHONPATH"] = str(Path(recbole_hns.__file__).parents[1])
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**environment, **chosen},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (int(output) > 8_000) == bool(chosen)
