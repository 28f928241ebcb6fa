"""dd-ranking on digits: what comes out, who chooses on what, and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attar.condensed import Condensed, condense, open_condensed
from attar.errors import DataError, UsageError
from attar.evaluate import arms, bench, presets
from attar.evaluate.arms import GRID, parted
from attar.evaluate.ranking import ranking
from attar.evaluate.robust import augmentation_robust_score, label_robust_score
from attar.evaluate.train import Broken, train
from attar.method import Rows
from attar.real.realset import RealSet, Splits

TINY = "convnet:depth=1:width=8"
QUICK: dict[str, Any] = {"nets": (TINY,), "seeds": 2, "epochs": 2}
FOUR = ["set_augmented", "random_augmented", "set_plain", "random_plain"]
Keep = Callable[..., Condensed]


@pytest.fixture(autouse=True)
def short_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Training on all real examples stops after an epoch; teachers are kept in a folder of the test's own."""
    monkeypatch.setattr(presets, "FULL_EPOCHS", 1)
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))


def spied(digits: Splits, opened: Callable[[], None]) -> Splits:
    """The same splits; ``opened`` is called when the test split is."""

    def open_test() -> RealSet:
        opened()
        return digits.test

    return Splits(train=digits.train, open_test=open_test)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Settings and images of every training."""
    seen: list[dict[str, Any]] = []

    def trained(net: Any, images: Any, labels: Any, **settings: Any) -> Any:
        seen.append({"images": images, "labels": labels, **settings})
        return train(net, images, labels, **settings)

    monkeypatch.setattr(bench, "train", trained)
    return seen


def test_rates_are_chosen_before_the_test_split_is_opened(digits: Splits, keep: Keep, trainings: list[Any]) -> None:
    at: list[int] = []
    splits = spied(digits, lambda: at.append(len(trainings)))
    ranking(keep(kind="synthetic"), splits, protocol="dsa", **QUICK)
    assert at == [4 * len(GRID) + 1]  # every arm tried every rate, and the first network for the test split is trained
    tried = [t["protocol"].lr for t in trainings[: 4 * len(GRID)]]
    assert tried == list(GRID) * 4  # both sides the same rates
    assert len(trainings) == 4 * len(GRID) + 4 * 2 + 1  # then two seeds of each arm, and all real examples


def test_both_sides_choose_on_held_out_training_rows(
    digits: Splits, keep: Keep, trainings: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[RealSet] = []
    accuracy = bench.accuracy
    monkeypatch.setattr(bench, "accuracy", lambda n, p, test: scored.append(test) or accuracy(n, p, test))
    kept = keep()
    ranking(kept, digits, protocol="dsa", **QUICK)
    rest, held = parted(digits.train, kept)
    assert {t.fingerprint for t in scored[: 4 * len(GRID)]} == {held.fingerprint}
    assert {t.fingerprint for t in scored[4 * len(GRID) :]} == {digits.test.fingerprint}
    everything = held.draw(torch.arange(len(held))).flatten(1)
    taught = torch.cat([t["images"].flatten(1) for t in trainings if isinstance(t["images"], torch.Tensor)])
    twice = digits.train.draw(torch.arange(len(digits.train))).flatten(1)
    for image in taught[::7]:
        if int((twice == image).all(1).sum()) == 1:  # some digits are alike to the pixel
            assert not (everything == image).all(1).any()
    assert len(rest) + len(held) == len(digits.train)


def test_a_tenth_of_every_class_is_held_out_and_none_of_the_kept(digits: Splits, keep: Keep) -> None:
    kept = keep(ipc=40)
    rest, held = parted(digits.train, kept)
    mine = set(kept.table["source_id"].to_pylist())
    assert not mine & set(held.ids.tolist())
    assert set(held.ids.tolist()) | set(rest.ids.tolist()) == set(digits.train.ids.tolist())
    assert all(8 <= n <= 12 for n in held.sizes)
    assert torch.equal(held.ids, parted(digits.train, kept)[1].ids)


def test_what_comes_out(digits: Splits, keep: Keep, tmp_path: Path) -> None:
    kept = keep(kind="synthetic", noise=0.5)
    (score,) = ranking(kept, digits, protocol="dsa", first_seed=3, w=0.3, gamma=0.6, **QUICK)
    score = json.loads(json.dumps(score, allow_nan=False))
    found, a = score["ranking"], score["ranking"]["accuracies"]
    assert (score["protocol"], score["network"], score["images"]) == ("dd-ranking, dsa, 2 epochs", TINY, "exact")
    assert (score["labels"], score["seeds"], score["first_seed"], score["rows"]) == ("hard", 2, 3, 20)
    assert set(score["baseline"]) == {"random", "full"}
    assert score["lr"] == found["rates"]["set_augmented"] and set(found["rates"]) == set(FOUR)
    assert score["last_mean"] == a["set_augmented"] == a["set_own"] == a["set_hard"]
    assert score["baseline"]["random"]["last_mean"] == a["random_augmented"] == a["random_own"]
    assert score["baseline"]["full"]["last_mean"] == a["full_hard"]
    label = {k: a[k] for k in ("full_hard", "set_hard", "set_own", "random_own")}
    assert found["label_robust"]["score"] == pytest.approx(label_robust_score(**label, w=0.3))
    assert found["augmentation_robust"]["score"] == pytest.approx(
        augmentation_robust_score(**{k: a[k] for k in FOUR}, gamma=0.6)
    )
    assert (found["label_robust"]["w"], found["augmentation_robust"]["gamma"]) == (0.3, 0.6)
    for part in ("label_robust", "augmentation_robust"):
        low, high = found[part]["interval"]
        assert 0 <= low <= high <= 1
    assert found["validation"]["grid"] == list(GRID)
    for name, tried in found["validation"]["accuracies"].items():
        assert len(tried) == 5 and found["rates"][name] == GRID[tried.index(max(tried))]
    kept.scored([score]).save(tmp_path / "kept")
    assert open_condensed(tmp_path / "kept").manifest["scores"] == [score]


def test_beside_decoded_images_stand_as_many_random_ones_as_are_stored(digits: Splits, keep: Keep) -> None:
    kept = keep(ipc=4, kind="synthetic")
    kept.exact["stored"] = kept.images[::4]  # ten images, each of which is decoded to four
    (score,) = ranking(kept, digits, protocol="dsa", augment="none", **{**QUICK, "seeds": 1})
    assert (score["rows"], score["baseline"]["random"]["rows"]) == (40, 10)


def test_a_protocol_without_augmentation_is_compared_with_the_siamese_one(
    digits: Splits, keep: Keep, trainings: list[Any]
) -> None:
    (score,) = ranking(keep(), digits, protocol="dsa", augment="none", **{**QUICK, "seeds": 1})
    augments = [t["protocol"].augment for t in trainings[: 4 * len(GRID) : len(GRID)]]
    assert augments == ["dsa:color_crop_cutout_scale_rotate"] * 2 + ["none"] * 2
    a = score["ranking"]["accuracies"]
    assert score["augment"] == "none" and a["set_own"] == a["set_plain"] and a["random_own"] == a["random_plain"]
    assert score["ranking"]["label_robust"]["interval"] is None  # one seed


def test_cutmix_belongs_to_the_augmentation_and_nobody_looks_at_the_test_set(
    digits: Splits, keep: Keep, trainings: list[Any]
) -> None:
    (score,) = ranking(keep(), digits, protocol="idc", **{**QUICK, "seeds": 1})
    plans = [t["protocol"] for t in trainings[:-1]]
    assert {(p.augment != "none", p.cutmix) for p in plans} == {(True, 0.5), (False, 0.0)}
    assert all(p.select == "last" for p in plans) and score["best_mean"] is None


def test_soft_labels_meet_random_examples_with_a_teachers(digits: Splits, keep: Keep, trainings: list[Any]) -> None:
    soft = torch.rand(20, 10, generator=torch.Generator().manual_seed(0)).softmax(1)
    kept = keep(kind="synthetic", extra={"soft_label": soft}, labels="soft")
    (score,) = ranking(kept, digits, protocol="dsa", augment="none", **{**QUICK, "seeds": 1})
    assert set(score["ranking"]["rates"]) == {*FOUR, "set_hard"}
    assert score["labels"] == score["baseline"]["random"]["labels"] == "soft"
    a = score["ranking"]["accuracies"]
    assert a["set_own"] == a["set_plain"]
    kinds = [t["labels"].is_floating_point() for t in trainings[: 5 * len(GRID) : len(GRID)]]
    assert kinds == [True, True, True, True, False]
    answers = trainings[len(GRID)]["labels"]
    assert answers.shape == (20, 10) and torch.allclose(answers.sum(1), torch.ones(20))


def test_a_protocol_with_a_teacher(digits: Splits, keep: Keep, trainings: list[Any]) -> None:
    (score,) = ranking(keep(), digits, protocol="rded", **{**QUICK, "seeds": 1})
    assert score["labels"] == score["baseline"]["random"]["labels"] == "teacher"
    assert [t["teacher"] is not None for t in trainings[: 5 * len(GRID) : len(GRID)]] == [True] * 4 + [False]
    assert "set_hard" in score["ranking"]["rates"]


def test_a_rate_at_which_a_training_breaks_is_not_chosen(
    digits: Splits, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(*args: Any, **settings: Any) -> Any:
        if settings["protocol"].lr > 0.001:
            raise Broken("it broke")
        return train(*args, **settings)

    monkeypatch.setattr(bench, "train", trained)
    monkeypatch.setattr("attar.evaluate.ranking.full_baseline", lambda *_: {"last_mean": 0.5, "accuracies": [0.5]})
    (score,) = ranking(keep(), digits, protocol="dsa", **QUICK)
    assert set(score["ranking"]["rates"].values()) == {0.001}
    assert all(tried[1:] == [0] * 4 for tried in score["ranking"]["validation"]["accuracies"].values())


def test_the_same_call_trains_nothing_twice(digits: Splits, keep: Keep, tmp_path: Path, trainings: list[Any]) -> None:
    first = ranking(keep(), digits, protocol="dsa", store=tmp_path, **QUICK)
    n = len(trainings)
    assert ranking(keep(), digits, protocol="dsa", store=tmp_path, **QUICK) == first
    assert len(trainings) == n


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"seeds": 0}, "seeds=0"),
        ({"w": 50}, "w=50"),
        ({"gamma": -1}, "gamma=-1"),
        ({"protocol": "das"}, "'dsa'"),
        ({"nets": ("convent",)}, "convnet"),
        ({"teacher": TINY}, "no teacher is asked"),
        ({"protocol": "fkd", "teacher": "convent"}, "convnet"),
    ],
)
def test_wrong_settings_are_named_before_any_training(
    digits: Splits, keep: Keep, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], said: str
) -> None:
    monkeypatch.delattr(bench, "train")
    with pytest.raises(UsageError, match=said):
        ranking(keep(), digits, **{**QUICK, **settings})


def test_a_selection_of_everything_leaves_nothing_to_choose_on(digits: Splits) -> None:
    real = digits.train
    everything = Rows(picked=torch.arange(len(real)))
    kept = condense(everything, real, kind="subset", lineage=[{"verb": "select", "method": "random"}])
    with pytest.raises(DataError, match="too few to hold some out"):
        ranking(kept, digits, protocol="dsa", **QUICK)


def test_the_grid_is_the_published_one() -> None:
    assert arms.GRID == (0.001, 0.005, 0.01, 0.05, 0.1)
