"""The state of a run: the newest whole generation is found, damage and other runs are told apart."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from attar.errors import DataError, ResourceError, UsageError
from attar.execute.checkpoint import Checkpoint, State
from attar.execute.log import Log
from attar.io import tensors

IDENTITY = {"method": "dm", "settings": {"steps": 9}, "seed": 0, "plan": {"device": "cpu", "threads": 1}}


def state(step: int) -> list[State]:
    """Two budgets' worth, of several dtypes and shapes."""
    return [
        {"image": torch.full((2, 1, 3, 3), float(step)), "label": torch.tensor([0, 1]), "t": torch.tensor(step)},
        {"image": torch.full((4, 1, 3, 3), -float(step)).to(torch.bfloat16), "none": torch.empty(0, 3)},
    ]


def same(a: list[State], b: list[State]) -> bool:
    return len(a) == len(b) and all(
        x.keys() == y.keys() and all(torch.equal(x[k], y[k]) and x[k].dtype == y[k].dtype for k in x)
        for x, y in zip(a, b)
    )


@pytest.fixture
def store(tmp_path: Path) -> Checkpoint:
    store = Checkpoint(tmp_path / "set.attar-run")
    store.claim(IDENTITY)
    return store


def generations(store: Checkpoint) -> list[int]:
    return sorted(int(p.name.split("-")[1]) for p in store.folder.glob("state-*"))


def damage(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def newest(store: Checkpoint) -> Path:
    return max(store.folder.glob("state-*"))


def test_nothing_is_found_before_the_first_save(store: Checkpoint) -> None:
    assert store.latest() is None


def test_what_is_saved_is_found(store: Checkpoint) -> None:
    store.save(3, state(3), {"seconds": 1.5, "peak_memory": 7})
    found = store.latest()
    assert found is not None and found[0] == 3 and found[2] == {"seconds": 1.5, "peak_memory": 7}
    assert same(found[1], state(3))


def test_an_empty_state_is_a_state(store: Checkpoint) -> None:
    store.save(0, [{}, {}], {})
    assert store.latest() == (0, [{}, {}], {})


def test_two_generations_are_kept(store: Checkpoint) -> None:
    for step in (1, 2, 9, 10, 11):
        store.save(step, state(step), {})
    assert generations(store) == [10, 11]


@pytest.mark.parametrize("at", [0, 20, -1])
def test_a_damaged_newest_generation_gives_way_to_the_older_one(store: Checkpoint, at: int) -> None:
    for step in (1, 2):
        store.save(step, state(step), {})
    damage(newest(store), at)
    found = store.latest()
    assert found is not None and found[0] == 1 and same(found[1], state(1))


@pytest.mark.parametrize("cut", [0, 1, 100])
def test_a_cut_generation_is_not_used(store: Checkpoint, cut: int) -> None:
    for step in (1, 2):
        store.save(step, state(step), {})
    path = newest(store)
    path.write_bytes(path.read_bytes()[:cut])
    found = store.latest()
    assert found is not None and found[0] == 1


def test_a_damaged_generation_does_not_take_the_place_of_a_good_one(store: Checkpoint) -> None:
    for step in (4, 50):
        store.save(step, state(step), {})
    damage(newest(store))
    store.latest()
    for step in (5, 6):
        store.save(step, state(step), {})
    assert generations(store) == [5, 6]


def test_all_damaged_is_nothing(store: Checkpoint) -> None:
    store.save(1, state(1), {})
    damage(newest(store))
    assert store.latest() is None


def test_a_fault_while_saving_keeps_the_earlier_state(store: Checkpoint, fail: Callable[..., bool]) -> None:
    for step in (1, 2):
        store.save(step, state(step), {})
    for k in range(1, 20):
        try:
            if not fail(lambda k=k: store.save(2 + k, state(2 + k), {}), k, OSError(errno.ENOSPC, "no space")):
                break
        except ResourceError:
            found = store.latest()
            assert found is not None and found[0] >= 2 and same(found[1], state(found[0]))
    else:
        pytest.fail("saving has no end")
    assert k > 6 and len(generations(store)) == 2


def test_the_same_run_goes_on(store: Checkpoint) -> None:
    store.save(1, state(1), {})
    store.claim(json.loads(json.dumps(IDENTITY)))
    found = store.latest()
    assert found is not None and found[0] == 1
    assert store.plan() == IDENTITY["plan"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, r"\(seed: 0 there, 1 now\)"),
        ({"settings": {"steps": 10}}, r'\(settings: {"steps": 9} there, {"steps": 10} now\)'),
        ({"new": 1}, r"\(new: null there, 1 now\)"),
    ],
)
def test_another_run_is_refused_and_the_difference_named(
    store: Checkpoint, change: dict[str, object], named: str
) -> None:
    store.save(1, state(1), {})
    with pytest.raises(UsageError, match=named):
        store.claim({**IDENTITY, **change})
    assert generations(store) == [1], "nothing of the other run is touched"


