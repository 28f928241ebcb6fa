"""What the tests of selection at scale share."""

from __future__ import annotations

import os

import pytest
from scale_kit import here

from attar.scale import memory

__all__ = ["here"]

OWN = 150 * 10**6
"""Bytes that a process holds which has only just started attar."""


@pytest.fixture(autouse=True)
def calling_process_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts this process as a fresh one: by the time these tests run it may hold more than their bounds."""
    here, resident = os.getpid(), memory.resident
    monkeypatch.setattr(memory, "resident", lambda pid: min(OWN, resident(pid)) if pid == here else resident(pid))
