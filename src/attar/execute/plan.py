"""What is decided once per run and never estimated again: device, threads, precision, eager or compiled."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

from attar.errors import ResourceError, UsageError
from attar.execute import compile as compiling
from attar.execute import memory

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SMALL = 2e9
"""Floating-point operations a step below which a second thread costs more than it gives."""
LARGE = 1e13
"""Floating-point operations of a whole job (two minutes on two cores) above which compiling (4 to 45 s a graph) pays."""
COMPILING = 3.0
"""Minutes that a run must be allowed for compiling to be worth its wait."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a run computes; stored with its state, so that a resumed run computes alike.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        threads: CPU threads of one operation.
        dtype: ``float32``, or ``bfloat16`` for networks' activations (the kept examples stay float32).
        compiled: whether losses and forwards go through ``torch.compile``.
    """

    device: str = "cpu"
    threads: int = 1
    dtype: str = "float32"
    compiled: bool = False

    def facts(self) -> dict[str, Any]:
        """The plan as JSON."""
        return asdict(self)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Computes by this plan inside the block, and puts back threads, random state and settings afterwards."""
        threads, generator = torch.get_num_threads(), torch.default_generator.get_state()
        memory.keep()
        torch.set_num_threads(self.threads)
        kind = torch.device(self.device).type
        try:
            with (
                compiling.switched(self.compiled),
                # Its cache would hold a cast of every step's weights to the end of the run.
                torch.autocast(kind, dtype=torch.bfloat16, enabled=self.dtype == "bfloat16", cache_enabled=False),
            ):
                yield
        finally:
            torch.set_num_threads(threads)
            torch.default_generator.set_state(generator)


def make(
    *,
    device: str | None = None,
    threads: int | None = None,
    dtype: str | None = None,
    compiled: bool | None = None,
    flops_per_step: float = 0.0,
    flops: float = 0.0,
) -> Plan:
    """Chooses what the user left open, from the size of the work.

    Args:
        device: None for CUDA where there is one, else the CPU.
        threads: None for one thread for small steps, else all cores.
        dtype: None for float32.
        compiled: None for compiled where the job is long enough and a C++ compiler is at hand.
        flops_per_step: floating-point operations of a step.
        flops: of the whole job, with those of the resources that it needs: so jobs that share long ones agree on them.

    Raises:
        UsageError: an unknown device or dtype, threads < 1.
        ResourceError: a device that is not there.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    _check_device(device)
    if dtype not in (None, *DTYPES):
        raise UsageError(f"dtype '{dtype}' is unknown; use {' or '.join(DTYPES)}")
    if threads is not None and threads < 1:
        raise UsageError(f"threads={threads} must be at least 1")
    if threads is None:
        threads = 1 if flops_per_step < SMALL else cores()
    if compiled is None:
        compiled = device == "cpu" and flops > LARGE and compiler_at_hand()
    if compiled and device == "cpu" and not compiler_at_hand():
        raise ResourceError(
            "compiling on the CPU needs a C++ compiler and none was found; install g++ or drop --compile"
        )
    return Plan(device=device, threads=threads, dtype=dtype or "float32", compiled=compiled)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_device(device: str) -> None:
    try:
        kind = torch.device(device).type
    except RuntimeError as e:
        raise UsageError(f"device '{device}' is unknown; use cpu, cuda, cuda:N or mps") from e
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(kind, False):
        raise ResourceError(f"device '{device}' is not available on this machine; use --device cpu")


def compiler_at_hand() -> bool:
    """Whether a C++ compiler is on the PATH (or named by CXX)."""
    return any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "g++", "clang++"))


def environment() -> dict[str, str]:
    """The versions and the processor that bits depend on."""
    import numpy

    import attar

    return {
        "attar": attar.__version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpu": f"{cpu_name()} ({torch.backends.cpu.get_cpu_capability()})",
    }


def cpu_name() -> str:
    """The processor's name, as the system tells it."""
    try:
        with open("/proc/cpuinfo") as f:
            return next(line.split(":", 1)[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
