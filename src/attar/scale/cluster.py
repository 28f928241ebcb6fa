"""Workers on a Ray cluster: the same units as tasks, which Ray does again where a worker or a machine is lost.

Parts are files, so all machines must see the shards and the folder of the job under the same names (a shared file system, or
buckets for the shards). Ray's own processes are not counted in ``--memory``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attar.errors import ResourceError, missing_extra
from attar.scale.memory import peak
from attar.scale.work import JOB, Work
from attar.scale.worker import ENVIRONMENT, act, prepare, raised

RETRIES = 5
"""How often Ray does a unit again whose worker or machine was lost."""


class Cluster:
    """Does units by Ray tasks, one core each. A context: a Ray that it started ends with it.

    Args:
        folder: of the job, seen by all machines. workers: most units at once.

    Raises:
        UsageError: Ray is not installed.
    """

    def __init__(self, folder: Path, workers: int) -> None:
        try:
            self.ray: Any = importlib.import_module("ray")
        except ImportError as e:
            raise missing_extra("ray", "ray", "--on ray") from e
        self.folder, self.workers, self.worker_peak = str(folder.absolute()), workers, 0

    def __enter__(self) -> Cluster:
        self.started = not self.ray.is_initialized()
        if self.started:
            try:
                self.ray.init(address="auto", log_to_driver=False, logging_level="error")
            except ConnectionError:  # no cluster is running: one on this machine
                self.ray.init(address="local", log_to_driver=False, logging_level="error", include_dashboard=False)
        environment = {"env_vars": ENVIRONMENT}
        self.task = self.ray.remote(num_cpus=1, max_retries=RETRIES, runtime_env=environment)(unit)
        return self

    def __exit__(self, *_: object) -> None:
        if self.started:
            self.ray.shutdown()

    @property
    def peak(self) -> int:
        """This process and as many workers as there may be, each as large as the largest."""
        return peak() + self.workers * self.worker_peak

    def first(self) -> int:
        """Bytes that a worker holds before any work."""
        answer = self._got(self.task.remote(self.folder, "", 0))
        raised(answer)
        self.worker_peak = answer["peak"]
        return int(answer["peak"])

    def run(self, step: str, units: Sequence[int]) -> Iterator[int]:
        """Does units of a step and gives each when it is done; no more at once than there are workers."""
        left, running = list(reversed(units)), {}
        while left or running:
            while left and len(running) < self.workers:
                number = left.pop()
                running[self.task.remote(self.folder, step, number)] = number
            done, _ = self.ray.wait(list(running), num_returns=1)
            for found in done:
                answer = self._got(found)
                raised(answer)
                self.worker_peak = max(self.worker_peak, answer["peak"])
                yield running.pop(found)

    def _got(self, found: Any) -> dict[str, Any]:
        """The answer of a task.

        Raises:
            ResourceError: its workers were lost again and again.
        """
        try:
            return self.ray.get(found)
        except (self.ray.exceptions.WorkerCrashedError, self.ray.exceptions.RaySystemError, MemoryError) as e:
            raise ResourceError(
                f"Ray lost the workers of a unit {RETRIES + 1} times ({type(e).__name__}); give fewer --workers, or more "
                "memory, and run the same command again"
            ) from e


def unit(folder: str, step: str, number: int) -> dict[str, Any]:
    """What a task does: a unit, or nothing where no step is named; tells the most memory that its process has held."""
    prepare()
    if not (Path(folder) / JOB).is_file():
        message = (
            f"a machine of the cluster does not see {folder}; choose an --out on a file system that all of them share"
        )
        return {"error": "ResourceError", "message": message, "peak": peak()}
    answer = act(Work(Path(folder)), step, number) if step else {}
    return {**answer, "peak": peak()}
