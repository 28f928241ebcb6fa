"""How much memory there is and was used."""

from __future__ import annotations

import ctypes
import sys

import torch

from attar.errors import ResourceError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # names of glibc's malloc.h


def peak() -> int:
    """The largest resident memory of this process so far plus the GPU's, in bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return host + (torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0)


def available() -> int | None:
    """Free memory of the machine in bytes, None where the system does not tell."""
    try:
        with open("/proc/meminfo") as f:
            facts = dict(line.split(":", 1) for line in f)
        return int(facts["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def keep() -> None:
    """Tells glibc to keep freed memory for the next step instead of handing it back to the system.

    Activations of tens of megabytes are else mapped, zeroed page by page and unmapped in every step, which takes up to a
    third of the time of a forward. Nothing happens where the C library is another.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def require(needed: float, what: str) -> None:
    """Refuses work that cannot fit before anything is allocated.

    Raises:
        ResourceError: more is needed than is free.
    """
    free = available()
    if free is not None and needed > free:
        raise ResourceError(
            f"{what} needs about {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free; "
            "lower the budget or the batch, or use a larger machine"
        )
