"""A warm process that forks: torch is imported once, and each piece of work runs in a child that may be killed.

The process of this file (``python zygote.py``) reads requests as JSON lines and answers each with one. It and its children
compute on one thread, so that forking is safe. A test's own process is no good zygote: whatever ran in it before may have
started threads.

A child counts the points of :data:`attar.io.atomic.fault` that it passes, in a file that outlives it, and may die, stop or
meet an error at one of them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PATIENCE = 300.0
"""Seconds after which a child is taken to hang."""
STOPPED, BROKEN = "stopped", 71
SIZE = 2**16
"""Bytes of a child's notes."""
_CHANGING = re.compile(r"\.attar-(tmp|old)-[0-9]+-[0-9]+(-h[0-9a-f]{8})?(-[0-9]+)?|-[0-9a-f]{16}(?=\.)")
"""Parts of names that differ from run to run: owners, and digests of states that tell the seconds so far."""


@dataclass(frozen=True)
class Trap:
    """What happens at some points of a child's work.

    Args:
        at: numbers of points, from 1. act: ``kill``, ``stop`` (until it is told to go on), or the name of an errno.
        on: ``[word, text]``: only points of this word whose path holds the text are counted.
    """

    at: tuple[int, ...]
    act: str
    on: tuple[str, str] = ("", "")


@dataclass
class Child:
    """A running piece of work.

    Args:
        pid: its process. home: its folder. notes: where it counts and says how it ended.
    """

    zygote: Zygote
    pid: int
    notes: Path
    ended: int | None = field(default=None)

    def wait(self, seconds: float = PATIENCE) -> int | str | None:
        """Exit code, minus a signal's number, ``stopped``, or None where it still runs after ``seconds``."""
        if self.ended is None:
            found = self.zygote.ask(wait=self.pid, seconds=seconds)["ended"]
            if found is None or found == STOPPED:
                return found
            self.ended = int(found)
        return self.ended

    def finished(self) -> int:
        """The exit code of a child that is left alone."""
        found = self.wait()
        if not isinstance(found, int):
            self.send(signal.SIGKILL)
            raise AssertionError(f"child {self.pid} {found or 'hangs'}; it is at point {self.points}")
        return found

    def send(self, number: int) -> None:
        """A signal."""
        if self.ended is None:
            os.kill(self.pid, number)

    def go_on(self) -> None:
        """Ends a stop."""
        self.send(signal.SIGCONT)

    @property
    def points(self) -> int:
        """Points that it reached."""
        return len(self.trail)

    @property
    def states(self) -> int:
        """Saved states that it put in their places."""
        return int.from_bytes(self._noted()[8:16], "little")

    @property
    def said(self) -> str:
        """The error that ended it, or nothing."""
        path = self.notes.with_suffix(".said")
        return path.read_text() if path.exists() else ""

    @property
    def trail(self) -> list[tuple[str, str]]:
        """Word and name of every point."""
        data = self._noted()
        lines = data[16 : int.from_bytes(data[:8], "little")].decode().splitlines()
        return [(word, name) for word, _, name in (line.partition(" ") for line in lines)]

    def _noted(self) -> bytes:
        return self.notes.read_bytes() if self.notes.exists() else b""  # it may have died before


