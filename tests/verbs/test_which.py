"""attar methods --which: advice from recorded rows."""

from __future__ import annotations

import json

import pytest

from attar.cli import main as cli
from attar.errors import UsageError
from attar.verbs import which as asked


def row(method: str, accuracy: float, seconds: float, data: str = "mnist", **more: object) -> dict[str, object]:
    steps = {"steps": 500, "published_steps": 20_000} if seconds > 1 else {"steps": 0, "published_steps": 0}
    low, high = accuracy - 0.01, accuracy + 0.01
    facts = {"data": data, "ipc": 1, "method": method, "accuracy": accuracy, "interval": [low, high]}
    return {**facts, "make_seconds": seconds, "published": None, "protocol": "dsa", "networks": 15, **steps, **more}


ROWS = [
    row("random", 0.60, 0.1),
    row("kcenter", 0.70, 0.5),
    row("dm", 0.895, 200, published=0.897),
    row("dc", 0.90, 5000, published=0.917),
    row("kcenter", 0.2, 1, "cifar10"),
]


def part(method: str, keep: float, accuracy: float, trainings: int = 3, **settings: object) -> dict[str, object]:
    interval = [accuracy - 0.01, accuracy + 0.01] if trainings > 1 else None
    facts = {"data": "cifar10", "keep": keep, "method": method, "accuracy": accuracy, "interval": interval}
    return {**facts, "trainings": trainings, "settings": settings, "network": "resnet8", "steps": 700}


PARTS = [
    part("random", 0.1, 0.6),
    part("d2", 0.1, 0.55),
    part("d2", 0.1, 0.65, strata=25, features="trained"),
    part("random", 0.7, 0.64, 1),
    part("aum", 0.7, 0.66, 1),
]


QUICK = [
    {k: v for k, v in row(*r).items() if k not in ("published", "published_steps", "protocol", "networks")}
    | {"network": "convnet:width=32", "labels": "soft" if r[0] == "ncfm" else "hard"}
    for r in (("random", 0.5, 0.1), ("ncfm", 0.9, 40), ("dm", 0.8, 20))
]


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {"fidelity": ROWS, "matching": QUICK, "selection": PARTS, "speed": []}
    monkeypatch.setattr(asked, "measured", lambda: tables)


def test_random_examples_of_another_protocol_do_not_stand_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row("random", 0.6, 0.1), row("dc", 0.9, 5000, protocol="dc"), row("dm", 0.8, 200)]
    monkeypatch.setattr(asked, "measured", lambda: {"fidelity": rows, "matching": [], "selection": []})
    above = {r["method"]: r["above_random"] for r in asked.which()}
    assert above["dc"] is None and above["dm"] == pytest.approx(0.2)


def test_the_best_and_the_cheapest_near_it() -> None:
    found = asked.which()
    assert [(r["data"], r["method"], r["advice"]) for r in found] == [
        ("mnist", "dc", "best"),
        ("mnist", "dm", "best for its price"),
        ("mnist", "kcenter", ""),
        ("mnist", "random", ""),
        ("cifar10", "kcenter", ""),
    ]
    assert found[0]["above_random"] == pytest.approx(0.3)
    assert found[-1]["above_random"] is None, "random was not measured there"


def test_one_method_or_none() -> None:
    assert [r["data"] for r in asked.which("kcenter")] == ["mnist", "cifar10"]
    with pytest.raises(
        UsageError, match=r"nothing is recorded of 'dmm'; measured were aum, d2, dc, dm, kcenter, ncfm, random"
    ):
        asked.which("dmm")


def test_parts_of_a_training_set() -> None:
    found = [(r["keep"], r["method"], r["settings"].get("strata"), r["advice"]) for r in asked.parts()]
    assert found == [
        (0.1, "d2", 25, "best"),
        (0.1, "random", None, ""),
        (0.1, "d2", None, ""),
        (0.7, "aum", None, ""),
        (0.7, "random", None, ""),
    ], "one training makes none the best"
    assert asked.parts("aum")[0]["above_random"] == pytest.approx(0.02)
    assert asked.which("aum") == [] and asked.parts("dm") == []


def test_short_schedules_stand_apart() -> None:
    assert [(r["method"], r["advice"]) for r in asked.shorts()] == [("ncfm", "best"), ("dm", ""), ("random", "")]
    assert asked.shorts("dm")[0]["above_random"] == pytest.approx(0.3)
    assert asked.which("ncfm") == [] and asked.shorts("dc") == []


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.run(["methods", "--which"]) == 0
    out = capsys.readouterr().out
    assert "best for its price" in out and "0.895 ± 0.010" in out and "500 of 20,000" in out
    assert cli.run(["methods", "dm", "--which", "--json"]) == 0
    assert [r["method"] for r in json.loads(capsys.readouterr().out)["measured"]] == ["dm"]
    assert cli.run(["methods", "ncfm", "--which"]) == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert (
        "short schedules (--quick), convnet:width=32" in out
        and "mnist 1 ncfm 0.900 ± 0.010 +0.400 40 s 500 best, soft labels" in out
    )
    assert cli.run(["methods", "nope", "--which"]) == 2
    capsys.readouterr()
    assert cli.run(["methods", "d2", "--which"]) == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "A few images" not in out and "d2 --strata 25 0.650 +0.050 *" in out and "d2 0.550 -0.050" in out


def test_the_recorded_rows_have_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for r in asked.parts():
        assert set(PARTS[0]) <= set(r)
        assert r["interval"] is None or 0 <= r["interval"][0] <= r["accuracy"] <= r["interval"][1] <= 1
    for r in asked.shorts():
        assert set(QUICK[0]) <= set(r) and 0 <= r["interval"][0] <= r["accuracy"] <= r["interval"][1] <= 1
    for r in asked.which():
        assert set(ROWS[0]) <= set(r)
        assert 0 <= r["interval"][0] <= r["accuracy"] <= r["interval"][1] <= 1
        assert r["steps"] <= max(r["published_steps"], r["steps"]) and r["make_seconds"] >= 0
