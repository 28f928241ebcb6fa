"""A Ray cluster: joining it, and independent pieces of work as its tasks, which Ray does again where a machine is lost.

A process belongs to a cluster where it has joined one (``ray.init``), where ``$RAY_ADDRESS`` names one, or as part of a job
(``ray job submit``), which sets that. All machines need attar; where they share a file system, point ``$ATTAR_CACHE`` to a
folder on it, and a piece whose machine was lost goes on where it was.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from attar.errors import AttarError, Interrupted, ResourceError, missing_extra
from attar.execute import compile as compiling
from attar.execute.progress import Progress
from attar.execute.signals import Stop, caught

T = TypeVar("T")

RETRIES = 5
"""How often Ray does a task again whose worker or machine was lost."""
PATIENCE = 20.0
"""Seconds in which tasks may save their state when a signal has come."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", compiling.THREADS: "1"}
"""Of a task: one core."""
LONG = 60.0
"""Seconds without a sign of a task after which that is said."""
KNOCK = 10.0
"""Seconds in which a cluster must answer."""
EACH = 1.0
"""Seconds between two reports of a task's progress."""


def at_hand() -> bool:
    """Whether this process belongs to a Ray cluster."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return True
    address = os.environ.get("RAY_ADDRESS", "")
    if not address or address.startswith(("http://", "https://")):  # of the service that takes jobs, not of a cluster
        return False
    return importlib.util.find_spec("ray") is not None


@contextmanager
def joined(purpose: str) -> Iterator[Any]:
    """The module ``ray``, in a block in which there is a cluster: the one that is there, else one of this machine alone.

    Args:
        purpose: what needs it, for the error.

    Raises:
        UsageError: Ray is not installed.
        ResourceError: no cluster answers at ``$RAY_ADDRESS``.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as e:
        raise missing_extra("ray", "ray", purpose) from e
    joins = not ray.is_initialized()
    if joins:
        _join(ray)
    try:
        yield ray
    finally:
        if joins:
            ray.shutdown()


def _join(ray: Any) -> None:
    quiet, told = {"log_to_driver": False, "logging_level": "error"}, os.environ.get("RAY_ADDRESS")
    try:
        _knocked(told or "")
        ray.init(address="auto", **quiet)
    except (OSError, ValueError) as e:
        if told:
            raise ResourceError(
                f"no Ray cluster answers at RAY_ADDRESS={told}; start it (ray start --head), or unset RAY_ADDRESS to work on "
                "this machine alone"
            ) from e
        ray.init(address="local", include_dashboard=False, **quiet)


