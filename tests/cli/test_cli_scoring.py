"""attar evaluate and attar compare, as a user types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_kit import QUICK, Said, content

import attar
from attar.cli.evaluate import notes
from attar.errors import ResourceError

Say = Callable[..., Said]


def test_evaluate_prints_and_records_scores(say: Say, dm: Path) -> None:
    before = attar.open(dm)
    done = say("evaluate", "dm", *QUICK)
    assert (done.code, done.err) == (0, "")
    scores = attar.open("dm").manifest["scores"]
    assert [s["images"] for s in scores] == ["exact", "8-bit"]
    assert f"{scores[0]['last_mean']:.3f}" in done.out
    assert f"{scores[0]['baseline']['random']['last_mean']:.3f}" in done.out
    assert scores[0]["protocol"] == "dsa, 2 epochs" and scores[0]["seeds"] == 2
    assert done.out.splitlines()[-3:] == [
        "accuracy on 359 test examples of digits, protocol dsa, 2 epochs",
        "random: 10 real examples, drawn anew for every seed, by the same protocol",
        "look at it: dm/report.html",
    ]
    after = attar.open("dm")
    assert torch.equal(after.images, before.images) and after.manifest["lineage"] == before.manifest["lineage"]
    assert say("verify", "dm").code == 0
    assert f"{scores[0]['last_mean']:.3f}" in (dm / "README.md").read_text()


def test_the_same_evaluation_again_trains_nothing_and_writes_nothing(
    say: Say, dm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = say("evaluate", "dm", *QUICK)
    before = content(dm)
    monkeypatch.setattr("attar.evaluate.bench.train", None)
    again = say("evaluate", "dm", *QUICK)
    assert (again.code, again.out) == (0, first.out)
    assert content(dm) == before


@pytest.fixture
def short_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training on all real examples stops after an epoch."""
    monkeypatch.setattr("attar.evaluate.presets.FULL_EPOCHS", 1)


@pytest.mark.usefixtures("short_full")
def test_evaluate_with_several_networks_and_another_protocol(say: Say, random: Path) -> None:
    nets = "convnet:width=8:depth=1,mlp:width=8"
    flags = ("--nets", nets, "--protocol", "dc", "--epochs", 1, "--seeds", 1, "--full", "--no-random", "--json")
    scores = say("evaluate", "random", *flags).json["scores"]
    assert [s["network"] for s in scores] == ["convnet:depth=1:width=8", "mlp:width=8"]
    assert all(s["protocol"].startswith("dc") and s["images"] == "exact" for s in scores)
    assert all(set(s["baseline"]) == {"full"} for s in scores)
    assert all(0 <= s["last_mean"] <= 1 for s in scores)


def test_the_best_looks_stand_beside_the_last(say: Say, dm: Path) -> None:
    done = say("evaluate", "dm", *QUICK, "--protocol", "dc-best")
    for s in attar.open("dm").manifest["scores"]:
        assert s["best_mean"] >= s["last_mean"]
        assert f"best look at the test set, {s['network']}, {s['images']} images: {s['best_mean']:.3f}" in done.out


def test_scores_of_other_networks_stay(say: Say, random: Path) -> None:
    for net in ("convnet:width=8:depth=1", "mlp", "convnet:width=8:depth=1"):
        assert say("evaluate", "random", "--net", net, "--epochs", 1, "--seeds", 1, "--no-random").code == 0
    networks = [s["network"] for s in attar.open("random").manifest["scores"]]
    assert len(networks) == 2 and networks[1].startswith("mlp")


def test_evaluate_reads_the_data_as_the_set_was_made(say: Say) -> None:
    say("select", "digits", "--method", "random", "--size", 6, "--test-fraction", 0.5, "--out", "six")
    scores = say("evaluate", "six", *QUICK, "--threads", 1, "--json").json["scores"]
    assert scores[0]["test"]["rows"] == attar.open("six").manifest["source"]["rows"] - 1 == 898
    refused = say("evaluate", "six", *QUICK, "--size", 5)
    assert refused.code == 3 and "5 x 5" in refused.err


def test_evaluate_with_real_data_given(say: Say, dm: Path, tmp_path: Path) -> None:
    given = say("evaluate", "dm", *QUICK, "--real", "digits", "--json").json["scores"]
    assert given == say("evaluate", "dm", *QUICK, "--json").json["scores"]


def test_evaluate_scores_a_published_file(say: Say, dm: Path) -> None:
    own = say("evaluate", "dm", *QUICK, "--protocol", "dc", "--json").json["scores"][0]
    assert say("export", "dm", "--to", "small.pt", "--format", "pt").code == 0
    done = say("evaluate", "small.pt", "--real", "digits", *QUICK, "--protocol", "dc", "--json")
    assert done.code == 0, done.err
    assert done.json["scores"][0]["accuracies"] == own["accuracies"]


