"""Bad input: one sentence that names the place, the right exit code, and finished pieces are kept."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scale_kit import content, kept_ids, rows, select, table, written

from attar.cli.main import run
from attar.errors import AttarError, DataError, ResourceError, UsageError
from attar.scale import census, memory
from attar.scale.stage import Stage

pytestmark = pytest.mark.usefixtures("here")

Found = dict[str, np.ndarray]


@pytest.mark.parametrize(("value", "features"), [(np.nan, "fixed"), (np.inf, "list"), (3e30, "fixed")])
def test_features_that_are_not_finite_name_shard_and_row(
    tmp_path: Path, value: float, features: str, here: list[tuple[str, int]]
) -> None:
    found = rows()
    found["embedding"][437, 2] = value  # row 37 of the third shard
    source = written(tmp_path / "in", found, features=features)
    with pytest.raises(DataError, match=r"part-2.parquet, row 37 has features that are NaN, infinite or too large"):
        select(source, tmp_path / "out", "el2n", {"rows": 50}, m={"epochs": 1})
    done = [unit for step, unit in here if step == "survey"]
    assert len(done) >= 6
    found["embedding"][437, 2] = 0
    written(tmp_path / "mended", found, features=features)
    (tmp_path / "mended" / "part-2.parquet").replace(source / "part-2.parquet")
    here.clear()
    select(source, tmp_path / "out", "el2n", {"rows": 50}, m={"epochs": 1})
    again = [unit for step, unit in here if step == "survey"]
    assert not set(done[:6]) & set(again)  # those of the other shards
    select(source, tmp_path / "new", "el2n", {"rows": 50}, m={"epochs": 1})
    assert content(tmp_path / "out") == content(tmp_path / "new")


def test_features_that_are_missing_name_shard_and_row(tmp_path: Path) -> None:
    source = written(tmp_path / "in", rows())
    damaged = pq.read_table(source / "part-1.parquet").to_pylist()
    damaged[5]["embedding"] = None
    schema = pq.read_schema(source / "part-1.parquet")
    pq.write_table(table(rows()).from_pylist(damaged, schema=schema), source / "part-1.parquet")
    with pytest.raises(DataError, match=r"part-1.parquet, row 5 has no features"):
        select(source, tmp_path / "out", "kcenter", {"rows": 50})


def test_an_infinite_score_names_shard_and_row(tmp_path: Path) -> None:
    found = rows()
    found["score"][201] = np.inf
    with pytest.raises(DataError, match=r"part-1.parquet, row 1 has the score inf"):
        select(written(tmp_path / "in", found), tmp_path / "out", "score", {"rows": 50})


def test_fewer_rows_than_the_budget(tmp_path: Path, here: list[tuple[str, int]]) -> None:
    with pytest.raises(DataError, match="rows 601 asks for 601 rows but there are 600; lower it"):
        select(written(tmp_path / "in", rows()), tmp_path / "out", "random", {"rows": 601})
    assert not here  # before any work
    with pytest.raises(DataError, match=r"asks for 300 examples of every class but class '\d' has"):
        select(tmp_path / "in", tmp_path / "out", "random", {"ipc": 300})


def test_a_class_of_which_nothing_would_be_left(tmp_path: Path) -> None:
    source = written(tmp_path / "in", rows())
    with pytest.raises(DataError, match="rows 2 keeps 2 rows of 3 classes and so nothing of class '2'"):
        select(source, tmp_path / "out", "random", {"rows": 2}, balanced=True)
    manifest = select(source, tmp_path / "few", "random", {"rows": 1})
    assert len(manifest["notes"]) == 2 and manifest["notes"][0].startswith("nothing is kept of class")


def test_one_class_is_too_few_for_el2n(tmp_path: Path) -> None:
    found = rows()
    found["label"][:] = 4
    with pytest.raises(DataError, match="at least two classes, but all labels are '4'"):
        select(written(tmp_path / "in", found), tmp_path / "out", "el2n", {"rows": 50})


def test_ids_that_repeat_across_shards_name_both_rows(tmp_path: Path) -> None:
    found = rows()
    found["id"][450] = found["id"][3]
    source = written(tmp_path / "in", found)
    wanted = rf"id {found['id'][3]} stands in .*part-0.parquet, row 3 and in .*part-2.parquet, row 50"
    with pytest.raises(DataError, match=wanted):
        select(source, tmp_path / "out", "random", {"rows": 50})
    select(source, tmp_path / "none", "random", {"rows": 50}, id_column="none")


def test_ids_of_any_pattern_are_divided_evenly_over_the_passes() -> None:
    ids = np.arange(-4000, 4000, 8)
    turn = census.own(np.concatenate([ids, ids]), 8)
    assert np.array_equal(turn[: len(ids)], turn[len(ids) :])
    assert np.bincount(turn.astype(np.int64), minlength=8).max() < 2 * 2 * len(ids) / 8


def test_ids_beyond_the_signed_numbers_name_shard_and_row(tmp_path: Path) -> None:
    found = rows()
    found["id"] = np.arange(600, dtype=np.uint64)
    select(written(tmp_path / "small", found), tmp_path / "out", "random", {"rows": 50})
    found["id"][201] = np.uint64(2**63)
    with pytest.raises(
        DataError, match=rf"part-1.parquet, row 1 has the id {2**63}, beyond 2\^63 - 1; use --id-column"
    ):
        select(written(tmp_path / "in", found), tmp_path / "no", "random", {"rows": 50})


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.timestamp("s"), pa.date32(), pa.decimal128(5), pa.dictionary(pa.int8(), pa.binary())]
)
def test_labels_that_are_no_names_are_refused_before_any_work(
    tmp_path: Path, kind: pa.DataType, here: list[tuple[str, int]]
) -> None:
    none = pa.nulls(10, kind)
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"label": none, "id": np.arange(10)}), tmp_path / "in" / "part.parquet")
    with pytest.raises(DataError, match=r"column 'label' of .*part.parquet is of type .*, not whole numbers, text"):
        select(tmp_path / "in", tmp_path / "out", "random", {"rows": 5})
    assert not here


def test_categories_that_no_row_has_are_no_classes(tmp_path: Path) -> None:
    label = pa.DictionaryArray.from_arrays(pa.array([2, 0, 2, 0, 0], pa.int8()), ["a", "none", "c"])
    values: dict[Any, int] = {"c": 0}
    assert census.coded(label, values).tolist() == [0, 1, 0, 1, 1] and values == {"c": 0, "a": 1}
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"label": label, "id": np.arange(5)}), tmp_path / "in" / "part.parquet")
    manifest = select(tmp_path / "in", tmp_path / "out", "random", {"ipc": 2})
    assert manifest["kept"]["per_class"] == {"a": 2, "c": 2}
    truth = census.coded(pa.array([True, False, True]), {})
    assert truth[0] == truth[2] != truth[1]
    with pytest.raises(DataError, match="a category of the labels is missing"):
        census.coded(pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["a", None])), {})


@pytest.mark.parametrize("keep", [0, 100, -9])
def test_a_truncated_shard(tmp_path: Path, keep: int) -> None:
    source = written(tmp_path / "in", rows())
    data = (source / "part-1.parquet").read_bytes()
    (source / "part-1.parquet").write_bytes(data[:keep])
    with pytest.raises(DataError, match=r"part-1.parquet is not a readable parquet file .*restore it from a copy"):
        select(source, tmp_path / "out", "random", {"rows": 50})


def test_a_shard_with_a_hole(tmp_path: Path) -> None:
    source = written(tmp_path / "in", rows())
    data = bytearray((source / "part-1.parquet").read_bytes())
    data[4:2000] = bytes(1996)
    (source / "part-1.parquet").write_bytes(data)
    with pytest.raises(DataError, match=r"part-1.parquet"):
        select(source, tmp_path / "out", "el2n", {"rows": 50})


def other_type(found: Found) -> Found:
    return {**found, "label": found["label"].astype(np.float64)}


def other_columns(found: Found) -> Found:
    return {k: v for k, v in found.items() if k != "text"}


def other_width(found: Found) -> Found:
    return {**found, "embedding": found["embedding"][:, :3]}


@pytest.mark.parametrize("features", ["fixed", "list"])
@pytest.mark.parametrize("change", [other_type, other_columns, other_width])
def test_another_schema_or_dimension_between_shards(
    tmp_path: Path, change: Callable[[Found], Found], features: str
) -> None:
    found = rows()
    source = written(tmp_path / "in", found, features=features)
    pq.write_table(table(change(found), features), source / "part-3.parquet")
    listed = change is other_width and features == "list"
    wanted = "row 0 has 3 features where the first row has 4" if listed else "other columns than .*part-0.parquet: '"
    with pytest.raises(DataError, match=f"part-3.parquet.*{wanted}"):
        select(source, tmp_path / "out", "el2n", {"rows": 50}, id_column="none")


def test_a_bound_too_small_for_one_block_is_refused_with_the_number(tmp_path: Path) -> None:
    source = written(tmp_path / "in", rows())
    with pytest.raises(ResourceError, match=r"--memory of 50 MB is too small: .* give --memory (\d+)MB or more") as e:
        select(source, tmp_path / "out", "random", {"rows": 50}, memory="50MB")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    for _ in range(5):  # this process still grows
        try:
            least = str(e.value).partition("give --memory ")[2].split()[0]
            select(source, tmp_path / "out", "random", {"rows": 50}, memory=least)
            break
        except ResourceError as more:
            e.value.args = more.args
    assert (tmp_path / "out").exists()


def test_an_empty_folder_and_none(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="holds no parquet shard"):
        select(tmp_path / "in", tmp_path / "out", "random", {"rows": 50})
    with pytest.raises(UsageError, match="there is nothing at"):
        select(tmp_path / "no", tmp_path / "out", "random", {"rows": 50})
    with pytest.raises(DataError, match="have no rows"):
        none = {k: v[:0] for k, v in rows().items()}
        pq.write_table(table(none), tmp_path / "in" / "a.parquet")
        select(tmp_path / "in", tmp_path / "out", "random", {"rows": 50})


def test_an_unfinished_run_with_other_settings_is_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: list[tuple[str, int]]
) -> None:
    """One that was stopped may be gone on with; one that its data refused gives way, and what it surveyed is kept."""
    found = rows()
    source, out = written(tmp_path / "in", found), tmp_path / "out"

    def stopped(self: Stage, step: str, units: int, label: str) -> None:
        plain(self, step, units, label)
        if step == "el2n.0000":
            raise KeyboardInterrupt

    plain = Stage.map
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Stage, "map", stopped)
        select(source, out, "el2n", {"rows": 50}, m={"rule": "ccs", "epochs": 1})
    with pytest.raises(UsageError, match="holds an unfinished run with other settings"):
        select(source, out, "el2n", {"rows": 50}, m={"rule": "top", "epochs": 1})
    (job,) = (tmp_path / "out.attar-run").glob("job-*")
    (job / "refused").touch()
    here.clear()
    select(source, out, "el2n", {"rows": 50}, m={"rule": "top", "epochs": 1})
    assert here and "survey" not in {step for step, _ in here}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--method", "el2m", "--keep", "0.1"], 2, "there is no method 'el2m' for shards; did you mean 'el2n'?"),
        (["--method", "random"], 2, "say how much to keep"),
        (["--method", "random", "--keep", "2"], 2, "not a share"),
        (["--method", "score", "--rule", "cs", "--keep", "0.1"], 2, "there is no rule 'cs' for shards"),
        (["--method", "random", "--keep", "0.1", "--memory", "much"], 2, "memory=much is not a size"),
        (["--method", "random", "--keep", "0.1", "--memory", "10MB"], 4, "too small"),
        (["--method", "semdedup", "--threshold", "0.1", "--keep", "0.1"], 2, "not both"),
        (["--method", "kcenter", "--rows", "5", "--features-column", "x"], 3, "has no column 'x'"),
        (["--method", "el2n", "--rows", "5", "--label-column", "none"], 3, "needs labels"),
    ],
)
def test_the_command_says_one_sentence(
    tmp_path: Path, words: list[str], code: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    source = written(tmp_path / "in", rows(n=60))
    assert run(["select", str(source), *words, "--on", "local", "--out", str(tmp_path / "out")]) == code
    told = capfd.readouterr().err.strip()
    assert said in told and "\n" not in told
    assert not (tmp_path / "out").exists()


def test_the_command_and_its_check(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = written(tmp_path / "in", rows(n=60))
    words = [
        "--method",
        "score",
        "--rule",
        "ccs",
        "--keep",
        "0.1",
        "--on",
        "local",
        "--memory",
        "2GB",
        "--workers",
        "1",
    ]
    assert run(["select", str(source), *words, "--json", "--out", str(tmp_path / "out")]) == 0
    assert json.loads(capfd.readouterr().out)["rows"] == 6
    assert run(["verify", str(tmp_path / "out")]) == 0
    part = next((tmp_path / "out" / "data").iterdir())
    part.write_bytes(part.read_bytes()[:-1] + b"\0")
    capfd.readouterr()
    assert run(["verify", str(tmp_path / "out")]) == 3
    assert "was changed after it was written" in capfd.readouterr().err


def test_python_and_addresses(tmp_path: Path) -> None:
    import attar

    pytest.importorskip("fsspec")
    source = written(tmp_path / "in", rows())
    settings: dict[str, Any] = {"method": "random", "rows": 50, "on": "local", "workers": 1}
    attar.select(source, out=tmp_path / "a", **settings)
    attar.select(f"file://{source}", out=tmp_path / "b", **settings)
    assert kept_ids(tmp_path / "a") == kept_ids(tmp_path / "b")
    with pytest.raises(AttarError, match="there is nothing at"):
        attar.select(f"file://{source}-no", out=tmp_path / "c", **settings)


@pytest.mark.usefixtures("here")
def test_a_finished_selection_of_shards_that_were_corrected_since_is_refused(tmp_path: Path) -> None:
    """Labels change places inside a shard: its length and its footer stay, its time of change does not."""
    found = rows(n=600)
    source, out = written(tmp_path / "in", found), tmp_path / "out"
    how: dict[str, Any] = {"m": {"epochs": 1}}
    select(source, out, "el2n", {"rows": 60}, **how)
    os.utime(source / "part-0.parquet", ns=(10**18, 10**18))
    assert select(source, out, "el2n", {"rows": 60}, **how)["kept"]["rows"] == 60  # touched, but the same
    shard = pq.read_table(source / "part-0.parquet")
    label = shard["label"].to_numpy().copy()
    a, b = 0, int(np.flatnonzero(label[:70] != label[0])[0])
    label[[a, b]] = label[[b, a]]
    place = shard.column_names.index("label")
    pq.write_table(shard.set_column(place, "label", pa.array(label)), source / "part-0.parquet", row_group_size=70)
    with pytest.raises(UsageError, match=r"part-0.parquet was changed since .* was made of it|was made otherwise"):
        select(source, out, "el2n", {"rows": 60}, **how)


@pytest.mark.usefixtures("here")
def test_what_a_refusal_advises_can_be_done(tmp_path: Path) -> None:
    found = rows(n=90)
    found["id"][:] = 7
    source, out = written(tmp_path / "in", found), tmp_path / "out"
    with pytest.raises(DataError, match="use --id-column none"):
        select(source, out, "el2n", {"rows": 9}, m={"epochs": 1})
    assert select(source, out, "el2n", {"rows": 9}, m={"epochs": 1}, id_column="none")["kept"]["rows"] == 9


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("inner", [".", "kept", "deep/kept"])
def test_an_output_among_the_shards_is_refused(tmp_path: Path, inner: str) -> None:
    source = written(tmp_path / "in", rows(n=60))
    with pytest.raises(UsageError, match="lies among the shards"):
        select(source, source / inner, "random", {"rows": 6})
    assert sorted(p.name for p in source.iterdir()) == [f"part-{i}.parquet" for i in range(3)]


@pytest.mark.usefixtures("here")
def test_a_shard_without_rows_may_come_first(tmp_path: Path) -> None:
    whole = written(tmp_path / "in", rows(n=60), features="list")
    first = pq.read_table(whole / "part-0.parquet")
    pq.write_table(first.slice(0, 0), whole / "a.parquet")
    assert select(whole, tmp_path / "out", "kcenter", {"rows": 6})["source"]["width"] == 4


@pytest.mark.usefixtures("here")
def test_a_column_that_is_there_twice_is_named(tmp_path: Path) -> None:
    whole = pq.read_table(written(tmp_path / "one", rows(n=60), shards=1) / "part-0.parquet")
    (tmp_path / "in").mkdir()
    pq.write_table(whole.append_column("id", whole["id"]), tmp_path / "in" / "a.parquet")
    with pytest.raises(DataError, match="has two columns 'id'"):
        select(tmp_path / "in", tmp_path / "out", "random", {"rows": 6})


@pytest.mark.usefixtures("here")
def test_many_lost_classes_are_one_note(tmp_path: Path) -> None:
    found = rows(n=60)
    found["label"] = np.arange(60) // 2
    manifest = select(written(tmp_path / "in", found), tmp_path / "out", "random", {"rows": 6})
    assert len(manifest["notes"]) == 1 and "classes: " in manifest["notes"][0]


def test_a_bound_beyond_all_memory_is_no_size() -> None:
    with pytest.raises(UsageError, match="is not a size"):
        memory.parsed("9" * 320)
