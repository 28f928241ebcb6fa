"""What a condensed folder tells of itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

import attar
from attar import manifest
from attar.condensed import Condensed, condense, preview
from attar.errors import DataError, UsageError
from attar.io import tensors
from attar.method import Rows


def page(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "condensed.json").read_bytes())


def test_the_manifest_tells_how_the_set_was_made(synthetic: Path) -> None:
    m = page(synthetic)
    assert (m["schema"], m["kind"], m["task"]) == (1, "synthetic", "image-classification")
    assert m["class_names"] == [str(k) for k in range(10)]
    (last,) = m["lineage"]
    assert (last["verb"], last["method"], last["seed"], last["steps"], last["source"]) == (
        "distill",
        "dm",
        0,
        12,
        "digits",
    )
    assert last["settings"]["lr_img"] == 50.0 and last["budget"] == {"ipc": 1}
    assert last["command"].startswith("attar distill digits --method dm --ipc 1 ")
    assert last["seconds"] > 0 and last["peak_memory"] > 1e6
    assert {"attar", "torch", "numpy", "python", "cpu"} <= set(last["environment"])
    assert set(last["plan"]) >= {"device", "threads", "dtype", "compiled"}
    assert (m["source"]["name"], m["source"]["rows"]) == ("digits", 1438) and len(m["source"]["fingerprint"]) == 32
    assert m["recipe"]["protocol"] == "dsa"
    assert list(m)[-1] == "checksum"


def test_the_manifest_counts_bytes_and_rows(synthetic: Path, subset: Path) -> None:
    a, b = page(synthetic)["budget"], page(subset)["budget"]
    assert (a["rows"], a["per_class"], a["bytes_examples"], a["bytes_examples_8bit"]) == (10, [1] * 10, 2560, 640)
    assert (b["rows"], b["per_class"], b["bytes_examples"]) == (20, [2] * 10, 1280)
    for folder in (synthetic, subset):
        named = page(folder)["files"]
        there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {"condensed.json"}
        assert set(named) == there
        for name, facts in named.items():
            data = (folder / name).read_bytes()
            assert facts == {"bytes": len(data), "sha256": tensors.digest(data)}


def test_scores_have_their_fields(synthetic: Path) -> None:
    scores = page(synthetic)["scores"]
    assert [(s["images"], s["labels"]) for s in scores] == [("exact", "hard"), ("8-bit", "hard")]
    wanted: dict[str, Any] = {
        "protocol": str,
        "network": str,
        "epochs": int,
        "lr": float,
        "rows": int,
        "bytes": int,
        "seeds": int,
        "last_mean": float,
        "last_std": float,
        "interval": [float],
        "accuracies": [float],
        "cost": {"train_seconds": float, "updates": int},
        "test": {"name": str, "rows": int, "fingerprint": str},
        "plan": {"device": str},
        "baseline": {"random": {"last_mean": float, "last_std": float, "accuracies": [float], "rows": int}},
    }
    for s in scores:
        assert manifest.fault(s, wanted) is None
        assert all(0 <= a <= 1 for a in s["accuracies"]) and len(s["accuracies"]) == s["seeds"] == 2
        assert s["last_mean"] == pytest.approx(sum(s["accuracies"]) / 2)
    assert (scores[0]["bytes"], scores[1]["bytes"]) == (2560 + 10, 640 + 10)


def test_the_card_has_a_header_that_dataset_tools_read(each: Path) -> None:
    yaml = pytest.importorskip("yaml")
    _, header, text = (each / "README.md").read_text().split("---\n", 2)
    facts = yaml.safe_load(header)
    assert facts["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train.parquet"}]}
    ]
    assert facts["task_categories"] == ["image-classification"] and facts["size_categories"] == ["n<1K"]
    assert "attar" in facts["tags"]
    assert "made small" in text and "licence" in text


@pytest.mark.parametrize(
    "name", ['a"b: [c]', "line\nbreak", "<b>&", "---", "tab\tand \x07 bell", "\U0001f600", "`x`", ""]
)
def test_no_name_breaks_the_card(subset: Path, tmp_path: Path, name: str) -> None:
    yaml = pytest.importorskip("yaml")
    kept = attar.open(subset)
    kept.manifest["source"] |= {"name": name, "licence": name}
    kept.manifest["lineage"][-1]["method"] = name
    kept.manifest["class_names"] = [name + str(k) for k in range(10)]
    kept.save(tmp_path / "named")
    _, header, text = (tmp_path / "named" / "README.md").read_text().split("---\n", 2)
    assert next(iter(yaml.safe_load(header))) == "license"
    assert "<b>" not in text and "\x07" not in text
    title = next(line for line in text.splitlines() if line.startswith("# "))
    assert title.endswith(", made small")
    again = attar.open(tmp_path / "named")
    assert again.manifest["source"]["name"] == name and again.class_names[3] == name + "3"


def test_equal_inputs_give_equal_bytes(home: Path, tmp_path: Path) -> None:
    for out in ("a", "b"):
        net = "convnet:width=8:depth=1"
        attar.distill("digits", ipc=1, steps=2, batch=4, net=net, out=tmp_path / out, seed=5)
    for name in ("data/train.parquet", "tensors.safetensors", "preview.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_opening_and_saving_changes_no_byte(each: Path, tmp_path: Path) -> None:
    attar.open(each).save(tmp_path / "copy")
    for path in each.rglob("*"):
        if path.is_file():
            assert (tmp_path / "copy" / path.relative_to(each)).read_bytes() == path.read_bytes()


def test_pictures_are_the_exact_images_rounded_and_clamped(synthetic: Path) -> None:
    kept = attar.open(synthetic)
    space = kept.manifest["preprocessing"]
    pixels = kept.exact["image"].double() * space["std"][0] + space["mean"][0]
    assert (pixels < 0).any() or (pixels > 1).any(), "the test needs images beyond the range of a picture"
    assert kept.bytes8 is not None
    error = kept.bytes8.double() / 255 - pixels.clamp(0, 1)
    assert error.abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(kept.images, kept.exact["image"])
    assert not torch.equal(kept.images8, kept.images)
    assert torch.allclose(kept.images8 * space["std"][0] + space["mean"][0], kept.bytes8 / 255, atol=1e-6)


def test_a_subset_holds_the_real_pixels(subset: Path) -> None:
    kept, real = attar.open(subset), attar.load("digits").train
    place = {int(i): k for k, i in enumerate(real.ids)}
    index = torch.tensor([place[i] for i in kept.table["source_id"].to_pylist()])
    assert kept.bytes8 is not None and torch.equal(kept.bytes8, real.raw(index))
    assert torch.equal(kept.images, real.draw(index)) and "image" not in kept.exact
    assert "gain" in kept.table.column_names


def test_a_set_without_images_and_classes_survives(captions: Callable[[], Condensed], tmp_path: Path) -> None:
    made = captions()
    made.save(tmp_path / "dogs")
    back = attar.open(tmp_path / "dogs")
    assert back.manifest["task"] == "captioning" and back.class_names == () and back.bytes8 is None
    assert back.table.equals(made.table)
    assert back.table["source_id"].to_pylist() == [104, 101, 108]
    assert back.table["caption"].to_pylist() == ["a dog number 4", "a dog number 1", "a dog number 8"]
    assert pq.read_table(tmp_path / "dogs" / "data" / "train.parquet").column_names == made.table.column_names
    assert not (tmp_path / "dogs" / "preview.png").exists()
    assert attar.verify(tmp_path / "dogs")["rows"] == 3
    with pytest.raises(UsageError, match="'captioning' has no image column"):
        _ = back.images
    with pytest.raises(UsageError, match="only sets of images"):
        attar.export(tmp_path / "dogs", to=tmp_path / "x")


def test_a_set_without_images_opens_with_datasets(captions: Callable[[], Condensed], tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    captions().save(tmp_path / "dogs")
    rows = datasets.load_dataset(str(tmp_path / "dogs"), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["caption"][0] == "a dog number 4"
    assert rows[2]["objects"] == [{"name": "dog", "at": [0.0, 4.0]}] * 2


def test_images_that_are_not_finite_are_refused() -> None:
    real = attar.load("digits").train
    image = torch.zeros(10, 1, 8, 8)
    image[3, 0, 1, 2] = torch.nan
    rows = Rows(columns={"image": image, "label": torch.arange(10)})
    with pytest.raises(DataError, match="NaN or infinity"):
        condense(rows, real, kind="synthetic", lineage=[])


def test_scores_take_the_place_of_older_ones_of_the_same_kind(synthetic: Path) -> None:
    kept = attar.open(synthetic)
    old = kept.manifest["scores"]
    new = {**old[0], "last_mean": 0.5}
    other = {**old[0], "network": "mlp"}
    assert kept.scored([other, new]).manifest["scores"] == [new, old[1], other]
    assert kept.manifest["scores"] == old


def test_what_a_user_adds_to_a_folder_stays_when_scores_are_written(subset: Path, tmp_path: Path) -> None:
    out = attar.open(subset).save(tmp_path / "set")
    (out / "notes").mkdir()
    (out / "notes" / "mine.txt").write_text("keep me")
    (out / "report.html").write_text("spoilt")
    kept = attar.open(subset)
    kept.save(out, replace=True)
    assert (out / "notes" / "mine.txt").read_text() == "keep me"
    assert (out / "report.html").read_bytes() == (subset / "report.html").read_bytes()
    assert "notes/mine.txt" not in attar.verify(out)["files"]
    with pytest.raises(UsageError, match="exists already"):
        kept.save(out)


def test_the_preview_of_large_pictures_stays_small() -> None:
    large = torch.arange(2 * 3 * 600 * 300).reshape(2, 3, 600, 300).remainder(256).to(torch.uint8)
    large[0] = 200
    sheet = preview(large, torch.tensor([0, 1]))
    assert sheet.shape == (3, 2 + 120 + 2, 2 * (2 + 60) + 2)
    assert (sheet[:, 2:122, 2:62] == 200).all()
    small = torch.full((1, 1, 128, 100), 9, dtype=torch.uint8)
    assert torch.equal(preview(small, torch.tensor([0]))[:, 2:-2, 2:-2], small[0])
