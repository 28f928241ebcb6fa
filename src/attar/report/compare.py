"""The page of ``attar compare``: methods against sizes, as a chart and a table; and the table as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from attar.report import scale, svg, wording
from attar.report.cross import across
from attar.report.facts import Measure, text
from attar.report.grid import QUICK, RANDOM, Cell, Grid, Line, grids
from attar.report.render import template


@dataclass(frozen=True)
class Part:
    """A grid with its charts, each under a caption, and the keys of one with lines."""

    grid: Grid
    charts: tuple[tuple[str, Markup], ...]
    keys: tuple[tuple[Markup, str], ...] = ()


def render(rows: Sequence[Mapping[str, Any]], *, title: str) -> str:
    """The page: one HTML file without scripts or outside resources; equal rows give equal bytes.

    Args:
        rows: dicts of ``method``, ``ipc``, ``rows``, ``bytes``, ``seconds`` (of making) and ``score``.
        title: what is compared.
    """
    found = grids(rows)
    parts = [_part(grid, i) for i, grid in enumerate(found)]
    quick = {row.get("quick") is True for row in rows}
    result, verdict = _result(parts[0].grid, quick=quick == {True}) if parts else (Markup("Nothing to compare."), "")
    context = {"title": text(title), "result": result, "verdict": verdict, "parts": parts, "crosses": across(found)}
    context["quick"] = True in quick
    return template("compare.html.j2", context)


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The same tables as Markdown; the best accuracy of a size is bold."""
    found = grids(rows)
    blocks = [
        _block(
            f"{grid.network}: {grid.conditions}" if grid.conditions else grid.network, grid.heads, grid.lines, _marked
        )
        for grid in found
    ]
    blocks += [_block(f"Across networks, {x.head}", x.networks, x.lines, _bold) for x in across(found)]
    return "\n".join(blocks)


def _block(title: str, heads: Sequence[str], lines: Sequence[Line], marked: Callable[[Cell | None], str]) -> str:
    """One table as Markdown with its title above."""
    rows = [_plain(title), "", f"| {' | '.join(['method', *map(_plain, heads)])} |", f"|{'---|' * (len(heads) + 1)}"]
    return "\n".join([*rows, *(f"| {_plain(x.name)} | {' | '.join(map(marked, x.cells))} |" for x in lines)]) + "\n"


def _part(grid: Grid, number: int) -> Part:
    """Lines over sizes; where there is one size, or more methods than lines that can be told apart, dots for each size."""
    methods = sum(not line.quiet for line in grid.lines)
    if len(grid.sizes) == 1 or not grid.sizes[0] or methods > svg.COLOURS:
        ranked = [(head, _ranked(grid, i, f"trend{number}-{i}")) for i, head in enumerate(grid.heads)]
        return Part(grid, tuple((head, chart) for head, chart in ranked if chart))
    series = [s for s in (_series(line, grid.sizes) for line in grid.lines) if s.points]
    if not series:
        return Part(grid, ())
    reach = [v for line in grid.lines for c in line.cells if c and c.measure for v in c.measure.drawn]
    what = f"Accuracy against {'images per class' if grid.per_class else 'examples kept'}"
    chart = svg.lines(
        series,
        _sizes(grid.sizes),
        scale.linear(reach, least=0.05, inside=(0.0, 1.0)),
        ident=f"trend{number}",
        title=what,
        desc="; ".join(f"{s.name}: {', '.join(f'{y:.3f} at {x:g}' for x, y in s.points)}" for s in series),
        height=360,
    )
    return Part(grid, ((what, chart),), tuple((svg.key(i, s), s.name) for i, s in enumerate(series)))


def _sizes(sizes: tuple[int, ...]) -> scale.Scale:
    """The axis of sizes: every size is a tick, and there is room at both ends; equal ratios where they differ much."""
    low, high, ticks = sizes[0], sizes[-1], tuple(map(float, sizes))
    if high >= 8 * low:
        room = (high / low) ** 0.06
        return scale.Scale(low / room, high * room, ticks, log=True)
    room = 0.06 * (high - low)
    return scale.Scale(low - room, high + room, ticks)


