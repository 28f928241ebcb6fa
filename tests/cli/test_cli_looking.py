"""attar report, methods, verify, export, cache and rerun, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_kit import TINY, Said, content

import attar
from attar.manifest import encode
from attar.registry import METHODS

Say = Callable[..., Said]


def test_verify_says_good(say: Say, dm: Path) -> None:
    done = say("verify", "dm")
    assert (done.code, done.out, done.err) == (0, "dm: good (10 examples, 6 files)\n", "")
    facts = say("verify", "dm", "--json").json
    assert facts["good"] is True and facts["method"] == "dm"
    assert facts["files"]["data/train.parquet"] == (dm / "data" / "train.parquet").stat().st_size


def test_report_writes_a_page_beside_the_folder(say: Say, dm: Path, tmp_path: Path) -> None:
    before = content(dm)
    done = say("report", "dm/")
    assert (done.code, done.out) == (0, "dm.html\n")
    page = (tmp_path / "dm.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>") and "<script" not in page
    assert say("report", "dm", "--out", "deep/er/page.html", "--json").json["page"] == "deep/er/page.html"
    assert (tmp_path / "deep" / "er" / "page.html").read_text() == page
    assert content(dm) == before
    assert say("report", "dm").code == 0, "an older page makes room"


def test_a_set_may_be_the_working_folder(say: Say, dm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(dm)
    assert say("verify", ".").code == 0
    assert say("report", ".").out == f"{tmp_path / 'dm.html'}\n"
    assert say("rerun", ".").out == f"{tmp_path / 'dm-again'}\n"
    assert content(tmp_path / "dm-again")["data/train.parquet"] == content(dm)["data/train.parquet"]


def test_methods_lists_all_in_the_order_of_the_registry(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    done = say("methods")
    assert done.code == 0
    places = [done.out.index(f"│ {e.name} ") for e in METHODS]
    assert places == sorted(places)
    monkeypatch.setenv("COLUMNS", "80")
    narrow = say("methods").out
    assert all(f"│ {e.name} " in narrow for e in METHODS)  # no name is cut off
    found = say("methods", "--json").json["methods"]
    assert [m["name"] for m in found[: len(METHODS)]] == [e.name for e in METHODS]


@pytest.mark.parametrize("name", [e.name for e in METHODS])
def test_methods_tells_of_one(say: Say, name: str) -> None:
    one = say("methods", name, "--json").json
    assert one["name"] == name and one["paper"] and one["doc"]
    text = say("methods", name).out
    for setting in one["settings"]:
        assert "--" + setting["name"].replace("_", "-") in text
        assert setting["help"]
    assert one["doc"].splitlines()[0] in text


def test_export_as_class_folders_reads_back(say: Say, dm: Path) -> None:
    assert say("export", "dm", "--to", "folders").out == "folders\n"
    kept, back = attar.open("dm"), attar.load("folders").train  # a class of one picture holds none out
    assert sorted(os.listdir("folders")) == [str(k) for k in range(10)]
    assert back.class_names == kept.class_names
    assert torch.equal(back.raw(torch.arange(10))[back.labels.argsort()], kept.bytes8[kept.labels.argsort()])


def test_export_as_npz_reads_back(say: Say, random: Path) -> None:
    assert say("export", "random", "--to", "small.npz", "--format", "npz", "--json").json["format"] == "npz"
    kept = attar.open("random")
    with np.load("small.npz", allow_pickle=False) as z:
        assert z["images"].shape == (20, 8, 8, 1) and z["images"].dtype == np.uint8
        assert (z["images"] == kept.bytes8.permute(0, 2, 3, 1).numpy()).all()
        assert (z["labels"] == kept.labels.numpy()).all()
        assert tuple(z["class_names"]) == kept.class_names


def test_export_as_pt_reads_back_exactly(say: Say, dm: Path) -> None:
    assert say("export", "dm", "--to", "small.pt", "--format", "pt").code == 0
    kept, back = attar.open("dm"), torch.load("small.pt", weights_only=True)
    assert torch.equal(back["images"], kept.images) and torch.equal(back["labels"], kept.labels)
    space = kept.manifest["preprocessing"]
    assert back["mean"].tolist() == pytest.approx(space["mean"]) and back["std"].tolist() == pytest.approx(space["std"])


def test_rerun_makes_the_same_bytes(say: Say, dm: Path) -> None:
    done = say("rerun", "dm")
    assert (done.code, done.out) == (0, "dm-again\n")
    assert say("rerun", "dm", "--out", "third", "--json").json["made"] == ["third"]
    first = content(dm)
    for again in ("dm-again", "third"):
        for name in ("data/train.parquet", "tensors.safetensors", "preview.png"):
            assert content(Path(again))[name] == first[name]


def test_rerun_of_a_selection(say: Say, random: Path) -> None:
    assert say("rerun", "random").code == 0
    assert content(Path("random-again"))["data/train.parquet"] == content(random)["data/train.parquet"]


def test_rerun_repairs_a_set_whose_pictures_are_lost(say: Say, dm: Path) -> None:
    good = content(dm)["data/train.parquet"]
    (dm / "data" / "train.parquet").unlink()
    assert say("verify", "dm").code == 3
    assert say("rerun", "dm").code == 0
    assert content(Path("dm-again"))["data/train.parquet"] == good


STRANGE = "from pathlib import Path\n\nPath('ran').touch()\nfrom attar.nets.convnet import convnet as Mine\n"


@pytest.mark.parametrize("named", ["method", "settings", "data", "budget", "plan"])
def test_rerun_runs_no_code_of_a_strangers_manifest(say: Say, dm: Path, named: str) -> None:
    """A manifest names what made a set; whoever gives one away chooses these names and what lies in its folder."""
    (dm / "evil.py").write_text(STRANGE)
    manifest = json.loads((dm / "condensed.json").read_text())
    made = manifest["lineage"][0]
    made.update({"method": "dm/evil.py:Mine"} if named == "method" else {})
    made.get(named if named != "method" else "", {}).update(net="dm/evil.py:Mine")
    (dm / "condensed.json").write_bytes(encode(manifest))
    refused = say("rerun", "dm", "--trust", "evil.py:Mine")
    assert refused.code == 2 and "dm/evil.py:Mine, which would run with your rights" in refused.err
    assert refused.err.endswith("add --trust dm/evil.py:Mine\n")
    assert not Path("ran").exists() and not Path("dm-again").exists()
    say("rerun", "dm", "--trust", "dm/evil.py:Mine,other.py:Net")
    assert Path("ran").exists()


def test_cache_shows_and_purges(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "mine"))
    assert say("cache").out == f"{tmp_path / 'mine'}: empty\n"
    say("select", "digits", "--method", "kcenter", "--out", "k")
    say("evaluate", "k", "--net", "convnet:width=8:depth=1", "--epochs", 1, "--seeds", 2, "--no-random")
    found = say("cache", "--json").json
    assert {e["kind"] for e in found["entries"]} == {"resources", "scores"}
    assert found["bytes"] == sum(e["bytes"] for e in found["entries"]) > 0
    text = say("cache").out
    assert "features-" in text and "of 2 networks" in text
    assert say("cache", "--purge", "scores", "--json").json["freed_bytes"] > 0
    assert {e["kind"] for e in say("cache", "--json").json["entries"]} == {"resources"}
    assert say("cache", "--purge", "all").out.endswith(": empty\n")


def test_the_module_runs_as_a_program(made: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "attar", "verify", str(made / "dm"), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["rows"] == 10


@pytest.mark.parametrize(
    "words",
    [
        ("distill", "digits", *TINY, "--out", "x"),
        ("select", "digits", "--method", "random", "--out", "x"),
        ("distill", "digits", *TINY, "--dry-run"),
        ("verify", "dm"),
        ("report", "dm"),
        ("export", "dm", "--to", "x"),
        ("rerun", "dm"),
        ("methods",),
        ("methods", "dsa"),
        ("cache",),
        ("verify", "nothing"),
        ("frobnicate",),
        ("distill", "digits", "--ipc", "0"),
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_with_json_there_is_one_object_on_stdout(say: Say, dm: Path, words: tuple[str, ...]) -> None:
    done = say(*words, "--json")
    assert done.out.count("\n") == 1 and done.json
    assert ("error" in done.json) == (done.code != 0) == (done.err != "")
    if done.code:
        assert done.json["exit_code"] == done.code and done.err == f"attar: {done.json['error']}\n"
