"""Rows of a comparison as a grid: methods down, sizes across; random real examples and the full set stand below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attar.report import wording
from attar.report.accuracy import conditions
from attar.report.facts import Measure, Score, mapping, number, score, text, whole

RANDOM = "random real examples"
QUICK = ", quick"
"""Marks the name of a method that had its short schedule."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of a comparison: a set of ``size``, what it and what it shares with others took, and what it scored.

    Args:
        protocol: that of the random examples beside it, which all rows share.
        rate: the learning rate that was learned with the images, where that is all in which the set's own protocol differs.
    """

    method: str
    size: int | None
    bytes: int | None
    seconds: float | None
    shared: float | None
    protocol: str
    rate: float | None
    score: Score

    @property
    def cost(self) -> str:
        """Time to make, bytes and learned rate, as far as they are known."""
        parts = [wording.duration(self.seconds)] if self.seconds is not None else []
        if parts and self.shared:
            parts[0] += f" and {wording.duration(self.shared)} shared"
        parts += [wording.size(self.bytes)] if self.bytes is not None else []
        return ", ".join(parts + ([f"rate {self.rate:.3g}"] if self.rate is not None else []))


@dataclass(frozen=True)
class Cell:
    """What one method reached at one size, or that a training on its set broke."""

    measure: Measure | None
    cost: str = ""
    best: bool = False
    broken: bool = False

    @property
    def said(self) -> str:
        """The accuracy in words."""
        return "diverged" if self.broken and self.measure is None else wording.accuracy(self.measure)


@dataclass(frozen=True)
class Line:
    """A method (or, ``quiet``, a baseline) with one cell per size, None where nothing was made."""

    name: str
    cells: tuple[Cell | None, ...]
    quiet: bool = False


@dataclass(frozen=True)
class Grid:
    """One network and protocol.

    Args:
        offer: in what form the sets were learned, as soft labels of exact images.
        sizes: the columns, ascending.
        per_class: whether sizes are images per class, else rows.
    """

    network: str
    conditions: str
    offer: tuple[str, ...]
    sizes: tuple[int, ...]
    per_class: bool
    lines: tuple[Line, ...]

    @property
    def diverged(self) -> bool:
        """Whether a training broke."""
        return any(cell is not None and cell.broken for line in self.lines for cell in line.cells)

    @property
    def heads(self) -> tuple[str, ...]:
        """The columns in words."""
        one, many = ("image per class", "images per class") if self.per_class else ("example", "examples")
        return tuple(f"{wording.count(n)} {one if n == 1 else many}" if n else "size unknown" for n in self.sizes)

    def measured(self, i: int) -> list[tuple[Line, Measure]]:
        """The lines that have an accuracy at the i-th size."""
        found = [(line, line.cells[i]) for line in self.lines]
        return [(line, c.measure) for line, c in found if c is not None and c.measure is not None]


def grids(rows: Sequence[Mapping[str, Any]]) -> list[Grid]:
    """One grid per network, protocol, labels and source of images, in the order in which they come.

    Args:
        rows: dicts of method, ipc, rows, bytes, seconds and score; any may be absent.
    """
    per_class = all(whole(mapping(r).get("ipc")) for r in rows)
    found: dict[tuple[str, ...], list[Entry]] = {}
    for row in rows:
        e = _entry(mapping(row), "ipc" if per_class else "rows")
        s = e.score
        found.setdefault((s.network, e.protocol, s.labels, s.augment, s.epochs, s.images), []).append(e)
    return [_grid(entries, per_class) for entries in found.values()]


def _entry(row: Mapping[str, Any], size: str) -> Entry:
    name = text(row.get("method") or "unnamed", 60)
    told, found = mapping(row.get("score")), score(row.get("score"))
    shared = mapping(mapping(told.get("baseline")).get("random")).get("protocol")
    protocol = text(shared, 60) if isinstance(shared, str) else found.protocol
    return Entry(
        method=name + QUICK * (row.get("quick") is True),
        size=whole(row.get(size)),
        bytes=whole(row.get("bytes")),
        seconds=number(row.get("seconds")),
        shared=number(row.get("shared_seconds")),
        protocol=protocol,
        rate=number(told.get("lr")) if protocol != found.protocol else None,
        score=found,
    )


def _grid(entries: list[Entry], per_class: bool) -> Grid:
    s = entries[0].score
    sizes = tuple(sorted({e.size or 0 for e in entries}))
    lines = _methods(entries, sizes)
    names = list(dict.fromkeys(name for e in entries for name in e.score.baselines))
    for name in sorted(names, key=lambda n: (n == "full", n == "random")):
        if name not in {e.method for e in entries}:
            lines.append(_baseline(name, entries, sizes))
    images = {"8-bit": "8-bit pictures", "exact": "exact images"}.get(s.images, s.images)
    said = ", ".join(x for x in (conditions(replace(s, protocol=entries[0].protocol)), images) if x)
    offer = tuple(x for x in (s.labels and f"{s.labels} labels", images) if x)
    return Grid(wording.network(s.network), said, offer, sizes, per_class, tuple(lines))


def _methods(entries: list[Entry], sizes: Sequence[int]) -> list[Line]:
    """A line per method; a second set of the same method and size opens another line."""
    table: dict[tuple[str, int], dict[int, Entry]] = {}
    for e in entries:
        nth = 0
        while (e.size or 0) in table.setdefault((e.method, nth), {}):
            nth += 1
        table[e.method, nth][e.size or 0] = e
    best = {
        n: max((e.score.kept.mean for e in entries if e.score.kept and (e.size or 0) == n), default=None) for n in sizes
    }
    return [
        Line(name if not nth else f"{name} ({nth + 1})", tuple(_cell(line.get(n), best[n]) for n in sizes))
        for (name, nth), line in table.items()
    ]


def _cell(e: Entry | None, best: float | None) -> Cell | None:
    if e is None:
        return None
    best_of = e.score.kept is not None and e.score.kept.mean == best
    return Cell(e.score.kept, e.cost, best=best_of, broken=bool(e.score.broken))


def _baseline(name: str, entries: list[Entry], sizes: Sequence[int]) -> Line:
    """A baseline: at each size the measure of the most seeds; the full set is the same at every size."""

    def at(n: int) -> Cell | None:
        near = [
            e.score.baselines[name]
            for e in entries
            if name in e.score.baselines and (name == "full" or (e.size or 0) == n)
        ]
        return Cell(max(near, key=lambda m: m.seeds or 0)) if near else None

    label = {"random": RANDOM, "full": "all real examples"}.get(name, name.replace("_", " "))
    cells = tuple(at(n) for n in sizes)
    own = {c.measure.labels for c in cells if c is not None and c.measure is not None} - {"", entries[0].score.labels}
    return Line(", ".join([label, *(f"{labels} labels" for labels in sorted(own))]), cells, quiet=True)
