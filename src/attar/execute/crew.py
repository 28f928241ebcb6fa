"""A crew: independent pieces of work side by side, each by a process of one thread.

Small networks keep one core busy at most, so that the trainings of an evaluation, or of experts, are better done beside each
other than one after the other. The processes are forked: they hold what this one holds and are told no more than the number
of a piece. Each keeps its results itself (the store of scores, the cache of resources), so a crew that is killed has lost
what a single process would have lost. No piece may need another.

Bits do not depend on the crew: a piece is computed by one thread here and there.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import torch

from attar.errors import AttarError, Interrupted, ResourceError
from attar.execute import compile as compiling
from attar.execute.progress import Progress
from attar.execute.signals import Stop, caught, end_with

T = TypeVar("T")
Piece = Callable[[Progress], T]
"""Work that reports to a progress of its own; what it returns must be picklable."""

PATIENCE = 20.0
"""Seconds in which a piece may save its state when a signal has come."""


def able() -> bool:
    """Whether processes can be forked here: on Linux, without a GPU in use, in no process that a pool owns."""
    return (
        sys.platform == "linux"
        and not torch.cuda.is_initialized()
        and not multiprocessing.current_process().daemon
        and threading.current_thread() is threading.main_thread()
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread inside the block: what a crew does is done so too where a single piece of it is left."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def done(pieces: Sequence[Piece[T]], *, workers: int, progress: Progress, label: str, total: int) -> list[T]:
    """Does all pieces and returns what they gave, in their order.

    Args:
        workers: processes at most; 1 does the pieces one after the other in this process.
        progress: shows one bar for all of them. label, total: of the bar.

    Raises:
        Interrupted: a signal came, and the pieces that can have saved their state.
        ResourceError: a process was killed from outside.
        Exception: what a piece raised; the others are stopped.
    """
    if min(workers, len(pieces)) < 2 or not able():
        progress.start(label, total)
        try:
            return [piece(progress) for piece in pieces]
        finally:
            progress.stop()
    with caught() as stop, _forked(pieces, min(workers, len(pieces))) as processes:
        progress.start(label, total)  # after the forks: a thread that draws would hold its lock in the copies for ever
        try:
            found = _collected(len(pieces), processes, progress, stop)
        finally:
            progress.stop()
    if stop.signal:
        signal.raise_signal(stop.signal)  # nothing said that it saved a state: the signal has its usual effect
        raise KeyboardInterrupt  # a process in the background may ignore it, but the pieces are gone
    return [found[i] for i in range(len(pieces))]


Processes = dict[Connection, multiprocessing.Process]


@contextmanager
def _forked(pieces: Sequence[Piece[Any]], workers: int) -> Iterator[Processes]:
    """Processes that wait for numbers of pieces; they are gone after the block, however it ends."""
    fork, processes = multiprocessing.get_context("fork"), {}
    try:
        for _ in range(workers):
            ours, theirs = fork.Pipe()
            process = fork.Process(target=_serve, args=(pieces, theirs, [*processes, ours], os.getpid()), daemon=True)
            with warnings.catch_warnings():
                # Of forks beside threads: none of them holds a lock that a piece takes.
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            theirs.close()
            processes[ours] = process
        yield processes
    finally:
        for process in processes.values():
            process.kill()
        for connection, process in processes.items():
            process.join()
            connection.close()


def _serve(pieces: Sequence[Piece[Any]], here: Connection, others: list[Connection], parent: int) -> None:
    """The life of a process of the crew."""
    for connection in others:  # their ends must close with their owners
        connection.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if not end_with(parent):
        return
    torch.set_num_threads(1)
    compiling.forked()
    with contextlib.suppress(EOFError, ConnectionError):
        while _answered(pieces[here.recv()], here):
            pass


def _answered(piece: Piece[Any], here: Connection) -> bool:
    """Sends what a piece gave or raised; whether there may be another."""
    try:
        value = piece(_Told(here))
    except Exception as e:
        if not isinstance(e, AttarError):
            e.add_note(traceback.format_exc())  # where it came from is not sent otherwise
        here.send(("raised", e))
        return False
    here.send(("gave", value))
    return True


class _Told:
    """The progress of a piece, told to the parent."""

    def __init__(self, here: Connection) -> None:
        self.here = here

    def start(self, label: str, total: int, done: int = 0) -> None:
        """Only what is over already counts: the bar is the parent's."""
        if done:
            self.advance(done)

    def advance(self, n: int = 1, **facts: float) -> None:
        """Tells it."""
        self.here.send(("advanced", (n, facts)))

    def stop(self) -> None:
        """Says nothing."""


def _collected(count: int, processes: Processes, progress: Progress, stop: Stop) -> dict[int, Any]:
    """The results by the numbers of their pieces; what came by then where a signal ends the work."""
    found: dict[int, Any] = {}
    left, at = list(reversed(range(count))), dict.fromkeys(processes, -1)
    for connection in processes:
        at[connection] = _sent(connection, left)
    while len(found) < count:
        if stop.signal:
            _saved(processes, stop)
            return found
        for connection in wait([c for c, i in at.items() if i >= 0], timeout=0.2):
            assert isinstance(connection, Connection)
            kind, value = _heard(connection, processes[connection])
            if kind == "advanced":
                progress.advance(value[0], **value[1])
            elif kind == "raised":
                raise value
            else:
                found[at[connection]] = value
                at[connection] = _sent(connection, left)
    return found


def _sent(connection: Connection, left: list[int]) -> int:
    """Gives a process the next piece; its number, -1 where none is left."""
    if not left:
        return -1
    with contextlib.suppress(BrokenPipeError):  # it is dead, as its answer will show
        connection.send(left[-1])
    return left.pop()


def _heard(connection: Connection, process: multiprocessing.Process) -> tuple[str, Any]:
    """The next word of a process.

    Raises:
        ResourceError: it is dead.
    """
    try:
        return connection.recv()
    except (EOFError, ConnectionResetError):
        process.join()
        raise ResourceError(
            f"a process of the work ended by signal {-(process.exitcode or 0)}, for lack of memory perhaps; what is finished "
            "is kept: run the same command again, with --threads 1 for one process"
        ) from None


def _saved(processes: Processes, stop: Stop) -> None:
    """Hands the signal on, and waits for the processes that save their state.

    Raises:
        Interrupted: that of a process that did.
    """
    for process in processes.values():
        process.terminate()
    open_, told, end = set(processes), None, time.monotonic() + PATIENCE
    while open_ and time.monotonic() < end:
        for connection in wait(open_, timeout=0.2):
            assert isinstance(connection, Connection)
            try:
                kind, value = connection.recv()
            except (EOFError, ConnectionResetError):  # it is over
                open_.remove(connection)
                continue
            if kind == "raised" and isinstance(value, Interrupted):
                told = str(value)
    if told is not None:
        raise Interrupted(told, stop.signal)
