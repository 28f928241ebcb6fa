"""What commands print: one JSON object with --json, else a few lines for a person."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.help import DefaultFormatter, HelpPanel
from rich.console import Console, ConsoleOptions
from rich.table import Table

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON object instead of text.")]
Flat = Parameter(name="*")
Named = Parameter(name="*", group="Settings of the method")


def as_json(value: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, default=str))


def console() -> Console:
    """The terminal."""
    return Console(highlight=False, soft_wrap=True, emoji=False)


def lines(*text: str) -> None:
    """Plain lines; names from data are read neither as markup nor as commands to the terminal."""
    for line in text:
        console().print(printable(line), markup=False)


def aside(text: str) -> None:
    """A line on stderr, beside what the command answers."""
    print(f"attar: {printable(text)}", file=sys.stderr)


def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """A table; names from data are not read as markup. What the first column names stays whole, to be typed again."""
    from rich.text import Text

    made = Table(title=Text(printable(title)), title_justify="left")
    for i, c in enumerate(columns):
        made.add_column(c, no_wrap=i == 0)
    for row in rows:
        made.add_row(*[Text(printable(str(cell))) for cell in row])
    Console(highlight=False).print(made)


def printable(text: str) -> str:
    """A line with its control characters and broken bytes spelled out, as in ``\\n``."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def beside(folder: Path, ending: str) -> Path:
    """``photos-small/`` -> ``photos-small.html``; a name such as ``.`` stands for the folder that it is."""
    named = folder if folder.name not in ("", "..") else folder.resolve()
    return named.with_name(named.name + ending)


def size(n: float) -> str:
    """Bytes for people: ``12.3 KB``."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if n < 1000 or unit == "GB":
            return f"{n:.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"
        n /= 1000
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """``under a second``, ``85 s``, ``12 min``, ``3.4 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 1 else "under a second"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def about(seconds: float) -> str:
    """An estimate: ``about 85 s``, ``under a second``."""
    return f"about {duration(seconds)}" if seconds >= 1 else duration(seconds)


def default(value: Any) -> str | None:
    """The default that help shows; none for a flag that is off."""
    return None if value is None or value is False else str(value)


class Formatter(DefaultFormatter):
    """Help in which a setting of several Python types shows the first, which is what the command line takes."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Prints a panel."""
        entries = [e.copy(metavar=e.metavar.partition("|")[0]) if e.metavar else e for e in panel.entries]
        super().__call__(console, options, panel.copy(entries=entries))
