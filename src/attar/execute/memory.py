"""How much memory there is and was used."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

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
    """Free memory in bytes, of the machine or of the container or job that this process is in; None where nothing tells."""
    found = [n for n in (_of_machine(), *_of_groups(Path("/sys/fs/cgroup"), _group())) if n is not None]
    return min(found, default=None)


def _of_machine() -> int | None:
    try:
        with open("/proc/meminfo") as f:
            facts = dict(line.split(":", 1) for line in f)
        return int(facts["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _group() -> str:
    """The control group (version 2) of this process, as in ``user.slice/job``; empty for the root or none."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""
    return next((line.removeprefix("0::").strip("/") for line in lines if line.startswith("0::")), "")


def _of_groups(root: Path, group: str) -> list[int]:
    """What is left of the limits of a control group and of those above it; files that are only cached count as free."""
    found = []
    for place in (root / group, *(root / above for above in Path(group).parents)):
        try:
            most = int((place / "memory.max").read_text())  # "max" is none
            used = int((place / "memory.current").read_text())
            facts = dict(line.split() for line in (place / "memory.stat").read_text().splitlines())
            found.append(
                max(0, most - used + sum(int(facts.get(f"{kind}_file", 0)) for kind in ("active", "inactive")))
            )
        except (OSError, ValueError):
            continue
    return found


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