def _series(line: Line, sizes: tuple[int, ...]) -> svg.Series:
    found = [(float(n), c.measure) for n, c in zip(sizes, line.cells) if c is not None and c.measure is not None]
    flat = line.quiet and len({m.mean for _, m in found}) == 1 and len(found) > 1
    return svg.Series(
        name=line.name,
        points=tuple((n, m.mean) for n, m in found),
        intervals=() if flat else tuple(m.drawn for _, m in found),
        quiet=line.quiet,
    )


def _ranked(grid: Grid, at: int, ident: str) -> Markup | None:
    """The methods at one size as dots, the best first."""
    found = [(line, c, c.measure) for line in grid.lines if (c := line.cells[at]) is not None and c.measure is not None]
    if not found:
        return None
    found.sort(key=lambda item: -item[2].mean)
    rows = [
        svg.Dot(
            label=line.name,
            said=cell.said,
            value=m.mean,
            interval=m.drawn,
            each=m.each,
            kind="quiet" if line.quiet else "kept" if cell.best else "hollow",
        )
        for line, cell, m in found
    ]
    axis = scale.linear([v for _, _, m in found for v in (*m.drawn, *m.each)], least=0.05, inside=(0.0, 1.0))
    return svg.dots(rows, axis, ident=ident, title=f"Accuracy of the methods, {grid.heads[at]}")


def _result(grid: Grid, *, quick: bool) -> tuple[Markup, str]:
    """The best method of the largest size in one sentence, and whether it is clearly ahead of the next.

    Args:
        quick: whether all methods had their short schedules, which is then said once.
    """
    measured = [grid.measured(i) for i in range(len(grid.sizes))]
    at = max((i for i, found in enumerate(measured) if any(not line.quiet for line, _ in found)), default=None)
    if at is None:
        return Markup("Nothing was measured yet."), ""
    methods = [(line.name.replace(QUICK, "", quick), m) for line, m in measured[at] if not line.quiet]
    methods.sort(key=lambda item: -item[1].mean)
    name, m = methods[0]
    rank = f"is the best of {len(methods)} methods" if len(methods) > 1 else "is the only method"
    said = Markup("With {}, {} {}{}: <strong>{}</strong> accuracy with {}").format(
        grid.heads[at], name, rank, " by short schedules" * quick, wording.together(m), grid.network
    )
    random = [m for line, m in measured[at] if line.quiet and line.name.startswith(RANDOM)]
    if random:
        said += Markup("; random real examples reach {}").format(wording.together(random[0]))
    return said + ".", _doubt(m, methods[1:])


def _doubt(best: Measure, others: Sequence[tuple[str, Measure]]) -> str:
    """What the best is not clearly ahead of, and that a single seed tells no spread."""
    close = [name for name, m in others if _close(best, m)]
    said = [f"Not clearly ahead of {wording.listed(close)}, by 95 % intervals over seeds."] if close else []
    if others and 1 in (best.seeds, *(m.seeds for _, m in others)):
        said.append("A single seed says nothing of the spread.")
    return " ".join(said)


def _close(best: Measure, other: Measure) -> bool:
    """Whether the difference may be 0; where a spread is not known, whether what is known overlaps."""
    apart = wording.difference(best, other)
    return wording.overlap(best, other) if apart is None else apart[0] <= 0


def _marked(cell: Cell | None) -> str:
    if cell is None or cell.measure is None:
        return "" if cell is None else cell.said
    return _bold(cell) + "".join(f"; {x}" for x in (wording.interval(cell.measure), cell.cost) if x)


def _bold(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return f"**{cell.said}**" if cell.best else cell.said


def _plain(name: str) -> str:
    """A name as plain text inside Markdown and the HTML that it may hold."""
    return "".join(f"&#{ord(c)};" if c in r"\`*_{}[]<>()#+!|~&$" else c for c in name)
