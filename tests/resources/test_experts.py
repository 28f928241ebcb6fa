"""Experts: their training against torch's own, snapshots, their precision, resume, and whose experts they are."""

from __future__ import annotations

import dataclasses
import functools
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from attar.distill.datm import DATM
from attar.distill.ftd import FTD
from attar.distill.mtt import MTT
from attar.distill.ncfm import NCFM
from attar.distill.tesla import TESLA
from attar.errors import DataError, UsageError
from attar.execute.identity import key
from attar.execute.plan import Plan
from attar.execute.progress import Silent
from attar.io.lock import lock
from attar.method import State
from attar.nets.fit import net_of
from attar.real.realset import RealSet
from attar.resources.build import gather, identify, made, spent
from attar.resources.experts import Expert, experts, snapshot
from attar.run import run
from attar.seeds import Seeds
from attar.testing.trial import method_of

MakeSet = Callable[..., RealSet]
Build = Callable[..., State]
NET = "convnet:width=4:depth=1"
SMALL = {"net": NET, "epochs": 3, "batch": 16, "lr": 0.05}


def by_torch(task: Expert, real: RealSet) -> list[dict[str, torch.Tensor]]:
    """The weights at first and after every epoch, by torch.optim.SGD on the same batches."""
    net = net_of(task.net, real)
    module = net.make()
    module.load_state_dict(net.init(Seeds(0).at("init").at(task.name)))
    optimiser = torch.optim.SGD(module.parameters(), lr=task.lr, momentum=task.momentum, weight_decay=task.weight_decay)
    found = [{k: v.detach().clone() for k, v in module.named_parameters()}]
    for t in range(task.length(real)):
        batch = task.draw(real, Seeds(0).at("step", t), {}, t)
        optimiser.zero_grad()
        cross_entropy(module(batch["image"]), batch["target"].argmax(1)).backward()
        optimiser.step()
        if (t + 1) % 4 == 0:  # 50 images in batches of 13 at most
            found.append({k: v.detach().clone() for k, v in module.named_parameters()})
    return found


@pytest.mark.parametrize("how", [{}, {"momentum": 0.9, "weight_decay": 1e-2}, {"augment": "none"}])
def test_snapshots_are_those_of_torch(how: dict, make_set: MakeSet, build: Build) -> None:
    real, task = make_set(), Expert(**SMALL, **how)
    expert, theirs = build(task, real), by_torch(task, real)
    assert len(theirs) == 4
    for epoch, weights in enumerate(theirs):
        ours = snapshot(expert, epoch)
        assert set(ours) == set(weights)
        moved = max(float((v - theirs[0][k]).abs().max()) for k, v in weights.items())
        assert moved > 0.01 or epoch == 0
        for name, value in weights.items():
            assert torch.allclose(ours[name], value, atol=1e-5 + moved * 2**-11), (name, epoch)


def test_an_epoch_of_a_small_set_has_as_many_batches_as_are_asked_for(make_set: MakeSet) -> None:
    """Equal ones, which together hold every image once; a set that has more batches by their size keeps them."""
    real = make_set()
    for least, many in ((1, 4), (4, 4), (5, 5), (48, 48), (99, 50)):
        task = Expert(**SMALL, batches=least)
        assert task.length(real) == 3 * many
        drawn = [task.draw(real, Seeds(0).at("step", t), {}, t) for t in range(many)]
        sizes = [len(batch["image"]) for batch in drawn]
        assert sum(sizes) == len(real) == 50 and max(sizes) - min(sizes) <= 1
        assert [batch["ends"] for batch in drawn] == [None] * (many - 1) + [0]
        assert torch.equal(sum(batch["target"].sum(0) for batch in drawn), torch.tensor(real.sizes).float())
    with pytest.raises(UsageError, match="batches=0"):
        Expert(**SMALL, batches=0)