class Zygote:
    """Starts and ends the warm process; ``with Zygote() as z: z.start(...)``.

    Args:
        notes: a folder for what children note.
    """

    def __init__(self, notes: Path) -> None:
        self.notes, self._n = notes, 0
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), "ATTAR_CACHE": str(notes / "cache")}
        env |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}  # no threads of a device's either
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "zygote.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True
        )

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def ask(self, **request: Any) -> dict[str, Any]:
        """One request, one answer."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the zygote is gone; its stderr says why")
        return json.loads(answer)

    def start(
        self, work: str, home: Path, *, trap: Trap | None = None, check: Path | None = None, **settings: Any
    ) -> Child:
        """Starts ``works.WORKS[work](home, **settings)`` in a child.

        Args:
            check: a home that ``works.check`` looks at before; where something in it is broken, the exit code is BROKEN.
        """
        self._n += 1
        notes = self.notes / f"{self._n:06d}.notes"
        asked = {"home": str(home), "notes": str(notes), "check": str(check) if check else None, "settings": settings}
        found = self.ask(work=work, trap=vars(trap) if trap else None, **asked)
        return Child(self, found["pid"], notes)

    def run(
        self, work: str, home: Path, *, trap: Trap | None = None, check: Path | None = None, **settings: Any
    ) -> Child:
        """The same, to its end."""
        child = self.start(work, home, trap=trap, check=check, **settings)
        child.finished()
        return child


# Below: the process that forks, and its children.


class _Bell:
    """The hook of a child: notes the points and springs the trap.

    The notes are mapped memory, which outlives a kill and asks nothing of the system that a trap has made scarce: the end
    of the trail and the number of saved states, 8 bytes each, then the trail.
    """

    def __init__(self, notes: Path, trap: dict[str, Any] | None) -> None:
        with open(notes, "x+b") as f:
            f.truncate(SIZE)
            self.shared = mmap.mmap(f.fileno(), SIZE)
        self.trap, self.end, self.states, self.met, self.saving = trap, 16, 0, 0, False

    def __call__(self, what: str, path: Path) -> None:
        line = f"{what} {_CHANGING.sub('', path.name)}\n".encode()
        self.shared[self.end : self.end + len(line)] = line
        self.end += len(line)
        self.states += self.saving  # the point after a rename: it is done
        self.shared[:16] = self.end.to_bytes(8, "little") + self.states.to_bytes(8, "little")
        self.saving = False
        if self.trap is not None and self._counted(what, str(path)):
            self.met += 1
            if self.met in self.trap["at"]:
                _act(self.trap["act"], path)
        self.saving = what == "rename" and path.name.startswith("state-")

    def _counted(self, what: str, path: str) -> bool:
        assert self.trap is not None
        word, text = self.trap["on"]
        return word in ("", what) and text in path


def _act(act: str, path: Path) -> None:
    if act == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "stop":
        return os.kill(os.getpid(), signal.SIGSTOP)
    number = getattr(errno, act)
    raise OSError(number, os.strerror(number), str(path))


def _serve() -> None:
    """Answers requests until stdin closes, then ends all children."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    import works

    works.warm()
    living: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer: dict[str, Any] = {"ended": _wait(request["wait"], request["seconds"], living)}
        else:
            answer = {"pid": _fork(request, works.WORKS[request["work"]])}
            living.add(answer["pid"])
        answers.write(json.dumps(answer) + "\n")
    for pid in living:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _wait(pid: int, seconds: float, living: set[int]) -> int | str | None:
    for _ in _ticks(seconds):
        found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
        if found and os.WIFSTOPPED(status):
            return STOPPED
        if found:
            living.discard(pid)
            return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return None


def _ticks(seconds: float) -> Iterator[None]:
    """Every 2 ms, at least once."""
    end = time.monotonic() + seconds
    yield
    while time.monotonic() < end:
        time.sleep(0.002)
        yield


def _fork(request: dict[str, Any], work: Callable[..., object]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            code = _work(request, work)
        finally:
            os._exit(code)
    return pid


def _work(request: dict[str, Any], work: Callable[..., object]) -> int:
    """Does the work in a child; the exit code is that of the command line."""
    import works

    from attar.errors import AttarError
    from attar.io import atomic

    notes, home = Path(request["notes"]), Path(request["home"])
    said = notes.with_suffix(".said")
    os.environ["ATTAR_CACHE"] = str(home / "cache")
    os.chdir(home)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = BROKEN
    try:
        if request["check"]:
            works.check(Path(request["check"]))
        code = 70
        atomic.fault = _Bell(notes, request["trap"])
        return int(work(home, **request["settings"]) or 0)  # pyright: ignore[reportArgumentType]
    except AttarError as e:
        said.write_text(f"{type(e).__name__}: {e}")
        return BROKEN if code == BROKEN else e.exit_code
    except SystemExit as e:
        return int(e.code or 0)
    except KeyboardInterrupt:
        said.write_text("KeyboardInterrupt")
        return 130
    except BaseException:
        said.write_text(traceback.format_exc())
        return code


if __name__ == "__main__":
    _serve()