def test_a_state_whose_run_is_unknown_is_not_taken_for_this_one(store: Checkpoint) -> None:
    store.save(7, state(7), {})
    (store.folder / "plan.json").unlink()  # as a kill amid the removal of the folder may leave it
    store.claim({**IDENTITY, "seed": 1})
    assert store.latest() is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "[" * 100_000])
def test_a_damaged_plan_is_one_sentence(store: Checkpoint, text: str) -> None:
    (store.folder / "plan.json").write_text(text)
    for ask in (store.plan, lambda: store.claim(IDENTITY)):
        with pytest.raises(DataError, match=r"plan\.json is damaged; remove the folder"):
            ask()


def test_a_plan_of_no_run_is_none(tmp_path: Path) -> None:
    assert Checkpoint(tmp_path / "none").plan() is None


def test_a_removed_folder_is_noticed_and_not_made_anew(store: Checkpoint) -> None:
    store.save(1, state(1), {})
    store.discard()
    with pytest.raises(ResourceError, match="was removed while its run went on; run the same command again"):
        store.save(2, state(2), {})
    assert not store.folder.exists()


def test_what_died_while_saving_is_swept(store: Checkpoint, die: Callable[..., bool]) -> None:
    assert die(lambda: store.save(1, state(1), {}), 3)
    assert any(".attar-tmp-" in name for name in os.listdir(store.folder))
    store.claim(IDENTITY)
    assert os.listdir(store.folder) == ["plan.json"]


def test_a_name_tells_the_content(store: Checkpoint) -> None:
    store.save(12, state(12), {})
    path = newest(store)
    assert path.name == f"state-000000012-{tensors.digest(path.read_bytes())[:16]}.safetensors"


# the log


def test_lines_after_the_last_save_are_dropped(tmp_path: Path) -> None:
    log = Log(tmp_path, 0)
    for step in (1, 2, 3):
        log.write(step=step, loss=[0.5])
    assert Log(tmp_path, 2).content() == b'{"step": 1, "loss": [0.5]}\n{"step": 2, "loss": [0.5]}\n'


@pytest.mark.parametrize("torn", [b'{"step": 2, "lo', b"[]\n", b'{"loss": 1}\n', b"\xff\xfe\n", b'{"step": "2"}\n'])
def test_a_torn_or_foreign_line_ends_the_log(tmp_path: Path, torn: bytes) -> None:
    Log(tmp_path, 0).write(step=1)
    with open(tmp_path / "log.jsonl", "ab") as f:
        f.write(torn)
    log = Log(tmp_path, 9)
    log.write(step=3)
    assert (tmp_path / "log.jsonl").read_bytes() == log.content() == b'{"step": 1}\n{"step": 3}\n'


def test_a_kill_while_a_log_is_opened_loses_no_line(tmp_path: Path, die: Callable[..., bool]) -> None:
    Log(tmp_path, 0).write(step=1)
    k = 1
    while die(lambda: Log(tmp_path, 1), k):
        assert (tmp_path / "log.jsonl").read_bytes() == b'{"step": 1}\n'
        k += 1
    assert k == 7  # six points (one is the sweep of the child before), then none
