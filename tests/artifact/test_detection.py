"""A selection of a detection set: the artifact, the page, and COCO annotations out as they came in."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch

import attar
from attar.errors import DataError, UsageError
from attar.real.objects import objects_of, outlined

sys.path.insert(0, str(Path(__file__).parents[1] / "real"))  # the builders of COCO folders
import coco_makers as makers  # pyright: ignore[reportMissingImports]

DATA = Path(os.environ.get("ATTAR_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def source(tmp_path: Path) -> Path:
    """Eight images of two sizes, one without objects, one with a crowd; records with fields of their own."""
    boxes = [(i, i % 2, [1.25, 2, 10 + i, 8]) for i in range(7)] + [(3, 0, [0, 0, 5, 5])]
    train = makers.page([(40, 60), (50, 30)] * 4, boxes)
    train["annotations"][2] |= {"iscrowd": 1, "segmentation": {"counts": [3, 4], "size": [40, 60]}, "score": 0.1}
    test = makers.page([(40, 60)], [(0, 0, [1, 1, 5, 5])])
    return makers.write(tmp_path / "pets", train=train, test=test)


def same_records(out: Path, root: Path, split: str, names: set[str]) -> None:
    """What was exported is what the source says of the kept images, and the files are the source's, byte for byte."""
    ours, theirs = json.loads((out / "train.json").read_text()), json.loads((root / split).read_text())
    theirs["images"] = [r for r in theirs["images"] if r["file_name"] in names]
    ids = {r["id"] for r in theirs["images"]}
    theirs["annotations"] = [a for a in theirs["annotations"] if a["image_id"] in ids]
    ours["annotations"].sort(key=lambda a: a["id"])
    theirs["annotations"].sort(key=lambda a: a["id"])
    assert ours == theirs
    assert {p.name for p in (out / "images").iterdir()} == names
    assert all((out / "images" / n).read_bytes() == (root / "images" / n).read_bytes() for n in names)


def test_annotations_go_round_as_they_are(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    root = source(tmp_path)
    kept = attar.select(root, method="csod", rows=5, size=24, out=tmp_path / "kept")
    opened = attar.open(tmp_path / "kept")
    assert len(opened) == 5 and opened.manifest["task"] == "detection" and opened.manifest["budget"]["per_class"] == []
    assert sum(opened.manifest["budget"]["objects_per_class"]) == len(objects_of(opened.table).image)
    image, objects = opened[0]
    assert image.shape == (3, 24, 24) and objects == kept.table["objects"][0].as_py()
    page = (tmp_path / "kept" / "report.html").read_text()
    assert "csod" in page and "image, objects = kept[0]" in page and (tmp_path / "kept" / "preview.png").is_file()
    attar.export(tmp_path / "kept", to=tmp_path / "out", format="coco")
    same_records(tmp_path / "out", root, "train.json", set(opened.table["file"].to_pylist()))
    again = attar.select(tmp_path / "out", method="random", rows=2)  # and it is a source again
    assert again.class_names == ("cat", "dog") and len(again) == 2


def test_formats_that_do_not_fit_are_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    kept = attar.select(source(tmp_path), method="csod", rows=2, size=24)
    with pytest.raises(UsageError, match="which folder does not hold; use --format coco"):
        attar.export(kept, to=tmp_path / "x", format="folder")
    assert not (tmp_path / "x").exists()
    with pytest.raises(UsageError, match="only a selection from COCO annotations"):
        attar.export(attar.select("digits", method="random", rows=10), to=tmp_path / "x", format="coco")
    with pytest.raises(UsageError, match="counts images of one class"):
        attar.select(source(tmp_path), method="csod", ipc=1, size=24)
    row = kept.table.to_pylist()[0]
    row["original"]["path"] = "../../escaped.png"
    kept.table = type(kept.table).from_pylist([row], schema=kept.table.schema)
    with pytest.raises(DataError, match="no file inside a folder"):
        attar.export(kept, to=tmp_path / "x", format="coco")


def test_a_file_that_went_away_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    root = source(tmp_path)
    splits = attar.load(root, size=24)
    for file in (root / "images").iterdir():
        file.rename(tmp_path / file.name)
    with pytest.raises(DataError, match="is no longer there though it was read before"):
        attar.select(splits, method="csod", rows=2)


def test_boxes_are_drawn_where_they_are(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    root = makers.write(tmp_path / "p", train=makers.page([(20, 30)], [(0, 0, [4, 5, 10, 8])]), test=makers.plain())
    real = attar.load(root).train
    raw = real.raw(torch.tensor([0]))
    changed = (outlined(raw, real.table) != raw).any(1)[0].nonzero()
    assert changed.min(0).values.tolist() == [5, 4] and changed.max(0).values.tolist() == [12, 13]
    assert not ((changed[:, 0] > 5) & (changed[:, 0] < 12) & (changed[:, 1] > 4) & (changed[:, 1] < 13)).any()


@pytest.mark.skipif(not (DATA / "bccd").exists(), reason=f"no data at {DATA / 'bccd'}; set ATTAR_DATA")
def test_real_annotations_go_round(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    kept = attar.select(DATA / "bccd", method="csod", rows=10, size="48x64", out=tmp_path / "kept")
    attar.export(kept, to=tmp_path / "out", format="coco")
    same_records(tmp_path / "out", DATA / "bccd", "train.json", set(kept.table["file"].to_pylist()))
