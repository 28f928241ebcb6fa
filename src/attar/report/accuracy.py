"""The scores of a set beside their baselines, as rows for a chart and a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from attar.report import scale, svg, wording
from attar.report.facts import Measure, Pairs, Score


@dataclass(frozen=True)
class Line:
    """One measured thing: the kept examples or a baseline."""

    label: str
    measure: Measure
    kind: str


@dataclass(frozen=True)
class Group:
    """What was measured with one network under one protocol."""

    name: str
    conditions: str
    lines: tuple[Line, ...]
    chart: Markup
    robust: Pairs = ()

    @property
    def has_best(self) -> bool:
        """Whether the best epoch was reported beside the last."""
        return any(line.measure.best is not None for line in self.lines)


def groups(scores: Sequence[Score], *, kept: int, real: int | None, noun: str, synthetic: bool) -> list[Group]:
    """One group per network and protocol, all over the same axis."""
    found: dict[tuple[str, ...], list[Score]] = {}
    for s in scores:
        found.setdefault((s.network, s.protocol, s.labels, s.augment, s.epochs), []).append(s)
    listed = [_lines(same, kept=kept, real=real, noun=noun, synthetic=synthetic) for same in found.values()]
    axis = scale.linear(
        [x for lines in listed for line in lines for x in (*line.measure.drawn, *line.measure.each)],
        least=0.1,
        inside=(0.0, 1.0),
    )
    return [
        Group(
            wording.network(same[0].network),
            conditions(same[0]),
            lines,
            svg.dots([_dot(x) for x in lines], axis, ident=f"acc{i}", title=_title(same[0])),
            next((s.robust for s in same if s.robust), ()),
        )
        for i, (same, lines) in enumerate(zip(found.values(), listed))
    ]


def conditions(s: Score) -> str:
    """How a score was measured, in one line."""
    facts = [
        f"protocol {s.protocol}" if s.protocol else "",
        f"{s.labels} labels" if s.labels else "",
        f"augmentation {s.augment}" if s.augment else "",
        f"{s.epochs} epochs" if s.epochs and "epochs" not in s.protocol else "",
    ]
    return ", ".join(f for f in facts if f)


def _title(s: Score) -> str:
    return f"Test accuracy of {wording.network(s.network)} trained on the kept examples and on the baselines"


def _lines(same: list[Score], *, kept: int, real: int | None, noun: str, synthetic: bool) -> tuple[Line, ...]:
    """The scores of a group, then each baseline once."""
    lines = [Line(_kept_label(s, synthetic), s.kept, "hollow" if i else "kept") for i, s in enumerate(same) if s.kept]
    seen: dict[str, Measure] = {}
    for s in same:
        for name, measure in s.baselines.items():
            seen.setdefault(name, measure)
    ordered = sorted(seen.items(), key=lambda item: (item[0] == "full", item[0] == "random"))
    for name, measure in ordered:
        label = wording.baseline(name, kept=kept, real=real, noun=noun)
        own = [f"protocol {measure.protocol}"] if measure.protocol not in ("", same[0].protocol) else []
        own += [f"{measure.labels} labels"] if measure.labels not in ("", same[0].labels) else []
        lines.append(Line(", ".join([label, *own]), measure, "quiet"))
    return tuple(lines)


def _kept_label(s: Score, synthetic: bool) -> str:
    if not synthetic:
        return "the kept real examples"
    return "kept, as 8-bit pictures" if s.images == "8-bit" else f"kept, {s.images or 'exact'} images"


def _dot(line: Line) -> svg.Dot:
    m = line.measure
    return svg.Dot(
        label=line.label, said=wording.accuracy(m), value=m.mean, interval=m.interval, each=m.each, kind=line.kind
    )
