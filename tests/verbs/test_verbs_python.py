"""The verbs in Python: one line each, clear refusals, and methods and networks of one's own."""

from __future__ import annotations

import dataclasses
import inspect
import os
import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset
from verbs_kit import TINY, same

import attar
from attar.cli.main import run
from attar.distill.dm import DM
from attar.errors import DataError, UsageError
from attar.evaluate import evaluate as scoring
from attar.execute import crew, plan
from attar.execute.checkpoint import Checkpoint
from attar.manifest import encode, read_manifest
from attar.method import Method, Rows
from attar.optim import Opt
from attar.params import pixels
from attar.real.realset import Splits
from attar.registry import find, group, names
from attar.select.random import Random
from attar.verbs.evaluate import side_by_side
from attar.verbs.options import Compute

NET = "convnet:width=8:depth=1"


def test_one_line_each(apart: Path) -> None:
    kept = attar.distill("digits", out="small", **TINY)
    chosen = attar.select("digits", method="random", ipc=1, out="chosen")
    assert attar.verify("small")["good"]
    assert len(attar.evaluate("small", nets=NET, seeds=2, epochs=1)) == 2
    assert "<html" in attar.report("small", out="page.html")
    assert (apart / "page.html").read_text() == attar.report("small")
    assert attar.export("small", to="small.npz", format="npz") == Path("small.npz")
    assert same(attar.rerun("small", out="again"), kept)
    assert attar.open("chosen").kind == chosen.kind == "subset"
    assert {m["name"] for m in attar.methods()} >= {"dm", "random"}
    assert attar.methods("dm")[0]["settings"][0]["name"] == "steps"
    assert attar.cache()["folder"] == os.environ["ATTAR_CACHE"]
    rows = attar.compare("digits", methods=("random",), ipc=1, out="c", nets=NET, seeds=1, epochs=1)
    assert [(r["method"], r["rows"]) for r in rows] == [("random", 10)]


def test_a_condensed_in_memory_goes_through_the_verbs(apart: Path) -> None:
    kept = attar.distill("digits", **TINY)
    assert kept.path is None
    scores = attar.evaluate(kept, nets=NET, seeds=1, epochs=1)
    assert scores[0]["rows"] == 10 and kept.manifest["scores"] == []
    assert "<html" in attar.report(kept)
    attar.export(kept, to="x.pt", format="pt")
    kept.save("later")
    assert same(attar.open("later"), kept)


def test_evaluate_may_leave_the_folder_alone(apart: Path) -> None:
    attar.select("digits", method="random", ipc=1, out="set")
    before = (apart / "set" / "condensed.json").read_bytes()
    attar.evaluate("set", nets=NET, seeds=1, epochs=1, save=False)
    assert (apart / "set" / "condensed.json").read_bytes() == before


