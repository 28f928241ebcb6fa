"""Charts as inline SVG: pure functions of numbers and names, without scripts, readable at every width.

Places along x are percentages, so that a chart stretches with the page while its type keeps its size. Colours come from
the page's style sheet by class. Names reach the SVG through ``Markup.format``, which escapes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from attar.report.scale import Scale

COLOURS = 8
"""Series colours in the style sheet: classes c0 to c7."""

LONGEST = 32
"""Letters of a name inside a chart."""

_INSET = 1.5
"""Percent of the width left free at both ends, so that marks are not cut."""

_SHAPES = (
    '<circle r="4.5"/>',
    '<path d="M-4-4H4V4H-4z"/>',
    '<path d="M0-5.6 5.6 0 0 5.6-5.6 0z"/>',
    '<path d="M0-5.2 5 4H-5z"/>',
    '<path d="M0 5.2 5-4H-5z"/>',
    '<path d="M-1.6-5h3.2v3.4H5v3.2H1.6V5h-3.2V1.6H-5v-3.2h3.4z"/>',
)


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One line of a dot chart: a value with its interval.

    Args:
        label: what it is.
        said: the value in words.
        each: single runs, drawn small.
        kind: ``kept``, ``hollow`` or ``quiet``.
    """

    label: str
    said: str
    value: float
    interval: tuple[float, float] | None = None
    each: tuple[float, ...] = ()
    kind: str = "kept"


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a line chart.

    Args:
        points: (x, y), x ascending.
        intervals: (low, high) of each point, or nothing; points are marked where it is given.
        band: (x, low, high) around the line.
        quiet: whether it is what others are compared with: grey and dashed.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    intervals: tuple[tuple[float, float], ...] = ()
    band: tuple[tuple[float, float, float], ...] = ()
    quiet: bool = False


def dots(rows: Sequence[Dot], axis: Scale, *, ident: str, title: str) -> Markup:
    """Values as dots with intervals over one horizontal axis, one below the other.

    Args:
        ident: unique on the page; it ties the title to the chart.
        title: what the chart shows, for those who do not see it.
    """
    step, top = 46, 6
    bottom = top + step * len(rows)
    parts = [_upright(axis, top, bottom, _x(axis.at(t)), axis.label(t)) for t in axis.ticks]
    parts += [_dot(row, axis, top + i * step) for i, row in enumerate(rows)]
    said = "; ".join(f"{row.label}: {row.said}" for row in rows)
    return _sheet(parts, height=bottom + 22, ident=ident, title=title, desc=said, kind="dots")


def lines(
    series: Sequence[Series], x: Scale, y: Scale, *, ident: str, title: str, desc: str, height: int = 280
) -> Markup:
    """Lines over two axes; the labels of y stand on their grid lines, so no margin is lost on a phone."""
    top, bottom = 16, height - 26
    low = {_x(x.at(t)): x.label(t) for t in x.ticks}
    parts = [_level(y, t, top, bottom) for t in y.ticks]
    parts += [_below(place, label, bottom + 18) for place, label in low.items()]
    marked = [i for i, s in enumerate(series) if s.intervals]
    for i, s in enumerate(series):
        aside = 7 * (marked.index(i) - (len(marked) - 1) / 2) if i in marked and len(marked) < 10 else 0.0
        parts.append(_series(s, i, x, y, top, bottom, aside))
    return _sheet(parts, height=height, ident=ident, title=title, desc=desc, kind="lines")


def bars(rows: Sequence[tuple[str, str, float]], *, ident: str, title: str) -> Markup:
    """(name, value in words, value) as horizontal bars from zero, one below the other."""
    step, most = 34, max((value for _, _, value in rows), default=0) or 1
    parts = []
    for i, (name, said, value) in enumerate(rows):
        y = i * step
        parts.append(
            Markup(
                '<text class="name" x="0" y="{}">{}</text><text class="said" x="100%" y="{}">{}</text>'
                '<rect class="rail" x="0" y="{}" width="100%" height="6" rx="3"/>'
                '<rect class="bar" x="0" y="{}" width="{}%" height="6" rx="3"/>'
            ).format(y + 14, short(name), y + 14, said, y + 20, y + 20, _n(100 * value / most))
        )
    desc = "; ".join(f"{name}: {said}" for name, said, _ in rows)
    return _sheet(parts, height=step * len(rows), ident=ident, title=title, desc=desc, kind="bars")


