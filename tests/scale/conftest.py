"""What the tests of selection at scale share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from scale_kit import here

from attar.scale import memory

__all__ = ["here"]

OWN = 150 * 10**6
"""Bytes that a process holds which has only just started attar."""


@pytest.fixture(scope="session", autouse=True)
def calling_process_is_small() -> Iterator[None]:
    """Counts this process as a fresh one: by the time these tests run it may hold more than their bounds."""
    this, resident = os.getpid(), memory.resident
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "resident", lambda pid: min(OWN, resident(pid)) if pid == this else resident(pid))
        yield