def test_a_method_with_its_settings() -> None:
    method = DM(**{k: v for k, v in TINY.items() if k != "ipc"})
    made = attar.distill("digits", method=method, ipc=1)
    assert same(made, attar.distill("digits", **TINY))
    assert made.manifest["lineage"][0]["method"] == "dm"
    assert attar.select("digits", method=Random(), ipc=1).manifest["lineage"][0]["method"] == "random"
    with pytest.raises(UsageError, match="there is no setting 'steps'"):
        attar.distill("digits", method=method, ipc=1, steps=5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mean(Method):
    """Pulls noise to the class means; a method of one's own, named like nothing in the registry."""

    steps: int = 5
    "Updates."

    paper: ClassVar[str] = "none"

    @property
    def learn(self) -> dict[str, Opt]:
        return {"image": Opt(lr=0.5)}

    def init(self, real: Any, budget: Any, seeds: Any, res: Any) -> dict[str, torch.Tensor]:
        return pixels.start(real, budget, seeds, kind="noise")

    def draw(self, real: Any, seeds: Any, res: Any, step: int) -> dict[str, torch.Tensor]:
        return {"mean": torch.stack([real.draw(c).mean(0) for c in real.classes])}

    def loss(self, state: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return (state["image"] - batch["mean"][state["label"]]).square().sum()

    def finish(self, state: dict[str, torch.Tensor], res: Any) -> Rows:
        return Rows(columns={"image": state["image"], "label": state["label"]}, recipe={"protocol": "dc"})


def test_a_method_of_ones_own() -> None:
    made = attar.distill("digits", method=Mean(), ipc=1)
    real = attar.load("digits").train
    means = torch.stack([real.draw(c).mean(0) for c in real.classes])
    assert torch.allclose(made.images, means, atol=1e-4)
    assert made.manifest["lineage"][0]["method"].endswith(":Mean")


def test_a_class_that_shares_a_name_with_a_registered_one_is_another() -> None:
    theirs = dataclasses.dataclass(frozen=True, kw_only=True)(type("DM", (Mean,), {"__doc__": "Mine."}))
    assert attar.distill("digits", method=theirs(), ipc=1).manifest["lineage"][0]["method"] != "dm"


def test_a_method_and_a_network_from_files(apart: Path) -> None:
    (apart / "mine.py").write_text(inspect.getsource(Mean).join([HEAD, ""]))
    (apart / "net.py").write_text(NETWORK)
    made = attar.distill("digits", method="mine.py:Mean", ipc=1, steps=2, out="set")
    assert made.manifest["lineage"][0]["method"] == "mine.py:Mean"
    assert same(attar.rerun("set", out="again", trust=["mine.py:Mean"]), made)
    scores = attar.evaluate("set", nets="net.py:Linear", seeds=1, epochs=1)
    assert scores[0]["network"].endswith("net.py:Linear")
    assert len(attar.distill("digits", **{**TINY, "net": "net.py:Linear"})) == 10


HEAD = """import dataclasses
from typing import Any, ClassVar

import torch

from attar.method import Method, Rows
from attar.optim import Opt
from attar.params import pixels
from attar.real.realset import Splits
from attar.registry import find, group, names
from attar.verbs.evaluate import side_by_side
from attar.verbs.options import Compute


"""
NETWORK = """
import torch


class Linear(torch.nn.Module):
    def __init__(self, channels, size, classes):
        super().__init__()
        self.last = torch.nn.Linear(channels * size[0] * size[1], classes)

    def forward(self, x):
        return self.last(x.flatten(1))
"""


def test_minutes_stop_early_at_a_finite_state(apart: Path) -> None:
    made = attar.distill("digits", **{**TINY, "steps": 10_000_000}, minutes=0.01, out="set")
    steps = made.manifest["lineage"][0]["steps"]
    assert 0 < steps < 10_000_000
    assert torch.isfinite(made.images).all()
    assert made.manifest["lineage"][0]["minutes"] == 0.01
    assert attar.verify("set")["good"]


class Counted:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.done: dict[str, int] = {}
        self.total: dict[str, int] = {}
        self.open = ""

    def start(self, label: str, total: int, done: int = 0) -> None:
        self.open, self.total[label], self.done[label] = label, total, done

    def advance(self, n: int = 1, **facts: float) -> None:
        self.done[self.open] += n

    def stop(self) -> None:
        self.open = ""


def test_quick_takes_the_short_schedule_where_nothing_else_is_given() -> None:
    short = attar.distill("digits", method="dm", quick=True, steps=2, net="convnet:width=8", ipc=1)
    settings = short.manifest["lineage"][0]["settings"]
    assert settings["steps"] == 2 and settings["batch"] == find("dm").quick["batch"] != find("dm")().batch
    with pytest.raises(UsageError, match="quick=True goes with the name of a method"):
        attar.distill("digits", method=find("dm")(steps=2), quick=True)


@pytest.mark.parametrize("name", names())
def test_every_short_schedule_is_made_of_settings(name: str) -> None:
    find(name)(**find(name).quick)


def test_progress_is_told_of_every_step() -> None:
    seen = Counted()
    kept = attar.distill("digits", progress=seen, **{**TINY, "steps": 23})
    assert seen.done["dm ipc 1"] == seen.total["dm ipc 1"] == 23
    attar.evaluate(kept, nets=NET, seeds=2, epochs=3, eight_bit=False, augment="none", progress=seen)
    assert seen.done == seen.total and seen.open == ""
    assert len(seen.done) >= 3


def test_an_unknown_keyword_names_the_nearest() -> None:
    for wrong, near in (("stepz", "steps"), ("icp", "ipc"), ("devise", "device"), ("lr", "lr_img"), ("sead", "seed")):
        with pytest.raises(UsageError, match=f"there is no setting '{wrong}'; did you mean '{near}'"):
            attar.distill("digits", **{wrong: 1})
    with pytest.raises(UsageError, match="there is no setting 'siz'; did you mean 'size'"):
        attar.evaluate("x", siz=3)
    with pytest.raises(UsageError, match="none of the methods has a setting 'stepz'; did you mean 'steps'"):
        attar.compare("digits", methods="dm", out="c", stepz=3)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"steps": "3"}, "steps='3' is not of type int"),
        ({"steps": 2.5}, "steps=2.5 is not of type int"),
        ({"steps": True}, "steps=True is not of type int"),
        ({"lr_img": "x"}, "lr_img='x' is not of type float"),
        ({"seed": 1.5}, "seed=1.5 is not of type int"),
        ({"seed": None}, "seed=None is not of type int"),
        ({"minutes": "3"}, "minutes='3' is not of type float"),
        ({"minutes": float("inf")}, "minutes=inf must be a positive number"),
        ({"compile": 1}, "compile=1 is not of type bool"),
        ({"ipc": 1.5}, "ipc=1.5 is not a whole number"),
        ({"ipc": True}, "ipc=True is not a whole number"),
        ({"ipc": ()}, r"ipc=\(\) is not a whole number"),
        ({"ipc": [1, "x"]}, "is not a whole number"),
        ({"rows": 2.5}, "rows=2.5 is not of type int"),
        ({"save_every": float("nan")}, "save_every=nan is not a finite number"),
        ({"threads": "x"}, "threads='x' is not of type int"),
    ],
    ids=str,
)
def test_settings_of_a_wrong_type_are_named(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        attar.distill("digits", **wrong)


def test_a_setting_that_is_not_a_number_is_refused_whoever_wrote_the_method() -> None:
    wild = dataclasses.make_dataclass("Wild", [("much", float, 0.0)], bases=(Mean,), frozen=True, kw_only=True)
    with pytest.raises(UsageError, match="much=nan is not a finite number"):
        attar.distill("digits", method=wild(much=float("nan")), ipc=1)


def arrays() -> tuple[np.ndarray, np.ndarray]:
    g = np.random.default_rng(0)
    return g.integers(0, 256, (40, 8, 8, 3), np.uint8), np.arange(40) % 2


@pytest.mark.parametrize("kind", ["arrays", "dictionary", "torch dataset"])
def test_data_in_memory(apart: Path, kind: str) -> None:
    images, labels = arrays()
    source: Any = (images, labels)
    if kind == "dictionary":
        source = {"images": images, "labels": labels}
    if kind == "torch dataset":
        source = TensorDataset(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels))
    made = attar.select(source, method="random", ipc=2, out="set")
    assert len(made) == 4 and made.manifest["lineage"][0]["source"] is None
    with pytest.raises(UsageError, match="made from data in memory, so it cannot be made again"):
        attar.rerun("set", out="again")
    with pytest.raises(UsageError, match="made from data in memory; give them"):
        attar.evaluate("set", nets=NET, seeds=1, epochs=1)
    assert attar.evaluate("set", real=source, nets=NET, seeds=1, epochs=1)[0]["rows"] == 4
    assert "<html" in attar.report("set")