def twins(rows: Sequence[tuple[str, str, float, float]], *, ident: str, title: str) -> Markup:
    """(name, value in words, share now, share before) as two thin bars each on one scale from zero."""
    step, most = 38, max((max(now, before) for _, _, now, before in rows), default=0) or 1
    form = Markup(
        '<g><title>{0}: {1}; share {2} %, before {3} %</title><text class="name" x="0" y="{4}">{5}</text>'
        '<text class="said" x="100%" y="{4}">{1}</text><rect class="bar" x="0" y="{6}" width="{7}%" height="5"/>'
        '<rect class="before" x="0" y="{8}" width="{9}%" height="5"/></g>'
    )
    parts = []
    for i, (name, said, now, before) in enumerate(rows):
        y, wide = step * i, [_n(100 * share / most) for share in (now, before)]
        shares = f"{100 * now:.3g}", f"{100 * before:.3g}"
        parts.append(form.format(name, said, *shares, y + 14, short(name), y + 19, wide[0], y + 25, wide[1]))
    desc = "; ".join(f"{name}: {said}" for name, said, *_ in rows)
    return _sheet(parts, height=step * len(rows), ident=ident, title=title, desc=desc, kind="bars")


def histogram(
    bounds: Sequence[float],
    counts: Sequence[Sequence[int]],
    x: Scale,
    y: Scale,
    marks: Sequence[tuple[float, float, str]],
    *,
    ident: str,
    title: str,
    height: int = 260,
) -> Markup:
    """Kept examples in front of dropped ones, bar on bar, and the edges between them.

    Args:
        bounds: of the B bars, B + 1 numbers.
        counts: B kept, B dropped.
        marks: (low, high, what it is) of each edge; a line, or a band where it has a width.
    """
    top, bottom = 16 + 18 * len(marks), height - 26
    parts = [_level(y, t, top, bottom) for t in y.ticks if t]
    parts += [_below(_x(x.at(t)), x.label(t), bottom + 18) for t in x.ticks]
    for low, high, kept, dropped in zip(bounds, bounds[1:], *counts):
        if kept or dropped:
            parts.append(_bar((low, high), kept, dropped, x, y, (top, bottom)))
    parts += [_edge(*mark, x, 16 + 18 * i, bottom) for i, mark in enumerate(marks)]
    kept, dropped = map(sum, counts)
    said = [f"scores from {figure(bounds[0])} to {figure(bounds[-1])}", f"{kept} kept", f"{dropped} dropped"]
    desc = "; ".join([*said, *(name for *_, name in marks)])
    return _sheet(parts, height=height, ident=ident, title=title, desc=desc, kind="histogram")


def scatter(
    kept: Sequence[tuple[float, float]],
    dropped: Sequence[tuple[float, float]],
    x: Scale,
    y: Scale,
    *,
    names: tuple[str, str],
    ident: str,
    title: str,
    height: int = 400,
) -> Markup:
    """Dots over two axes, those of the rarer kind above the others; names tell the axes, across and up.

    All dots of a kind are one path of points with round ends, a dozen bytes each.
    """
    top, bottom = 44 if y.ticks else 26, height - (46 if x.ticks else 26)
    parts = [_level(y, t, top, bottom) for t in y.ticks]
    parts += [_below(_x(x.at(t)), x.label(t), bottom + 18) for t in x.ticks]
    parts.append(Markup('<rect class="frame" x="0" y="{}" width="100%" height="{}"/>').format(top, bottom - top))
    form = Markup(
        '<svg y="{}" width="100%" height="{}" viewBox="0 0 100 100" preserveAspectRatio="none" overflow="visible">'
        '<path class="spots {}" d="{}"/></svg>'
    )
    for kind, dots in sorted((("dropped", dropped), ("kept", kept)), key=lambda each: -len(each[1])):
        at = [f"M{_x(x.at(a))} {_n(100 - 100 * y.at(b))}h.01" for a, b in dots]
        parts.append(form.format(top, bottom - top, kind, "".join(at)))
    parts.append(Markup('<text class="tick" x="0" y="{}">↑ {}</text>').format(14, names[1]))
    parts.append(
        Markup('<text class="tick" x="100%" y="{}" text-anchor="end">{} →</text>').format(height - 6, names[0])
    )
    desc = f"across {names[0]}, up {names[1]}; {len(kept)} kept and {len(dropped)} dropped examples are shown"
    return _sheet(parts, height=height, ident=ident, title=title, desc=desc, kind="scatter")


