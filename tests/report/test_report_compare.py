"""The comparison: grid, sentence, chart, Markdown and terminal tables."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from attar.condensed import Condensed
from attar.report import compare, cross, grid, svg, table, wording


def row(method: str, ipc: int | None, mean: float | None, *, random: float = 0.5, **more: Any) -> dict[str, Any]:
    score = {
        "protocol": "dsa",
        "network": "convnet",
        "labels": "hard",
        "images": "exact",
        "seeds": 5,
        "last_mean": mean,
        "last_std": 0.01,
        "interval": None if mean is None else [mean - 0.01, mean + 0.01],
        "baseline": {"random": {"last_mean": random, "last_std": 0.02, "seeds": 5}},
    }
    return {
        "method": method,
        "ipc": ipc,
        "rows": 10 * (ipc or 0),
        "bytes": 640,
        "seconds": 34.0,
        "score": score,
        **more,
    }


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return [
        row("dm", 1, 0.6, random=0.3),
        row("dm", 10, 0.8),
        row("dsa", 1, 0.65, random=0.3),
        row("dsa", 10, 0.79),
        row("herding", 10, 0.6),
    ]


def test_methods_stand_down_and_sizes_across(rows: list[dict[str, Any]]) -> None:
    (found,) = grid.grids(rows[::-1])
    assert found.sizes == (1, 10) and found.heads == ("1 image per class", "10 images per class")
    cells = {line.name: [c and c.measure and c.measure.mean for c in line.cells] for line in found.lines}
    assert cells == {"herding": [None, 0.6], "dsa": [0.65, 0.79], "dm": [0.6, 0.8], grid.RANDOM: [0.3, 0.5]}
    best = {line.name: [c is not None and c.best for c in line.cells] for line in found.lines}
    assert best == {"herding": [False, False], "dsa": [True, False], "dm": [False, True], grid.RANDOM: [False, False]}
    assert found.lines[-1].quiet


def test_a_method_compared_twice_at_one_size_has_two_lines() -> None:
    (found,) = grid.grids([row("dm", 10, 0.7), row("dm", 10, 0.8), row("dm", 1, 0.5)])
    assert [line.name for line in found.lines if not line.quiet] == ["dm", "dm (2)"]
    assert [c and c.measure and c.measure.mean for c in found.lines[1].cells] == [None, 0.8]


def test_a_learned_rate_stands_in_the_cell_and_opens_no_table_of_its_own() -> None:
    found = [row("dm", 1, 0.6), row("mtt", 1, 0.7), row("other", 1, 0.5)]
    for r, rate in zip(found, (0.01, 0.0213, 0.01)):
        r["score"]["lr"] = rate
        r["score"]["baseline"]["random"]["protocol"] = "dsa"
    found[1]["score"]["protocol"] = "dsa, learning rate 0.0213"
    found[2]["score"]["protocol"] = found[2]["score"]["baseline"]["random"]["protocol"] = "dc"
    together, alone = grid.grids(found)
    costs = {line.name: line.cells[0] and line.cells[0].cost for line in together.lines if not line.quiet}
    assert costs == {"dm": "34\u202fs, 640\u202fB", "mtt": "34\u202fs, 640\u202fB, rate 0.0213"}
    assert together.conditions == "protocol dsa, hard labels, exact images"
    assert [line.name for line in alone.lines] == ["other", grid.RANDOM]


def test_networks_are_not_mixed(rows: list[dict[str, Any]]) -> None:
    other = row("dm", 10, 0.9)
    other["score"]["network"] = "mlp"
    assert [g.network for g in grid.grids([*rows, other])] == ["ConvNet", "MLP"]


def test_a_compared_random_method_takes_the_baseline_s_place() -> None:
    (found,) = grid.grids([row("random", 10, 0.5), row("dm", 10, 0.8)])
    assert [line.name for line in found.lines] == ["random", "dm"]


def test_the_page_opens_with_the_best_and_its_doubt(rows: list[dict[str, Any]]) -> None:
    html = compare.render(rows, title="digits")
    text = re.sub(r"<[^>]+>", "", html).replace("\u00a0", " ")
    assert (
        "With 10 images per class, dm is the best of 3 methods: 0.800 ± 0.010 accuracy with ConvNet; "
        "random real examples reach 0.500 ± 0.020." in text
    )
    assert "Not clearly ahead of dsa, by 95 % intervals over seeds." in text and "single seed" not in text
    assert 'class="chart lines"' in html and html.count('class="mark"') == 5 + 2
    assert "34\u202fs, 640\u202fB" in html


def test_one_size_is_drawn_as_dots_the_best_first() -> None:
    html = compare.render([row("dm", 10, 0.7), row("dsa", 10, 0.8)], title="t")
    assert 'class="chart dots"' in html
    names = re.findall(r'<text class="name"[^>]*>([^<]+)</text>', html)
    assert names == ["dsa", "dm", grid.RANDOM]


def test_more_methods_than_colours_are_drawn_as_dots_for_each_size() -> None:
    names = [f"m{i}" for i in range(svg.COLOURS + 1)]
    rows = [row(name, ipc, 0.5 + i / 100 + ipc / 1000) for ipc in (1, 10) for i, name in enumerate(names)]
    few, many = (compare.render(r, title="t") for r in ([r for r in rows if r["method"] != names[-1]], rows))
    assert 'class="chart lines"' in few and 'class="legend"' in few and 'class="chart dots"' not in few
    assert many.count('class="chart dots"') == 2 and "chart lines" not in many and 'class="legend"' not in many
    assert many.index("<span>1 image per class</span>") < many.index("<span>10 images per class</span>")
    drawn = re.findall(r'<text class="name"[^>]*>([^<]+)</text>', many)
    assert drawn == 2 * [*names[::-1], grid.RANDOM]
    assert len(set(re.findall(r'id="(trend[^"]*)"', many))) == len(re.findall(r'id="trend', many))


def test_short_schedules_of_all_methods_are_said_once_in_the_sentence() -> None:
    quick = [row(name, 10, mean, quick=True) for name, mean in (("dm", 0.8), ("dsa", 0.79), ("dc", 0.78))]
    text = re.sub(r"<[^>]+>", "", compare.render(quick, title="t"))
    assert "dm is the best of 3 methods by short schedules: 0.800" in text
    assert "Not clearly ahead of dsa, by" in text and "dsa, quick" in text
    mixed = re.sub(r"<[^>]+>", "", compare.render([*quick[:2], row("dc", 10, 0.795)], title="t"))
    assert (
        "dm, quick is the best of 3 methods: 0.800" in mixed and "Not clearly ahead of dc and dsa, quick, by" in mixed
    )


def test_several_names_are_listed_as_in_a_sentence() -> None:
    assert [wording.listed(list(names)) for names in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]


def test_sizes_are_rows_where_a_set_is_not_per_class() -> None:
    (found,) = grid.grids([row("dm", 10, 0.7), row("craig", None, 0.8, rows=55)])
    assert found.heads == ("55 examples", "100 examples")


def test_what_was_not_measured_is_said_so() -> None:
    html = compare.render([row("dm", 10, None), row("dsa", 10, 0.8)], title="t")
    assert "not measured" in html and "dsa is the only method" in html
    assert "Nothing was measured yet" in compare.render([row("dm", 10, None)], title="t")
    assert "Nothing to compare" in compare.render([], title="t")


def test_rows_without_any_fact_do_not_stop_it() -> None:
    for rows in (
        [{}],
        [{"score": None}, {"method": 3, "ipc": "x", "score": {"last_mean": "?"}}],
        [{"score": {"last_mean": 0.5}}] * 2,
    ):
        assert compare.render(rows, title="t").startswith("<!doctype html>")
        assert "method" in compare.markdown(rows)
        printed(table.compare_table(rows))


def test_markdown_holds_the_table(rows: list[dict[str, Any]]) -> None:
    lines = compare.markdown(rows).splitlines()
    assert lines[0] == "ConvNet: protocol dsa, hard labels, exact images"
    assert lines[2] == "| method | 1 image per class | 10 images per class |"
    assert lines[4].startswith("| dm | 0.600 ± 0.010; 0.590–0.610; 34") and "| **0.800 ± 0.010**; " in lines[4]
    assert lines[6].startswith("| herding |  | 0.600")
    assert lines[7] == "| random real examples | 0.300 ± 0.020 | 0.500 ± 0.020 |"


def test_markdown_keeps_hostile_names_in_their_cell() -> None:
    name = "a|b`c<script>\n[x](y)*z*"
    text = compare.markdown([row(name, 10, 0.8)])
    assert all(len(re.findall(r"\|", line)) == 3 for line in text.splitlines()[2:])
    assert not set("`<[*") & set(text.splitlines()[4].split("|")[1])


def printed(renderable: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=100, color_system=None).print(renderable)
    return out.getvalue()


def test_the_terminal_shows_the_same_figures(rows: list[dict[str, Any]]) -> None:
    text = printed(table.compare_table(rows))
    assert re.search(r"dm +0.600 ± 0.010 +0.800 ± 0.010", text)
    assert re.search(r"random real examples +0.300 ± 0.020", text)
    score = rows[1]["score"]
    shown = printed(table.score_table([score]))
    assert re.search(r"ConvNet +exact +0.800 ± 0.010 +0.790–0.810 +0.500 +5", shown)
    shown = printed(table.score_table([{**score, "labels": "soft", "baseline": {"full": {"last_mean": 0.9}}}]))
    assert re.search(r"ConvNet +exact +soft +0.800 ± 0.010 +0.790–0.810 +– +0.900 +5", shown), shown


def test_the_terminal_shows_a_set(synthetic: Condensed) -> None:
    text = printed(table.set_table(synthetic)).replace("\u202f", " ")
    for line in (
        "kind +synthetic",
        "made by +distill dm",
        "per class +3",
        r"examples +30 of 1,438 \(2.09 %\)",
        "to make +34 s",
    ):
        assert re.search(line, text), line


def test_names_are_no_markup_and_no_escape_sequences_in_the_terminal() -> None:
    text = printed(table.compare_table([row("[red]x[/] \x1b[31m", 10, 0.8)]))
    assert "[red]x[/]" in text and "\x1b" not in text


def test_several_networks_stand_across(rows: list[dict[str, Any]]) -> None:
    mlp = [
        {**r, "score": {**r["score"], "network": "mlp", "last_mean": r["score"]["last_mean"] - 0.2}} for r in rows[:3]
    ]
    small, large = cross.across(grid.grids(rows + mlp))
    assert (small.head, large.head) == ("1 image per class", "10 images per class")
    assert small.networks == ("ConvNet", "MLP")
    cells = {line.name: [c and c.measure and round(c.measure.mean, 2) for c in line.cells] for line in large.lines}
    assert cells == {"dm": [0.8, 0.6], "dsa": [0.79, None], "herding": [0.6, None], grid.RANDOM: [0.5, 0.5]}
    assert [line.name for line in small.lines if line.cells[1] and line.cells[1].best] == ["dsa"]
    page, md = compare.render(rows + mlp, title="t"), compare.markdown(rows + mlp)
    assert "Across networks" in page and "| dsa | **0.650 ± 0.010** | **0.450 ± 0.010** |" in md
    console = Console(file=io.StringIO(), width=120)
    console.print(table.compare_table(rows + mlp))
    assert "Across networks, 10 images per class" in console.file.getvalue()  # type: ignore[attr-defined]


def test_soft_labels_stand_in_tables_of_their_own_across_networks(rows: list[dict[str, Any]]) -> None:
    soft = row("datm", 10, 0.7)
    soft["score"] = {**soft["score"], "labels": "soft"}
    every = [
        r if net is None else {**r, "score": {**r["score"], "network": net}}
        for net in (None, "mlp")
        for r in [*rows, soft]
    ]
    small, hard, softly = cross.across(grid.grids(every))
    assert [len(x.networks) for x in (small, hard, softly)] == [2, 2, 2]
    assert [x.head for x in (small, hard, softly)] == [
        "1 image per class, hard labels",
        "10 images per class, hard labels",
        "10 images per class, soft labels",
    ]
    assert [line.name for line in softly.lines] == ["datm", grid.RANDOM]
    assert "datm" not in [line.name for line in hard.lines]


def test_networks_that_a_protocol_augments_in_other_ways_stand_in_one_table(rows: list[dict[str, Any]]) -> None:
    other = [{**r, "score": {**r["score"], "network": "resnet18", "augment": "dc:crop"}} for r in rows]
    small, large = cross.across(grid.grids(rows + other))
    assert (small.head, large.head) == ("1 image per class", "10 images per class")
    assert small.networks == large.networks == ("ConvNet", "ResNet18")


def test_one_network_has_no_table_across(rows: list[dict[str, Any]]) -> None:
    assert cross.across(grid.grids(rows)) == ()
    assert "Across networks" not in compare.render(rows, title="t") + compare.markdown(rows)


def test_what_is_shared_with_others_is_told_beside_the_methods_own_time() -> None:
    (found,) = grid.grids([row("mtt", 10, 0.7, shared_seconds=120.0), row("dm", 10, 0.8, shared_seconds=0.0)])
    costs = [line.cells[0].cost.replace("\u202f", " ") for line in found.lines if line.cells[0] and not line.quiet]
    assert costs == ["34 s and 2 min shared, 640 B", "34 s, 640 B"]


@pytest.mark.parametrize(
    ("ahead", "close"), [(0.02, False), (0.005, True)], ids=["although the intervals touch", "not clear"]
)
def test_the_difference_decides_who_is_clearly_ahead(ahead: float, close: bool) -> None:
    html = compare.render([row("dm", 10, 0.8), row("dsa", 10, 0.8 - ahead)], title="digits")
    assert ("Not clearly ahead of dsa" in html) == close


def test_a_single_seed_is_no_clear_best() -> None:
    single = [row("dm", 10, 0.8), row("dsa", 10, 0.7)]
    for r in single:
        r["score"] |= {"seeds": 1, "last_std": None, "interval": None}
    assert "A single seed says nothing of the spread." in compare.render(single, title="digits")
