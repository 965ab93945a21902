"""Peak memory of a piece of work."""

from __future__ import annotations

import ctypes
import gc
import threading
from contextlib import suppress
from types import TracebackType

import psutil
import torch

#: Seconds between two looks at the process's memory.
INTERVAL = 0.005


class PeakMemory:
    """Context that measures how far memory rises above what was in use before.

    On CUDA, memory is what PyTorch has allocated on the device, and the peak is exact. Elsewhere it
    is the resident set of the process, looked at every 5 ms, after freed memory has been handed
    back to the system where the C library can do that.

    Attributes:
        increase: bytes, once the context has ended.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.increase = 0

    def __enter__(self) -> PeakMemory:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
            return self
        _return_freed_memory()
        self._process = psutil.Process()
        self._before = self._peak = self._resident()
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.device.type == "cuda":
            self.increase = torch.cuda.max_memory_allocated(self.device) - self._before
            return
        self._done.set()
        self._watcher.join()
        self.increase = max(self._peak, self._resident()) - self._before

    def _resident(self) -> int:
        return self._process.memory_info().rss

    def _watch(self) -> None:
        while not self._done.wait(INTERVAL):
            self._peak = max(self._peak, self._resident())


def _return_freed_memory() -> None:
    """Have the C library give back what it keeps for later; only glibc can."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