@pytest.mark.parametrize("method", [MTT, TESLA, FTD, DATM])
def test_the_experts_of_every_method_take_48_batches_an_epoch_at_least(method: type[MTT | TESLA | FTD | DATM]) -> None:
    assert {task.batches for task in method().needs()} == {48}
    assert {task.batches for task in method(batches_expert=7).needs()} == {7}
    for name in ("batch_expert", "batches_expert"):
        with pytest.raises(UsageError, match=f"^{name}=0"):
            method(**{name: 0})


def test_a_batch_norm_keeps_no_statistics_in_a_trajectory(make_set: MakeSet, build: Build) -> None:
    real, task = make_set(), Expert(**{**SMALL, "net": NET + ":norm=batch"})
    assert set(snapshot(build(task, real), 2)) == set(net_of(task.net, real).trainable)


def test_experts_differ_and_repeat_themselves(make_set: MakeSet, build: Build) -> None:
    real = make_set()
    one, two = experts(2, **SMALL)
    assert (one.name, two.name) == ("expert-0", "expert-1")
    first, again, second = build(one, real), build(one, real), build(two, real)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(snapshot(first, 0)["classifier.weight"], snapshot(second, 0)["classifier.weight"])
    drawn = [task.draw(real, Seeds(0).at("step", 0), {}, 0)["target"] for task in (one, two)]
    assert not torch.equal(*drawn)


def test_a_shorter_training_is_the_beginning_of_a_longer_one(make_set: MakeSet, build: Build) -> None:
    real = make_set()
    long, short = build(Expert(**SMALL), real), build(Expert(**{**SMALL, "epochs": 2}), real)
    assert all(torch.equal(snapshot(long, 2)[k], v) for k, v in snapshot(short, 2).items())


def test_it_is_kept_in_half_precision_and_whole(make_set: MakeSet, build: Build) -> None:
    expert = build(Expert(**SMALL), make_set())
    assert {v.dtype for k, v in expert.items() if k.startswith("delta.")} == {torch.float16}
    assert all(len(v) == 3 and (v[2] != 0).any() for k, v in expert.items() if k == "delta.classifier.weight")


