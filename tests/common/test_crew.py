"""A crew: order, progress, errors, signals, and no process that outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from attar.errors import DataError, ResourceError
from attar.execute import crew
from attar.execute.progress import Progress, Silent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")


class Counted(Silent):
    """A progress that counts."""

    def __init__(self) -> None:
        self.started: list[tuple[str, int]] = []
        self.over, self.facts, self.stopped = 0, {}, 0

    def start(self, label: str, total: int, done: int = 0) -> None:
        self.started.append((label, total))

    def advance(self, n: int = 1, **facts: float) -> None:
        self.over += n
        self.facts |= facts

    def stop(self) -> None:
        self.stopped += 1


def square(n: int, progress: Progress) -> tuple[int, int, int]:
    """n * n, the process and its threads; the first pieces end last."""
    time.sleep(0.02 * (5 - n))
    progress.start("a part", 2, done=1)
    progress.advance(1, loss=float(n))
    progress.stop()
    return n * n, os.getpid(), torch.get_num_threads()


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    """But those that other tests of this process left."""
    before = set(children(os.getpid()))
    yield
    assert set(children(os.getpid())) <= before


def children(pid: int) -> list[int]:
    """The living children of a process."""
    found = Path(f"/proc/{pid}/task/{pid}/children")
    listed = [int(p) for p in found.read_text().split()] if found.exists() else []
    return [p for p in listed if alive(p)]


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def done(pieces: list[Callable[[Progress], Any]], *, workers: int = 2, progress: Progress | None = None) -> list[Any]:
    return crew.done(pieces, workers=workers, progress=progress or Silent(), label="work", total=2 * len(pieces))


@pytest.mark.parametrize("workers", [1, 2, 3, 9])
def test_results_come_in_the_order_of_the_pieces(workers: int) -> None:
    shown = Counted()
    found = done([partial(square, n) for n in range(5)], workers=workers, progress=shown)
    assert [value for value, _, _ in found] == [0, 1, 4, 9, 16]
    processes = {pid for _, pid, _ in found}
    if workers == 1:
        assert processes == {os.getpid()}
    else:
        assert os.getpid() not in processes and 1 < len(processes) <= min(workers, 5)
        assert {threads for _, _, threads in found} == {1}
        assert (shown.started, shown.over, shown.stopped) == ([("work", 10)], 10, 1)
    assert set(shown.facts) == {"loss"}


def test_a_single_piece_needs_no_other_process() -> None:
    ((value, pid, _),) = done([partial(square, 3)], workers=4)
    assert (value, pid) == (9, os.getpid())


def test_what_a_piece_raises_is_raised(tmp_path: Path) -> None:
    def bad(progress: Progress) -> None:
        raise DataError("row 7 is no image")

    def long(progress: Progress) -> None:
        time.sleep(60)
        (tmp_path / "went on").touch()

    began = time.monotonic()
    with pytest.raises(DataError) as raised:
        done([bad, long])
    assert str(raised.value) == "row 7 is no image"
    assert time.monotonic() - began < 30 and not (tmp_path / "went on").exists()


def test_a_killed_process_is_told_in_a_sentence() -> None:
    def killed(progress: Progress) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ResourceError, match=r"ended by signal 9.*--threads 1"):
        done([killed, partial(square, 1)])


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with crew.one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


SCRIPT = """
import os, signal, sys, time
from pathlib import Path

import torch

from attar.errors import Interrupted
from attar.execute import crew
from attar.execute.progress import Silent
from attar.execute.signals import caught

torch.set_num_threads(1)
home = Path(sys.argv[1])


def piece(n):
    def work(progress):
        with caught() as stop:
            (home / f"{n}.pid").write_text(str(os.getpid()))
            while not stop.signal:
                time.sleep(0.01)
                progress.advance(1)
        time.sleep(n)  # the second takes longer to save
        for _ in range(5000):  # more than a pipe holds
            progress.advance(1)
        (home / f"{n}.saved").touch()
        raise Interrupted("stopped; the state is saved", stop.signal)

    return work


try:
    crew.done([piece(n) for n in range(3)], workers=2, progress=Silent(), label="work", total=3)
except Interrupted as e:
    print(e)
    sys.exit(e.exit_code)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_reaches_the_crew(tmp_path: Path, number: int, code: int) -> None:
    """They save where they can, and none outlives its parent, however that ends."""
    parent = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    pids = [int(waited(tmp_path / f"{n}.pid")) for n in range(2)]
    os.kill(parent.pid, number)
    said, _ = parent.communicate(timeout=60)
    assert parent.returncode == code
    until(lambda: not any(map(alive, pids)))
    saved = sorted(p.name for p in tmp_path.glob("*.saved"))
    assert saved == ([] if number == signal.SIGKILL else ["0.saved", "1.saved"])
    assert said == ("" if number == signal.SIGKILL else "stopped; the state is saved\n")


@pytest.mark.parametrize("usual", [signal.default_int_handler, signal.SIG_IGN])
def test_a_signal_ends_pieces_that_save_nothing(tmp_path: Path, usual: Any) -> None:
    """Also where the process began with the signal ignored, as one in the background of a script does."""

    def idle(n: int, progress: Progress) -> None:
        (tmp_path / f"{n}.pid").write_text(str(os.getpid()))
        if n == 1:
            waited(tmp_path / "0.pid")
            os.kill(os.getppid(), signal.SIGINT)
        time.sleep(60)

    before = signal.signal(signal.SIGINT, usual)
    try:
        with pytest.raises(KeyboardInterrupt):
            done([partial(idle, n) for n in range(2)])
    finally:
        signal.signal(signal.SIGINT, before)
    assert not any(alive(int((tmp_path / f"{n}.pid").read_text())) for n in range(2))


def waited(path: Path) -> str:
    """What a file holds as soon as there is something in it."""
    until(lambda: path.exists() and path.read_text() != "")
    return path.read_text()


def until(true: Callable[[], bool]) -> None:
    """Waits for something, a minute at most."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
