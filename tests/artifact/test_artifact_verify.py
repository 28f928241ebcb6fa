"""Every change of a condensed folder is found, and told in one sentence."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import attar
from attar import manifest, rowfile
from attar.errors import DataError
from attar.io import tensors

FILES = ("data/train.parquet", "tensors.safetensors", "preview.png", "README.md", "log.jsonl", "report.html")


def refused(folder: Path) -> str:
    """The sentence with which a folder is refused."""
    with pytest.raises(DataError) as e:
        attar.verify(folder)
    sentence = str(e.value)
    assert "\n" not in sentence and str(folder) in sentence
    return sentence


def reseal(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Writes a changed manifest with a checksum that fits."""
    path = folder / "condensed.json"
    page = json.loads(path.read_bytes())
    page = change(page) or page
    path.write_bytes(manifest.encode(page))


def replace(folder: Path, name: str, data: bytes) -> None:
    """Writes another file and its checksum."""
    (folder / name).write_bytes(data)
    facts = {"bytes": len(data), "sha256": tensors.digest(data)}
    reseal(folder, lambda page: page["files"].update({name: facts}))


def test_the_test_knows_all_files(synthetic: Path) -> None:
    assert {p.relative_to(synthetic).as_posix() for p in synthetic.rglob("*") if p.is_file()} == {
        *FILES,
        "condensed.json",
    }


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_flipped_bit(spoilt: Path, name: str, place: float) -> None:
    data = bytearray((spoilt / name).read_bytes())
    data[round(place * (len(data) - 1))] ^= 4
    (spoilt / name).write_bytes(data)
    assert f"{name} was changed after it was written (its checksum differs)" in refused(spoilt)


def test_a_flipped_bit_anywhere_in_the_manifest(spoilt: Path) -> None:
    path = spoilt / "condensed.json"
    good = path.read_bytes()
    for at in range(0, len(good), 5):
        bad = bytearray(good)
        bad[at] ^= 1 << (at % 8)
        path.write_bytes(bad)
        with pytest.raises(DataError):
            manifest.read_manifest(spoilt)
    path.write_bytes(good)
    assert attar.verify(spoilt)["good"]


@pytest.mark.parametrize("name", [*FILES, "condensed.json"])
@pytest.mark.parametrize("left", [0, 1, -1])
def test_a_cut_file(spoilt: Path, name: str, left: int) -> None:
    (spoilt / name).write_bytes((spoilt / name).read_bytes()[:left])
    assert name in refused(spoilt)


@pytest.mark.parametrize("name", [*FILES, "condensed.json"])
def test_a_longer_file(spoilt: Path, name: str) -> None:
    with open(spoilt / name, "ab") as f:
        f.write(b" ")
    assert name in refused(spoilt)


@pytest.mark.parametrize("name", FILES)
def test_a_deleted_file(spoilt: Path, name: str) -> None:
    (spoilt / name).unlink()
    assert f"{name} is missing" in refused(spoilt)


def test_a_deleted_manifest(spoilt: Path) -> None:
    (spoilt / "condensed.json").unlink()
    assert "has no condensed.json" in refused(spoilt)


@pytest.mark.parametrize("name", [*FILES, "condensed.json"])
def test_a_folder_in_place_of_a_file(spoilt: Path, name: str) -> None:
    (spoilt / name).unlink()
    (spoilt / name).mkdir()
    refused(spoilt)


def test_links_are_refused_though_their_content_is_right(spoilt: Path, tmp_path: Path) -> None:
    (spoilt / "README.md").rename(tmp_path / "elsewhere.md")
    (spoilt / "README.md").symlink_to(tmp_path / "elsewhere.md")
    assert "README.md is a link" in refused(spoilt)


def test_a_linked_folder_is_refused(spoilt: Path, tmp_path: Path) -> None:
    (spoilt / "data").rename(tmp_path / "elsewhere")
    (spoilt / "data").symlink_to(tmp_path / "elsewhere")
    assert "train.parquet is a link, or lies in one" in refused(spoilt)


def test_a_pipe_does_not_hang(spoilt: Path) -> None:
    (spoilt / "README.md").unlink()
    os.mkfifo(spoilt / "README.md")
    assert "is missing" in refused(spoilt)


def test_the_folder_itself_may_be_a_link(synthetic: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(synthetic)
    assert attar.verify(tmp_path / "link")["good"]


OUTSIDE = (
    "../x",
    "/etc/hostname",
    "data/../../x",
    "a\\..\\b",
    "C:x",
    "",
    ".",
    "./README.md",
    "data//x",
    "condensed.json",
    "a\0b",
)


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_outside_the_folder(spoilt: Path, name: str) -> None:
    reseal(spoilt, lambda page: page["files"].update({name: {"bytes": 0, "sha256": tensors.digest(b"")}}))
    assert "is no file of the folder" in refused(spoilt)


def test_a_newer_schema_asks_for_an_update(spoilt: Path) -> None:
    reseal(spoilt, lambda page: page.update(schema=2))
    assert "has schema 2, newer than 1, the newest known here; update attar" in refused(spoilt)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"nothing",
        b"null",
        b"[]",
        b"3",
        b'"a"',
        b"{}",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 900 + b"]" * 900,
        b'{"schema": ' + b"9" * 5000 + b"}",
        b'{"schema": NaN}',
        b'{"schema": 1, "schema": 1}',
    ],
    ids=lambda text: repr(text[:20]),
)
def test_garbage_in_place_of_the_manifest(spoilt: Path, text: bytes) -> None:
    (spoilt / "condensed.json").write_bytes(text)
    assert "condensed.json" in refused(spoilt)


