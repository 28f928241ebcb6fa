"""Cross-architecture tables: methods down, networks across, one table for each size and kind of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attar.report.grid import Cell, Grid, Line


@dataclass(frozen=True)
class Cross:
    """What every network made of the sets of one size.

    Args:
        head: the size in words, and the labels or images where these differ between tables.
        networks: the columns.
        lines: a method each, with one cell per network.
    """

    head: str
    networks: tuple[str, ...]
    lines: tuple[Line, ...]


def across(found: Sequence[Grid]) -> tuple[Cross, ...]:
    """The tables of a comparison over several networks, none where there is only one; the smallest size first.

    What was learned in another form, as with soft labels, stands in tables of its own. Augmentation may differ between the
    columns of one: that of a protocol can depend on the network.
    """
    forms: dict[tuple[str, ...], list[Grid]] = {}
    for grid in found:
        forms.setdefault(grid.offer, []).append(grid)
    shared = set[str]().union(*forms).intersection(*forms)
    told = [(", ".join(x for x in form if x not in shared), grids) for form, grids in forms.items()]
    several = [(form, grids) for form, grids in told if len({g.network for g in grids}) > 1]
    tables = [(size, table) for form, grids in several for size, table in _tables(grids, form)]
    return tuple(table for _, table in sorted(tables, key=lambda item: item[0]))


def _tables(grids: Sequence[Grid], form: str) -> list[tuple[int, Cross]]:
    """A table for each size, of sets that were learned in one form."""
    names = list(dict.fromkeys((line.name, line.quiet) for g in grids for line in g.lines))
    names.sort(key=lambda name: name[1])  # baselines below
    networks = tuple(g.network for g in grids)
    heads = {n: f"{head}, {form}" if form else head for g in grids for n, head in zip(g.sizes, g.heads)}
    return [
        (n, Cross(head, networks, tuple(Line(name, tuple(_at(g, name, n) for g in grids), q) for name, q in names)))
        for n, head in heads.items()
    ]


def _at(grid: Grid, name: str, size: int) -> Cell | None:
    """A method's cell in a grid, None where nothing was made."""
    line = next((line for line in grid.lines if line.name == name), None)
    return line.cells[grid.sizes.index(size)] if line is not None and size in grid.sizes else None
