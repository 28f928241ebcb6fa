"""Scores by the protocols of other papers as their callers get them, on digits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attar.condensed import Condensed, open_condensed
from attar.errors import UsageError
from attar.evaluate import bench, presets
from attar.evaluate.evaluate import evaluate
from attar.evaluate.teacher import trained
from attar.evaluate.train import accuracy
from attar.execute.plan import Plan
from attar.execute.progress import Silent
from attar.nets import Net
from attar.real.realset import RealSet, Splits

TINY = "convnet:depth=1:width=8"
QUICK: dict[str, Any] = {"nets": (TINY,), "seeds": 2, "epochs": 2}
Keep = Callable[..., Condensed]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Teachers learn for an epoch and are kept in a folder of the test's own."""
    monkeypatch.setattr(presets, "FULL_EPOCHS", 1)
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))


def spied(digits: Splits, opened: Callable[[], None]) -> Splits:
    """The same splits; ``opened`` is called when the test split is."""

    def open_test() -> RealSet:
        opened()
        return digits.test

    return Splits(train=digits.train, open_test=open_test)


def teachers(tmp_path: Path) -> list[Path]:
    """The teachers in the cache."""
    return sorted((tmp_path / "cache" / "resources").glob("network-*"))


# --- idc -----------------------------------------------------------------------------------------------------------


def test_idc_shows_the_best_beside_the_last(digits: Splits, keep: Keep, counted: Any, tmp_path: Path) -> None:
    opened: list[int] = []
    kept = keep(kind="synthetic", noise=1.0)
    splits = spied(digits, lambda: opened.append(counted.done))
    scores = evaluate(kept, splits, protocol="idc", progress=counted, **QUICK)
    assert opened == [1]  # it looks after every fourth of the epochs, as the paper does
    assert [(s["protocol"], s["images"], s["labels"]) for s in scores] == [
        ("idc, 2 epochs", "exact", "hard"),
        ("idc, 2 epochs", "8-bit", "hard"),
    ]
    for score in json.loads(json.dumps(scores, allow_nan=False)):
        random = score["baseline"]["random"]
        assert score["best_mean"] >= score["last_mean"] and random["best_mean"] >= random["last_mean"]
        assert random["protocol"] == score["protocol"]
        assert score["augment"] == "idc:color_crop_scale_rotate"
        assert score["cost"]["updates"] == 2  # one batch of 64 an epoch, and no epoch more than asked for
    kept.scored(scores).save(tmp_path / "kept")
    assert open_condensed(tmp_path / "kept").manifest["scores"] == scores