@pytest.mark.parametrize("key", list(manifest.FIELDS))
@pytest.mark.parametrize("value", [None, 3.5, "x", [], {}, [[]], [None], True, {"rows": "x"}], ids=repr)
def test_wrong_types_in_the_manifest(spoilt: Path, key: str, value: Any) -> None:
    fits = manifest.fault(value, manifest.FIELDS[key], key) is None
    reseal(spoilt, lambda page: page.update({key: value}))
    if fits and key not in ("kind", "task", "scores", "recipe"):
        fits = key == "class_names" and value == []  # then no label is checked
    if fits:
        assert attar.verify(spoilt)["good"]
    else:
        refused(spoilt)


@pytest.mark.parametrize("key", list(manifest.FIELDS))
def test_missing_entries_in_the_manifest(spoilt: Path, key: str) -> None:
    reseal(spoilt, lambda page: page.pop(key) and None)
    assert key in refused(spoilt)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_a_manifest_says_it_opens_or_is_refused(synthetic: Path, home: Path, data: st.DataObject) -> None:
    folder = home / "fuzzed"
    shutil.copytree(synthetic, folder, dirs_exist_ok=True)

    def change(page: dict[str, Any]) -> None:
        at: Any = page
        for _ in range(data.draw(st.integers(0, 3))):
            keys = list(range(len(at))) if isinstance(at, list) else sorted(at)
            inner = [k for k in keys if isinstance(at[k], (dict, list)) and at[k]]
            if not inner:
                break
            at = at[data.draw(st.sampled_from(inner))]
        keys = list(range(len(at))) if isinstance(at, list) else sorted(at)
        at[data.draw(st.sampled_from(keys))] = data.draw(ANY)

    try:
        reseal(folder, change)
    except UnicodeEncodeError:  # no JSON file says that
        return
    try:
        attar.verify(folder)
    except DataError as e:
        assert "\n" not in str(e)


def rows(change: Callable[[pa.Table], pa.Table], folder: Path) -> bytes:
    table = change(pq.read_table(folder / "data" / "train.parquet"))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def put(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


SPOILERS: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "fewer rows": (lambda t: t.slice(1), "9 rows, not 10"),
    "no weights": (lambda t: t.drop_columns(["weight"]), "no column 'weight'"),
    "no labels": (lambda t: t.drop_columns(["label"]), "no column 'label'"),
    "a label too large": (lambda t: put(t, "label", pa.array([*range(9), 10])), "labels other than 0 to 9"),
    "a negative label": (lambda t: put(t, "label", pa.array([*range(9), -1])), "labels other than 0 to 9"),
    "no label": (lambda t: put(t, "label", pa.array([*range(9), None])), "labels other than 0 to 9"),
    "labels in words": (lambda t: put(t, "label", pa.array(list("abcdefghij"))), "labels other than 0 to 9"),
    "no images": (lambda t: t.drop_columns(["image"]), "exact images of shape"),
    "no picture": (lambda t: put(t, "image", pa.array([{"bytes": b"x", "path": None}] * 10)), "row 0 is not an image"),
    "numbers for pictures": (lambda t: put(t, "image", pa.array(range(10))), "does not hold rows"),
}


@pytest.mark.parametrize("name", SPOILERS)
def test_rows_that_contradict_their_manifest_though_the_checksums_fit(spoilt: Path, name: str) -> None:
    change, sentence = SPOILERS[name]
    replace(spoilt, "data/train.parquet", rows(change, spoilt))
    assert sentence in refused(spoilt)


@pytest.mark.parametrize(
    "image", [torch.zeros(9, 1, 8, 8), torch.zeros(10, 3, 8, 8), torch.zeros(10, 1, 8, 8, dtype=torch.int64)]
)
def test_exact_images_that_are_not_those_of_the_rows(spoilt: Path, image: torch.Tensor) -> None:
    replace(spoilt, "tensors.safetensors", tensors.encode({"image": image}))
    assert "exact images of shape" in refused(spoilt)


@pytest.mark.parametrize("name", ["data/train.parquet", "tensors.safetensors"])
@pytest.mark.parametrize("data", [b"", b"PAR1", b"\0" * 100, b"{}"], ids=repr)
def test_files_of_another_kind_though_the_checksums_fit(spoilt: Path, name: str, data: bytes) -> None:
    replace(spoilt, name, data)
    assert name in refused(spoilt)


def test_decoding_rows_of_another_program_is_refused() -> None:
    with pytest.raises(DataError, match="does not hold rows of a condensed set"):
        rowfile.decode(b"nothing", Path("x.parquet"))
