"""How a selection chose, on its page: the cut, the map, the galleries, the classes before and after, the weights."""

from __future__ import annotations

import base64
import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from attar.condensed import Condensed, condense, open_condensed
from attar.io import png
from attar.judged import SCORES, decode
from attar.method import Rows
from attar.real.realset import RealSet
from attar.report import balance, page
from attar.report.choice import DROPPED, choice, judged_of
from attar.report.cut import Mark, cut

Chosen = Callable[..., Condensed]

SCORE = torch.tensor([0.9, 0.1, 0.5, 0.3, 0.8, 0.2])
LABELS = torch.tensor([0, 0, 0, 1, 1, 1])


def kept(*places: int, n: int = 6) -> torch.Tensor:
    found = torch.zeros(n, dtype=torch.bool)
    found[list(places)] = True
    return found


@pytest.fixture
def chosen(real: RealSet) -> Chosen:
    """The examples of the highest scores, or others, with what was known of all."""

    def make(
        picked: torch.Tensor, judged: dict[str, torch.Tensor], *, source: RealSet = real, **settings: Any
    ) -> Condensed:
        weight = settings.pop("weight", None)
        step = {"verb": "select", "method": "el2n", "settings": {"rule": "top", "balanced": False, **settings}}
        rows = Rows(picked=picked, judged=judged, weight=weight)
        return condense(rows, source, kind="subset", lineage=[step])

    return make


def by_sum(real: RealSet) -> torch.Tensor:
    """A score without ties: float32 [N]."""
    return torch.randperm(len(real), generator=torch.Generator().manual_seed(5)) / 100


def test_one_pool_has_its_cut_at_the_lowest_kept_score() -> None:
    found = cut(SCORE, kept(0, 4, 2), None)
    assert found.marks == (Mark(SCORE[2].item(), SCORE[2].item()),)
    assert found.kept.tolist() == [2, 4, 0] and found.dropped.tolist() == [3, 5, 1]


def test_classes_that_are_cut_by_themselves_have_a_cut_each() -> None:
    found = cut(SCORE, kept(0, 4), LABELS)
    assert found.marks == (Mark(SCORE[4].item(), SCORE[0].item()),)
    assert found.kept.tolist() == [0, 4], "0.9 is 0.2 above the middle of its gap, 0.8 is 0.25"
    assert found.dropped.tolist() == [2, 3, 5, 1]


def test_an_offset_has_an_upper_edge_too() -> None:
    found = cut(SCORE, kept(2, 3), None)  # 0.5 and 0.3, without 0.9 and 0.8
    low, high = SCORE[3].item(), SCORE[2].item()
    assert found.marks == (Mark(low, low), Mark(high, high, upper=True))
    assert found.kept.tolist() == [3, 2] and found.dropped.tolist() == [5, 1], "those at the lower edge"


def test_a_cutoff_above_strata_has_the_upper_edge_alone() -> None:
    found = cut(SCORE, kept(1, 2), None, "ccs:cutoff=0.3")
    assert found.marks == (Mark(0.5, 0.5, upper=True),)
    assert found.kept.tolist() == [2, 1] and found.dropped.tolist() == [4, 0], (
        "0.3 and 0.2 were not cut, chance left them"
    )


def test_rules_that_draw_by_chance_have_no_cut() -> None:
    for rule in ("stratified:strata=5", "beta"):
        found = cut(SCORE, kept(0, 4, 2), None, rule)
        assert found.marks == () and not len(found.kept) and not len(found.dropped)


def test_ties_at_the_cut_and_scores_that_are_not_known() -> None:
    score = torch.tensor([1.0, 1.0, 1.0, torch.nan, 0.0])
    found = cut(score, kept(0, 1, n=5), None)
    assert found.marks == (Mark(1.0, 1.0),)
    assert found.kept.tolist() == [0, 1] and found.dropped.tolist() == [2, 4]
    assert cut(score, kept(0, 1, 2, 3, 4, n=5), None).marks == (), "nothing was dropped"


def bars(html: str) -> list[tuple[int, int]]:
    chart = html[html.index("scores-t") :]
    return [(int(a), int(b)) for a, b in re.findall(r": (\d+) kept, (\d+) dropped</title>", chart)]


