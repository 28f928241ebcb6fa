"""scores.parquet: what a selection knew of every example is checked with the rest, and can be used again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as pq
import pytest
import torch

import attar
from attar import manifest
from attar.errors import DataError
from attar.io import tensors
from attar.judged import SCORES
from attar.real.load import load
from attar.resources import plane
from attar.seeds import Seeds

NET = "convnet:width=4:depth=1"


@pytest.fixture(scope="module")
def scored(home: Path) -> Path:
    """20 digits by EL2N."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTAR_CACHE", str(home / "cache"))
        attar.select("digits", method="el2n", ipc=2, net=NET, epochs=2, runs=1, out=home / "scored")
    return home / "scored"


def test_the_file_is_counted_and_checked(scored: Path) -> None:
    told = attar.verify(scored)["files"]
    assert told[SCORES] == (scored / SCORES).stat().st_size
    assert "`scores.parquet` holds what the selection knew of every real example" in (scored / "README.md").read_text()


def test_every_example_has_its_score(scored: Path) -> None:
    table, real = pq.read_table(scored / SCORES), load("digits").train
    assert table.column_names == ["id", "label", "kept", "score", "confidence", "el2n", "variability"]
    assert table["id"].to_pylist() == real.ids.tolist() and table["label"].to_pylist() == real.labels.tolist()
    kept = attar.open(scored)
    mine = {i: s for i, s, k in zip(*(table[c].to_pylist() for c in ("id", "score", "kept"))) if k}
    assert mine == dict(zip(kept.table["source_id"].to_pylist(), kept.table["gain"].to_pylist()))
    for k in range(10):
        of_class = table.filter(compute.equal(table["label"], k)).sort_by([("score", "descending")])
        assert of_class["kept"].to_pylist() == [True] * 2 + [False] * (len(of_class) - 2)


def test_a_later_selection_reads_the_signals(scored: Path, tmp_path: Path) -> None:
    again = attar.select("digits", method="el2n", ipc=2, signals=str(scored / SCORES), out=tmp_path / "again")
    assert isinstance(again, attar.Condensed)
    assert again.table["source_id"].to_pylist() == attar.open(scored).table["source_id"].to_pylist()


def test_the_page_can_be_written_again_from_the_folder(scored: Path, tmp_path: Path) -> None:
    page = attar.report(scored, out=tmp_path / "page.html")
    assert page.encode() == (scored / "report.html").read_bytes()
    assert "How it chose" in page


def test_the_same_selection_gives_the_same_bytes(scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))  # where nothing is trained yet
    attar.select("digits", method="el2n", ipc=2, net=NET, epochs=2, runs=1, out=tmp_path / "scored")
    for name in (SCORES, "data/train.parquet"):
        assert (tmp_path / "scored" / name).read_bytes() == (scored / name).read_bytes()


def replaced(folder: Path, table: pa.Table) -> None:
    """Another file of scores, with its checksum."""
    pq.write_table(table, folder / SCORES)
    data = (folder / SCORES).read_bytes()
    facts: dict[str, Any] = json.loads((folder / "condensed.json").read_bytes())
    facts["files"][SCORES] = {"bytes": len(data), "sha256": tensors.digest(data)}
    (folder / "condensed.json").write_bytes(manifest.encode(facts))


def test_scores_that_are_not_of_these_rows_are_refused(scored: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(scored, tmp_path / "set"))
    table = pq.read_table(folder / SCORES)
    other = torch.zeros(len(table), dtype=torch.bool).numpy()
    changes = {
        "marks other examples as kept": table.set_column(2, "kept", pa.array(other)),
        "no column 'kept'": table.drop_columns(["kept"]),
        "'id' is not int64": table.set_column(0, "id", table["id"].cast(pa.int32())),
        "'score' is not float": table.set_column(3, "score", table["score"].cast(pa.string())),
    }
    for said, changed in changes.items():
        replaced(folder, changed)
        with pytest.raises(DataError, match=said):
            attar.verify(folder)
    replaced(folder, table)
    assert attar.verify(folder)["good"]
    data = bytearray((folder / SCORES).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / SCORES).write_bytes(data)
    with pytest.raises(DataError, match="checksum differs"):
        attar.verify(folder)


def test_chance_knows_nothing(home: Path, tmp_path: Path) -> None:
    attar.select("digits", method="random", ipc=1, out=tmp_path / "random")
    assert SCORES not in attar.verify(tmp_path / "random")["files"]


def test_selectors_of_features_have_a_map(subset: Path) -> None:
    table = pq.read_table(subset / SCORES)
    assert table.column_names == ["id", "label", "kept", "pc1", "pc2"]
    real = load("digits").train
    x = real.draw(torch.arange(len(real))).flatten(1).double()
    u = torch.linalg.svd(x - x.mean(0), full_matrices=False)[2][:2]
    for name, axis in zip(plane.AXES, u):
        mine, theirs = torch.tensor(table[name].to_numpy()).double(), (x - x.mean(0)) @ axis
        assert min((mine - theirs).abs().max(), (mine + theirs).abs().max()) < 1e-3


def test_classes_that_nothing_is_picked_of_have_no_score(tmp_path: Path) -> None:
    attar.select("digits", method="semdedup", rows=3, balanced=True, out=tmp_path / "few")
    table = pq.read_table(tmp_path / "few" / SCORES).to_pandas()
    asked = set(table.label[table.kept])
    assert len(asked) == 3
    assert all(table.score[table.label == k].notna().all() == (k in asked) for k in range(10))
    assert all(table.score[table.label == k].isna().all() == (k not in asked) for k in range(10))


def test_features_without_a_plane_have_no_map() -> None:
    seeds, kept = Seeds(0), torch.tensor([0])
    for features in (torch.ones(5, 1), torch.ones(1, 5), torch.ones(5, 3), torch.full((5, 5), torch.nan)):
        assert plane.places(features, kept, seeds) == {}


def test_the_sample_holds_the_kept_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane, "MOST", 50)
    x = torch.zeros(1000, 4)
    x[:30, 0], x[30:, 1] = torch.arange(30.0), 1e-3
    found = plane.places(x, torch.arange(30), Seeds(0))
    assert float(found["pc1"].max() - found["pc1"].min()) == pytest.approx(29, rel=1e-3)