def figure(value: float) -> str:
    """A number in three digits."""
    return f"{value:.3g}" if abs(value) < 1000 or abs(value) >= 1e7 else f"{value:,.0f}"


def key(index: int, s: Series) -> Markup:
    """The mark of a series, or a piece of its line where it has none, for a legend."""
    mark = _shape(index) if s.intervals else Markup('<path class="line" d="M-7 0H7"/>')
    return Markup(
        '<svg class="key {}" width="14" height="14" viewBox="-7 -7 14 14" aria-hidden="true">{}</svg>'
    ).format(_colour(index, s.quiet), mark)


def short(name: str) -> str:
    """A name that leaves room for a value beside it on a phone."""
    return name if len(name) <= LONGEST else name[: LONGEST - 1].rstrip() + "…"


def _dot(row: Dot, axis: Scale, y: float) -> Markup:
    low, high = row.interval or (row.value, row.value)
    track = y + 29
    each = Markup("").join(
        Markup('<circle class="each" cx="{}%" cy="{}" r="2.5"/>').format(_x(axis.at(v)), track) for v in row.each
    )
    return Markup(
        '<g class="{}"><title>{}: {}</title><text class="name" x="0" y="{}">{}</text>'
        '<text class="said" x="100%" y="{}">{}</text><line class="rail" x1="0" x2="100%" y1="{}" y2="{}"/>'
        '<line class="reach" x1="{}%" x2="{}%" y1="{}" y2="{}"/>{}<circle class="dot" cx="{}%" cy="{}" r="6"/></g>'
    ).format(
        row.kind, row.label, row.said, y + 14, short(row.label), y + 14, row.said, track, track,
        _x(axis.at(low)), _x(axis.at(high)), track, track, each, _x(axis.at(row.value)), track,
    )  # fmt: skip


def _series(s: Series, index: int, x: Scale, y: Scale, top: float, bottom: float, aside: float) -> Markup:
    """A series, moved by ``aside`` pixels so that no two intervals hide each other.

    Paths know no percentages: they are drawn in a box of 100 by 100 that is stretched over the chart.
    """
    there = [(a, low) for a, low, _ in s.band]
    back = [(a, high) for a, _, high in reversed(s.band)]
    band = Markup('<path class="band" d="{}Z"/>').format(_path(there + back, x, y)) if s.band else ""
    return Markup(
        '<g class="{}" transform="translate({} 0)"><svg y="{}" width="100%" height="{}" viewBox="0 0 100 100" '
        'preserveAspectRatio="none">{}<path class="line" d="{}"/></svg>{}</g>'
    ).format(
        _colour(index, s.quiet), _n(aside), _n(top), _n(bottom - top), band, _path(s.points, x, y),
        _marks(s, index, x, y, top, bottom),
    )  # fmt: skip


def _marks(s: Series, index: int, x: Scale, y: Scale, top: float, bottom: float) -> Markup:
    """The points of a series with their intervals."""

    def down(value: float) -> str:
        return _n(bottom - (bottom - top) * y.at(value))

    form = Markup(
        '<line class="reach" x1="{0}%" x2="{0}%" y1="{1}" y2="{2}"/><svg class="mark" x="{0}%" y="{3}" width="1" '
        'height="1"><title>{4}, {5}: {6}</title>{7}</svg>'
    )
    return Markup("").join(
        form.format(_x(x.at(a)), down(low), down(high), down(b), s.name, x.label(a), f"{b:.3f}", _shape(index))
        for (a, b), (low, high) in zip(s.points, s.intervals)
    )


