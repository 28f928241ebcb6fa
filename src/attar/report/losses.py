"""The loss over steps, from a run's log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from attar.execute import log
from attar.report import scale, svg
from attar.report.facts import items, number
from attar.report.svg import Series

MOST = 240
"""Points of a line; more than that many pixels are rarely there."""

Point = tuple[float, float]


def series(data: bytes) -> list[Series]:
    """JSON lines {"step", "loss": [one mean per budget]} as one line per budget.

    A long run is cut into equal blocks: the line is the mean of a block, the band reaches from its least to its greatest.
    """
    found: dict[int, dict[float, float]] = {}
    for record in _records(data):
        for i, (step, loss) in enumerate(_losses(record)):
            found.setdefault(i, {})[step] = loss
    names = [f"set {i + 1} of {len(found)}" if len(found) > 1 else "loss" for i in found]
    return [_reduced(name, sorted(points.items())) for name, points in zip(names, found.values()) if len(points) > 1]


@dataclass(frozen=True)
class Loss:
    """The chart; whether its axis is logarithmic; whether lines have bands; the keys of several lines."""

    chart: Markup
    logarithmic: bool
    band: bool
    keys: tuple[tuple[Markup, str], ...]


def chart(data: bytes) -> Loss | None:
    """The loss of a log; None where it holds no line of two points."""
    lines = series(data)
    if not lines:
        return None
    steps, logarithmic = [step for s in lines for step, _ in s.points], _wide(lines)
    round_steps = scale.linear(steps, n=4)
    x = scale.Scale(min(steps), max(steps), tuple(t for t in round_steps.ticks if min(steps) <= t <= max(steps)))
    values = [v for s in lines for v in [y for _, y in s.points] + [v for _, *ends in s.band for v in ends]]
    said = "; ".join(f"{s.name} from {s.points[0][1]:.4g} to {s.points[-1][1]:.4g}" for s in lines)
    y = scale.logarithmic(values) if logarithmic else scale.linear(values, n=4)
    drawn = svg.lines(lines, x, y, ident="loss", title="Loss over steps", desc=said)
    keys = tuple((svg.key(i, s), s.name) for i, s in enumerate(lines)) if len(lines) > 1 else ()
    return Loss(drawn, logarithmic, any(s.band for s in lines), keys)


def _wide(lines: Sequence[Series]) -> bool:
    """Whether the losses span so many sizes that equal ratios should be equally high."""
    values = [v for s in lines for v in [y for _, y in s.points] + [v for _, *ends in s.band for v in ends]]
    return min(values) > 0 and max(values) > 50 * min(values)


def _records(data: bytes) -> list[Any]:
    """The lines of a log; none of one that is nested too deeply to be read."""
    try:
        return log.parse(data)
    except RecursionError:
        return []


def _losses(record: Any) -> list[Point]:
    """(step, loss) of each budget; a value that is no number is left out with its line."""
    facts = record if isinstance(record, Mapping) else {}
    step, values = number(facts.get("step")), [number(v) for v in items(facts.get("loss"))]
    return [] if step is None or None in values else [(step, v) for v in values if v is not None]


def _reduced(name: str, points: list[Point]) -> Series:
    size = math.ceil(len(points) / MOST)
    blocks = [points[i : i + size] for i in range(0, len(points), size)]
    line = tuple((b[-1][0], sum(y for _, y in b) / len(b)) for b in blocks)
    band = tuple((b[-1][0], min(y for _, y in b), max(y for _, y in b)) for b in blocks)
    return Series(name=name, points=line, band=band if size > 1 else ())
