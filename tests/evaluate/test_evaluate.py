"""evaluate as its callers use it, on digits."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attar.condensed import Condensed, open_condensed
from attar.errors import DataError, UsageError
from attar.evaluate import bench, presets
from attar.evaluate.evaluate import evaluate
from attar.evaluate.presets import resolve
from attar.evaluate.train import Broken, accuracy, train
from attar.nets import Net, build
from attar.real.realset import RealSet, Splits
from attar.seeds import Seeds

TINY, SMALLER = "convnet:depth=1:width=8", "convnet:depth=1:width=4"
QUICK: dict[str, Any] = {"nets": (TINY,), "seeds": 2, "epochs": 3, "protocol": "dsa", "augment": "none"}
Keep = Callable[..., Condensed]


def spied(digits: Splits, opened: Callable[[], None]) -> Splits:
    """The same splits; ``opened`` is called when the test split is."""

    def open_test() -> RealSet:
        opened()
        return digits.test

    return Splits(train=digits.train, open_test=open_test)


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds of the trainings from now on."""
    seeds: list[int] = []

    def trained(*args: Any, **settings: Any) -> Any:
        seeds.append(settings["seeds"].run)
        return train(*args, **settings)

    monkeypatch.setattr(bench, "train", trained)
    return seeds


def timeless(scores: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Scores without what they cost."""
    kept = [{k: v for k, v in s.items() if k not in ("cost", "baseline")} for s in scores]
    random = [{k: v for k, v in s["baseline"]["random"].items() if k != "cost"} for s in scores]
    return [{**s, "random": r} for s, r in zip(kept, random)]


# --- honesty -------------------------------------------------------------------------------------------------------


def test_the_test_split_is_opened_after_the_first_training(
    digits: Splits, keep: Keep, counted: Any, tmp_path: Path
) -> None:
    epochs_when_opened: list[int] = []
    splits = spied(digits, lambda: epochs_when_opened.append(counted.done))
    evaluate(keep(), splits, progress=counted, store=tmp_path, **QUICK)
    assert epochs_when_opened == [4]  # E + 1 epochs of the first network were over


def test_a_best_protocol_opens_it_earlier(digits: Splits, keep: Keep, counted: Any) -> None:
    epochs_when_opened: list[int] = []
    splits = spied(digits, lambda: epochs_when_opened.append(counted.done))
    (score,) = evaluate(keep(), splits, progress=counted, **{**QUICK, "protocol": "dsa-best"})
    assert epochs_when_opened == [1]
    assert score["best_mean"] >= score["last_mean"]
    assert score["protocol"] == "dsa-best, 3 epochs, no augmentation"


def test_looking_changes_nothing_but_the_best(digits: Splits, keep: Keep) -> None:
    (plain,) = evaluate(keep(), digits, **QUICK)
    (best,) = evaluate(keep(), digits, **{**QUICK, "protocol": "dsa-best"})
    assert best["accuracies"] == plain["accuracies"]
    assert plain["best_mean"] is None


def test_random_examples_are_redrawn_for_every_seed_and_meet_the_same_protocol(
    digits: Splits, keep: Keep, net: Net
) -> None:
    (score,) = evaluate(keep(ipc=3), digits, **QUICK)
    random, protocol = score["baseline"]["random"], resolve("dsa", digits.train, epochs=3, augment="none")
    expected = []
    for seed in range(2):
        generators = [Seeds(seed).at("random").generator(k) for k in range(10)]
        index = torch.cat(
            [m[torch.randperm(len(m), generator=g)[:3]] for m, g in zip(digits.train.classes, generators)]
        )
        images, labels = digits.train.draw(index), digits.train.labels[index]
        params = train(net, images, labels, protocol=protocol, seeds=Seeds(seed).at("evaluate"))
        expected.append(accuracy(net, params, digits.test))
    assert random["accuracies"] == expected
    assert {k: random[k] for k in ("protocol", "labels", "rows", "seeds")} == {
        "protocol": score["protocol"],
        "labels": "hard",
        "rows": 30,
        "seeds": 2,
    }


def test_random_examples_have_the_counts_of_an_unbalanced_set(digits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    from attar.condensed import condense
    from attar.evaluate import lessons
    from attar.method import Rows

    real = digits.train
    picked = torch.cat([real.classes[0][:5], real.classes[7][:1]])
    kept = condense(Rows(picked=picked), real, kind="subset", lineage=[{"verb": "select", "method": "random"}])
    asked: list[list[int]] = []
    draw = lessons.random_examples
    monkeypatch.setattr(
        lessons, "random_examples", lambda r, counts, seeds: asked.append(counts) or draw(r, counts, seeds)
    )
    evaluate(kept, digits, **QUICK)
    assert asked == [[5, 0, 0, 0, 0, 0, 0, 1, 0, 0]] * 2


# --- what comes out ------------------------------------------------------------------------------------------------


def test_a_subset_has_one_score_for_a_network(digits: Splits, keep: Keep) -> None:
    scores = evaluate(keep(), digits, **{**QUICK, "nets": (TINY, SMALLER)})
    assert [(s["network"], s["images"]) for s in scores] == [(TINY, "exact"), (SMALLER, "exact")]
    assert scores[0]["bytes"] == 20 * 64 + 20  # pixels, and a byte for a label


def test_a_synthetic_set_is_scored_as_stored_and_as_8_bit_pictures(digits: Splits, keep: Keep, net: Net) -> None:
    kept = keep(kind="synthetic", noise=2.0)
    exact, rounded = evaluate(kept, digits, **QUICK)
    assert [exact["images"], rounded["images"]] == ["exact", "8-bit"]
    assert [exact["bytes"], rounded["bytes"]] == [20 * 64 * 4 + 20, 20 * 64 + 20]
    assert exact["baseline"] == rounded["baseline"]
    protocol = resolve("dsa", digits.train, epochs=3, augment="none")
    for score, images in ((exact, kept.images), (rounded, kept.images8)):
        params = [train(net, images, kept.labels, protocol=protocol, seeds=Seeds(s).at("evaluate")) for s in range(2)]
        assert score["accuracies"] == [accuracy(net, p, digits.test) for p in params]
    assert exact["accuracies"] != rounded["accuracies"]
    assert [s["images"] for s in evaluate(kept, digits, eight_bit=False, **QUICK)] == ["exact"]


def test_beside_decoded_images_stand_as_many_random_examples_as_are_stored(digits: Splits, keep: Keep) -> None:
    kept = keep(ipc=4, kind="synthetic")
    kept.exact["stored"] = kept.images[::4]  # ten images, each of which is decoded to four
    assert kept.enlarged == 4 and keep().enlarged == 1
    exact, rounded = evaluate(kept, digits, **QUICK)
    assert exact["rows"] == 40 and exact["baseline"]["random"]["rows"] == 10
    assert [exact["bytes"], rounded["bytes"]] == [10 * 64 * 4 + 10, 10 * 64 + 10]


def test_the_schema_of_a_score(digits: Splits, keep: Keep, tmp_path: Path) -> None:
    kept = keep(kind="synthetic")
    scores = evaluate(kept, digits, first_seed=5, **QUICK)
    for score in json.loads(json.dumps(scores, allow_nan=False)):
        assert (score["protocol"], score["network"], score["labels"]) == (
            "dsa, 3 epochs, no augmentation",
            TINY,
            "hard",
        )
        assert (score["augment"], score["epochs"], score["lr"]) == ("none", 3, 0.01)
        assert (score["seeds"], score["first_seed"], score["rows"], score["best_mean"]) == (2, 5, 20, None)
        assert score["test"] == {"name": digits.test.name, "rows": 359, "fingerprint": digits.test.fingerprint}
        assert score["cost"]["train_seconds"] > 0 and score["cost"]["updates"] == 4
        for measured in (score, score["baseline"]["random"]):
            assert len(measured["accuracies"]) == 2
            assert all(0 <= a <= 1 for a in [*measured["accuracies"], *measured["interval"]])
            assert measured["interval"][0] <= measured["last_mean"] <= measured["interval"][1]
    kept.scored(scores).save(tmp_path / "kept")
    assert open_condensed(tmp_path / "kept").manifest["scores"] == scores


def test_another_first_seed_gives_other_networks(digits: Splits, keep: Keep) -> None:
    (three,) = evaluate(keep(), digits, **{**QUICK, "seeds": 3})
    (last,) = evaluate(keep(), digits, first_seed=2, **{**QUICK, "seeds": 1})
    assert last["accuracies"] == three["accuracies"][2:]
    assert len(set(three["accuracies"])) > 1
    assert last["interval"] is None and last["last_std"] == 0


def test_all_real_examples_as_a_baseline(digits: Splits, keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "FULL_EPOCHS", 20)
    (score,) = evaluate(keep(), digits, random=False, full=True, **QUICK)
    assert set(score["baseline"]) == {"full"}
    full = score["baseline"]["full"]
    assert (full["protocol"], full["rows"], full["seeds"]) == ("full", len(digits.train), 1)
    assert full["last_mean"] > 0.8 > score["last_mean"]


def test_progress_has_one_bar_for_all_networks(digits: Splits, keep: Keep, counted: Any) -> None:
    evaluate(keep(kind="synthetic"), digits, progress=counted, **QUICK)
    evaluate(keep(), digits, progress=counted, random=False, **QUICK)
    evaluate(keep(), digits, progress=counted, random=False, **{**QUICK, "nets": (TINY, SMALLER)})
    assert counted.labels == [f"{TINY}, 6 networks", f"{TINY}, exact images", "4 networks"]
    assert counted.totals == [24, 8, 16] and counted.done == 48 and counted.stopped == 3


def test_the_largest_networks_are_trained_first(digits: Splits, keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the other processes of a crew do not wait for them at its end; scores stand in the order that was asked for."""
    trained: list[str] = []
    monkeypatch.setattr(bench, "train", lambda net, *a, **k: trained.append(net.name) or train(net, *a, **k))
    scores = evaluate(keep(), digits, **{**QUICK, "nets": (SMALLER, TINY)})
    assert trained == [TINY] * 4 + [SMALLER] * 4
    assert [s["network"] for s in scores] == [SMALLER, TINY]
    for score in scores:
        (alone,) = evaluate(keep(), digits, **{**QUICK, "nets": (score["network"],)})
        assert timeless([alone]) == timeless([score])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_training_that_breaks_is_told_in_its_place_and_the_others_go_on(
    digits: Splits, keep: Keep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, workers: int
) -> None:
    whole = evaluate(keep(), digits, random=False, **{**QUICK, "nets": (TINY, SMALLER)})

    def breaking(net: Net, images: Any, labels: Any, *, seeds: Seeds, **how: Any) -> Any:
        if net.name == TINY and seeds == Seeds(1).at("evaluate"):
            raise Broken("the loss became NaN")
        return train(net, images, labels, seeds=seeds, **how)

    monkeypatch.setattr(bench, "train", breaking)
    how: dict[str, Any] = {**QUICK, "nets": (TINY, SMALLER), "workers": workers}
    broken, other = evaluate(keep(), digits, random=False, keep_going=True, store=tmp_path, **how)
    assert broken["broken"] == "the loss became NaN" and "accuracies" not in broken
    assert other["accuracies"] == whole[1]["accuracies"]
    assert len(list((tmp_path / "scores").iterdir())) == 3
    with pytest.raises(Broken, match="became NaN"):
        evaluate(keep(), digits, random=False, **how)
    with pytest.raises(Broken, match="became NaN"):  # of the random examples, with which the set could not be compared
        evaluate(keep(), digits, keep_going=True, **how)


def test_the_same_call_gives_the_same_scores(digits: Splits, keep: Keep) -> None:
    torch.manual_seed(1)
    first = evaluate(keep(), digits, **{**QUICK, "augment": "auto"})
    torch.manual_seed(2)
    second = evaluate(keep(), digits, **{**QUICK, "augment": "auto"})
    assert timeless(first) == timeless(second)


# --- the recipe ----------------------------------------------------------------------------------------------------


def test_the_recipe_chooses_where_the_caller_does_not(digits: Splits, keep: Keep) -> None:
    kept = keep(protocol="dsa", epochs=2, augment="crop", lr=0.02)
    (score,) = evaluate(kept, digits, nets=(TINY,), seeds=1)
    assert (score["epochs"], score["augment"], score["lr"]) == (2, "dsa:crop", 0.02)
    assert score["protocol"] == "dsa, 2 epochs, augment dsa:crop, learning rate 0.02"
    random = score["baseline"]["random"]
    assert (random["lr"], random["protocol"]) == (0.01, "dsa, 2 epochs, augment dsa:crop")
    (score,) = evaluate(kept, digits, nets=(TINY,), seeds=1, epochs=1, augment="none")
    assert (score["epochs"], score["augment"], score["lr"]) == (1, "none", 0.02)


def test_a_named_protocol_replaces_that_of_the_recipe(digits: Splits, keep: Keep) -> None:
    kept = keep(protocol="dsa", epochs=2, augment="crop")
    (score,) = evaluate(kept, digits, nets=(TINY,), seeds=1, epochs=1, random=False, protocol="dc")
    assert (score["protocol"], score["augment"]) == ("dc, 1 epoch", "dc:crop_scale_rotate")


def test_weights_count_where_the_recipe_says_so(digits: Splits, keep: Keep, net: Net) -> None:
    plain, weighted = keep(weighted=False), keep(weighted=True)
    assert torch.equal(plain.weight, weighted.weight) and len(plain.weight.unique()) > 1
    protocol = resolve("dsa", digits.train, epochs=3, augment="none")
    for kept, weight in ((plain, None), (weighted, weighted.weight)):
        (score,) = evaluate(kept, digits, random=False, **QUICK)
        params = [
            train(net, kept.images, kept.labels, protocol=protocol, seeds=Seeds(s).at("evaluate"), weight=weight)
            for s in range(2)
        ]
        assert score["accuracies"] == [accuracy(net, p, digits.test) for p in params]


def test_soft_labels_are_scored_with_hard_ones_beside(digits: Splits, keep: Keep) -> None:
    soft = torch.rand(20, 10, generator=torch.Generator().manual_seed(0)).softmax(1)
    kept = keep(kind="synthetic", extra={"soft_label": soft}, labels="soft")
    scores = evaluate(kept, digits, eight_bit=False, **QUICK)
    assert [s["labels"] for s in scores] == ["hard", "soft"]
    assert scores[0]["accuracies"] != scores[1]["accuracies"]
    assert scores[1]["bytes"] - scores[0]["bytes"] == 20 * 10 * 4 - 20
    assert all(s["baseline"]["random"]["labels"] == "hard" for s in scores)
    assert len(kept.scored(scores).manifest["scores"]) == 2


def test_a_teacher_that_is_named_answers_for_random_examples_beside_soft_labels(
    digits: Splits, keep: Keep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    monkeypatch.setattr(presets, "FULL_EPOCHS", 1)
    soft = torch.rand(20, 10, generator=torch.Generator().manual_seed(0)).softmax(1)
    kept = keep(kind="synthetic", extra={"soft_label": soft}, labels="soft")
    scores = evaluate(kept, digits, eight_bit=False, teacher=TINY, **QUICK)
    assert [s["labels"] for s in scores] == [s["baseline"]["random"]["labels"] for s in scores] == ["hard", "soft"]
    assert len({tuple(s["baseline"]["random"]["accuracies"]) for s in scores}) == 2
    with pytest.raises(UsageError, match="'dsa' has no teacher"):
        evaluate(kept, digits, random=False, teacher=TINY, **QUICK)


@pytest.mark.parametrize("soft", [None, torch.ones(20, 9) / 9, torch.ones(20, 10), -torch.ones(20, 10) / 10])
def test_soft_labels_that_are_no_distributions_are_refused(
    digits: Splits, keep: Keep, soft: torch.Tensor | None
) -> None:
    kept = keep(kind="synthetic", extra={} if soft is None else {"soft_label": soft}, labels="soft")
    with pytest.raises(DataError, match="soft labels"):
        evaluate(kept, digits, **QUICK)


# --- the store -----------------------------------------------------------------------------------------------------


def test_an_interrupted_evaluation_goes_on_where_it_was(
    digits: Splits, keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: Any
) -> None:
    kept = keep(kind="synthetic", noise=1.0)
    whole = evaluate(kept, digits, **QUICK)
    calls = 0

    def stopped(*args: Any, **settings: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return train(*args, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(bench, "train", stopped)
        with pytest.raises(KeyboardInterrupt):
            evaluate(kept, digits, store=tmp_path, **QUICK)
    seeds = counting(monkeypatch)
    found = evaluate(kept, digits, store=tmp_path, progress=counted, **QUICK)
    assert seeds == [1, 0, 1]  # the second network of the 8-bit pictures, and two on random examples
    assert counted.done == sum(counted.totals)  # what was done before counts as done
    assert timeless(found) == timeless(whole)


def test_methods_share_their_baselines(
    digits: Splits, keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = counting(monkeypatch)
    one = evaluate(keep(), digits, store=tmp_path, **QUICK)
    assert len(seeds) == 4
    other = evaluate(keep(kind="synthetic", noise=1.0), digits, store=tmp_path, eight_bit=False, **QUICK)
    assert len(seeds) == 6
    assert one[0]["baseline"]["random"] == other[0]["baseline"]["random"]
    evaluate(keep(), digits, store=tmp_path, **{**QUICK, "epochs": 4})
    evaluate(keep(ipc=3), digits, store=tmp_path, **QUICK)
    assert len(seeds) == 14
    other_test = Splits(train=digits.train, open_test=lambda: digits.test.subset(torch.arange(50)))
    (score,) = evaluate(keep(), other_test, store=tmp_path, **QUICK)
    assert len(seeds) == 18 and score["test"]["rows"] == 50


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_networks_trained_beside_each_other_score_as_those_one_after_the_other(
    digits: Splits, keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits; what is kept is found, also where one network of a crew is left."""
    kept, how = keep(), {**QUICK, "seeds": 3}
    alone = evaluate(kept, digits, **how)
    seeds = counting(monkeypatch)
    beside = evaluate(kept, digits, store=tmp_path, workers=2, **how)
    assert timeless(beside) == timeless(alone) and not seeds  # no network was trained in this process
    files = sorted((tmp_path / "scores").iterdir())
    assert len(files) == 6
    files[0].unlink()
    again = evaluate(kept, digits, store=tmp_path, workers=2, **how)
    assert timeless(again) == timeless(alone) and len(seeds) == 1
    assert sorted((tmp_path / "scores").iterdir()) == files


def test_a_users_own_network_is_trained_every_time(
    digits: Splits, keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code can change under the same name."""
    seeds = counting(monkeypatch)

    class Mine(torch.nn.Sequential):
        def __init__(self, channels: int, size: tuple[int, int], classes: int) -> None:
            super().__init__(torch.nn.Flatten(), torch.nn.Linear(channels * size[0] * size[1], classes))

    (one,), (two,) = (
        evaluate(keep(), digits, store=tmp_path, random=False, **{**QUICK, "nets": (Mine,)}) for _ in range(2)
    )
    assert len(seeds) == 4 and "Mine" in one["network"]
    assert one["accuracies"] == two["accuracies"]


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "classes", "said"),
    [
        ((3, 8, 8), 10, "1 x 8 x 8.*3 x 8 x 8"),
        ((1, 28, 28), 10, "1 x 8 x 8.*1 x 28 x 28"),
        ((1, 8, 8), 3, r"10 classes \(0, 1, 2, \.\.\.\).*3 classes"),
    ],
)
def test_real_data_of_another_form_are_refused_with_both_named(
    digits: Splits, keep: Keep, make_real: Callable[..., RealSet], shape: tuple[int, int, int], classes: int, said: str
) -> None:
    other = make_real(name="other", shape=shape, classes=tuple(f"c{k}" for k in range(classes)))

    def never() -> RealSet:
        raise AssertionError("the test split was opened")

    with pytest.raises(DataError, match=said) as caught:
        evaluate(keep(), Splits(train=other, open_test=never), **QUICK)
    assert "'other'" in str(caught.value) and "digits" in str(caught.value)


def test_classes_of_other_names_are_refused(digits: Splits, keep: Keep) -> None:
    other = dataclasses.replace(digits.train, class_names=tuple("9876543210"))
    with pytest.raises(DataError, match=r"classes \(0, 1, 2.*classes \(9, 8, 7"):
        evaluate(keep(), Splits(train=other, open_test=lambda: digits.test), **QUICK)


def test_real_data_of_another_normalisation_are_scored_in_the_space_of_the_set(digits: Splits, keep: Keep) -> None:
    moved = Splits(train=dataclasses.replace(digits.train, mean=(0.9,), std=(0.1,)), open_test=lambda: digits.test)
    (expected,), (found,) = evaluate(keep(), digits, **QUICK), evaluate(keep(), moved, **QUICK)
    assert found["accuracies"] == expected["accuracies"]
    assert found["baseline"]["random"]["accuracies"] == expected["baseline"]["random"]["accuracies"]


def test_an_empty_test_split_is_named(digits: Splits, keep: Keep) -> None:
    empty = Splits(train=digits.train, open_test=lambda: digits.test.subset(torch.arange(0)))
    with pytest.raises(DataError, match=r"test split.*is empty"):
        evaluate(keep(), empty, **QUICK)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"seeds": 0}, "seeds=0"),
        ({"protocol": "das"}, "'dsa'"),
        ({"nets": ("convent",)}, "convnet"),
        ({"nets": (TINY, "convent")}, "convnet"),
        ({"epochs": -1}, "epochs=-1"),
    ],
)
def test_wrong_settings_are_named_before_any_training(
    digits: Splits, keep: Keep, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], said: str
) -> None:
    monkeypatch.delattr(bench, "train")
    with pytest.raises(UsageError, match=said):
        evaluate(keep(), digits, **{**QUICK, **settings})


def test_the_default_network_is_that_of_the_field(digits: Splits, keep: Keep) -> None:
    (score,) = evaluate(keep(ipc=1), digits, seeds=1, epochs=1, random=False)
    assert score["network"] == build("convnet", channels=1, size=(8, 8), classes=10).name == "convnet"
    assert score["protocol"] == "dc, 1 epoch"