def test_the_histogram_counts_every_example_and_marks_the_cut(chosen: Chosen, real: RealSet) -> None:
    score = by_sum(real)
    picked = score.argsort(descending=True)[:100]
    html = page.render(chosen(picked, {"score": score}), real=real)
    found = bars(html)
    assert sum(a for a, _ in found) == 100 and sum(b for _, b in found) == len(real) - 100
    assert sum(a > 0 and b > 0 for a, b in found) <= 1, "one bar at most lies across the cut"
    lowest = float(score[picked].min())
    assert f"The cut is at {lowest:.3g}." in html
    low, high = float(score.min()), float(score.max())
    (edge,) = re.findall(r'class="edge" x1="([\d.]+)%"', html)
    assert float(edge) == pytest.approx(1.5 + 97 * (lowest - low) / (high - low), abs=0.01)


def test_whole_scores_have_a_bar_each(chosen: Chosen, real: RealSet) -> None:
    score = torch.arange(len(real)) % 4 * 1.0
    found = bars(page.render(chosen(torch.tensor([3, 7]), {"score": score})))
    sizes = [int((score == k).sum()) for k in range(4)]
    assert found == [(0, sizes[0]), (0, sizes[1]), (0, sizes[2]), (2, sizes[3] - 2)]


def test_far_out_scores_stand_in_the_outermost_bar(chosen: Chosen, real: RealSet) -> None:
    score = torch.linspace(0, 1, len(real))
    score[-1] = 1e6
    html = page.render(chosen(torch.tensor([len(real) - 1]), {"score": score}))
    found = bars(html)
    assert len(found) > 20 and found[-1][0] == 1 and sum(map(sum, found)) == len(real)
    assert "hold all that lies beyond" in html


def test_equal_scores_make_a_page(chosen: Chosen, real: RealSet) -> None:
    html = page.render(chosen(torch.tensor([4]), {"score": torch.ones(len(real))}))
    assert bars(html) == [(1, len(real) - 1)]


def dots(html: str, kind: str) -> list[str]:
    (path,) = re.findall(f'class="spots {kind}" d="([^"]*)"', html)
    return re.findall(r"M([^h]+)h", path)


def test_the_map_shows_confidence_across_and_variability_up(chosen: Chosen, real: RealSet) -> None:
    n = len(real)
    confidence, variability = torch.zeros(n), torch.zeros(n)
    confidence[0], variability[0] = 1.0, 0.5
    judged = {"confidence": confidence, "variability": variability, "pc1": torch.ones(n), "pc2": torch.ones(n)}
    html = page.render(chosen(torch.tensor([0]), judged))
    assert dots(html, "kept") == ["98.5 0"], "right and up"
    assert set(dots(html, "dropped")) == {"1.5 100"} and len(dots(html, "dropped")) == n - 1
    assert "mean confidence in the label" in html and "principal" not in html


def test_the_map_keeps_every_kept_dot_and_a_sample_of_the_others(chosen: Chosen, real: RealSet) -> None:
    n = 3 * len(real)
    many = real.subset(torch.arange(n) % len(real))
    many = dataclasses.replace(many, ids=torch.arange(n))
    generator = torch.Generator().manual_seed(0)
    judged = {name: torch.rand(n, generator=generator) for name in ("pc1", "pc2")}
    condensed = chosen(torch.arange(50), judged, source=many)
    html = page.render(condensed)
    assert len(dots(html, "kept")) == 50 and len(dots(html, "dropped")) == DROPPED
    assert f"50 of 50 kept, {DROPPED:,} of {n - 50:,} dropped" in html
    assert html == page.render(condensed)
    assert len(html) < 300_000


def rows_of(condensed: Condensed, real: RealSet | None) -> dict[str, list[int]]:
    """The ids of every gallery."""
    found = choice(condensed, judged_of(condensed), real)
    assert found is not None
    source = re.compile(r"row (\d+) of the source")
    return {
        row.name: [int(m[1]) for tile, *_ in row.tiles if (m := source.search(tile.hint)) is not None]
        for row in found.rows
    }


def test_the_galleries_hold_the_right_examples(chosen: Chosen, real: RealSet) -> None:
    score = by_sum(real)
    order = score.argsort(descending=True)
    condensed = chosen(order[:100], {"score": score})
    ids = real.ids[order].tolist()
    assert rows_of(condensed, real) == {
        "Highest scores": ids[:8],
        "Just kept": ids[99:91:-1],
        "Just dropped": ids[100:108],
        "Lowest scores": ids[:-9:-1],
    }
    html = page.render(condensed, real=real)
    tiles = html[html.index("Just dropped") :]
    (first,) = re.findall(r'src="data:image/png;base64,([^"]+)" alt="([^"]+)"', tiles)[:1]
    assert torch.equal(png.decode(base64.b64decode(first[0])), real.raw(order[100:101])[0])
    label = real.class_names[int(real.labels[order[100]])]
    assert first[1] == f"{label}, score {float(score[order[100]]):.3g}, dropped"


