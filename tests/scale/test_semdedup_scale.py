"""SemDeDup from shards beside the same on whole matrices by plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scale_kit import kept_ids, rows, select, written

from attar import chance

pytestmark = pytest.mark.usefixtures("here")


def clustered(x: np.ndarray, ids: np.ndarray, c: int, sample: int, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Cluster of each row and cosine to its centre: float64 [N, D] -> [N], [N]."""
    order = np.argsort(chance.keys(ids, chance.number(0, "sample")))[:sample]
    centres = x[order[:c]].copy()
    for _ in range(rounds):
        place = (x[order] @ centres.T).argmax(1)
        for j in range(c):
            if (place == j).any():
                total = x[order[place == j]].sum(0)
                centres[j] = total / np.sqrt(total @ total)
    like = x @ centres.T
    return like.argmax(1), like.max(1)


def plain(found: dict[str, np.ndarray], c: int, sample: int, rounds: int, stays: str) -> np.ndarray:
    """The score of each row: float64 [N]."""
    x, ids = found["embedding"].astype(np.float64), found["id"]
    x /= np.sqrt((x**2).sum(1, keepdims=True))
    cluster, like = clustered(x, ids, c, sample, rounds)
    key = chance.keys(ids, chance.number(0, "rule"))
    side = {"hard": like, "easy": -like, "random": np.zeros(len(x))}[stays]
    score = np.full(len(x), 2.0)
    for j in range(c):
        rows = sorted(np.flatnonzero(cluster == j).tolist(), key=lambda i: (side[i], key[i]))
        for place, i in enumerate(rows):
            for before in rows[:place]:
                score[i] = min(score[i], 1 - x[before] @ x[i])
    return score


@pytest.mark.parametrize("stays", ["hard", "easy", "random"])
def test_scores_and_choice_are_those_of_loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stays: str) -> None:
    monkeypatch.setattr("attar.scale.scatter.CHUNK", 200 * 4)
    monkeypatch.setattr("attar.scale.semdedup.TILE", 16)
    found = rows()
    wanted = plain(found, 8, 160, 3, stays)
    settings = {"clusters": 8, "sample": 20, "rounds": 3, "stays": stays}
    source = written(tmp_path / "in", found)
    select(source, tmp_path / "out", "semdedup", {"rows": 100}, m=settings)
    scores = pq.read_table(tmp_path / "out" / "scores.parquet")["score"].to_numpy()
    assert np.abs(scores - wanted).max() < 1e-5
    assert kept_ids(tmp_path / "out") == set(found["id"][np.argsort(-wanted)[:100]].tolist())
    select(source, tmp_path / "by", "semdedup", m={**settings, "threshold": 1 - 0.0123})
    assert kept_ids(tmp_path / "by") == set(found["id"][wanted >= 0.0123].tolist())


def test_of_copies_one_stays_wherever_they_are(tmp_path: Path) -> None:
    found = rows(n=300)
    found["embedding"][150:] = found["embedding"][:150] * 2  # the same direction
    manifest = select(written(tmp_path / "in", found), tmp_path / "out", "semdedup", m={"threshold": 0.99999})
    assert manifest["kept"]["rows"] <= 150
    place = {i: r % 150 for r, i in enumerate(found["id"].tolist())}
    assert len({place[i] for i in kept_ids(tmp_path / "out")}) == manifest["kept"]["rows"]


def test_a_cluster_too_large_for_memory_is_cut_into_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attar.scale.scatter.CHUNK", 100 * 4)
    found = rows(n=500)
    found["embedding"][:] = found["embedding"][0]
    found["embedding"][-1] = 0  # like nothing
    manifest = select(written(tmp_path / "in", found), tmp_path / "out", "semdedup", m={"threshold": 0.99})
    assert manifest["kept"]["rows"] == 5 + 1
    assert int(found["id"][-1]) in kept_ids(tmp_path / "out")
