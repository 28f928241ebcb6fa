"""Rules in passes beside the rules in memory, and beside sorting everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scale_kit import content, kept, kept_ids, rows, select, table, written

from attar import chance
from attar.budget import level
from attar.scale.radix import falling, rising, smallest
from attar.seeds import Seeds
from attar.select.hashed import smallest as smallest_in_memory
from attar.select.rules import Pool, rule_of


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 2**64 - 1) | st.integers(0, 3), st.integers(-1, 2)), min_size=1, max_size=60),
    st.data(),
)
def test_the_smallest_keys_of_each_group_are_those_of_a_sort(pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    key, group = np.array([k for k, _ in pairs], np.uint64), np.array([g for _, g in pairs])
    k = np.array([data.draw(st.integers(0, int((group == g).sum()))) for g in range(3)])
    found = smallest(lambda: zip(np.array_split(key, 3), np.array_split(group, 3)), k, counts=3 * 2**4)
    for g in range(3):
        ordered = np.sort(key[group == g])[: k[g]]
        assert found.taken[g] == (k[g] > 0)
        if k[g]:
            assert found.key[g] == ordered[-1]
            assert found.rest[g] == (ordered == ordered[-1]).sum()


def test_more_than_a_group_has_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer keys"):
        smallest(lambda: [(np.zeros(2, np.uint64), np.zeros(2, np.int64))], np.array([3]))


def test_nothing_is_looked_for_where_nothing_is_taken() -> None:
    def stream() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        raise AssertionError("a pass")
        yield

    found = smallest(stream, np.zeros(2, np.int64))
    assert found.key.tolist() == found.rest.tolist() == [0, 0]
    assert found.key.dtype == np.uint64 and not found.taken.any()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2))
def test_keys_of_scores_are_in_their_order(values: list[float]) -> None:
    score = np.array(values)
    for keys, sign in ((rising(score), 1), (falling(score), -1)):
        a, b = sign * score[:, None], sign * score[None]
        assert ((keys[:, None] < keys[None]) == (a < b)).all()
        assert ((keys[:, None] == keys[None]) == (a == b)).all()


def ranking(found: dict[str, np.ndarray], of: np.ndarray) -> np.ndarray:
    """Places from the highest score to the lowest, ties by the hash of their ids."""
    key = chance.keys(found["id"][of], chance.number(0, "rule"))
    return of[np.lexsort((key, -found["score"][of]))]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("rule", ["top", "top:skip=0.2", "ccs", "ccs:strata=7:cutoff=0.3", "ccs:cutoff=0"])
def test_rules_keep_what_a_sort_of_everything_keeps(tmp_path: Path, rule: str, balanced: bool) -> None:
    found = rows()
    source = written(tmp_path / "in", found)
    select(source, tmp_path / "out", "score", {"rows": 100}, m={"rule": rule}, balanced=balanced)
    sizes = np.bincount(found["label"]).tolist() if balanced else [600]
    quotas = level(100, sizes)
    wanted: set[int] = set()
    for g, k in enumerate(quotas):
        of = np.flatnonzero(found["label"] == g) if balanced else np.arange(600)
        order = ranking(found, of)
        places = top(order, k, rule) if rule.startswith("top") else ccs(found, order, k, rule)
        wanted |= set(found["id"][places].tolist())
    assert kept_ids(tmp_path / "out") == wanted


def top(order: np.ndarray, k: int, rule: str) -> np.ndarray:
    skip = float(rule.partition("=")[2] or 0)
    first = min(int(skip * len(order)), len(order) - k)
    return order[first : first + k]


def ccs(found: dict[str, np.ndarray], order: np.ndarray, k: int, rule: str) -> np.ndarray:
    given = dict(item.split("=") for item in rule.split(":")[1:])
    strata, cutoff = int(given.get("strata", 50)), float(given.get("cutoff", 0.1))
    left = order[min(int(np.ceil(cutoff * len(order))), len(order) - k) :]
    s = found["score"][left]
    place = np.minimum(np.floor((s - s.min()) / (s.max() - s.min()) * strata), strata - 1)
    parts = sorted((left[place == j] for j in range(strata)), key=len, reverse=True)
    key = chance.keys(found["id"], chance.number(0, "rule"))
    shares = level(k, [len(p) for p in parts])
    return np.concatenate([p[np.argsort(key[p])][:share] for p, share in zip(parts, shares)])


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("rule", ["top", "top:skip=0.2", "ccs", "ccs:strata=7:cutoff=0.3"])
def test_without_ties_rules_keep_what_the_rules_in_memory_keep(tmp_path: Path, rule: str) -> None:
    found = rows()
    found["score"] = np.random.default_rng(1).permutation(600) / 7.0
    select(written(tmp_path / "in", found), tmp_path / "out", "score", {"keep": 0.15}, m={"rule": rule})
    order = np.argsort(found["id"])
    score = torch.from_numpy(found["score"][order])
    pool = Pool(score=score, ids=torch.from_numpy(found["id"][order]), seeds=Seeds(0), hard=score)
    places = rule_of(rule)(pool, 90).places.numpy()
    assert kept_ids(tmp_path / "out") == set(found["id"][order][places].tolist())


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("balanced", [False, True])
def test_chance_keeps_the_smallest_hashes_and_is_nested(tmp_path: Path, balanced: bool) -> None:
    found = rows()
    source = written(tmp_path / "in", found)
    before: set[int] = set()
    for k in (30, 90):
        out = tmp_path / f"out-{k}"
        manifest = select(source, out, "random", {"rows": k}, balanced=balanced, seed=4)
        wanted: set[int] = set()
        for g in range(3 if balanced else 1):
            ids = found["id"][found["label"] == g] if balanced else found["id"]
            key = chance.keys(ids, Seeds(4).number("rule"))
            wanted |= set(ids[smallest_in_memory(key, k // 3 if balanced else k).numpy()].tolist())
        assert kept_ids(out) == wanted
        assert before <= wanted
        assert not balanced or set(manifest["kept"]["per_class"].values()) == {k // 3}
        before = wanted


@pytest.mark.usefixtures("here")
def test_chance_does_not_see_how_rows_are_cut_into_shards(tmp_path: Path) -> None:
    found = rows()
    mixed = np.random.default_rng(3).permutation(600)
    select(written(tmp_path / "a", found), tmp_path / "out-a", "random", {"rows": 50})
    other = written(tmp_path / "b", {k: v[mixed] for k, v in found.items()}, shards=5, group=33)
    select(other, tmp_path / "out-b", "random", {"rows": 50})
    assert kept_ids(tmp_path / "out-a") == kept_ids(tmp_path / "out-b")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("features", ["fixed", "list"])
def test_kept_rows_have_all_their_columns_and_scores_have_all_rows(tmp_path: Path, features: str) -> None:
    found = rows()
    source = written(tmp_path / "in", found, features=features)
    manifest = select(source, tmp_path / "out", "score", {"ipc": 20})
    whole, mine = table(found, features), kept(tmp_path / "out")
    place = {i: r for r, i in enumerate(found["id"].tolist())}
    assert mine.equals(whole.take([place[i] for i in mine["id"].to_pylist()]))
    scores = pq.read_table(tmp_path / "out" / "scores.parquet")
    assert scores["id"].to_pylist() == found["id"].tolist()
    assert np.allclose(scores["score"].to_numpy(), found["score"])
    assert set(np.array(scores["id"])[np.array(scores["kept"])].tolist()) == kept_ids(tmp_path / "out")
    assert manifest["kept"] == {"rows": 60, "per_class": {"0": 20, "1": 20, "2": 20}}
    assert [s["rows"] for s in manifest["source"]["shards"]] == [200, 200, 200]


@pytest.mark.usefixtures("here")
def test_rows_without_ids_are_numbered_and_labels_may_be_words(tmp_path: Path) -> None:
    found = rows()
    found["label"] = np.array(["cat", "dog", "eel"])[found["label"]]
    source = written(tmp_path / "in", {k: v for k, v in found.items() if k != "id"})
    manifest = select(source, tmp_path / "out", "random", {"ipc": 5})
    assert manifest["kept"]["per_class"] == {"cat": 5, "dog": 5, "eel": 5}
    scores = pq.read_table(tmp_path / "out" / "scores.parquet")
    assert scores["id"].to_pylist() == list(range(600))
    assert kept(tmp_path / "out")["text"].to_pylist() == found["text"][np.array(scores["kept"])].tolist()


@pytest.mark.usefixtures("here")
def test_the_same_call_again_finds_it_done_and_another_one_is_refused(tmp_path: Path) -> None:
    from attar.errors import UsageError

    source = written(tmp_path / "in", rows())
    first = select(source, tmp_path / "out", "random", {"rows": 50})
    before = content(tmp_path / "out")
    assert select(source, tmp_path / "out", "random", {"rows": 50}) == first
    assert content(tmp_path / "out") == before
    with pytest.raises(UsageError, match="exists already"):
        select(source, tmp_path / "out", "random", {"rows": 51})
