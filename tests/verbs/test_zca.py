"""A set that was made of whitened images brings its whitening along, and is scored, exported and made again with it."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from verbs_kit import pictures, same

import attar
from attar.cli.main import run
from attar.condensed import Condensed, open_condensed
from attar.errors import DataError, ResourceError, UsageError
from attar.evaluate.lessons import fitting, random_lesson
from attar.execute.plan import Plan
from attar.method import Method
from attar.real import cache
from attar.real.realset import RealSet, Splits
from attar.real.whitening import MATRIX, MEAN, Whitening
from attar.registry import METHODS, find
from attar.resources.build import identify
from attar.resources.experts import Expert
from attar.resources.zca import ZCA, whitened
from attar.testing import check_method, hooks, limits, results, traces, trial
from attar.testing.toys import toy

NET = "convnet:width=4:depth=1"
MADE: dict[str, dict[str, Any]] = {
    "dm": {"steps": 3, "batch": 4, "net": NET},
    "mtt": {"steps": 2, "experts": 2, "syn_steps": 2, "expert_epochs": 1, "max_start": 1, "net": NET},
}


@pytest.fixture
def source(apart: Path) -> Path:
    """Two classes of noise in colour, with a test split."""
    pictures(apart / "data" / "train", ("cat", "dog"), 20, seed=0)
    pictures(apart / "data" / "test", ("cat", "dog"), 6, seed=10)
    return apart / "data"


def made(source: Path, method: str, out: Path | None = None, **settings: Any) -> Condensed:
    return attar.distill(source, method=method, ipc=1, zca=True, out=out, **MADE[method], **settings)


def train_of(source: Path) -> RealSet:
    return whitened(attar.load(source)).train


@pytest.mark.parametrize("method", MADE)
def test_a_set_is_made_in_the_whitened_space_and_keeps_the_transform(source: Path, method: str, apart: Path) -> None:
    kept, real = made(source, method, apart / "set"), train_of(source)
    again = open_condensed(apart / "set")
    assert same(kept, again) and real.whitening is not None
    assert torch.equal(again.exact[MATRIX], real.whitening.matrix) and torch.equal(
        again.exact[MEAN], real.whitening.mean
    )
    space = again.manifest["preprocessing"]
    assert space["mean"] == [0.0] * 3 and space["std"] == [1.0] * 3
    assert space["whitening"] == {"kind": "zca", "epsilon": 0.1, "digest": real.whitening.digest}
    assert again.manifest["budget"]["bytes_labels"] == 2  # the matrix is no label
    assert again.manifest["budget"]["bytes_preprocessing"] == 4 * (192**2 + 192)
    assert again.manifest["budget"]["bytes_examples"] == 2 * 192 * 4
    assert again.bytes8 is not None  # pictures are shown as before the whitening
    assert torch.equal(real.pixels(again.images).mul(255).round().clamp(0, 255).to(torch.uint8), again.bytes8)
    plainly = attar.distill(source, method=method, ipc=1, **MADE[method])
    assert plainly.whitening is None and set(plainly.exact) == {"image"} | set(plainly.exact) - {MATRIX, MEAN}
    assert not torch.equal(plainly.images, again.images)


@pytest.mark.parametrize("method", MADE)
def test_it_starts_from_whitened_images_of_its_classes(source: Path, method: str) -> None:
    real, kept = train_of(source), made(source, method, lr_img=1e-9)
    some = real.draw(torch.arange(len(real))).flatten(1)
    near = torch.cdist(kept.images.flatten(1), some).argmin(1)
    assert torch.equal(real.labels[near], kept.labels)
    assert (kept.images.flatten(1) - some[near]).abs().max() < 1e-5


@pytest.mark.parametrize("method", MADE)
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    source: Path, method: str, apart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(source, method)
    kind, calls = find(method), []
    step = kind.step

    def broken(self: Method, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "step", broken)
        with pytest.raises(KeyboardInterrupt):
            made(source, method, apart / "set", save_every=0.0)
    assert list(apart.glob("set.attar-run/state-*"))
    cache.purge("resources")  # the fit is made again, to the same bits
    assert same(whole, made(source, method, apart / "set"))


@lru_cache(maxsize=32)
def white_toy(*arguments: Any, **settings: Any) -> RealSet:
    """The toy of the conformance suite, whitened."""
    real = toy(*arguments, **settings)
    return whitened(Splits(train=real, open_test=lambda: real)).train


CONTRACT = (
    "same_seed_same_bytes",
    "resume_same_bytes",
    "draw_is_pure",
    "loss_is_pure",
    "float64_agrees",
    "cost_of_memory",
    "one_row_per_class",
    "nan_is_refused",
    "artifact_opens",
)
"""The checks that the space of the images could break."""


@pytest.mark.parametrize("method", MADE)
def test_a_method_keeps_its_contract_on_whitened_images(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (hooks, limits, results, traces, trial):
        monkeypatch.setattr(module, "toy", white_toy)
    assert check_method(method, checks=CONTRACT) == list(CONTRACT) and white_toy.cache_info().currsize > 1


def test_evaluation_takes_the_stored_matrix_and_fits_none(
    source: Path, apart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = made(source, "dm", apart / "set")
    monkeypatch.setattr(ZCA, "init", lambda *_: pytest.fail("fitted again"))
    seen: list[torch.Tensor] = []
    apply = Whitening.apply
    monkeypatch.setattr(Whitening, "apply", lambda self, x: seen.append(self.matrix) or apply(self, x))
    splits = attar.load(source)
    shifted = dataclasses.replace(splits.train, mean=(0.9,) * 3, std=(7.0,) * 3)  # statistics that must not count
    for train in (splits.train, shifted):
        seen.clear()
        real = fitting(kept, train)
        assert real.space == [[0.0] * 3, [1.0] * 3, kept.manifest["preprocessing"]["whitening"]["digest"]]
        test = splits.test.normalised_as(real)
        x = test.raw(torch.arange(len(test))).flatten(1).float() / 255
        expected = (x - kept.exact[MEAN]) @ kept.exact[MATRIX]
        assert torch.allclose(test.draw(torch.arange(len(test))).flatten(1), expected, atol=1e-6)
        images, _, _ = random_lesson(real, [1, 1], 0).make()
        assert isinstance(images, torch.Tensor)  # random examples are whitened alike
        pixels = (images.flatten(1) @ torch.linalg.inv(kept.exact[MATRIX]) + kept.exact[MEAN]) * 255
        every = splits.train.raw(torch.arange(40)).flatten(1).float()
        assert torch.cdist(pixels, every).min(1).values.max() < 1
        assert seen and all(torch.equal(m, kept.exact[MATRIX]) for m in seen)
    seen.clear()
    scores = attar.evaluate(apart / "set", seeds=1, epochs=1, nets=NET)
    assert {s["images"] for s in scores} == {"exact", "8-bit"} and "random" in scores[0]["baseline"]
    assert seen and all(torch.equal(m, kept.exact[MATRIX]) for m in seen)
    again = attar.evaluate(kept, real=Splits(train=shifted, open_test=lambda: splits.test), seeds=1, epochs=1, nets=NET)
    assert [s["accuracies"] for s in again] == [s["accuracies"] for s in scores]


def test_another_matrix_gives_other_scores(source: Path, apart: Path) -> None:
    kept = made(source, "dm")
    other = dataclasses.replace(kept, exact={**kept.exact, MATRIX: kept.exact[MATRIX].flip(0)})
    real = [fitting(k, attar.load(source).train) for k in (kept, other)]
    assert real[0].space != real[1].space
    assert not torch.allclose(real[0].draw(torch.arange(3)), real[1].draw(torch.arange(3)))


@pytest.mark.parametrize("flag, made_so", [(True, False), (False, True)])
def test_a_set_is_scored_as_it_was_made(source: Path, flag: bool, made_so: bool) -> None:
    kept = attar.distill(source, method="dm", ipc=1, zca=made_so, **MADE["dm"])
    with pytest.raises(UsageError, match=r"the images of this set are (not )?whitened.* leave zca out"):
        attar.evaluate(kept, zca=flag, real=source, seeds=1, epochs=1, nets=NET)
    assert attar.evaluate(kept, zca=made_so, real=source, seeds=1, epochs=1, nets=NET, random=False, eight_bit=False)


def test_experts_of_another_preprocessing_are_never_found(source: Path, apart: Path) -> None:
    real, plainly = train_of(source), attar.load(source).train
    fewer = whitened(dataclasses.replace(attar.load(source), train=plainly.subset(torch.arange(1, 40)))).train
    assert real.whitening is not None and fewer.whitening is not None
    spaces = [plainly, real, plainly.whitened(fewer.whitening), plainly.whitened(real.whitening)]
    found = [identify(Expert(net=NET), some, 0, Plan()) for some in spaces]
    assert found[0] != found[1] != found[2] != found[0] and found[1] == found[3]
    folder = cache.root() / "resources"
    made(source, "mtt")
    one = set(folder.glob("expert-*"))
    made(source, "mtt")
    assert set(folder.glob("expert-*")) == one
    attar.distill(source, method="mtt", ipc=1, **MADE["mtt"])
    assert len(set(folder.glob("expert-*"))) >= len(one) + 2


def test_a_selection_of_whitened_images_is_whitened_in_evaluation(source: Path, apart: Path) -> None:
    kept = attar.select(source, method="herding", ipc=2, zca=True, out=apart / "kept")
    real = train_of(source)
    picked = torch.tensor([real.ids.tolist().index(i) for i in kept.table["source_id"].to_pylist()])
    assert torch.allclose(open_condensed(apart / "kept").images, real.draw(picked), atol=1e-6)
    assert kept.kind == "subset" and kept.bytes8 is not None and torch.equal(kept.bytes8, real.raw(picked))
    assert attar.evaluate(apart / "kept", seeds=1, epochs=1, nets=NET)


def test_a_folder_whose_matrix_was_exchanged_is_refused(source: Path, apart: Path) -> None:
    kept = made(source, "dm")
    wrong: list[tuple[dict[str, torch.Tensor], str]] = [
        ({**kept.exact, MATRIX: kept.exact[MATRIX] * 2}, "not the one of its preprocessing"),
        ({**kept.exact, MATRIX: kept.exact[MATRIX][:, :5]}, "but preprocessing with the whitening"),
        ({**kept.exact, MATRIX: kept.exact[MATRIX].int()}, "but preprocessing with the whitening"),
        ({k: v for k, v in kept.exact.items() if k != MEAN}, "but preprocessing with the whitening"),
        ({k: v for k, v in kept.exact.items() if k not in (MEAN, MATRIX)}, "without whitening"),
    ]
    for i, (exact, why) in enumerate(wrong):
        dataclasses.replace(kept, exact=exact).save(apart / str(i))
        with pytest.raises(DataError, match=why):
            open_condensed(apart / str(i))
    plainly = attar.distill(source, method="dm", ipc=1, **MADE["dm"])
    dataclasses.replace(plainly, exact=kept.exact).save(apart / "plain")
    with pytest.raises(DataError, match="does not hold what its manifest says"):
        open_condensed(apart / "plain")


def test_exports_say_what_the_images_are(source: Path, apart: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = made(source, "dm", apart / "set")
    for form, said in (("pt", "through (x - zca.mean) @ zca.matrix too"), ("npz", "before they were whitened (ZCA)")):
        assert run(["export", str(apart / "set"), "--to", str(apart / f"set.{form}"), "--format", form]) == 0
        assert said in capsys.readouterr().out.replace("\n", " ")
    found = torch.load(apart / "set.pt", map_location="cpu", weights_only=True)
    assert torch.equal(found["zca.matrix"], kept.exact[MATRIX]) and torch.equal(found["images"], kept.images)
    assert found["mean"].tolist() == [0.0] * 3
    assert "test images must go through the" in (apart / "set" / "README.md").read_text()


def test_an_imported_set_of_whitened_images_meets_the_whitening(source: Path, apart: Path) -> None:
    kept = made(source, "dm")
    attar.export(kept, to=apart / "set.pt", format="pt")
    how: dict[str, Any] = {"seeds": 1, "epochs": 1, "nets": NET, "protocol": "dc", "eight_bit": False}
    ours = attar.evaluate(kept, real=source, **how)
    theirs = attar.evaluate(apart / "set.pt", real=source, zca=True, **how)
    assert theirs[0]["accuracies"] == ours[0]["accuracies"]


def test_methods_that_normalise_channels_themselves_are_refused_at_once(source: Path) -> None:
    by_channel = {e.name for e in METHODS if find(e.name).by_channel}
    assert by_channel >= {"idc", "dream", "ncfm", "wmdd"}
    for name in sorted(by_channel):
        with pytest.raises(UsageError, match=f"'{name}' keeps pixels .* leave zca out"):
            attar.distill("nothing-is-here", method=name, ipc=1, zca=True)


def test_images_too_large_are_refused_before_any_is_decoded(apart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attar.verbs.read.load", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(ResourceError, match=r"84\.4 GiB.*leave zca out"):
        attar.distill("digits", ipc=1, zca=True, size=224)


def test_a_dry_run_tells_the_fit_and_makes_none(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ZCA, "init", lambda *_: pytest.fail("fitted"))
    with_it, without = (
        attar.distill(source, method="dm", ipc=1, zca=z, dry_run=True, **MADE["dm"]) for z in (True, False)
    )
    fit = ZCA().cost(attar.load(source).train)
    assert with_it["flops"] == pytest.approx(without["flops"] + fit.flops_per_step)
    assert with_it["memory_bytes"] == max(without["memory_bytes"], int(fit.memory))
    with pytest.raises(ResourceError, match=r"84\.4 GiB"):
        attar.distill("digits", ipc=1, zca=True, size=224, dry_run=True)


def test_the_command_of_a_set_and_the_toys(source: Path) -> None:
    kept = made(source, "dm")
    assert "--zca" in kept.manifest["lineage"][-1]["command"] and kept.manifest["lineage"][-1]["data"]["zca"] is True
    real = whitened(Splits(train=toy(), open_test=lambda: toy(draw=1))).train
    assert attar.distill(Splits(train=real, open_test=lambda: toy(draw=1)), ipc=1, **MADE["dm"]).whitening is not None
