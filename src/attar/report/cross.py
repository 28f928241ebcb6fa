"""Cross-architecture tables: methods down, networks across, one table for each size and way of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attar.report.grid import Cell, Grid, Line


@dataclass(frozen=True)
class Cross:
    """What every network made of the sets of one size.

    Args:
        head: the size in words, and how the networks were trained where that differs between tables.
        networks: the columns.
        lines: a method each, with one cell per network.
    """

    head: str
    networks: tuple[str, ...]
    lines: tuple[Line, ...]


def across(found: Sequence[Grid]) -> tuple[Cross, ...]:
    """The tables of a comparison over several networks, none where there is only one; the smallest size first.

    What was trained in another way, as with soft labels, stands in tables of its own.
    """
    ways: dict[str, list[Grid]] = {}
    for grid in found:
        ways.setdefault(grid.conditions, []).append(grid)
    told = zip(_differing(list(ways)), ways.values())
    tables = [(size, table) for way, grids in told if len(grids) > 1 for size, table in _tables(grids, way)]
    return tuple(table for _, table in sorted(tables, key=lambda item: item[0]))


def _differing(ways: Sequence[str]) -> list[str]:
    """Of several ways in words, what not all of them share."""
    parts = [way.split(", ") for way in ways]
    shared = set(parts[0]).intersection(*parts) if parts else set()
    return [", ".join(x for x in part if x not in shared) for part in parts]


def _tables(grids: Sequence[Grid], way: str) -> list[tuple[int, Cross]]:
    """A table for each size, of networks that were trained in one way."""
    names = list(dict.fromkeys((line.name, line.quiet) for g in grids for line in g.lines))
    names.sort(key=lambda name: name[1])  # baselines below
    networks = tuple(g.network for g in grids)
    heads = {n: f"{head}, {way}" if way else head for g in grids for n, head in zip(g.sizes, g.heads)}
    return [
        (n, Cross(head, networks, tuple(Line(name, tuple(_at(g, name, n) for g in grids), q) for name, q in names)))
        for n, head in heads.items()
    ]


def _at(grid: Grid, name: str, size: int) -> Cell | None:
    """A method's cell in a grid, None where nothing was made."""
    line = next((line for line in grid.lines if line.name == name), None)
    return line.cells[grid.sizes.index(size)] if line is not None and size in grid.sizes else None
