"""What commands print: one JSON object with --json, else a few lines for a person."""

from __future__ import annotations

import json
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON object instead of text.")]
Flat = Parameter(name="*")
Named = Parameter(name="*", group="Settings of the method")


def as_json(value: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, ensure_ascii=False, default=str))


def console() -> Console:
    """The terminal."""
    return Console(highlight=False, soft_wrap=True)


def lines(*text: str) -> None:
    """Plain lines; names from data are not read as markup."""
    for line in text:
        console().print(line, markup=False)


def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """A table; names from data are not read as markup."""
    from rich.text import Text

    made = Table(title=Text(title), title_justify="left")
    for c in columns:
        made.add_column(c)
    for row in rows:
        made.add_row(*[Text(str(cell)) for cell in row])
    Console(highlight=False).print(made)


def size(n: float) -> str:
    """Bytes for people: ``12.3 KB``."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if n < 1000 or unit == "GB":
            return f"{n:.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"
        n /= 1000
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """``85 s``, ``12 min``, ``3.4 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
