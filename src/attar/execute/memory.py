"""How much memory there is and was used."""

from __future__ import annotations

import sys

import torch

from attar.errors import ResourceError


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
