"""The same facts as tables for the terminal. Cells are rich ``Text``, so that a name is never read as markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from attar.condensed import Condensed
from attar.report import facts, wording
from attar.report.classes import per_class
from attar.report.cost import cost
from attar.report.cross import across
from attar.report.grid import Cell, grids


def score_table(scores: Sequence[Mapping[str, Any]]) -> Table:
    """Scores, one a row, with random examples and the full set beside them.

    Args:
        scores: score objects of a manifest.
    """
    known = facts.scores(list(scores))
    heads = ["network", "images", "labels", "accuracy", "interval", "random", "full", "seeds"]
    if not any("full" in s.baselines for s in known):
        heads.remove("full")
    if all((s.labels or "hard") == "hard" for s in known):
        heads.remove("labels")
    table = _table(*heads)
    for s in known:
        cells: dict[str, str | Text] = {
            "network": wording.network(s.network),
            "images": s.images or "exact",
            "labels": s.labels or "–",
            "accuracy": Text(wording.accuracy(s.kept), "bold"),
            "interval": wording.interval(s.kept) or "–",
            "seeds": str(s.kept.seeds) if s.kept and s.kept.seeds else "–",
            **{k: f"{s.baselines[k].mean:.3f}" if k in s.baselines else "–" for k in ("random", "full")},
        }
        _row(table, *(cells[head] for head in heads))
    return table


def compare_table(rows: Sequence[Mapping[str, Any]]) -> Group:
    """Methods against sizes, one table per network and protocol, then across networks; the highest mean is bold.

    Args:
        rows: as for :func:`attar.report.compare.render`.
    """
    tables, found = [], grids(rows)
    for grid in found:
        table = _table("method", *grid.heads)
        table.title = Text(f"{grid.network}: {grid.conditions}" if grid.conditions else grid.network)
        for line in grid.lines:
            _row(table, Text(line.name, "dim" if line.quiet else ""), *map(_cell, line.cells))
        tables.append(table)
    for cross in across(found):
        table = _table("method", *cross.networks)
        table.title = Text(f"Across networks, {cross.head}")
        for line in cross.lines:
            _row(table, Text(line.name, "dim" if line.quiet else ""), *map(_said, line.cells))
        tables.append(table)
    return Group(*tables)


def set_table(condensed: Condensed) -> Table:
    """What a set is, what it weighs and what it took: two columns."""
    table = Table.grid(padding=(0, 2))
    source, steps = facts.mapping(condensed.manifest.get("source")), facts.lineage(condensed.manifest.get("lineage"))
    n_real = facts.whole(source.get("rows"))
    counts = [n for _, n in per_class(condensed)]
    rows = [
        ("kind", facts.text(condensed.manifest.get("kind") or "unknown")),
        ("source", facts.text(source.get("name") or "unknown")),
        ("made by", ", then ".join(f"{s.verb} {s.method}".strip() for s in steps) or "unknown"),
    ]
    if counts:
        even = min(counts) == max(counts)
        rows.append(("per class", str(counts[0]) if even else f"{min(counts)} to {max(counts)}"))
    found = cost(condensed, n_real, steps)
    rows += [(what, f"{small} of {large} ({share})" if large else small) for what, small, large, share in found.sizes]
    rows += [(what, value) for what, value in found.tiles if not what.startswith("of ")]
    for name, value in rows:
        _row(table, Text(name, "dim"), value)
    return table


def _said(cell: Cell | None) -> Text:
    return Text("–", "dim") if cell is None else Text(cell.said, "bold" if cell.best else "")


def _cell(cell: Cell | None) -> Text:
    if cell is None:
        return Text("–", "dim")
    return Text.assemble((cell.said, "bold" if cell.best else ""), (f"\n{cell.cost}" if cell.cost else "", "dim"))


def _table(*heads: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title_justify="left", title_style="bold")
    for i, head in enumerate(heads):
        table.add_column(Text(head), no_wrap=i > 0, overflow="fold")  # a narrow terminal folds names, not figures
    return table


def _row(table: Table, *cells: str | Text) -> None:
    table.add_row(*(c if isinstance(c, Text) else Text(c) for c in cells))