@pytest.mark.parametrize("changed", ["one example more", "another seed", "another share", "as made"])
def test_what_the_set_may_have_learned_is_no_test_split(apart: Path, changed: str) -> None:
    images, labels = arrays()
    np.savez(apart / "here.npz", images=images, labels=labels)
    attar.select("here.npz", method="random", ipc=4, out="set")
    how: dict[str, Any] = {"another seed": {"split_seed": 1}, "another share": {"test_fraction": 0.4}}.get(changed, {})
    if changed == "one example more":
        np.savez(apart / "here.npz", images=np.concatenate([images, images[:1]]), labels=np.append(labels, labels[0]))
    if changed == "as made":
        assert attar.evaluate("set", nets=NET, seeds=1, epochs=1)
        return
    with pytest.raises(
        DataError, match=r"'here' has no test split, and what is held out .* give data with a test split"
    ):
        attar.evaluate("set", nets=NET, seeds=1, epochs=1, **how)
    assert not attar.open("set").manifest["scores"] and "<html" in attar.report("set")


def test_a_finished_set_of_another_precision_is_not_handed_back(apart: Path) -> None:
    how: dict[str, Any] = {"method": "dm", "ipc": 1, **TINY, "out": "set"}
    made = attar.distill("digits", **how)
    assert same(attar.distill("digits", **how, dtype="float32", threads=2), made)
    with pytest.raises(UsageError, match="was made with other settings"):
        attar.distill("digits", **how, dtype="bfloat16")


