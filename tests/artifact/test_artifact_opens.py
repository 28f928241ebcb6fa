"""A condensed folder opens with any dataset tool."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import attar
from attar.seeds import Seeds


def test_with_pyarrow(each: Path) -> None:
    kept, table = attar.open(each), pq.read_table(each / "data" / "train.parquet")
    assert table.num_rows == len(kept) and table.column_names[0] == "image"
    assert table["label"].to_pylist() == kept.labels.tolist()
    assert kept.bytes8 is not None
    for cell, picture in zip(table["image"].to_pylist(), kept.bytes8):
        found = np.asarray(Image.open(io.BytesIO(cell["bytes"])))
        assert (found.reshape(picture.shape[1], picture.shape[2], -1) == picture.permute(1, 2, 0).numpy()).all()


def test_with_pandas(each: Path) -> None:
    frame = pd.read_parquet(each / "data" / "train.parquet")
    kept = attar.open(each)
    assert list(frame["label"]) == kept.labels.tolist()
    assert set(kept.table.column_names) | {"image"} == set(frame.columns)


def test_with_datasets(each: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.load_dataset(str(each), split="train", cache_dir=str(tmp_path))
    kept = attar.open(each)
    assert isinstance(rows.features["image"], datasets.Image)
    assert rows.features["label"] == datasets.ClassLabel(names=list(kept.class_names))
    assert rows["label"] == kept.labels.tolist()
    assert [i.size for i in rows["image"]] == [(kept.images.shape[3], kept.images.shape[2])] * len(kept)
    assert rows.features["weight"] == datasets.Value("float32")


def test_in_memory_as_a_hugging_face_dataset(each: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = attar.open(each).hf_dataset()
    assert isinstance(rows.features["image"], datasets.Image)
    assert rows[0]["image"].size == (attar.open(each).images.shape[3],) * 2


def test_typed_columns_keep_their_features(typed: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.load_dataset(str(typed), split="train", cache_dir=str(tmp_path)).features
    value, several = datasets.Value, datasets.List
    assert features["tags"] == several(value("string"))
    assert features["box"] == {"x": value("int32"), "y": value("float32"), "names": several(value("string"))}
    assert features["taken"] == value("timestamp[us, tz=UTC]") and features["day"] == value("date32")
    assert features["vector"] == several(value("int16"), length=2)
    assert features["source_weight"] == value("float64") and features["note"] == value("large_string")


def test_with_a_torch_loader(each: Path) -> None:
    kept = attar.open(each)
    images, labels = next(iter(DataLoader(kept, batch_size=len(kept), shuffle=False)))
    assert torch.equal(images, kept.images) and torch.equal(labels, kept.labels)
    assert images.dtype == torch.float32 and labels.dtype == torch.int64


def test_a_view_is_a_function_of_epoch_and_seeds(subset: Path) -> None:
    kept = attar.open(subset)

    def seen(epoch: int, seed: int, **how: int) -> list[torch.Tensor]:
        return [x for batch in kept.view(epoch, Seeds(seed), batch=7, **how) for x in batch]

    first = seen(0, 0)
    assert all(torch.equal(a, b) for a, b in zip(first, seen(0, 0), strict=True))
    assert not torch.equal(first[1], seen(1, 0)[1]) and not torch.equal(first[1], seen(0, 1)[1])
    batches = list(kept.view(3, Seeds(0), batch=7))
    assert [len(b[1]) for b in batches] == [7, 7, 6]
    images = torch.cat([b[0] for b in batches])
    assert torch.equal(images.flatten(1).sum(1).sort().values, kept.images.flatten(1).sum(1).sort().values)
    state = torch.default_generator.get_state()
    list(kept.view(0, Seeds(0)))
    assert torch.equal(torch.default_generator.get_state(), state)


def test_columns_of_the_source_are_the_same_by_type_and_value(source: Path, typed: Path) -> None:
    whole, kept = pq.read_table(source), attar.open(typed).table
    ids = kept["source_id"].to_pylist()
    assert len(set(ids)) == 10
    for name in ("label", "tags", "box", "taken", "day", "vector", "note", "flag"):
        assert kept.schema.field(name).type == whole.schema.field(name).type, name
        assert kept[name].to_pylist() == whole[name].take(pa.array(ids)).to_pylist(), name
    own = kept["source_weight"]
    assert own.type == pa.float64() and own.to_pylist() == whole["weight"].take(pa.array(ids)).to_pylist()
    assert kept["weight"].to_pylist() == [1.0] * 10


def test_a_condensed_folder_is_a_source_again(typed: Path, tmp_path: Path) -> None:
    again = attar.select(typed, method="random", ipc=2, out=tmp_path / "again")
    assert len(again) == 4
    first, second = attar.open(typed).table, attar.open(tmp_path / "again").table
    rows = pa.array(second["source_id"].to_pylist())
    assert second["box"].to_pylist() == first["box"].take(rows).to_pylist()
    assert second["source_source_id"].to_pylist() == first["source_id"].take(rows).to_pylist()
