"""EL2N from shards beside the same formula on whole matrices in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scale_kit import rows, select, written

pytestmark = pytest.mark.usefixtures("here")


def plain(x: np.ndarray, label: np.ndarray, epochs: int, ridge: float) -> np.ndarray:
    """The formula of the file's head: float64 [N, D], int64 [N] -> [N]."""
    x = x.astype(np.float64)
    spread = x.std(0)
    z = np.hstack([(x - x.mean(0)) / np.where(spread > 0, spread, 1), np.ones((len(x), 1))])
    y = np.eye(label.max() + 1)[label]

    def error(w: np.ndarray) -> np.ndarray:
        p = np.exp(z @ w)
        return p / p.sum(1, keepdims=True) - y

    bound = np.linalg.inv(z.T @ z / len(z) + ridge * np.eye(z.shape[1]))
    w, before, t = np.zeros((z.shape[1], y.shape[1])), np.zeros((z.shape[1], y.shape[1])), 1.0
    ahead, total = w, np.zeros(len(z))
    for _ in range(epochs):
        before, w = w, ahead - 2 * bound @ z.T @ error(ahead) / len(z)
        later = (1 + np.sqrt(1 + 4 * t**2)) / 2
        ahead, t = w + (t - 1) / later * (w - before), later
        total += np.sqrt((error(w) ** 2).sum(1))
    return total / epochs


@pytest.mark.parametrize("epochs", [1, 5])
def test_scores_are_those_of_the_formula(tmp_path: Path, epochs: int) -> None:
    found = rows()
    found["embedding"][:, 2] = 5.25  # constant
    source = written(tmp_path / "in", found)
    select(source, tmp_path / "out", "el2n", {"rows": 60}, m={"epochs": epochs})
    scores = pq.read_table(tmp_path / "out" / "scores.parquet")["score"].to_numpy()
    wanted = plain(found["embedding"], found["label"], epochs, 1e-3)
    assert np.abs(scores - wanted).max() < 1e-5


def test_the_head_learns_and_wrong_labels_score_high(tmp_path: Path) -> None:
    found = rows(n=900, d=6)
    found["embedding"] = (found["embedding"] + 6 * np.eye(6)[found["label"]]).astype(np.float32)
    wrong = np.arange(0, 900, 30)
    found["label"][wrong] = (found["label"][wrong] + 1) % 3
    order = np.argsort(found["label"], kind="stable")  # every shard has a class of its own
    source = written(tmp_path / "in", {k: v[order] for k, v in found.items()})
    select(source, tmp_path / "out", "el2n", {"rows": 30}, m={"rule": "top", "epochs": 3})
    scores = pq.read_table(tmp_path / "out" / "scores.parquet")
    highest = set(np.array(scores["id"])[np.argsort(-scores["score"].to_numpy())[:30]].tolist())
    assert len(highest & set(found["id"][wrong].tolist())) >= 27
