"""The statistics, the random baseline and the store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attar.errors import DataError
from attar.evaluate.baseline import random_examples
from attar.evaluate.scores import summary
from attar.evaluate.store import Result, Store, circumstances, content
from attar.real.realset import RealSet
from attar.seeds import Seeds

Make = Callable[..., RealSet]
RESULT = Result(accuracy=0.5, best=None, seconds=1.5)
FACTS = {"seed": 0, "lesson": "a"}


def test_the_interval_is_students() -> None:
    found = summary([0.5, 0.6, 0.7])
    half = 4.302652729749464 * 0.1 / 3**0.5  # t(2, .975) from tables
    assert found["last_mean"] == pytest.approx(0.6)
    assert found["last_std"] == pytest.approx(0.1)
    assert found["interval"] == pytest.approx([0.6 - half, 0.6 + half])
    assert found["accuracies"] == [0.5, 0.6, 0.7]


def test_the_interval_holds_the_mean_as_often_as_it_says() -> None:
    draws = 0.5 + 0.05 * torch.randn(4000, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ends = [summary(row)["interval"] for row in draws.tolist()]
    assert 0.94 < sum(low <= 0.5 <= high for low, high in ends) / 4000 < 0.96


def test_one_network_has_no_spread() -> None:
    assert summary([0.25]) == {"last_mean": 0.25, "last_std": 0.0, "interval": None, "accuracies": [0.25]}


def test_the_interval_stays_in_the_range_of_accuracies() -> None:
    assert summary([0.9, 1.0])["interval"][1] == 1.0
    assert summary([0.0, 0.1])["interval"][0] == 0.0


def test_random_examples_have_the_counts_and_their_own_labels(make_real: Make) -> None:
    real = make_real(classes=("a", "b", "c"), n=12)
    counts = [2, 0, 4]
    images, labels = random_examples(real, counts, Seeds(0))
    assert labels.tolist() == [0, 0, 2, 2, 2, 2]
    everything = real.draw(torch.arange(len(real)))
    where = [int((everything == image).flatten(1).all(1).nonzero()) for image in images]
    assert len(set(where)) == 6  # no example twice
    assert real.labels[where].tolist() == labels.tolist()


def test_random_examples_are_drawn_anew_for_every_seed(make_real: Make) -> None:
    real = make_real(n=40)
    first = [random_examples(real, [3, 3], Seeds(s))[0] for s in range(4)]
    assert len({image.numpy().tobytes() for image in first}) == 4
    assert torch.equal(first[0], random_examples(real, [3, 3], Seeds(0))[0])


def test_a_class_that_is_too_small_gives_examples_twice(make_real: Make) -> None:
    _, labels = random_examples(make_real(n=4), [5, 1], Seeds(0))
    assert labels.tolist() == [0] * 5 + [1]


def test_a_class_without_examples_is_named(make_real: Make) -> None:
    real = make_real(classes=("cat", "dog", "unicorn"), n=2)
    with pytest.raises(DataError, match="unicorn"):
        random_examples(real, [1, 1, 1], Seeds(0))
    assert len(random_examples(real, [1, 1, 0], Seeds(0))[1]) == 2


def test_a_result_comes_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(FACTS, "test-a", Result(accuracy=0.5, best=0.75, seconds=1.5))
    assert store.get(FACTS, lambda: "test-a") == {"accuracy": 0.5, "best": 0.75, "seconds": 1.5}
    assert store.get({**FACTS, "seed": 1}, lambda: "test-a") is None
    assert store.get(FACTS, lambda: "test-b") is None
    (kept,) = (tmp_path / "scores").iterdir()
    assert json.loads(kept.read_text())["facts"] == {**FACTS, "test": "test-a"}


def test_the_test_split_is_not_opened_where_nothing_was_trained(tmp_path: Path) -> None:
    def touched() -> str:
        raise AssertionError("the test split was opened")

    Store(tmp_path).put({**FACTS, "seed": 1}, "test-a", RESULT)
    assert Store(tmp_path).get(FACTS, touched) is None
    assert Store(tmp_path / "none").get(FACTS, touched) is None
    assert Store(None).get(FACTS, touched) is None


def test_no_folder_keeps_nothing(tmp_path: Path) -> None:
    Store(None).put(FACTS, "test-a", RESULT)
    assert Store(None).get(FACTS, lambda: "test-a") is None


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"accuracy": "high", "best": null, "seconds": 1}',
        b'{"accuracy": 1}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_damaged_result_is_none(tmp_path: Path, damage: bytes) -> None:
    store = Store(tmp_path)
    store.put(FACTS, "test-a", RESULT)
    (kept,) = (tmp_path / "scores").iterdir()
    kept.write_bytes(damage)
    assert store.get(FACTS, lambda: "test-a") is None
    store.put(FACTS, "test-a", RESULT)
    assert store.get(FACTS, lambda: "test-a") == RESULT


def test_content_tells_tensors_apart() -> None:
    x = torch.arange(6.0)
    values: list[tuple[Any, ...]] = [
        (x, None),
        (None, x),
        (x.reshape(2, 3), None),
        (x.double(), None),
        (x.long(), None),
        (x + 1e-6, None),
        (x, x),
    ]
    assert len({content(*v) for v in values}) == len(values)
    assert content(x, None) == content(x.clone(), None)


def test_circumstances_follow_threads_and_precision() -> None:
    plain = circumstances(torch.device("cpu"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert circumstances(torch.device("cpu")) != plain
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        assert circumstances(torch.device("cpu")) != plain
    finally:
        torch.set_num_threads(before)
