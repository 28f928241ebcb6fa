"""Progress with time left, in terminals and notebooks; silent elsewhere."""

from __future__ import annotations

import sys
from typing import Protocol


class Progress(Protocol):
    """What long work reports to."""

    def start(self, label: str, total: int, done: int = 0) -> None:
        """A new piece of work of ``total`` units, ``done`` of them over."""
        ...

    def advance(self, n: int = 1, **facts: float) -> None:
        """``n`` more units are over; ``facts`` are shown beside (loss=...)."""
        ...

    def stop(self) -> None:
        """The piece of work is over."""
        ...


class Silent:
    """Shows nothing."""

    def start(self, label: str, total: int, done: int = 0) -> None:
        """Shows nothing."""

    def advance(self, n: int = 1, **facts: float) -> None:
        """Shows nothing."""

    def stop(self) -> None:
        """Shows nothing."""


class Bars:
    """A bar with the time left, on stderr (or in the notebook's cell), through rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._make = lambda: Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[facts]}"),
            console=Console(stderr=not in_notebook()),
        )
        self._bar = None

    def start(self, label: str, total: int, done: int = 0) -> None:
        """Opens a bar."""
        self.stop()
        self._bar = self._make()
        self._task = self._bar.add_task(label, total=total, completed=done, facts="")
        self._bar.start()

    def advance(self, n: int = 1, **facts: float) -> None:
        """Moves the bar."""
        if self._bar is not None:
            shown = {"facts": "  ".join(f"{k} {v:.4g}" for k, v in facts.items())} if facts else {}
            self._bar.update(self._task, advance=n, **shown)  # pyright: ignore[reportArgumentType]

    def stop(self) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel."""
    return "ipykernel" in sys.modules


def usual() -> Progress:
    """Bars where a person looks on (a terminal or a notebook), silence elsewhere."""
    return Bars() if sys.stderr.isatty() or in_notebook() else Silent()
