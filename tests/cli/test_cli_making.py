"""attar distill and attar select, as a user types them."""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_kit import TINY, Said, content

import attar
from attar import registry
from attar.cli import making, words
from attar.registry import METHODS
from attar.testing.trial import method_of
from attar.verbs.make import Job
from attar.verbs.schedule import ahead

Say = Callable[..., Said]


def test_distill_writes_a_set_and_says_where(say: Say, tmp_path: Path) -> None:
    done = say("distill", "digits", "--method", "dm", "--ipc", 1, *TINY, "--out", "small")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("digits has no test split: 359 of 1797 examples are held out")
    assert lines[1].startswith("small: 10 synthetic examples in place of 1438, ")  # and how long it took
    assert lines[2:] == ["look at it: small/report.html", "how good is it: attar evaluate small"]
    kept = attar.open("small")
    assert (len(kept), kept.kind) == (10, "synthetic")
    assert (tmp_path / "small" / "report.html").is_file()
    assert os.listdir(tmp_path) == ["small"]


def test_the_folder_is_named_after_source_method_and_budget(say: Say, tmp_path: Path) -> None:
    assert say("distill", "digits", *TINY).code == 0
    assert say("select", "digits", "--method", "random", "--rows", 7).code == 0
    assert say("select", "digits", "--method", "random", "--ipc", "1,2").code == 0
    assert sorted(os.listdir(tmp_path)) == ["digits-dm-ipc1", "digits-random-ipc1-ipc2", "digits-random-rows7"]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("digits", "digits"),
        ("data/photos.v2/", "photos.v2"),
        ("data/mnist.parquet", "mnist"),
        ("a.npz", "a"),
        ("hf:owner/name", "name"),
        ("two words\n[bold]", "two-words-bold"),
        ("/", "data"),
    ],
)
def test_the_short_name_of_a_source_is_a_plain_folder_name(source: str, name: str) -> None:
    assert words.short_name(source) == name


@pytest.mark.parametrize("name", [e.name for e in METHODS if e.verb == "select"])
def test_select_chooses_real_examples_by_every_method(say: Say, name: str) -> None:
    method = method_of(name)
    small = {f: getattr(method, f) for f in ("net", "networks", "runs", "window") if hasattr(method, f)}
    small |= {f: 4 for f in ("epochs",) if hasattr(method, f)} | ({"rounds": 2} if name == "active" else {})
    flags = [word for f, value in small.items() for word in flag(f, value)]
    done = say("select", "digits", "--method", name, "--ipc", 2, *flags, "--out", name, "--json")
    assert done.code == 0 and done.err == ""
    assert (done.json["rows"], done.json["kind"], done.json["real_rows"]) == (20, "subset", 1438)
    kept, real = attar.open(name), attar.load("digits").train
    ids = kept.table["source_id"].to_pylist()
    assert len(set(ids)) == 20
    place = {int(i): k for k, i in enumerate(real.ids)}
    assert torch.equal(kept.images, real.draw(torch.tensor([place[i] for i in ids])))


@pytest.mark.parametrize(
    ("flags", "rows"), [(("--rows", 12), 12), (("--keep", 0.01), 14), (("--bytes", 640), 10), ((), 10)], ids=str
)
def test_every_budget(say: Say, flags: tuple[Any, ...], rows: int) -> None:
    assert say("select", "digits", "--method", "random", *flags, "--out", "s", "--json").json["rows"] == rows


def test_several_ipc_make_several_sets_in_one_folder(say: Say) -> None:
    words = ("distill", "digits", "--ipc", "1,2", *TINY, "--out", "both")
    done = say(*words, "--json")
    assert [s["folder"] for s in done.json["sets"]] == ["both/ipc-1", "both/ipc-2"]
    assert [len(attar.open(f"both/ipc-{n}")) for n in (1, 2)] == [10, 20]
    before = content(Path("both"))
    assert say(*words).code == 0
    assert content(Path("both")) == before


