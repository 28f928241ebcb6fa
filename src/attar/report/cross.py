"""Cross-architecture tables: methods down, networks across, one table for each size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attar.report.grid import Cell, Grid, Line


@dataclass(frozen=True)
class Cross:
    """What every network made of the sets of one size.

    Args:
        head: the size in words. networks: the columns. lines: a method each, with one cell per network.
    """

    head: str
    networks: tuple[str, ...]
    lines: tuple[Line, ...]


def across(found: Sequence[Grid]) -> tuple[Cross, ...]:
    """The tables of a comparison over several networks, none where there is only one; the smallest size first."""
    if len({g.network for g in found}) < 2:
        return ()
    names = list(dict.fromkeys((line.name, line.quiet) for g in found for line in g.lines))
    names.sort(key=lambda name: name[1])  # baselines below
    networks = tuple(g.network for g in found)
    heads = {n: head for g in found for n, head in zip(g.sizes, g.heads)}
    return tuple(
        Cross(head, networks, tuple(Line(name, tuple(_at(g, name, n) for g in found), quiet) for name, quiet in names))
        for n, head in sorted(heads.items())
    )


def _at(grid: Grid, name: str, size: int) -> Cell | None:
    """A method's cell in a grid, None where nothing was made."""
    line = next((line for line in grid.lines if line.name == name), None)
    return line.cells[grid.sizes.index(size)] if line is not None and size in grid.sizes else None