def test_idc_asks_for_images_of_a_class_and_tiles(digits: Splits, keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    resolve = presets.resolve

    def resolved(*args: Any, **settings: Any) -> Any:
        asked.append((settings["per_class"], settings["tiles"]))
        return resolve(*args, **settings)

    monkeypatch.setattr("attar.evaluate.evaluate.resolve", resolved)
    evaluate(keep(ipc=3), digits, protocol="idc", random=False, **QUICK)
    assert set(asked) == {(3, 1)}
    asked.clear()
    evaluate(keep(ipc=4, tiles=2), digits, protocol="idc", random=False, **QUICK)
    assert set(asked) == {(4, 2)}


# --- teachers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["fkd", "rded"])
def test_hard_labels_stand_beside_the_teachers_and_random_examples_have_the_same(
    digits: Splits, keep: Keep, tmp_path: Path, protocol: str
) -> None:
    kept = keep(kind="synthetic", noise=1.0)
    scores = evaluate(kept, digits, protocol=protocol, **QUICK)
    ways = [("exact", "hard"), ("exact", "teacher"), ("8-bit", "hard"), ("8-bit", "teacher")]
    assert [(s["images"], s["labels"]) for s in scores] == ways
    for score in json.loads(json.dumps(scores, allow_nan=False)):
        random = score["baseline"]["random"]
        assert (score["protocol"], random["protocol"]) == (f"{protocol}, 2 epochs",) * 2
        assert random["labels"] == score["labels"] and len(random["accuracies"]) == 2
        assert score["lr"] == 0.001
        assert (score["best_mean"] is None) == (protocol == "fkd")
    assert scores[0]["baseline"]["random"]["accuracies"] != scores[1]["baseline"]["random"]["accuracies"]
    weights = sum(v.numel() * v.element_size() for v in _guide(digits).params.values())
    assert scores[1]["bytes"] - scores[0]["bytes"] == weights  # what has to be kept to give these labels
    assert len(teachers(tmp_path)) == 1
    kept.scored(scores).save(tmp_path / "kept")
    assert open_condensed(tmp_path / "kept").manifest["scores"] == scores


def _guide(digits: Splits) -> Any:
    return trained(TINY, digits.train, plan=Plan(), progress=Silent())


def test_the_test_split_is_opened_after_teacher_and_first_student(digits: Splits, keep: Keep, counted: Any) -> None:
    opened: list[list[str]] = []
    splits = spied(digits, lambda: opened.append(list(counted.labels)))
    evaluate(keep(), splits, protocol="rded", progress=counted, **QUICK)
    assert opened == [["network", f"{TINY}, 8 networks"]]


def test_a_teacher_has_learned_from_the_training_split_alone(digits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "FULL_EPOCHS", 30)
    teacher = _guide(digits)
    assert teacher.identity["data"] == digits.train.fingerprint
    assert accuracy(teacher.net, teacher.params, digits.test) > 0.8
    x = digits.test.draw(torch.arange(40))
    cool, warm = teacher(x, 1.0), teacher(x, 20.0)
    expected = (teacher.net(teacher.params, x, train=False) / 20).softmax(1)
    torch.testing.assert_close(warm, expected)
    assert bool((warm.max(1).values < cool.max(1).values).all())


def test_a_teacher_is_made_once_and_another_is_another(
    digits: Splits, keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {**QUICK, "protocol": "fkd", "random": False, "store": tmp_path / "store", "seeds": 1}
    (_, own) = evaluate(keep(), digits, **how)
    before = [p.stat().st_mtime_ns for p in teachers(tmp_path)]
    evaluate(keep(ipc=3), digits, **how)
    assert [p.stat().st_mtime_ns for p in teachers(tmp_path)] == before
    asked: list[Any] = []
    train = bench.train
    monkeypatch.setattr(bench, "train", lambda *a, **k: asked.append(k["teacher"].net.name) or train(*a, **k))
    hard, other = evaluate(keep(), digits, teacher="mlp:width=8", **how)
    assert asked == [
        "mlp:width=8"
    ]  # what hard labels gave is kept, and what another teacher gave is not taken for its own
    assert len(teachers(tmp_path)) == 2
    assert other["bytes"] != own["bytes"]
    monkeypatch.delattr(bench, "train")  # everything is kept, by teacher
    assert evaluate(keep(), digits, teacher="mlp:width=8", **how) == [hard, other]
    assert evaluate(keep(), digits, **how)[1] == own


def test_a_teacher_of_other_epochs_is_another_and_the_protocol_tells_it(
    digits: Splits, keep: Keep, tmp_path: Path
) -> None:
    how = {**QUICK, "protocol": "fkd", "random": False, "seeds": 1}
    kept = keep()
    scores = evaluate(kept, digits, **how) + evaluate(kept, digits, teacher_epochs=3, **how)
    scores += evaluate(kept, digits, teacher="mlp:width=8", teacher_epochs=1, **how)
    assert [s["protocol"] for s in scores[1::2]] == [
        "fkd, 2 epochs",
        "fkd, 2 epochs, teacher of 3 epochs",
        "fkd, 2 epochs, teacher mlp:width=8 of 1 epoch",
    ]
    made = [json.loads((folder / "facts.json").read_text())["identity"]["settings"] for folder in teachers(tmp_path)]
    assert sorted((m["net"], m["epochs"]) for m in made) == [(TINY, 1), (TINY, 3), ("mlp:width=8", 1)]
    assert len(kept.scored(scores).manifest["scores"]) == 6  # none takes another's place


def test_a_recipe_chooses_the_patches(digits: Splits, keep: Keep) -> None:
    (hard, soft) = evaluate(keep(patches=2), digits, protocol="rded", random=False, **QUICK)
    assert hard["augment"] == soft["augment"] == "rrc:0.5_patches2"


def test_a_learned_rate_of_sgd_is_not_given_to_adamw(digits: Splits, keep: Keep) -> None:
    for protocol, rate in (("fkd", 0.001), ("idc", 0.03)):
        assert evaluate(keep(lr=0.03), digits, protocol=protocol, random=False, **QUICK)[0]["lr"] == rate


def test_soft_labels_of_the_set_give_way_to_the_teachers(digits: Splits, keep: Keep) -> None:
    soft = torch.rand(20, 10, generator=torch.Generator().manual_seed(0)).softmax(1)
    kept = keep(kind="synthetic", extra={"soft_label": soft}, labels="soft")
    scores = evaluate(kept, digits, protocol="fkd", eight_bit=False, random=False, **QUICK)
    assert [s["labels"] for s in scores] == ["hard", "teacher"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"protocol": "dsa", "teacher": TINY}, "'dsa' has no teacher"),
        ({"protocol": "dsa", "teacher_epochs": 5}, "'dsa' has no teacher"),
        ({"protocol": "rded", "teacher": "convent"}, "did you mean 'convnet'"),
        ({"protocol": "rded", "teacher_epochs": 0}, "teacher_epochs=0 must be a whole number of at least 1"),
        ({"protocol": "rded", "teacher_epochs": True}, "teacher_epochs=True must be"),
    ],
)
def test_wrong_teachers_are_named_before_any_training(
    digits: Splits, keep: Keep, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], said: str
) -> None:
    monkeypatch.delattr(bench, "train")
    with pytest.raises(UsageError, match=said):
        evaluate(keep(), digits, **{**QUICK, **settings})


def test_a_users_own_network_needs_a_teacher_by_name(digits: Splits, keep: Keep) -> None:
    class Mine(torch.nn.Sequential):
        def __init__(self, channels: int, size: tuple[int, int], classes: int) -> None:
            super().__init__(torch.nn.Flatten(), torch.nn.Linear(channels * size[0] * size[1], classes))

    how = {**QUICK, "nets": (TINY, Mine), "random": False, "protocol": "fkd"}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UsageError, match="teacher is kept under the name"):
        patch.delattr(bench, "train")  # said before the first of the two networks is trained
        evaluate(keep(), digits, **how)
    assert len(evaluate(keep(), digits, teacher=TINY, **how)) == 4


def test_the_set_and_random_examples_have_the_same_answers(digits: Splits, keep: Keep, net: Net) -> None:
    """The teacher that labels the one labels the other."""
    seen: list[Any] = []
    train = bench.train

    def watched(*args: Any, **settings: Any) -> Any:
        seen.append(settings["teacher"])
        return train(*args, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "train", watched)
        evaluate(keep(), digits, protocol="rded", **{**QUICK, "seeds": 1})
    hard, taught, random_hard, random_taught = seen
    assert hard is random_hard is None
    assert taught is random_taught is not None
