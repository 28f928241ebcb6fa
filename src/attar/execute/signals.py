"""Signals end a step, not a run's work: the first one is noted, a second one stops at once."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_DEATH = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>


def end_with(parent: int) -> bool:
    """Makes this process, a child of ``parent``, end when that does, on Linux; whether it is still there."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_DEATH, signal.SIGKILL)
    return os.getppid() == parent


@dataclass
class Stop:
    """Which signal arrived, 0 for none."""

    signal: int = 0


@contextmanager
def caught() -> Iterator[Stop]:
    """Notes SIGINT and SIGTERM inside the block instead of dying; the second one has its usual effect."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: object) -> None:
        stop.signal = number
        for s, usual in before.items():
            signal.signal(s, usual)

    for s in before:
        signal.signal(s, note)
    try:
        yield stop
    finally:
        for s, usual in before.items():
            signal.signal(s, usual)
