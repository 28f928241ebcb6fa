"""Workers on a Ray cluster: the same units as tasks, which Ray does again where a worker or a machine is lost.

Parts are files, so all machines must see the shards and the folder of the job under the same names (a shared file system, or
buckets for the shards). Ray's own processes are not counted in ``--memory``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

from attar.execute.cluster import RETRIES, answer, joined, require
from attar.scale.memory import peak
from attar.scale.work import JOB, Work
from attar.scale.worker import ENVIRONMENT, act, prepare, raised


class Cluster:
    """Does units by Ray tasks, one core each. A context: a Ray that it started ends with it.

    Args:
        folder: of the job, seen by all machines. workers: most units at once.
    """

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.workers, self.worker_peak = str(folder.absolute()), workers, 0
        self.inside = ExitStack()
        self.ray: Any = None

    def __enter__(self) -> Cluster:
        self.ray = self.inside.enter_context(joined("--on ray"))
        require(self.ray, cpus=1, gpus=0)
        environment = {"env_vars": ENVIRONMENT}
        self.task = self.ray.remote(num_cpus=1, max_retries=RETRIES, runtime_env=environment)(unit)
        return self

    def __exit__(self, *_: object) -> None:
        self.inside.close()

    @property
    def peak(self) -> int:
        """This process and as many workers as there may be, each as large as the largest."""
        return peak() + self.workers * self.worker_peak

    def first(self) -> int:
        """Bytes that a worker holds before any work."""
        found = answer(self.ray, self.task.remote(self.folder, "", 0))
        raised(found)
        self.worker_peak = found["peak"]
        return int(found["peak"])

    def run(self, step: str, units: Sequence[int]) -> Iterator[int]:
        """Does units of a step and gives each when it is done; no more at once than there are workers."""
        left, running = list(reversed(units)), {}
        while left or running:
            while left and len(running) < self.workers:
                number = left.pop()
                running[self.task.remote(self.folder, step, number)] = number
            done, _ = self.ray.wait(list(running), num_returns=1)
            for task in done:
                found = answer(self.ray, task)
                raised(found)
                self.worker_peak = max(self.worker_peak, found["peak"])
                yield running.pop(task)


@lru_cache(maxsize=1)
def _work(folder: str, changed: int) -> Work:
    """A job, read once by each process that does its units."""
    return Work(Path(folder))


def unit(folder: str, step: str, number: int) -> dict[str, Any]:
    """What a task does: a unit, or nothing where no step is named; tells the most memory that its process has held."""
    prepare()
    if not (Path(folder) / JOB).is_file():
        message = (
            f"a machine of the cluster does not see {folder}; choose an --out on a file system that all of them share"
        )
        return {"error": "ResourceError", "message": message, "peak": peak()}
    found = act(_work(folder, (Path(folder) / JOB).stat().st_mtime_ns), step, number) if step else {}
    return {**found, "peak": peak()}
