"""Active learning as a whole: rounds, budgets, labels that nobody asked for, and labels from a person."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

import attar
from attar.budget import Budget
from attar.cli.main import run as command_line
from attar.errors import DataError, UsageError, Waiting
from attar.execute.plan import Plan
from attar.method import State
from attar.real.realset import RealSet
from attar.run import Descent, run
from attar.seeds import Seeds
from attar.select.active import QUERIES, Active
from attar.testing.hooks import Alive
from attar.testing.toys import toy, unlabelled

SMALL: dict[str, Any] = {"net": "convnet:width=4:depth=1", "epochs": 2, "rounds": 3, "batch": 8, "members": 2}


def done(real: RealSet, budget: int, **settings: Any) -> State:
    """The final state."""
    return run(Active(**{**SMALL, **settings}), real, [Budget(rows=budget)], seed=0, plan=Plan()).states[0]


def with_labels(real: RealSet, labels: torch.Tensor) -> RealSet:
    """The same examples under other labels."""
    at = real.table.column_names.index("label")
    return dataclasses.replace(real, table=real.table.set_column(at, "label", pa.array(labels.numpy())))


@pytest.mark.parametrize("query", QUERIES)
def test_labels_that_nobody_asked_for_change_nothing(query: str) -> None:
    real = toy()
    ours = done(real, 12, query=query)
    other = (real.labels + 1) % 3
    other[ours["picked"]] = real.labels[ours["picked"]]
    theirs = done(with_labels(real, other), 12, query=query)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_labels_that_were_asked_for_matter() -> None:
    real = toy()
    ours = done(real, 12, query="entropy")
    other = real.labels.clone()
    other[ours["picked"][:3]] = (other[ours["picked"][:3]] + 1) % 3
    assert not torch.equal(ours["picked"], done(with_labels(real, other), 12, query="entropy")["picked"])


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Spied(RealSet):
    """A set that notes which labels are read."""

    asked: list[int]

    @property
    def labels(self) -> Any:  # type: ignore[override]
        """Labels that note where they are looked at."""
        spied, values = self, torch.from_numpy(self.table["label"].to_numpy().copy())

        class Noted:
            def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
                spied.asked.extend(rows.tolist())
                return values[rows]

        return Noted()


@pytest.mark.parametrize("query", ["badge", "bald", "random"])
def test_only_the_labels_of_picks_are_read_each_once(query: str) -> None:
    real = toy()
    spied = Spied(**{f.name: getattr(real, f.name) for f in dataclasses.fields(real)}, asked=[])
    state = done(spied, 11, query=query)
    assert spied.asked == state["picked"].tolist()
    assert state["answer"].tolist() == real.labels[state["picked"]].tolist()


@pytest.mark.parametrize("query", ["badge", "kcenter", "random"])
@pytest.mark.parametrize(
    ("budget", "first", "due"), [(11, None, [3, 3, 3, 2]), (2, None, [1, 1, 0, 0]), (9, 6, [6, 1, 1, 1])]
)
def test_the_budget_is_exact_over_the_rounds(query: str, budget: int, first: int | None, due: list[int]) -> None:
    state = done(toy(), budget, query=query, first=first)
    assert state["round"].bincount(minlength=4).tolist() == due
    assert len(set(state["picked"].tolist())) == budget and bool((state["round"].diff() >= 0).all())


def test_a_whole_set_can_be_asked_for() -> None:
    for query in QUERIES:
        assert sorted(done(toy((5, 4)), 9, query=query)["picked"].tolist()) == list(range(9))


def test_picks_do_not_depend_on_the_order_of_the_rows() -> None:
    real = toy()
    turned = real.subset(torch.randperm(len(real), generator=torch.Generator().manual_seed(1)))
    for query in ("random", "entropy"):
        ours, theirs = (r.ids[done(r, 9, query=query)["picked"]].tolist() for r in (real, turned))
        assert ours == theirs


def test_a_stratified_start_has_every_class() -> None:
    real = toy((20, 20, 3))
    state = done(real, 24, first=6, start="stratified", query="random")
    assert real.labels[state["picked"][:6]].bincount().tolist() == [2, 2, 2]


def test_no_round_takes_more_of_a_group_than_the_cap() -> None:
    real = toy()
    video = [i // 6 for i in range(len(real))]
    real = dataclasses.replace(real, table=real.table.append_column("video", pa.array(video)))
    for query in ("margin", "badge", "kcenter", "random"):
        state = done(real, 24, query=query, cap=1, cap_by="video")
        for turn in range(4):
            of = [video[i] for i in state["picked"][state["round"] == turn].tolist()]
            assert len(of) == len(set(of)) == 6
    with pytest.raises(DataError, match=r"round 0 asks for 8 examples but cap=1 of each 'video' leaves 7 of 42"):
        done(real, 32, cap=1, cap_by="video")
    with pytest.raises(UsageError, match="no column 'film'"):
        done(real, 8, cap=1, cap_by="film")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"query": "entrpy"}, "did you mean 'entropy'"),
        ({"rounds": 0}, "rounds=0"),
        ({"cap": 2}, "cap and cap_by go together"),
        ({"classes": "a,b"}, "add --ask"),
        ({"ask": "x.csv", "classes": "a,,b"}, "empty or repeated"),
        ({"ask": "x.csv", "start": "stratified"}, "start=random"),
        ({"epochs": 0}, "epochs=0"),
        ({"net": "convnet", "lr": -1.0}, "learning rate"),
    ],
)
def test_impossible_settings_are_refused_in_a_sentence(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Active(**settings)


def test_a_set_without_labels_needs_somebody_to_ask() -> None:
    with pytest.raises(DataError, match=r"give --ask labels\.csv and --classes cat,dog"):
        done(unlabelled(9), 4)
    with pytest.raises(UsageError, match="first=9 is more than the budget of 4"):
        done(toy(), 4, first=9)


@pytest.mark.parametrize("query", ["badge", "kcenter", "entropy", "bald"])
def test_a_question_holds_no_more_than_the_estimate(query: str) -> None:
    real, budget, seeds = toy((400, 400, 400), size=(16, 16)), Budget(rows=40), Seeds(0)
    method = Active(query=query, rounds=3, members=2, batch=8, net="convnet:width=32:depth=1")
    state = method.init(real, budget, seeds, {})
    with Alive() as alive:
        method.step(state, method.draw(real, seeds, {}, method.nets * method.epochs), Descent(method, 1))
    assert int(state["count"]) == 20 and 0.2 * alive.most < method.cost(real, budget).memory
    pool = 8 * 1190 * 32 * 8 * 8  # float64 features
    assert (alive.most > pool) == (query in ("badge", "kcenter"))
    assert (method.cost(real, budget).memory > pool) == (query in ("badge", "kcenter"))


def fill(path: Path, answer: Any) -> list[dict[str, str]]:
    """Writes labels into the empty cells of a file; returns its rows."""
    with path.open(newline="") as f:
        rows = list(csv.DictReader(f))
    for row in rows:
        row["label"] = row["label"] or answer(int(row["id"]))
    write(path, rows)
    return rows


def write(path: Path, rows: list[dict[str, str]]) -> None:
    """The rows as CSV."""
    with path.open("w", newline="") as f:
        table = csv.DictWriter(f, ["id", "round", "file", "label"])
        table.writeheader()
        table.writerows(rows)


def asking(tmp_path: Path, real: RealSet, **settings: Any) -> dict[str, Any]:
    """Arguments of attar.select."""
    own = {**SMALL, "rounds": 2, "query": "margin", "ask": str(tmp_path / "labels.csv"), **settings}
    return {"source": real, "rows": 7, "threads": 1, "out": tmp_path / "kept", **own}


def test_a_person_gives_the_labels_that_the_column_would(tmp_path: Path) -> None:
    """Three stops, each of which keeps its state, and the same picks as with the label column."""
    real = toy()
    names = {int(i): real.class_names[k] for i, k in zip(real.ids, real.labels)}
    wanted = attar.select(real, **{**SMALL, "rounds": 2, "query": "margin"}, rows=7, threads=1)
    call = asking(tmp_path, real)
    for turn, n in enumerate((3, 2, 2)):
        for _ in range(2):  # asked twice, it says the same
            with pytest.raises(
                Waiting, match=rf"^{n} examples of round {turn} of 2 wait for labels in .*labels.csv; write apple"
            ):
                attar.select(**call)
            assert list((tmp_path / "kept.attar-run").glob("state-*"))
        assert len(fill(tmp_path / "labels.csv", names.__getitem__)) == sum((3, 2, 2)[: turn + 1])
    kept = attar.select(**call)
    assert kept.table["source_id"].to_pylist() == wanted.table["source_id"].to_pylist()
    assert kept.labels.tolist() == wanted.labels.tolist() == kept.table["source_label"].to_pylist()
    assert not (tmp_path / "kept.attar-run").exists()


def test_a_set_without_labels_gets_those_of_the_person(tmp_path: Path) -> None:
    call = asking(tmp_path, unlabelled(20), classes="even, odd")
    for _ in range(3):
        with pytest.raises(Waiting, match="write even, odd into"):
            attar.select(**call)
        fill(tmp_path / "labels.csv", lambda i: ("even", "odd")[i % 2])
    kept = attar.open(attar.select(**call).path)
    assert kept.class_names == ("even", "odd")
    assert kept.labels.tolist() == [i % 2 for i in kept.table["source_id"].to_pylist()]
    assert kept.table["round"].to_pylist() == [0, 0, 0, 1, 1, 2, 2]


def test_a_lost_state_finds_its_answers_again(tmp_path: Path) -> None:
    real = toy()
    call = {**asking(tmp_path, real), "out": None}
    for turn in range(3):
        with pytest.raises(Waiting, match=f"of round {turn} of 2"):
            attar.select(**call)
        fill(tmp_path / "labels.csv", lambda i: "bread")
    assert attar.select(**call).labels.tolist() == [1] * 7


def drop(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return rows[:-1]


def add(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [*rows, {**rows[-1], "id": "4"}]


def double(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [*rows, rows[-1]]


def change(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{**rows[0], "label": "chair"}, *rows[1:]]


def forget(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return rows[1:]


def misspell(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [*rows[:-1], {**rows[-1], "label": "bred"}]


def half(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [*rows[:-1], {**rows[-1], "label": ""}]


def spoil(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [*rows[:-1], {**rows[-1], "id": "x"}]


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (drop, r"lacks the row of id \d+, and so for 1 of 2 examples of round 1"),
        (add, r"row 7: id 4 was not asked for in round 1; delete the row"),
        (double, r"row 7: id \d+ stands in an earlier row too"),
        (change, r"row 2: the answer for id \d+ is not the one that round 0 was trained on"),
        (forget, r"lacks the row of id \d+ of round 0, which was answered before"),
        (misspell, r"row 6: 'bred' is none of the classes; did you mean 'bread'"),
        (half, r"^1 examples of round 1 of 2 wait"),
        (spoil, r"row 6: id 'x' or round '1' is no whole number"),
    ],
)
def test_a_wrong_file_is_refused_in_a_sentence_and_goes_on_when_mended(tmp_path: Path, harm: Any, says: str) -> None:
    call, path = asking(tmp_path, toy()), tmp_path / "labels.csv"
    rows: list[dict[str, str]] = []
    for _ in range(2):
        with pytest.raises(Waiting):
            attar.select(**call)
        rows = fill(path, lambda i: "bread")
    write(path, harm(rows))
    with pytest.raises(Waiting if harm is half else DataError, match=says):
        attar.select(**call)
    write(path, rows)
    with pytest.raises(Waiting, match="of round 2 of 2"):
        attar.select(**call)


def test_files_that_are_no_table_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("id,label\n5,bread\n")
    with pytest.raises(DataError, match="has no column 'round'; its first line must be id,round,file,label"):
        attar.select(**asking(tmp_path, toy()))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="no CSV file in UTF-8"):
        attar.select(**asking(tmp_path, toy()))


def test_a_query_on_the_command_line_is_active_learning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["select", "digits", "--query", "random", "--rounds", "2", "--rows", "9", "--out", str(tmp_path / "kept")]
    assert command_line(words) == 0
    kept = attar.open(tmp_path / "kept")
    assert kept.manifest["lineage"][-1]["method"] == "active"
    assert kept.table["round"].to_pylist() == [0] * 3 + [1] * 3 + [2] * 3
    assert command_line([*words[:-1], str(tmp_path / "more"), "--ask", str(tmp_path / "a.csv")]) == 5
    assert "wait for labels" in capsys.readouterr().err