def test_the_same_command_again_finds_the_set_done(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("distill", "digits", *TINY, "--out", "small", "--json")
    first = say(*words)
    before = content(Path("small"))
    monkeypatch.setattr("attar.verbs.make.run", None)
    again = say(*words)
    assert again.code == 0 and again.json == first.json
    assert content(Path("small")) == before


@pytest.mark.parametrize("verb", ["distill", "select"])
def test_a_dry_run_tells_the_cost_and_writes_nothing(say: Say, tmp_path: Path, verb: str) -> None:
    flags = TINY if verb == "distill" else ()
    done = say(verb, "digits", *flags, "--ipc", "1,3", "--dry-run")
    assert done.code == 0
    first, time, memory = done.out.splitlines()
    assert first.startswith(f"{'dm' if verb == 'distill' else 'kcenter'} on digits: 1438 examples to 10 and 30")
    assert time.startswith("time: under a second (") and memory.startswith("memory: about ")
    found = say(verb, "digits", *flags, "--ipc", "1,3", "--dry-run", "--json").json
    assert found["kept_rows"] == [10, 30] and found["memory_bytes"] > 0 and found["flops"] > 0
    assert os.listdir(tmp_path) == []


def test_long_work_says_beforehand_how_long_it_takes(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (
        "select",
        "digits",
        "--method",
        "grand",
        "--epochs",
        0,
        "--net",
        "convnet:width=2:depth=1",
        "--networks",
        3,
    )
    monkeypatch.setattr(making, "MUCH", 0.0)
    monkeypatch.setattr(making, "seconds", lambda flops, how: 1500.0)
    assert (
        say(*words, "--out", "a").err == "attar: up to about 25 min on this machine; --quick takes a short schedule\n"
    )
    assert say(*words, "--out", "a", "--json").err == ""  # done already
    assert say(*words, "--out", "b", "--quick").err == "attar: up to about 25 min on this machine\n"
    first = "for shared trainings, which come first and which --minutes does not stop"
    said = say(*words, "--out", "c", "--minutes", 5, "--quick").err
    assert said == f"attar: up to about 25 min on this machine {first}\n"
    assert say("select", "digits", "--out", "r", "--minutes", 5).err == ""
    monkeypatch.setattr(making, "seconds", lambda flops, how: 59.0)
    assert say(*words, "--out", "d").err == ""


@pytest.mark.parametrize("entry", METHODS, ids=lambda e: e.name)
def test_every_setting_of_a_method_is_a_flag(say: Say, monkeypatch: pytest.MonkeyPatch, entry: registry.Entry) -> None:
    caught: list[Job] = []
    monkeypatch.setattr(making, "estimate", lambda job: caught.append(job) or {"steps": 0} | EMPTY)
    wanted = {f.name: other(f) for f in dataclasses.fields(registry.find(entry.name))}
    wanted |= {"cap_by": "video"} if entry.name == "active" else {}  # which goes with cap
    flags = [word for name, value in wanted.items() if value is not None for word in flag(name, value)]
    done = say(entry.verb, "digits", "--method", entry.name, *flags, "--dry-run")
    assert done.code == 0, done.err
    assert {name: getattr(caught[0].method, name) for name in wanted} == wanted


EMPTY = {"method": "", "source": "", "real_rows": 0, "kept_rows": [], "seconds": 0, "flops": 0} | {
    "memory_bytes": 0,
    "free_memory_bytes": 0,
}


def other(f: dataclasses.Field[Any]) -> Any:
    """Another value than a setting's default, of its type."""
    kind = str(f.type).split(" | ")[0]
    if kind == "bool":
        return not f.default
    if kind == "int":
        return 5 if f.default is None else f.default + 1
    return (0.5 if f.default is None else f.default * 0.5) if kind == "float" else f.default


def flag(name: str, value: Any) -> list[str]:
    text = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{text}" if value else f"--no-{text}"]
    return [f"--{text}", str(value)]


def test_flags_of_another_method_are_unknown(say: Say) -> None:
    done = say("distill", "digits", "--method", "dm", "--lr-imgs", "0.1")
    assert (done.code, done.out) == (2, "")
    assert done.err == "attar: unknown option: --lr-imgs. Did you mean --lr-img?\n"
    assert say("distill", "digits", "--method", "dm", "--inner", "1").err.startswith("attar: unknown option: --inner.")


def test_the_manifest_holds_the_command_that_makes_the_set_again(say: Say) -> None:
    say("distill", "digits", *TINY, "--lr-img", 0.5, "--seed", 3, "--test-fraction", 0.3, "--out", "one")
    words = attar.open("one").manifest["lineage"][0]["command"].split()
    assert words[0] == "attar"
    assert say(*words[1:], "--out", "two").code == 0
    one, two = content(Path("one")), content(Path("two"))
    assert one["data/train.parquet"] == two["data/train.parquet"]
    assert one["tensors.safetensors"] == two["tensors.safetensors"]


def test_a_method_from_a_file(say: Say, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(MINE)
    done = say("distill", "digits", "--method", "my.py:Still", "--steps", 2, "--shade", 0.25, "--out", "still")
    assert done.code == 0, done.err
    kept = attar.open("still")
    assert kept.images.unique().tolist() == [0.25]
    assert kept.manifest["lineage"][0]["method"] == "my.py:Still"
    assert say("verify", "still").code == 0


MINE = '''
from dataclasses import dataclass
import torch
from attar.method import Method, Rows
from attar.optim import Opt
from attar.params import pixels


@dataclass(frozen=True, kw_only=True)
class Still(Method):
    """Images of one shade."""

    steps: int = 1
    "Updates."
    shade: float = 0.5
    "The shade."

    def init(self, real, budget, seeds, res):
        state = pixels.start(real, budget, seeds, kind="noise")
        return {**state, "image": torch.full_like(state["image"], self.shade)}

    def step(self, state, batch, descend):
        return state

    def finish(self, state, res):
        return Rows(columns={"image": state["image"], "label": state["label"]})
'''


@pytest.mark.parametrize("verb", list(importlib.import_module("attar.cli.front").VERBS))
def test_help_answers_for_every_verb(say: Say, verb: str) -> None:
    from attar.cli.front import VERBS

    done = say(verb, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: attar {verb}")
    assert VERBS[verb][0].split()[0] in done.out
    assert f"Example: attar {VERBS[verb][1]}" in " ".join(done.out.split())
    assert "--json" in done.out
    for ugly in ("--empty-", "STR|", "default: False", "default: None", "--no-json"):
        assert ugly not in done.out


def test_help_shows_the_settings_of_the_method_that_is_named(say: Say) -> None:
    assert "--lr-net" not in say("distill", "--help").out
    assert "--lr-net FLOAT" in say("distill", "--method", "dc", "--help").out
    assert "--steps" not in say("select", "--help").out


def test_a_preset_sets_budget_method_and_data(say: Say) -> None:
    asked = (
        "distill",
        "digits",
        "--method",
        "mtt",
        "--preset",
        "cifar10-10",
        "--syn-steps",
        "2",
        "--dry-run",
        "--json",
    )
    assert say(*asked).json["kept_rows"] == [100]
    assert say(*asked, "--ipc", "2").json["kept_rows"] == [20]
    wrong = say("distill", "digits", "--method", "mtt", "--preset", "cifar-10")
    assert wrong.code == 2 and "mtt has no preset 'cifar-10'; did you mean 'cifar10-" in " ".join(wrong.err.split())
    listed = " ".join(say("methods", "mtt").out.split())
    assert "Settings of the authors" in listed and "cifar100-50" in listed


def test_only_flags_are_taken_for_settings() -> None:
    short = registry.find("dm").quick
    instead = ahead(registry.find("dm"), words.typed(["distill", "steps", "--quick", "--batch=7"]), quick=True)
    made = making.replaced(registry.find("dm")(), instead)
    assert (made.steps, made.batch) == (short["steps"], registry.find("dm")().batch)
    assert words.typed(["evaluate", "size", "--no-random", "--first-seed=3"]) == {"random", "first_seed"}
    assert words.value(["--method=dc", "--out", "x"], "--method", "dm") == "dc"
    assert words.value(["--out", "--method", "dc"], "--method", "dm") == "dc"
    assert words.value(["select", "--method"], "--method", "dm") == "dm"


def test_the_folder_that_one_stands_in_gets_a_sentence(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    for out in (".", ".."):
        said = say("select", "digits", "--method", "random", "--out", out)
        assert said.code == 2 and "exists already; choose another --out" in said.err
        assert say("select", "digits", "--method", "random", "--out", out, "--dry-run").code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]