def test_another_run_in_the_same_place_is_refused_before_its_resources_are_made(
    apart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Checkpoint(apart / "set.attar-run").claim({"method": "mtt"})
    monkeypatch.setattr("attar.verbs.make.gather", lambda *_args, **_how: pytest.fail("made resources"))
    with pytest.raises(UsageError, match="holds an unfinished run with other settings"):
        attar.select("digits", method="el2n", ipc=1, out="set")


def test_a_set_is_scored_by_splits_that_were_read_before(apart: Path) -> None:
    images, labels = arrays()
    np.savez(apart / "here.npz", images=images, labels=labels)
    kept = attar.select("here.npz", method="random", ipc=2, size=6, out="set")
    assert attar.evaluate(kept, real=attar.load("here.npz", size=6), nets=NET, seeds=1, epochs=1)[0]["rows"] == 4


def test_data_that_went_away_are_told_with_the_remedy(apart: Path) -> None:
    images, labels = arrays()
    np.savez(apart / "here.npz", images=images, labels=labels)
    attar.select("here.npz", method="random", ipc=2, out="set")
    (apart / "here.npz").rename(apart / "there.npz")
    with pytest.raises(
        UsageError, match=r"cannot be read \(there is nothing at here.npz; .*\); give them, as in --real"
    ):
        attar.evaluate("set", nets=NET, seeds=1, epochs=1)
    assert attar.evaluate("set", real="there.npz", nets=NET, seeds=1, epochs=1)
    with pytest.raises(UsageError, match=r"there is nothing at here\.npz"):
        attar.rerun("set", out="again")
    assert "<html" in attar.report("set")


def test_a_dry_run_refuses_no_selection_that_can_be_made() -> None:
    pooled = {"method": "random", "balanced": False, "ipc": 140}  # of classes of 139 and more
    assert attar.select("digits", dry_run=True, **pooled)["kept_rows"] == [1400]
    assert len(attar.select("digits", **pooled)) == 1400


def test_a_dry_run_returns_the_estimate() -> None:
    found = attar.distill("digits", dry_run=True, ipc=(1, 10), steps=3)
    assert found["kept_rows"] == [10, 100] and found["steps"] == 3
    assert attar.select("digits", dry_run=True)["steps"] == 0


def test_a_budget_that_the_data_cannot_give_is_refused() -> None:
    wanted = "asks for 1000 examples of every class but class '0' has 142"
    for verb, method in ((attar.select, "random"), (attar.distill, "dm"), (attar.distill, "mtt")):
        for dry in (False, True):
            with pytest.raises(DataError, match=wanted):
                verb("digits", method=method, ipc=1000, dry_run=dry)


def test_a_budget_is_refused_before_the_shared_trainings(monkeypatch) -> None:
    """``gather`` trains experts for hours; what the first images cannot give is told before."""
    monkeypatch.setattr("attar.verbs.make.gather", lambda *_, **__: pytest.fail("experts were trained first"))
    for method in ("mtt", "datm"):
        with pytest.raises(DataError, match="but class '0' has 142"):
            attar.distill("digits", method=method, ipc=1000)


def test_a_method_of_the_other_verb_is_refused() -> None:
    with pytest.raises(UsageError, match="method 'random' is for attar select, not attar distill"):
        attar.distill("digits", method="random")


def test_a_word_stands_for_a_group_of_methods() -> None:
    assert {"dm", "dc", "dsa"} <= set(group("matching")) <= set(names("distill"))
    assert {"random", "herding"} <= set(group("selection")) <= set(names("select"))
    assert group("dm") == []


def test_scores_of_a_set_that_was_made_anew_meanwhile_are_not_written(
    apart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attar.select("digits", method="random", ipc=1, out="set")
    score = scoring.evaluate

    def overtaken(*args: Any, **settings: Any) -> Any:
        found = score(*args, **settings)
        shutil.rmtree("set")
        attar.select("digits", method="random", ipc=1, seed=1, out="set")
        return found

    monkeypatch.setattr(scoring, "evaluate", overtaken)
    with pytest.raises(DataError, match="set was made anew while it was evaluated; nothing was written, evaluate it"):
        attar.evaluate("set", nets=NET, seeds=1, epochs=1)
    assert attar.open("set").manifest["scores"] == []


@pytest.mark.parametrize("data", [["size"], {"size": [1, 2, 3]}, {"size": [8, "8"]}, {"size": "8y"}, {"sise": 8}])
def test_a_manifest_that_tells_nonsense_of_its_data_is_refused(apart: Path, data: Any) -> None:
    attar.select("digits", method="random", ipc=1, out="set")
    told = read_manifest("set")
    told["lineage"][0]["data"] = data
    (apart / "set" / "condensed.json").write_bytes(encode(told))
    with pytest.raises(DataError, match=r"^set does not tell how its real data were read \(.*\); restore it"):
        attar.evaluate("set", nets=NET, seeds=1, epochs=1)


@pytest.mark.parametrize("size", [(8, 8, 8), (8, 2.5), "8x8x8", "²", 2.5, True, []])
def test_a_size_that_is_none_gets_one_sentence(size: Any) -> None:
    with pytest.raises(UsageError, match="is neither a side nor HEIGHTxWIDTH"):
        attar.select("digits", method="random", size=size)


def test_a_comparison_of_what_it_cannot_score_is_refused_before_the_first_set(apart: Path) -> None:
    splits = attar.load("digits")
    boxes = dataclasses.replace(splits.train, task="detection")
    with pytest.raises(UsageError, match="only classified images can be compared so, but the task of 'digits' is 'det"):
        attar.compare(Splits(train=boxes, open_test=lambda: splits.test), methods="random", ipc=1, out="c")
    assert not (apart / "c").exists()


def test_the_recorded_command_is_one_that_the_command_line_takes(apart: Path) -> None:
    made = attar.select("digits", method="random", ipc=1, size=(6, 5), group=None)
    words = made.manifest["lineage"][0]["command"].split()
    assert words[words.index("--size") + 1] == "6x5" and "None" not in words
    assert run([*words[1:], "--out", "again"]) == 0
    assert same(attar.open("again"), made)


def test_what_shared_work_took_is_told_apart(apart: Path) -> None:
    made = attar.select("digits", method="el2n", ipc=1, net=NET, epochs=1, runs=1, out="set")
    assert made.manifest["lineage"][0]["shared_seconds"] > 0
    assert "prepared once for all that share it" in attar.report("set")
    assert attar.select("digits", method="random", ipc=1).manifest["lineage"][0]["shared_seconds"] == 0


def test_experts_beside_each_other_take_memory_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many at a time as there are threads, and never more than there are experts."""
    monkeypatch.setattr(plan, "cores", lambda: 8)

    def needed(**how: Any) -> int:
        wide = {"net": "convnet:width=128", "experts": 3, "batch_expert": 1024, "batch_syn": 1, "syn_steps": 1}
        return attar.distill("digits", method="mtt", ipc=1, dry_run=True, **wide, **how)["memory_bytes"]

    one = needed(threads=1)
    assert needed(threads=2) == pytest.approx(2 * one, rel=1e-6)
    assert needed(threads=9) == needed() == pytest.approx(3 * one, rel=1e-6)


def test_jobs_that_need_the_same_long_trainings_agree_whether_these_are_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a short method trains its experts anew beside those that a longer one left."""
    monkeypatch.setattr(plan, "compiler_at_hand", lambda: True)

    def asked(method: str, steps: int, **how: Any) -> dict[str, Any]:
        small = {"net": "convnet:width=8:depth=1", "experts": 2, "batch_syn": 1, "syn_steps": 2}
        return attar.distill("digits", method=method, ipc=1, steps=steps, dry_run=True, **small, **how)

    def compiled(**how: Any) -> list[bool]:
        return [asked(method, steps, **how)["plan"]["compiled"] for method, steps in (("ftd", 50), ("datm", 1))]

    shortest = asked("datm", 1)["flops"]
    monkeypatch.setattr(plan, "LARGE", shortest / 2)
    assert asked("datm", 2)["flops"] - shortest < plan.LARGE, "a step of its own is short"
    assert compiled() == [True, True] and compiled(compile=False) == compiled(minutes=1) == [False, False]
    assert attar.select("digits", method="forgetting", ipc=1, dry_run=True)["plan"]["compiled"]
    monkeypatch.setattr(plan, "LARGE", 2 * asked("ftd", 50)["flops"])
    assert compiled() == [False, False] and compiled(compile=True) == [True, True]


def test_networks_stand_beside_each_other_only_where_processes_can_be_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere one network after the other has all threads."""
    monkeypatch.setattr(plan, "cores", lambda: 4)
    large, small = plan.Plan(threads=4), plan.Plan(threads=1)
    for able in (True, False):
        monkeypatch.setattr(crew, "able", lambda able=able: able)
        found = [
            side_by_side(Compute(), large, 5),
            side_by_side(Compute(), large, 1),
            side_by_side(Compute(), small, 3),
        ]
        assert found == ([4, 1, 3] if able else [1, 1, 1])
    monkeypatch.setattr(crew, "able", lambda: True)
    assert side_by_side(Compute(threads=4), large, 5) == side_by_side(Compute(), plan.Plan(device="cuda"), 5) == 1


def test_detection_sets_are_not_distilled(tmp_path: Path) -> None:
    from attar.testing.toys import toy

    objects = dataclasses.replace(toy(), task="detection")
    with pytest.raises(UsageError, match="of which nothing is distilled"):
        attar.distill(Splits(train=objects, open_test=lambda: objects), method="dm", ipc=1, steps=1)