def _knocked(address: str) -> None:
    """Opens a connection to HOST:PORT, where one is named: Ray itself asks for minutes whether somebody is there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK).close()


def answer(ray: Any, task: Any) -> Any:
    """What a task gave.

    Raises:
        ResourceError: its workers were lost again and again.
    """
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError:
        raise  # a fault of the work itself
    except (ray.exceptions.RayError, MemoryError) as e:
        raise ResourceError(
            f"Ray lost the workers of a piece of work again and again ({type(e).__name__}); let fewer work at once, or give more "
            "memory, and run the same command again"
        ) from e


def require(ray: Any, *, cpus: int, gpus: int) -> None:
    """Refuses a cluster on which no task could ever run.

    Raises:
        ResourceError: it has fewer cores or GPUs in all than one task takes.
    """
    there = ray.cluster_resources()
    for name, wanted in (("CPU", cpus), ("GPU", gpus)):
        if there.get(name, 0) < wanted:
            raise ResourceError(
                f"the Ray cluster has {there.get(name, 0):g} {name}s, but a task takes {wanted}; add machines, or unset "
                "RAY_ADDRESS to work on this machine alone"
            )


Piece = Callable[[Any, T, Progress], Any]
"""Work on what all share and on what is its own; importable by name, as what it takes and gives is pickled."""


def done(
    act: Piece[T], shared: Any, pieces: Sequence[T], *, gpus: int = 0, progress: Progress, label: str, total: int
) -> Iterator[tuple[int, Any]]:
    """Does all pieces as tasks of one core each, and gives the number and the result of each when it is done.

    Args:
        shared: sent to every machine once. pieces: what each task gets besides.
        gpus: of a task.
        progress: shows one bar for all of them. label, total: of the bar.

    Raises:
        Interrupted: a signal came, and the tasks had time to save their state.
        ResourceError: the workers of a task were lost again and again.
        Exception: what a piece raised; the others are stopped.
    """
    with joined("work on a Ray cluster") as ray, caught() as stop:
        require(ray, cpus=1, gpus=gpus)
        meter = ray.remote(num_cpus=0, max_restarts=-1)(Meter).remote()
        cache = {name: os.environ[name] for name in ("ATTAR_CACHE",) if name in os.environ}
        how = {
            "num_cpus": 1,
            "num_gpus": gpus,
            "max_retries": RETRIES,
            "runtime_env": {"env_vars": ENVIRONMENT | cache},
        }
        task, sent = ray.remote(**how)(piece), ray.put(shared)
        running = {task.remote(act, sent, own, i, meter): i for i, own in enumerate(pieces)}
        progress.start(label, total)
        try:
            yield from _collected(ray, running, Reading(ray, meter, progress), stop)
        finally:
            progress.stop()
            for left in running:
                ray.cancel(left, force=True)


def _collected(ray: Any, running: dict[Any, int], reading: Reading, stop: Stop) -> Iterator[tuple[int, Any]]:
    began, said = time.monotonic(), False
    while running:
        ready, _ = ray.wait(list(running), num_returns=1, timeout=EACH)
        reading.look()
        if not (ready or reading.over or said) and time.monotonic() - began > LONG:
            said = True
            print("no task of the Ray cluster has begun yet: all of its cores may be taken", file=sys.stderr)
        for task in ready:
            value = answer(ray, task)
            if isinstance(value, BaseException):
                raise value
            yield running.pop(task), value
        if stop.signal:
            _saved(ray, running, stop)


def _saved(ray: Any, running: dict[Any, int], stop: Stop) -> None:
    """Hands the signal on and waits for the tasks that save their state.

    Raises:
        Interrupted: always.
    """
    for task in running:
        ray.cancel(task, force=False)  # an interrupt, which a run of attar takes for the signal to save
    ray.wait(list(running), num_returns=len(running), timeout=PATIENCE)
    how = "what had begun saved its state in the cache of its machine; run the same command again to go on"
    raise Interrupted(f"stopped with {len(running)} pieces of the work to do; {how}", stop.signal)


def piece(act: Piece[T], shared: Any, own: T, number: int, meter: Any) -> Any:
    """What a task does: gives what the piece gave, or the exception that it raised."""
    torch.set_num_threads(1)
    try:
        return act(shared, own, Told(meter, number))
    except Exception as e:
        if not isinstance(e, AttarError):
            e.add_note(traceback.format_exc())  # where it came from is not sent otherwise
        return e


class Told:
    """The progress of a task, told to the meter."""

    def __init__(self, meter: Any, number: int) -> None:
        self.meter, self.number, self.over, self.next = meter, number, 0, 0.0

    def start(self, label: str, total: int, done: int = 0) -> None:
        """What is over already."""
        self.over = done

    def advance(self, n: int = 1, **facts: float) -> None:
        """Tells it from time to time."""
        self.over += n
        if time.monotonic() >= self.next:
            self.next = time.monotonic() + EACH
            self.meter.tell.remote(self.number, self.over)

    def stop(self) -> None:
        """Tells the end."""
        self.meter.tell.remote(self.number, self.over)


class Meter:
    """How far every task is; an actor."""

    def __init__(self) -> None:
        self.over: dict[int, int] = {}

    def tell(self, number: int, over: int) -> None:
        """A task that was begun again tells less than before."""
        self.over[number] = over

    def told(self) -> int:
        """Units over, of all tasks."""
        return sum(self.over.values())


class Reading:
    """Moves a bar to where the meter is; never back."""

    def __init__(self, ray: Any, meter: Any, progress: Progress) -> None:
        self.ray, self.meter, self.progress, self.over = ray, meter, progress, 0

    def look(self) -> None:
        """Asks the meter; where its machine is lost, the bar stands still until it is back."""
        with contextlib.suppress(self.ray.exceptions.RayError):
            over = self.ray.get(self.meter.told.remote(), timeout=EACH)
            self.progress.advance(max(0, over - self.over))
            self.over = max(self.over, over)
