"""How a selection chose: its scores with the cut, a map of kept and dropped examples, the extremes and the closest calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from markupsafe import Markup

from attar.condensed import Condensed
from attar.errors import DataError
from attar.judged import SCORES, Judged, decode
from attar.real.realset import RealSet
from attar.report import pictures, scale, svg
from attar.report.classes import class_name
from attar.report.cut import Cut, Mark, cut
from attar.report.facts import items, mapping
from attar.report.pictures import Tile
from attar.report.scale import Scale
from attar.seeds import Seeds

BINS = 40
OUTER = 0.01
"""Share of the scores at each end that may lie outside of the axis."""
KEPT, DROPPED = 20_000, 4_000
"""Dots of the map, at most."""
EACH = 8
"""Pictures of a gallery."""
AXES = (
    ("confidence", "variability", "mean confidence in the label", "its variability over the epochs"),
    ("pc1", "pc2", "first principal component", "second principal component"),
)
"""Columns across and up, the first pair that is there, and what they are called."""


@dataclass(frozen=True)
class Histogram:
    """The scores; in words, where they were cut."""

    chart: Markup
    said: str


@dataclass(frozen=True)
class Map:
    """The dots; whether they stand by features; how many of each kind are shown out of how many."""

    chart: Markup
    features: bool
    shown: tuple[int, int]
    counts: tuple[int, int]


@dataclass(frozen=True)
class Row:
    """A gallery: what it shows, and its pictures, each with (class, score, whether kept)."""

    name: str
    tiles: tuple[tuple[Tile, str, str, bool], ...]


@dataclass(frozen=True)
class Choice:
    """The parts of the section; each may be missing. ``bare``: whether dropped examples have no pictures here."""

    histogram: Histogram | None
    map: Map | None
    rows: tuple[Row, ...]
    width: int = 0
    height: int = 0
    bare: bool = False

    def __bool__(self) -> bool:
        return bool(self.histogram or self.map)


def judged_of(condensed: Condensed) -> Judged | None:
    """What a selection knew of every example; None where it told nothing, or nothing that can be read."""
    try:
        return decode(condensed.files[SCORES]) if SCORES in condensed.files else None
    except DataError:
        return None


def choice(condensed: Condensed, judged: Judged | None, real: RealSet | None = None) -> Choice | None:
    """The section; None for sets that were not chosen by what is known of every example.

    Args:
        real: gives the pictures of dropped examples.
    """
    if judged is None or not len(judged):
        return None
    score, edges = judged.values.get("score"), None
    if score is not None and torch.isfinite(score).any():
        edges = cut(score, judged.kept, _groups(condensed, judged), _settings(condensed).get("rule", ""))
    histogram = None if edges is None or score is None else _histogram(score, judged.kept, edges)
    rows = () if edges is None or condensed.bytes8 is None else _galleries(condensed, judged, edges, real)
    width, height = pictures.tile_size(condensed) if rows else (0, 0)
    bare = any(not tile.src for row in rows for tile, *_ in row.tiles)
    return Choice(histogram, _map(judged), rows, width, height, bare) or None


def _settings(condensed: Condensed) -> dict[str, Any]:
    """The settings of the selection, ``rule`` as a string."""
    steps = items(condensed.manifest.get("lineage"))
    found = dict(mapping(mapping(steps[0]).get("settings"))) if steps else {}
    return {**found, "rule": found["rule"] if isinstance(found.get("rule"), str) else ""}


def _groups(condensed: Condensed, judged: Judged) -> torch.Tensor | None:
    """The classes, where each was chosen from by itself."""
    return None if _settings(condensed).get("balanced", True) is False else judged.labels


def _histogram(score: torch.Tensor, kept: torch.Tensor, edges: Cut) -> Histogram:
    """Examples over the score, kept and dropped in two tones."""
    known = torch.isfinite(score)
    values, mine = score[known].double(), kept[known]
    bounds, x = _bins(values)
    place = torch.bucketize(values, bounds[1:-1], right=True)  # [n], in [0, B)
    counts = [place[side].bincount(minlength=len(bounds) - 1).tolist() for side in (mine, ~mine)]
    y = scale.linear([0, max(map(sum, zip(*counts)))], n=4)
    marks = [(m.low, m.high, _mark(m)) for m in edges.marks]
    chart = svg.histogram(
        bounds.tolist(), counts, x, y, marks, ident="scores", title="Examples by score, kept and dropped"
    )
    said = [_said(m) for m in edges.marks]
    if float(values.max()) > bounds[-1] or float(values.min()) < bounds[0]:
        said.append(
            f"Scores reach from {svg.figure(float(values.min()))} to {svg.figure(float(values.max()))}; the outermost "
            "bars hold all that lies beyond."
        )
    return Histogram(chart, " ".join(said))


def _bins(values: torch.Tensor) -> tuple[torch.Tensor, Scale]:
    """Bounds of the bars, float64 [B + 1], and the axis.

    Few whole scores get a bar each. Where a few scores lie far out, the outermost bars hold all that is beyond.
    """
    low, high = _ends(values)
    if bool((values == values.round()).all()) and 0 < high - low < 60:
        low, high, n = low - 0.5, high + 0.5, round(high - low) + 1
    elif high - low <= 1e-9 * max(abs(low), abs(high), 1e-300):
        wide = scale.linear([low])
        low, high, n = wide.low, wide.high, 1
    else:
        n = BINS
    found = scale.linear([low, high], n=5)
    axis = Scale(low, high, tuple(t for t in found.ticks if low <= t <= high))
    return torch.linspace(low, high, n + 1, dtype=torch.float64), axis


def _ends(values: torch.Tensor) -> tuple[float, float]:
    """The ends of the axis: those of the scores, or of most of them where the others would fill half of it."""
    ranked = values.sort().values
    low, high, aside = float(ranked[0]), float(ranked[-1]), int(OUTER * len(ranked))
    first, last = float(ranked[aside]), float(ranked[-1 - aside])
    if not 0 < 2 * (last - first) < high - low:
        return low, high
    room = (last - first) / 8
    return max(low, first - room), min(high, last + room)


def _mark(mark: Mark) -> str:
    """What stands at an edge."""
    what = "nothing kept above" if mark.upper else "cut at"
    return f"{what} {_at(mark)}"


def _said(mark: Mark) -> str:
    """An edge in a sentence."""
    by = "" if mark.low == mark.high else ", each class at its own score"
    return f"Nothing was kept above {_at(mark)}{by}." if mark.upper else f"The cut is at {_at(mark)}{by}."


def _at(mark: Mark) -> str:
    low, high = svg.figure(mark.low), svg.figure(mark.high)
    return low if low == high else f"{low} to {high}"


def _map(judged: Judged) -> Map | None:
    """Kept and dropped examples over the first pair of axes that is there."""
    for across, up, x_name, y_name in AXES:
        if not {across, up} <= set(judged.values):
            continue
        a, b = judged.values[across].double(), judged.values[up].double()
        known = torch.isfinite(a) & torch.isfinite(b)
        if not known.any():
            continue
        counts = [torch.nonzero(known & side).flatten() for side in (judged.kept, ~judged.kept)]
        shown = [_some(rows, most) for rows, most in zip(counts, (KEPT, DROPPED))]
        features = across == "pc1"
        x, y = (_axis(v[torch.cat(shown)], ticks=not features) for v in (a, b))
        dots = [list(zip(a[rows].tolist(), b[rows].tolist())) for rows in shown]
        chart = svg.scatter(
            dots[0], dots[1], x, y, names=(x_name, y_name), ident="map", title="Kept and dropped examples"
        )
        return Map(chart, features, (len(shown[0]), len(shown[1])), (len(counts[0]), len(counts[1])))
    return None


def _axis(values: torch.Tensor, *, ticks: bool) -> Scale:
    if ticks or float(values.min()) == float(values.max()):
        found = scale.linear(values.tolist(), n=5)
        return found if ticks else Scale(found.low, found.high, ())
    low, high = float(values.min()), float(values.max())
    return Scale(low - (high - low) / 40, high + (high - low) / 40, ())


def _some(rows: torch.Tensor, most: int) -> torch.Tensor:
    """At most so many rows, by chance but always the same; int64, ascending."""
    if len(rows) <= most:
        return rows
    chance = torch.randperm(len(rows), generator=Seeds(0).generator("report", "map"))[:most]
    return rows[chance.sort().values]


def _galleries(condensed: Condensed, judged: Judged, edges: Cut, real: RealSet | None) -> tuple[Row, ...]:
    """The ends of the ranking and what stands next to the cut."""
    score = judged.values["score"]
    ranking = score.nan_to_num(nan=-torch.inf).argsort(descending=True, stable=True)
    ranking = ranking[torch.isfinite(score[ranking])]
    found = {
        "Highest scores": ranking,
        "Just kept": edges.kept,
        "Just dropped": edges.dropped,
        "Lowest scores": ranking.flip(0),
    }
    seen = _Pictures(condensed, judged, real)
    return tuple(Row(name, tuple(map(seen.tile, rows[:EACH].tolist()))) for name, rows in found.items() if len(rows))


class _Pictures:
    """The pictures of examples of the real set: kept ones from the set itself, others from the real set, where it is there."""

    def __init__(self, condensed: Condensed, judged: Judged, real: RealSet | None) -> None:
        self.condensed, self.judged, self.real = condensed, judged, real
        self.kept = (
            _places(condensed.table["source_id"].to_pylist()) if "source_id" in condensed.table.column_names else {}
        )
        theirs = mapping(condensed.manifest.get("source")).get("fingerprint")
        if real is not None and (real.images is None or real.fingerprint != theirs):
            self.real = None
        self.others = _places(self.real.ids.tolist()) if self.real is not None else {}

    def tile(self, place: int) -> tuple[Tile, str, str, bool]:
        """One example: its picture, class and score, and whether it was kept."""
        judged = self.judged
        i, kept, score = int(judged.ids[place]), bool(judged.kept[place]), float(judged.values["score"][place])
        name = "" if judged.labels is None else class_name(self.condensed, int(judged.labels[place]))
        said = f"{name + ', ' if name else ''}score {svg.figure(score)}, {'kept' if kept else 'dropped'}"
        return Tile(self._src(i), said, hint=f"{said}, row {i} of the source"), name, svg.figure(score), kept

    def _src(self, i: int) -> str:
        """The picture of an id; empty where it is not at hand."""
        if i in self.kept and self.condensed.bytes8 is not None:
            return pictures.uri(self.condensed.bytes8[self.kept[i]], side=pictures.TILE)
        if self.real is not None and i in self.others:
            return pictures.uri(self.real.raw(torch.tensor([self.others[i]]))[0].cpu(), side=pictures.TILE)
        return ""


def _places(ids: list[Any]) -> Mapping[int, int]:
    return {i: place for place, i in enumerate(ids)}
