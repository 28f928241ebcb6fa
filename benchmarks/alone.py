"""Work in a process of its own, whose threads and peak memory are no other's."""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
from collections.abc import Callable
from typing import Any


def answer(work: Callable[..., Any], *args: Any) -> Any:
    """What ``work(*args, found)`` puts into the queue ``found``, from a fresh process; None where that ends without a word."""
    processes = multiprocessing.get_context("spawn")
    found = processes.Queue()
    child = processes.Process(target=work, args=(*args, found))
    child.start()
    facts, over = None, False
    while not over:
        over = not child.is_alive()  # asked first: what it said before its end is still found
        with contextlib.suppress(queue.Empty):
            facts, over = found.get(timeout=1), True
    child.join()
    return facts