def test_what_a_published_file_does_not_tell_is_told(say: Say, dm: Path) -> None:
    kept = attar.open("dm")
    logits = 4 * torch.nn.functional.one_hot(kept.labels, 10).float()
    torch.save({"data": [[kept.images, logits]]}, "logits.pt")
    how = ("evaluate", "logits.pt", "--real", "digits", *QUICK, "--protocol", "dc", "--json")
    refused = say(*how)
    assert refused.code == 3 and "if they are logits, add --logits" in refused.err
    done = say(*how, "--logits", "--lr", 0.02, "--index", 0)
    assert done.code == 0, done.err
    soft = next(s for s in done.json["scores"] if s["labels"] == "soft")
    assert soft["lr"] == 0.02
    other = say("evaluate", "dm", *QUICK, "--logits")
    assert other.code == 2 and "are told of a published .pt" in other.err


def compared(out: str) -> tuple[str, ...]:
    methods = "random,herding,dm:steps=3:batch=4,dm:steps=2:batch=4"
    return ("compare", "digits", "--methods", methods, "--ipc", "1,2", *QUICK, "--out", out)


def test_compare_makes_a_table_and_goes_on_where_it_was(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    done = say(*compared("c"))
    assert (done.code, done.err) == (0, "")
    for word in ("random", "herding", "dm:steps=3:batch=4", "dm:steps=2:batch=4", "look at it: c/compare.html"):
        assert word in done.out
    rows = json.loads(Path("c/compare.json").read_text())
    assert [(r["method"], r["ipc"], r["rows"]) for r in rows] == [
        (m, n, 10 * n) for m in ("random", "herding", "dm:steps=3:batch=4", "dm:steps=2:batch=4") for n in (1, 2)
    ]
    assert all(attar.verify(r["folder"])["good"] for r in rows)
    assert Path("c/compare.html").is_file() and Path("c/compare.md").read_text().count("|") > 10
    before = content(Path("c"))
    monkeypatch.setattr("attar.verbs.make.run", None)
    monkeypatch.setattr("attar.evaluate.bench.train", None)
    again = say(*compared("c"))
    assert (again.code, again.out) == (0, done.out)
    assert content(Path("c")) == before


@pytest.mark.usefixtures("short_full")
def test_compare_passes_settings_to_the_methods_that_have_them(say: Say) -> None:
    words = ("compare", "digits", "--methods", "random,dm:batch=4:net=convnet", "--steps", 2, "--ipc", 1)
    done = say(*words, *QUICK, "--full", "--out", "c", "--json")
    assert done.code == 0, done.err
    assert [r["method"] for r in done.json["rows"]] == ["random", "dm:batch=4:net=convnet"]
    made = attar.open(done.json["rows"][1]["folder"]).manifest["lineage"][0]
    assert (made["settings"]["steps"], made["settings"]["batch"], made["steps"]) == (2, 4, 2)
    assert all("full" in r["score"]["baseline"] for r in done.json["rows"])


def test_a_quick_comparison_is_marked_and_what_is_given_wins(say: Say) -> None:
    words = ("compare", "digits", "--methods", "random,dm:batch=4", "--quick", "--steps", 2, "--ipc", 1, *QUICK)
    done = say(*words, "--out", "c", "--json")
    assert done.code == 0, done.err
    assert all(row["quick"] for row in done.json["rows"])
    made = attar.open(done.json["rows"][1]["folder"]).manifest["lineage"][0]["settings"]
    assert (made["steps"], made["batch"], made["net"]) == (2, 4, "convnet:width=32")
    assert "| dm:batch=4, quick |" in Path("c/compare.md").read_text()
    assert "short schedule" in Path("c/compare.html").read_text()


@pytest.mark.usefixtures("short_full")
def test_labels_of_a_teacher_beside_hard_ones(say: Say, random: Path) -> None:
    done = say("evaluate", "random", *QUICK, "--protocol", "rded", "--teacher", "mlp:width=8")
    assert (done.code, done.err) == (0, "")
    hard, taught = attar.open("random").manifest["scores"]
    assert [hard["labels"], taught["labels"]] == ["hard", "teacher"]
    assert f"{taught['last_mean']:.3f}" in done.out and f"{taught['baseline']['random']['last_mean']:.3f}" in done.out
    assert f"best look at the test set, {taught['network']}, exact images, teacher labels: " in done.out
    assert say("report", "random").code == 0
    assert "| rded, 2 epochs, teacher mlp:width=8, teacher labels | " in (random / "README.md").read_text()
    refused = say("evaluate", "random", *QUICK, "--teacher", "mlp")
    assert refused.code == 2 and "has no teacher" in refused.err


@pytest.mark.usefixtures("short_full")
def test_a_ranking_prints_both_scores_and_every_accuracy(say: Say, dm: Path) -> None:
    done = say("evaluate", "dm", *QUICK, "--protocol", "dd-ranking")
    assert (done.code, done.err) == (0, "")
    (score,) = attar.open("dm").manifest["scores"]
    assert score["protocol"] == "dd-ranking, dsa, 2 epochs"
    found = score["ranking"]
    assert f"label-robust score {found['label_robust']['score']:.4f}" in done.out
    assert f"augmentation-robust score {found['augmentation_robust']['score']:.4f}" in done.out
    assert all(f"{name.replace('_', ' ')} {value:.3f}" in done.out for name, value in found["accuracies"].items())
    other = say("evaluate", "dm", *QUICK, "--protocol", "dd-ranking:dc")
    assert other.code == 0 and "dd-ranking, dc, 2 epochs" in other.out
    assert say("report", "dm").code == 0 and say("verify", "dm").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--protocol", "dd-ranking", "--no-random"), "leave --no-random out"),
        (("--protocol", "dd-ranking:das"), "did you mean 'dsa'"),
        (("--protocol", "dd-rankin"), "did you mean 'dd-ranking'"),
        (("--protocol", "idcc"), "did you mean 'idc'"),
    ],
)
def test_wrong_protocols_get_one_sentence(say: Say, dm: Path, words: tuple[str, ...], said: str) -> None:
    done = say("evaluate", "dm", *QUICK, *words)
    assert done.code == 2 and said in done.err.replace("\n", " ")


