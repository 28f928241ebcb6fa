"""What is made depends on the training split, the settings and the seed, and on nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from verbs_kit import TINY, pictures, same

import attar
from attar.real.realset import RealSet, Splits
from attar.registry import METHODS
from attar.testing.trial import SMALL


def never() -> RealSet:
    raise AssertionError("the test split was opened")


@pytest.fixture
def blind() -> Splits:
    """Digits whose test split must not be opened."""
    splits = attar.load("digits")
    return Splits(train=splits.train, open_test=never)


@pytest.mark.parametrize("entry", METHODS, ids=lambda e: e.name)
def test_making_a_set_never_opens_the_test_split(blind: Splits, entry: attar.registry.Entry, apart: Path) -> None:
    from attar import registry

    known = {f.name for f in dataclasses.fields(registry.find(entry.name))}
    settings = {k: v for k, v in SMALL.items() if k in known}
    if entry.name == "wmdd":  # matches statistics of batch norms
        settings["net"] += ":norm=batch"
    verb = attar.distill if entry.verb == "distill" else attar.select
    kept = verb(blind, method=entry.name, ipc=1, out=apart / "set", **settings)
    assert len(kept) == 10 * kept.enlarged
    with pytest.raises(AssertionError, match="the test split was opened"):
        attar.evaluate(kept, real=blind, seeds=1, epochs=1, nets="convnet:width=8:depth=1")


def test_minutes_and_dry_runs_do_not_open_it_either(blind: Splits) -> None:
    assert len(attar.distill(blind, minutes=0.001, **TINY)) == 10
    assert attar.distill(blind, dry_run=True, **TINY)["real_rows"] == 1438


def test_another_test_split_gives_the_same_set_from_folders(apart: Path) -> None:
    for i, source in enumerate(("one", "two")):
        pictures(apart / source / "train", ("cat", "dog"), 9, seed=0)
        pictures(apart / source / "test", ("cat", "dog"), 3 + i, seed=10 + i)
    made = [attar.distill(apart / source, **TINY) for source in ("one", "two")]
    chosen = [attar.select(apart / source, method="herding", ipc=2) for source in ("one", "two")]
    assert same(*made) and same(*chosen)
    assert made[0].manifest["source"]["fingerprint"] == made[1].manifest["source"]["fingerprint"]
    assert len(attar.load(apart / "one").test) != len(attar.load(apart / "two").test)


def test_another_test_split_gives_the_same_set_from_an_archive(apart: Path) -> None:
    g = np.random.default_rng(0)
    train = {"train_images": g.integers(0, 256, (30, 8, 8), np.uint8), "train_labels": np.arange(30) % 3}
    for source, n in (("one", 6), ("two", 9)):
        test = {"test_images": g.integers(0, 256, (n, 8, 8), np.uint8), "test_labels": np.arange(n) % 3}
        np.savez(apart / f"{source}.npz", **train, **test)
    one, two = (attar.distill(apart / f"{source}.npz", **TINY) for source in ("one", "two"))
    assert same(one, two)


def test_the_seed_is_zero_and_changes_everything() -> None:
    first, again = attar.distill("digits", **TINY), attar.distill("digits", **TINY)
    assert same(first, again) and same(first, attar.distill("digits", seed=0, **TINY))
    assert first.manifest["lineage"][0]["seed"] == 0
    assert not torch.equal(first.images, attar.distill("digits", seed=1, **TINY).images)
    one, two = (attar.select("digits", method="random", ipc=2, seed=s).table["source_id"].to_pylist() for s in (0, 1))
    assert one != two


def test_the_state_of_the_global_generator_neither_matters_nor_changes() -> None:
    torch.manual_seed(7)
    before = torch.default_generator.get_state()
    first = attar.distill("digits", **TINY)
    assert torch.equal(torch.default_generator.get_state(), before)
    torch.manual_seed(8)
    assert same(first, attar.distill("digits", **TINY))


def test_several_budgets_make_what_each_would_alone() -> None:
    settings = {k: v for k, v in TINY.items() if k != "ipc"}
    both = attar.distill("digits", ipc=(1, 2), **settings)
    assert [len(c) for c in both] == [10, 20]
    assert same(both[0], attar.distill("digits", ipc=1, **settings))
    assert same(both[1], attar.distill("digits", ipc="2", **settings))


def test_the_folder_holds_what_the_call_returns(apart: Path) -> None:
    made = attar.distill("digits", out=apart / "set", **TINY)
    assert made.path == apart / "set" and same(made, attar.open(apart / "set"))
    assert same(made, attar.distill("digits", **TINY))
