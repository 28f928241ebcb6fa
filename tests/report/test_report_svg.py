"""Charts and axes: what is drawn stands where its value says."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.report import losses, scale, svg

VALUES = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=20)


@given(VALUES)
def test_a_linear_axis_holds_its_values_between_round_ticks(values: list[float]) -> None:
    axis = scale.linear(values)
    assert all(0 <= axis.at(v) <= 1 for v in values)
    margin = 1e-6 * max(1e-9, max(abs(v) for v in values))
    assert axis.low <= min(values) + margin and max(values) - margin <= axis.high
    assert 2 <= len(axis.ticks) <= 9
    assert len({axis.label(t) for t in axis.ticks}) == len(axis.ticks)


def test_bounds_hold_an_accuracy_axis() -> None:
    axis = scale.linear([0.97, 0.99], least=0.1, inside=(0.0, 1.0))
    assert axis.high == pytest.approx(1.0) and axis.low <= 0.97 - 0.02
    assert [axis.label(t) for t in axis.ticks][-1] == "1.00"


@given(st.lists(st.floats(1e-8, 1e8), min_size=2, max_size=10))
def test_a_logarithmic_axis_keeps_ratios(values: list[float]) -> None:
    axis = scale.logarithmic(values)
    low, high = min(values), max(values)
    assert axis.at(low) < axis.at(high) or low * 1.001 >= high
    assert axis.at((low * high) ** 0.5) == pytest.approx((axis.at(low) + axis.at(high)) / 2, abs=1e-6)


def places(chart: str, cls: str, name: str) -> list[float]:
    root = ET.fromstring(chart)
    return [float(e.attrib[name].rstrip("%")) for e in root.iter() if e.attrib.get("class") == cls and name in e.attrib]


def test_dots_stand_at_their_values() -> None:
    axis = scale.linear([0.0, 1.0])
    rows = [
        svg.Dot(label="a", said="0.50", value=0.5, interval=(0.25, 0.75), each=(0.5,)),
        svg.Dot(label="b", said="1.00", value=1.0, kind="quiet"),
    ]
    chart = svg.dots(rows, axis, ident="x", title="t")
    assert places(chart, "dot", "cx") == [50, 98.5]
    assert places(chart, "reach", "x1") == [25.75, 98.5] and places(chart, "reach", "x2") == [74.25, 98.5]
    assert places(chart, "each", "cx") == [50]


def test_lines_pass_through_their_marks() -> None:
    s = svg.Series(name="m", points=((0.0, 0.0), (10.0, 1.0)), intervals=((0.0, 0.1), (0.9, 1.0)))
    chart = svg.lines([s], scale.linear([0, 10]), scale.linear([0, 1]), ident="x", title="t", desc="d", height=142)
    root = ET.fromstring(chart)
    path = next(e for e in root.iter() if e.attrib.get("class") == "line").attrib["d"]
    assert path == "M1.5 100L98.5 0"
    assert places(chart, "mark", "x") == [1.5, 98.5] and places(chart, "mark", "y") == [116, 16]


def test_quiet_series_have_no_colour_of_their_own() -> None:
    loud, quiet = (svg.Series(name="n", points=((0, 0), (1, 1)), quiet=q) for q in (False, True))
    chart = svg.lines([loud, quiet], scale.linear([0, 1]), scale.linear([0, 1]), ident="x", title="t", desc="d")
    assert [e.attrib["class"] for e in ET.fromstring(chart) if e.tag == "g"] == ["c0", "quiet"]


def test_bars_are_as_long_as_their_values() -> None:
    chart = svg.bars([("a", "5", 5.0), ("b", "10", 10.0), ("c", "0", 0.0)], ident="x", title="t")
    assert places(chart, "bar", "width") == [50, 100, 0]


def test_long_names_are_cut_in_charts_and_whole_in_their_titles() -> None:
    name = "a name that is much too long for a telephone"
    chart = svg.dots([svg.Dot(label=name, said="0", value=0)], scale.linear([0, 1]), ident="x", title="t")
    assert f"<title>{name}: 0</title>" in chart and f">{svg.short(name)}</text>" in chart


def test_charts_are_well_formed_whatever_the_names() -> None:
    name = "<b>\"'&]]>{0}%s</svg>"
    dots = svg.dots([svg.Dot(label=name, said=name, value=0)], scale.linear([0, 1]), ident="x", title=name)
    s = svg.Series(name=name, points=((0, 0), (1, 1)), intervals=((0, 0), (1, 1)))
    axis = scale.linear([0, 1])
    for chart in (
        dots,
        svg.lines([s], axis, axis, ident="x", title=name, desc=name),
        svg.bars([(name, name, 1)], ident="x", title=name),
    ):
        assert not any(e.tag == "b" for e in ET.fromstring(chart).iter())


def test_a_long_log_becomes_a_line_of_means_with_a_band() -> None:
    data = b"".join(b'{"step": %d, "loss": [%d]}\n' % (i, i % 2) for i in range(1, 1001))
    (line,) = losses.series(data)
    assert len(line.points) <= losses.MOST and line.points[-1][0] == 1000
    assert all(0 < y < 1 for _, y in line.points)
    assert all((low, high) == (0, 1) for _, low, high in line.band)


def test_each_budget_of_a_run_has_its_line() -> None:
    data = b"".join(b'{"step": %d, "loss": [1.0, %d.5]}\n' % (i, i) for i in range(1, 5))
    one, two = losses.series(data)
    assert one.points == tuple((i, 1.0) for i in range(1, 5)) and two.points[0] == (1, 1.5)
    loss = losses.chart(data)
    assert loss is not None and [name for _, name in loss.keys] == ["set 1 of 2", "set 2 of 2"]


def test_losses_of_many_sizes_are_drawn_by_ratio() -> None:
    wide = losses.chart(b"".join(b'{"step": %d, "loss": [%g]}\n' % (i, 10.0 ** (4 - i)) for i in range(1, 8)))
    assert wide is not None and wide.logarithmic
    places = re.findall(r'class="line" d="M([^"]+)"', wide.chart)[0].split("L")
    down = [float(p.split()[1]) for p in places]
    steps = [b - a for a, b in itertools.pairwise(down)]
    assert max(steps) - min(steps) < 0.05
