"""Workers on this machine: processes that are told what to do in lines of JSON, restarted where they die."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from attar.errors import ResourceError
from attar.scale.memory import Watch
from attar.scale.worker import ENVIRONMENT, raised

DEATHS = 3
"""So often a unit may take its worker with it."""


class Process:
    """One worker.

    Args:
        folder: of the job.
    """

    def __init__(self, folder: Path) -> None:
        words = [sys.executable, "-m", "attar.scale.worker", str(folder)]
        env = {**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        assert self._child.stdin and self._child.stdout
        self.input, self.output = self._child.stdin, self._child.stdout
        self.pid, self.unit = self._child.pid, -1

    def answer(self) -> dict | None:
        """The next answer; None where the worker has died."""
        line = self.output.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    def tell(self, step: str, unit: int) -> None:
        """Gives it a unit."""
        self.unit = unit
        with contextlib.suppress(BrokenPipeError):  # its answer will be that it died
            self.input.write(json.dumps({"step": step, "unit": unit}).encode() + b"\n")
            self.input.flush()

    def end(self) -> None:
        """Kills it: what it has finished is on disk."""
        self._child.kill()
        self._child.wait()
        with contextlib.suppress(BrokenPipeError):
            self.input.close()
        self.output.close()


class Local:
    """Does units by worker processes. A context: they end with it.

    Args:
        folder: of the job. workers: how many, at most; :meth:`first` tells what one takes before the others start.
        bound: bytes of memory of this process and the workers.
    """

    def __init__(self, folder: Path, workers: int, bound: int) -> None:
        self.folder, self.workers = folder, workers
        self.processes: list[Process] = []
        self.watch = Watch(bound, lambda: [os.getpid(), *(p.pid for p in list(self.processes))])

    def __enter__(self) -> Local:
        self.watch.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.end()
        self.watch.__exit__()

    @property
    def peak(self) -> int:
        """Most memory that was seen so far."""
        return self.watch.peak

    def first(self) -> int:
        """Starts one worker; bytes that it holds before any work."""
        self._start()
        return self.watched(self.processes[0])

    def watched(self, process: Process) -> int:
        """Waits until a worker is ready; bytes that it holds."""
        answer = process.answer()
        if answer is None:
            raise ResourceError("a worker process ended before its first unit; its last words stand above")
        return int(answer["resident"])

    def _start(self) -> None:
        self.processes.append(Process(self.folder))

    def run(self, step: str, units: Sequence[int]) -> Iterator[int]:
        """Does units of a step and gives each when it is done.

        Raises:
            AttarError: what a unit ran into; or a unit whose worker died again and again.
        """
        left, deaths, busy = list(reversed(units)), dict.fromkeys(units, 0), selectors.DefaultSelector()
        while len(self.processes) > max(1, self.workers):  # this step lets fewer work at once than the last
            self.processes.pop().end()
        while len(self.processes) < min(self.workers, len(left)):
            self._start()
            self.watched(self.processes[-1])
        for process in self.processes:
            self._next(process, step, left, busy)
        while busy.get_map():
            ready = busy.select(timeout=0.2)
            self.watch.check()
            for key, _ in ready:
                process: Process = key.data
                busy.unregister(process.output)
                answer = process.answer()
                if answer is None:
                    process = self._replaced(process, deaths, left)
                else:
                    raised(answer)
                    yield process.unit
                self._next(process, step, left, busy)

    def _next(self, process: Process, step: str, left: list[int], busy: selectors.BaseSelector) -> None:
        if left:
            process.tell(step, left.pop())
            busy.register(process.output, selectors.EVENT_READ, process)

    def _replaced(self, dead: Process, deaths: dict[int, int], left: list[int]) -> Process:
        """A fresh worker in place of a dead one, whose unit is to be done again."""
        deaths[dead.unit] += 1
        if deaths[dead.unit] == DEATHS:
            raise ResourceError(
                f"the worker of unit {dead.unit} was killed {DEATHS} times, for lack of memory perhaps; "
                "give fewer --workers, or a machine with more, and run the same command again"
            )
        left.append(dead.unit)
        dead.end()
        self.processes[self.processes.index(dead)] = fresh = Process(self.folder)
        self.watched(fresh)
        return fresh
