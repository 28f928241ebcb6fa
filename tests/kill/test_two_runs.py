"""Two processes at one place at the same time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from trials import Bench, kept, stale
from zygote import STOPPED, Trap, Zygote


@pytest.mark.parametrize("at", [("write", "lock"), ("rename", "state-"), ("rename", "set")])
def test_a_second_run_is_refused_and_the_first_goes_on(
    dm: Bench, zygote: Zygote, home: Path, at: tuple[str, str]
) -> None:
    first = zygote.start("distilled", home, trap=Trap((1,), "stop", at), **dm.writer.settings)
    assert first.wait() == STOPPED
    for settings in (dm.writer.settings, {**dm.writer.settings, "steps": 3}):
        second = zygote.run("distilled", home, **settings)
        assert second.ended == 4
        assert f"{home}/set is in use by another run (process {first.pid})" in second.said or at[1] == "lock"
    first.go_on()
    assert first.finished() == 0
    assert kept(home) == dm.reference and stale(home) == []


def test_a_second_evaluation_is_refused_and_the_first_goes_on(
    bench: Callable[..., Bench], zygote: Zygote, home: Path
) -> None:
    assert zygote.run("with_set", home).ended == 0
    first = zygote.start("scored", home, seeds=1, random=False, trap=Trap((1,), "stop", ("create", "set.attar-tmp")))
    assert first.wait() == STOPPED
    second = zygote.run("scored", home, seeds=1, random=False)
    assert second.ended == 4 and f"is in use by another run (process {first.pid})" in second.said
    assert zygote.run("check", home).ended == 0, "the set is open to readers meanwhile"
    first.go_on()
    assert first.finished() == 0
    assert kept(home) == bench("evaluate", shorter=True).reference and stale(home) == []


def test_two_runs_that_need_the_same_resource_wait_for_each_other(
    bench: Callable[..., Bench], zygote: Zygote, home: Path
) -> None:
    reference = bench("select herding, trained features").reference
    first = zygote.start("selected", home, trap=Trap((1,), "stop", ("rename", "state-")))
    assert first.wait() == STOPPED
    second = zygote.start("selected", home, out="other")
    assert second.wait(0.5) is None
    first.go_on()
    assert (first.finished(), second.finished()) == (0, 0)
    found = kept(home)
    assert {k: v for k, v in found.items() if not k.startswith("other/")} == reference
    assert {k.replace("other/", "set/"): v for k, v in found.items() if not k.startswith("set/")} == reference
    assert stale(home) == []
    made = [*first.trail, *second.trail].count(("create", "tensors.safetensors"))
    assert made == len(list(home.glob("cache/resources/*/tensors.safetensors"))) == 2, "each is made once, by either"


def test_two_that_decode_the_same_pictures_both_end(zygote: Zygote, home: Path) -> None:
    assert zygote.run("with_photos", home).ended == 0
    first = zygote.start("cached", home, trap=Trap((1,), "stop", ("rename", "photos-train")))
    assert first.wait() == STOPPED
    assert zygote.run("cached", home).ended == 0
    alone = kept(home)
    first.go_on()
    assert first.finished() == 0
    assert kept(home) == alone and stale(home) == []
