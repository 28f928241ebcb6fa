"""The first rows of a set without pictures: its text columns, cut to a readable length."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from attar.condensed import Condensed
from attar.report.classes import class_name, members
from attar.report.facts import text

CLASSES, ROWS, COLUMNS, LENGTH = 10, 3, 4, 280


@dataclass(frozen=True)
class Excerpts:
    """Columns of text, and rows of (class, cells)."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def excerpts(condensed: Condensed) -> Excerpts | None:
    """The first rows of each class; None where there is no text."""
    schema = condensed.table.schema
    found = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)][:COLUMNS]
    if not found or not len(condensed):
        return None
    rows = []
    for k, index in members(condensed)[:CLASSES]:
        for i in index[:ROWS].tolist():
            row = condensed.table.slice(i, 1).to_pylist()[0]
            rows.append((class_name(condensed, k), tuple(text(row[c] or "", LENGTH) for c in found)))
    return Excerpts(tuple(text(c, 60) for c in found), tuple(rows))