def test_going_over_a_finished_comparison_never_makes_it_shorter(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("compare", "digits", "--methods", "random,herding", "--ipc", "1,2", "--out", "c", *QUICK[:-1])
    assert say(*words, 2).code == 0
    finished = content(Path("c"))
    from attar.verbs import compare

    evaluate = compare.evaluate

    def stopped(kept: attar.Condensed, **settings: Any) -> Any:
        if "herding" in str(kept.path):
            raise ResourceError("the disk is full")
        return evaluate(kept, **settings)

    monkeypatch.setattr(compare, "evaluate", stopped)
    assert say(*words, 2).code == 4
    assert content(Path("c")) == finished
    assert say(*words, 1).code == 4  # other rules: what was found by the first stands in no table with it
    assert [(r["method"], r["ipc"]) for r in json.loads(Path("c/compare.json").read_text())] == [
        ("random", 1),
        ("random", 2),
    ]


def test_a_training_that_breaks_is_told_and_the_others_go_on(say: Say) -> None:
    methods = "dm:steps=1:batch=4:lr_img=1e25,random"
    done = say("compare", "digits", "--methods", methods, "--ipc", "1,2", "--out", "c", *QUICK)
    assert done.code == 0, done.err
    assert "diverged" in done.out
    wild, calm = (
        [r["score"] for r in json.loads(Path("c/compare.json").read_text()) if r["method"].startswith(name)]
        for name in ("dm", "random")
    )
    assert all("NaN" in s["broken"] and "accuracies" not in s for s in wild) and len(wild) == 2
    assert all(len(s["accuracies"]) == 2 for s in calm) and len(calm) == 2
    assert Path("c/compare.md").read_text().count("diverged") == 2
    assert "Diverged: a network’s loss became NaN" in Path("c/compare.html").read_text()
    assert attar.open(Path("c/dm-steps=1-batch=4-lr_img=1e25/ipc-1")).manifest["scores"] == []
    alone = say("evaluate", "c/dm-steps=1-batch=4-lr_img=1e25/ipc-1", *QUICK)
    assert alone.code == 3 and "became NaN or infinite" in alone.err.replace("\n", " ")


def test_hard_labels_beside_soft_ones_are_told() -> None:
    score: dict[str, Any] = {"protocol": "dsa", "network": "mlp", "images": "exact", "labels": "soft"}
    score |= {"best_mean": None, "test": {"rows": 9, "name": "digits"}}
    score |= {"baseline": {"random": {"rows": 10, "labels": "hard"}}}
    said = "beside soft labels random examples have hard ones; --teacher convnet gives them a teacher's answers"
    assert said in notes("set", [score])
    score["baseline"]["random"]["labels"] = "soft"
    assert said not in notes("set", [score])


SLOW = """
import time
from pathlib import Path

from torch import nn


class Slow(nn.Sequential):
    def __init__(self, channels, size, classes):
        super().__init__(nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes))

    def forward(self, x):
        Path("training").touch()
        time.sleep(0.01)
        return super().forward(x)
"""


@pytest.mark.parametrize("threads", ["1", None])
def test_control_c_during_an_evaluation_says_how_to_go_on(dm: Path, threads: str | None) -> None:
    """One network after the other, and beside each other; the set is as it was, and no process is left."""
    before, home = content(dm), dm.parent
    (home / "slow.py").write_text(SLOW)
    words = ["evaluate", "dm", "--nets", "slow.py:Slow", "--epochs", "100000", "--seeds", "2"]
    words += ["--threads", threads] if threads else []
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    how: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": env}
    process = subprocess.Popen([sys.executable, "-m", "attar", *words], start_new_session=True, cwd=home, **how)
    while not (home / "training").exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=60)
    # Where the signal meets code that Python runs from a string, Python ends by it: a shell calls both 130.
    assert process.returncode in (130, -signal.SIGINT) and out == "", err
    assert err == "attar: stopped; run the same command again to go on\n"
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert content(dm) == before