class Dies(Silent):
    """Progress that breaks after some steps."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, n: int = 1, **facts: float) -> None:
        self.left -= n
        if self.left <= 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [2, 4, 7])
def test_a_broken_training_goes_on_to_the_same_bits(
    after: int, tmp_path: Path, make_set: MakeSet, build: Build
) -> None:
    """In the middle of an epoch, at its end, and later: no snapshot is lost."""
    real, task = make_set(), Expert(**SMALL)
    how = {"seed": 0, "plan": Plan(), "folder": tmp_path / "run", "save_every": 0.0}
    with pytest.raises(KeyboardInterrupt):
        run(task, real, [None], progress=Dies(after), **how)
    resumed = task.finish(run(task, real, [None], **how).states[0], {})
    whole = build(task, real)
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_an_interrupted_build_goes_on_where_it_was(
    tmp_path: Path, make_set: MakeSet, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    monkeypatch.setattr("attar.resources.build.run", functools.partial(run, save_every=0.0))
    real, task, begun = make_set(), Expert(**SMALL), []

    class Seen(Silent):
        def start(self, label: str, total: int, done: int = 0) -> None:
            begun.append((total, done))

    with pytest.raises(KeyboardInterrupt):
        made(task, real, {}, seed=0, plan=Plan(), progress=Dies(5))
    resumed = made(task, real, {}, seed=0, plan=Plan(), progress=Seen())
    ((total, done),) = begun
    assert total == task.length(real) and 0 < done <= 5
    whole = build(task, real)
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_experts_of_other_data_settings_or_seeds_are_never_found(make_set: MakeSet) -> None:
    real, task, plan = dataclasses.replace(make_set(), name="fashion"), Expert(**SMALL), Plan()
    others = [
        identify(task, dataclasses.replace(real, fingerprint="other"), 0, plan),
        identify(task, dataclasses.replace(real, name="digits"), 0, plan),  # which are not mirrored
        identify(task, dataclasses.replace(real, mean=(0.1,)), 0, plan),
        identify(task, dataclasses.replace(real, std=(0.1,)), 0, plan),
        identify(dataclasses.replace(task, lr=0.06), real, 0, plan),
        identify(dataclasses.replace(task, number=1), real, 0, plan),
        identify(dataclasses.replace(task, epochs=4), real, 0, plan),
        identify(dataclasses.replace(task, rho=0.01), real, 0, plan),
        identify(dataclasses.replace(task, rho=0.01, alpha=0.3), real, 0, plan),
        identify(dataclasses.replace(task, seed=1), real, 0, plan),
    ]
    keys = {key(identity) for identity in [*others, identify(task, real, 0, plan)]}
    assert len(keys) == 11


def test_more_experts_use_those_that_are_there(
    tmp_path: Path, make_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    real, begun = make_set(), []

    class Counts(Silent):
        def start(self, label: str, total: int, done: int = 0) -> None:
            begun.append(label)

    for count in (1, 2):
        for task in experts(count, **SMALL):
            made(task, real, {}, seed=0, plan=Plan(), progress=Counts())
    assert begun == ["expert-0", "expert-1"]


@pytest.mark.parametrize("method", [MTT, TESLA, FTD, DATM, NCFM])
def test_runs_of_all_seeds_share_experts_and_other_experts_have_a_seed_of_their_own(
    tmp_path: Path, make_set: MakeSet, monkeypatch: pytest.MonkeyPatch, method: type[MTT | TESLA | FTD | DATM | NCFM]
) -> None:
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    real, task, begun = make_set(), method_of(method), []

    class Counts(Silent):
        def start(self, label: str, total: int, done: int = 0) -> None:
            begun.append(label)

    def gathered(task: MTT | TESLA | FTD | DATM | NCFM, seed: int) -> State:
        return gather(task, real, seed=seed, plan=Plan(), progress=Counts())["expert-1"]

    first, second = gathered(task, 0), gathered(task, 1)
    assert begun == ["expert-0", "expert-1"] and spent(task, real, seed=2, plan=Plan()) > 0
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = gathered(dataclasses.replace(task, seed_expert=1), 0)
    assert len(begun) == 4 and any(not torch.equal(first[name], other[name]) for name in first)
    one = next(t for t in dataclasses.replace(task, seed_expert=1).needs() if t.name == "expert-1")
    theirs = run(one, real, [None], seed=1, plan=Plan())
    assert all(torch.equal(other[name], theirs.states[0][name]) for name in other), "the seed of the run that makes it"


def test_fewer_epochs_are_found_in_an_expert_of_more(
    tmp_path: Path, make_set: MakeSet, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a method looks at its epochs alone; one of other settings, or of less, is made."""
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    real, begun = make_set(), []

    class Counts(Silent):
        def start(self, label: str, total: int, done: int = 0) -> None:
            begun.append(total // 4)  # batches of an epoch

    def of(epochs: int, **more: float) -> State:
        task = Expert(**{**SMALL, "epochs": epochs, **more})
        return made(task, real, {}, seed=0, plan=Plan(), progress=Counts())

    long, short = of(3), of(2)
    assert begun == [3] and all(torch.equal(long[k], short[k]) for k in long)
    alone = build(Expert(**{**SMALL, "epochs": 2}), real)
    assert all(torch.equal(snapshot(short, e)[k], v) for e in (0, 1, 2) for k, v in snapshot(alone, e).items())
    of(5), of(4), of(2, lr=0.06), of(3)
    assert begun == [3, 5, 2], "four epochs of five, three of its own"
    task = type("Task", (), {"needs": lambda self: experts(2, **{**SMALL, "epochs": 1})})()
    assert spent(task, real, seed=0, plan=Plan()) > 0, "the first is there"
    gather(task, real, seed=0, plan=Plan(threads=2), progress=Counts())
    assert begun == [3, 5, 2, 1]


def test_experts_made_beside_each_other_are_those_made_alone(
    tmp_path: Path, make_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits and the same place in the cache, whatever the number of threads; one that is there is not made again."""
    real, begun = make_set(), []

    class Counts(Silent):
        def start(self, label: str, total: int, done: int = 0) -> None:
            begun.append((label, total))

    task = type("Task", (), {"needs": lambda self: experts(4, **SMALL)})()
    found = {}
    for threads in (1, 2):
        monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / str(threads)))
        plan = Plan(threads=threads)
        made(experts(1, **SMALL)[0], real, {}, seed=0, plan=plan, progress=Silent())
        begun.clear()
        found[threads] = gather(task, real, seed=0, plan=plan, progress=Counts())
        left = [p.name for p in (tmp_path / str(threads) / "resources").iterdir()]
        assert sorted(name.rpartition("-")[0] for name in left) == [f"expert-{i}" for i in range(4)]
        if threads == 1:
            assert [label for label, _ in begun] == ["expert-1", "expert-2", "expert-3"]
        else:
            assert begun == [("expert-1 to expert-3", 3 * 12)]
    alone, beside = found[1], found[2]
    assert alone.keys() == beside.keys() and len(alone) == 4
    assert all(torch.equal(alone[e][k], beside[e][k]) for e in alone for k in alone[e])
    names = [sorted(p.name for p in (tmp_path / str(t) / "resources").iterdir()) for t in (1, 2)]
    assert names[0] == names[1]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
@pytest.mark.parametrize("threads", [1, 2])
def test_an_expert_that_another_run_makes_is_left_to_it(
    tmp_path: Path, make_set: MakeSet, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """So that two runs which begin together train half of the experts each, and none waits before there is nothing else."""
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    real, begun = make_set(), []
    task, first = type("Task", (), {"needs": lambda self: experts(3, **SMALL)})(), experts(1, **SMALL)[0]
    building = tmp_path / "resources" / f"expert-0-{key(identify(first, real, 0, Plan()))}.attar-run"

    class Counts(Silent):
        def start(self, label: str, total: int, done: int = 0) -> None:
            begun.append(label)

    with ExitStack() as other:
        other.enter_context(lock(building / "lock", "an expert"))

        def late() -> None:
            while len(list(tmp_path.glob("resources/expert-[12]-*[0-9a-f]"))) < 2:
                time.sleep(0.01)
            other.close()

        watching = threading.Thread(target=late)
        watching.start()
        found = gather(task, real, seed=0, plan=Plan(threads=threads), progress=Counts())
        watching.join()
    assert sorted(found) == ["expert-0", "expert-1", "expert-2"]
    assert begun[-1] == "expert-0" and begun[:-1] == (
        ["expert-1", "expert-2"] if threads == 1 else ["expert-0 to expert-2"]
    )


def test_what_cannot_train_is_refused(make_set: MakeSet) -> None:
    with pytest.raises(UsageError, match="epochs=0"):
        Expert(epochs=0)
    with pytest.raises(UsageError, match="learning rate"):
        Expert(lr=0.0)
    for how in ({"rho": -0.1}, {"rho": 0.1, "alpha": float("nan")}):
        with pytest.raises(UsageError, match="FTD takes"):
            Expert(**how)
    for names in ((), ("one",)):
        with pytest.raises(DataError, match="no expert"):
            Expert(net=NET).init(dataclasses.replace(make_set(), class_names=names), None, Seeds(0), {})


def test_cost_grows_with_what_is_kept(make_set: MakeSet) -> None:
    real = make_set()
    short, long = (Expert(net=NET, epochs=e).cost(real) for e in (1, 101))
    assert long.memory - short.memory == pytest.approx(200 * net_of(NET, real).n_parameters)
    assert long.flops_per_step == short.flops_per_step > 0
