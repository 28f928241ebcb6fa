"""The memory bound: what a process holds, how many workers fit, and a watch over all of them."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable

from attar.errors import ResourceError, UsageError

UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30}
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def parsed(text: str | int) -> int:
    """``"2GB"`` -> 2,000,000,000.

    Raises:
        UsageError: not a size.
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*)\s*", str(text).lower())
    size = float(found[1]) * UNITS[found[2]] if found and found[2] in UNITS else 0.0
    if not 1 <= size < 2**63:
        raise UsageError(f"memory={text} is not a size; write it as 2GB or 500MB")
    return int(size)


def resident(pid: int) -> int:
    """Bytes of memory that a process holds, 0 where it is gone or the system does not tell."""
    try:
        with open(f"/proc/{pid}/statm") as f:
            return int(f.read().split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return 0


def peak() -> int:
    """Most bytes that this process has held, 0 where the system does not tell."""
    try:
        with open("/proc/self/status") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))
    except (OSError, StopIteration, ValueError):
        return 0


def said(size: float) -> str:
    """``153 MB``."""
    return f"{-(-size // 1e6):.0f} MB"


def fitting(bound: int, *, parent: int, worker: int, asked: int) -> int:
    """How many workers fit.

    Args:
        bound: bytes in all. parent: that the calling process needs. worker: that each worker needs. asked: most workers.

    Raises:
        ResourceError: not even one fits; names the least bound.
    """
    many = min(asked, (bound - parent) // worker)
    if many < 1:
        raise ResourceError(
            f"--memory of {said(bound)} is too small: one worker needs {said(worker)} and the calling process "
            f"{said(parent)}; give --memory {said(parent + worker).replace(' ', '')} or more, or shards of smaller pieces"
        )
    return many


class Watch:
    """Looks at the memory of some processes again and again, in a thread of its own.

    Args:
        bound: bytes; more of them are an alarm. pids: of whom, asked anew on every look.
    """

    def __init__(self, bound: int, pids: Callable[[], list[int]], *, pause: float = 0.05) -> None:
        self.bound, self.peak, self.alarm = bound, 0, False
        self._pids, self._pause, self._over = pids, pause, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.is_set():
            self.peak = max(self.peak, sum(map(resident, self._pids())))
            self.alarm = self.alarm or self.peak > self.bound
            time.sleep(self._pause)

    def check(self) -> None:
        """Ends the work where the bound was passed.

        Raises:
            ResourceError: names what was used.
        """
        if self.alarm:
            raise ResourceError(
                f"the processes took {said(self.peak)}, more than --memory of {said(self.bound)}, and were stopped; "
                "finished parts are kept: give a larger --memory, or fewer --workers, and run the same command again"
            )