def test_without_the_real_data_kept_pictures_are_shown_and_dropped_ones_are_told(
    chosen: Chosen, real: RealSet, tmp_path: Any
) -> None:
    score = by_sum(real)
    order = score.argsort(descending=True)
    chosen(order[:100], {"score": score}).save(tmp_path / "small")
    condensed = open_condensed(tmp_path / "small")
    assert rows_of(condensed, None) == rows_of(condensed, real)
    html = page.render(condensed)
    assert html.count('class="blank"') == 16 and "where the real data can be read" in html
    assert 'class="blank"' not in page.render(condensed, real=real)
    other = dataclasses.replace(real, fingerprint="another")
    assert page.render(condensed, real=other).count('class="blank"') == 16, "pictures of other data are not shown"


def test_the_scores_are_in_the_folder(chosen: Chosen, real: RealSet, tmp_path: Any) -> None:
    score = by_sum(real)
    chosen(torch.tensor([5, 2]), {"score": score, "aum": -score}).save(tmp_path / "small")
    found = decode((tmp_path / "small" / SCORES).read_bytes())
    assert found.ids.tolist() == real.ids.tolist() and found.labels is not None
    assert found.labels.tolist() == real.labels.tolist()
    assert found.kept.nonzero().flatten().tolist() == [2, 5]
    assert torch.equal(found.values["score"], score) and torch.equal(found.values["aum"], -score)


def test_divergence_by_hand() -> None:
    assert balance.divergence([3, 1], [2, 2]) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert balance.divergence([5, 0], [20, 60]) == pytest.approx(math.log(4))
    assert balance.divergence([1, 2], [10, 20]) == 0


def test_classes_before_and_after_with_those_that_vanished(chosen: Chosen, real: RealSet) -> None:
    picked = torch.cat([real.classes[0][:6], real.classes[3][:2]])
    condensed = chosen(picked, {})
    found = balance.balance(condensed)
    assert found is not None
    assert found.vanished == tuple(n for k, n in enumerate(real.class_names) if k not in (0, 3))
    n = [len(c) for c in real.classes]
    expected = 0.75 * math.log(0.75 * len(real) / n[0]) + 0.25 * math.log(0.25 * len(real) / n[3])
    assert found.divergence == pytest.approx(expected)
    html = page.render(condensed)
    assert f"6 of {n[0]}" in html and f"2 of {n[3]}" in html and f"0 of {n[1]}" in html
    assert "Nothing was kept of" in html and "<b><bdi>1</bdi></b>" in html


def test_classes_are_compared_with_a_selection_s_source_alone(synthetic: Condensed, subset: Condensed) -> None:
    assert balance.real_sizes(synthetic) == []
    del subset.manifest["source"]["per_class"]
    found = balance.balance(subset)
    assert found is not None and not found.compared
    for wrong in ([1] * 10, ["a"] * 10, [10**400] * 10, [200] * 9, {}, None):
        subset.manifest["source"]["per_class"] = wrong
        assert balance.real_sizes(subset) == []


def test_weights_tell_their_spread_by_hand(chosen: Chosen) -> None:
    weight = torch.tensor([1.0, 1.0, 2.0, 4.0])
    told = dict(balance.weights(chosen(torch.arange(4), {}, weight=weight)))
    assert told["smallest weight"] == "1" and told["median weight"] == "1.5" and told["largest weight"] == "4"
    assert told["effective size"] == f"{64 / 22:.1f} of 4"
    assert balance.weights(chosen(torch.arange(4), {})) == ()


def test_a_selection_that_knew_nothing_has_no_section(subset: Condensed) -> None:
    assert SCORES not in subset.files and "How it chose" not in page.render(subset)


def test_broken_scores_are_left_out(chosen: Chosen, real: RealSet) -> None:
    condensed = chosen(torch.tensor([1]), {"score": by_sum(real)})
    whole = condensed.files[SCORES]
    for broken in (b"", b"nonsense", whole[:-9], whole[: len(whole) // 2]):
        condensed.files[SCORES] = broken
        assert "How it chose" not in page.render(condensed)