def _bar(ends: tuple[float, float], kept: int, dropped: int, x: Scale, y: Scale, box: tuple[float, float]) -> Markup:
    """One bar: kept below, dropped on it; a part that is there is never lower than can be seen."""
    left, right = float(_x(x.at(ends[0]))), float(_x(x.at(ends[1])))
    high = [max(2.0, (box[1] - box[0]) * y.at(n)) if n else 0.0 for n in (kept, dropped)]
    parts = [
        Markup('<rect class="{}" x="{}%" y="{}" width="{}%" height="{}"/>').format(
            kind, _n(left), _n(box[1] - foot - part), _n(0.92 * (right - left)), _n(part)
        )
        for kind, foot, part in (("bar", 0.0, high[0]), ("rest", high[0], high[1]))
        if part
    ]
    said = f"{figure(ends[0])} to {figure(ends[1])}: {kept} kept, {dropped} dropped"
    return Markup("<g><title>{}</title>{}</g>").format(said, Markup("").join(parts))


def _edge(low: float, high: float, name: str, x: Scale, top: float, bottom: float) -> Markup:
    """An edge with its name above, on the side where there is room."""
    left, right = float(_x(x.at(low))), float(_x(x.at(high)))
    end = (left + right) / 2 > 50
    band = Markup('<rect class="band" x="{}%" y="{}" width="{}%" height="{}"/>').format(
        _n(left), _n(top), _n(right - left), _n(bottom - top)
    )
    lines = Markup("").join(
        Markup('<line class="edge" x1="{0}%" x2="{0}%" y1="{1}" y2="{2}"/>').format(_n(at), _n(top), _n(bottom))
        for at in dict.fromkeys((left, right))
    )
    text = Markup('<text class="name" x="{}%" dx="{}" y="{}" text-anchor="{}">{}</text>').format(
        _n(right if end else left), -6 if end else 6, _n(top + 4), "end" if end else "start", name
    )
    return (band if right > left else Markup("")) + lines + text


def _upright(axis: Scale, top: float, bottom: float, place: str, label: str) -> Markup:
    grid = Markup('<line class="grid" x1="{}%" x2="{}%" y1="{}" y2="{}"/>').format(place, place, top, bottom)
    return grid + _below(place, label, bottom + 16)


def _below(place: str, label: str, y: float) -> Markup:
    """A label under a place of the x axis, kept inside the chart at its ends."""
    at = float(place)
    anchor = "start" if at < 5 else "end" if at > 95 else "middle"
    place = {"start": "0", "end": "100"}.get(anchor, place)
    return Markup('<text class="tick" x="{}%" y="{}" text-anchor="{}">{}</text>').format(place, _n(y), anchor, label)


def _level(y: Scale, tick: float, top: float, bottom: float) -> Markup:
    at = _n(bottom - (bottom - top) * y.at(tick))
    return Markup(
        '<line class="grid" x1="0" x2="100%" y1="{}" y2="{}"/><text class="tick" x="0" y="{}">{}</text>'
    ).format(at, at, _n(float(at) - 4), y.label(tick))


def _sheet(parts: Iterable[Markup], *, height: float, ident: str, title: str, desc: str, kind: str) -> Markup:
    return Markup(
        '<svg class="chart {}" width="100%" height="{}" role="img" aria-labelledby="{}-t {}-d">'
        '<title id="{}-t">{}</title><desc id="{}-d">{}</desc>{}</svg>'
    ).format(kind, _n(height), ident, ident, ident, title, ident, desc, Markup("\n").join(parts))


def _path(points: Iterable[tuple[float, float]], x: Scale, y: Scale) -> str:
    places = [f"{_x(x.at(a))} {_n(100 - 100 * y.at(b))}" for a, b in points]
    return "M" + "L".join(places)


def _x(place: float) -> str:
    """A place in [0, 1] in percent of the width."""
    return _n(_INSET + (100 - 2 * _INSET) * place)


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _shape(index: int) -> Markup:
    return Markup(_SHAPES[index % len(_SHAPES)])  # constants of this file


def _colour(index: int, quiet: bool) -> str:
    return "quiet" if quiet else f"c{index % COLOURS}"
