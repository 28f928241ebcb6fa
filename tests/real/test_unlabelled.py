"""Images without classes: one folder, a table without labels, arrays alone; and sets that have labels, which are forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from real_makers import encoded, pictures, write_folder
from torch.utils.data import Dataset

import attar
from attar.errors import DataError, UsageError
from attar.real.load import load

X = pictures(9)


def flat(root: Path) -> Path:
    """Nine images, three of them in a folder of their own, and a file that is none."""
    (root / "deep").mkdir(parents=True)
    for i, image in enumerate(X):
        (root / ("deep" if i < 3 else ".") / f"{i}.png").write_bytes(encoded(image))
    (root / "notes.txt").write_text("no image")
    return root


def sources(tmp: Path) -> dict[str, Any]:
    pq.write_table(pa.table({"image": [encoded(x) for x in X]}), tmp / "only.parquet")
    pq.write_table(pa.table({"image": [encoded(x) for x in X], "label": ["a"] * 9}), tmp / "one.parquet")
    np.savez(tmp / "x.npz", x_train=X)
    classes = write_folder(tmp / "classes", {"a": X[:4], "b": X[4:]})
    return {
        "folder": flat(tmp / "flat"),
        "classes": classes,
        "parquet": tmp / "only.parquet",
        "one class": tmp / "one.parquet",
        "npz": tmp / "x.npz",
        "array": X,
        "tensor": torch.from_numpy(X),
        "pair": (X, np.arange(9) % 3),
        "dataset": Items(list(X)),
        "dataset of pairs": Items([(x, i % 2) for i, x in enumerate(X)]),
    }


class Items(Dataset[Any]):
    """A torch dataset of what it is given."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def test_a_hub_dataset_of_images_alone(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image()})
    given = datasets.Dataset.from_dict({"image": [{"bytes": encoded(x), "path": None} for x in X]}, features=features)
    real = load(given, unlabelled=True, cache=tmp_path / "cache").train
    assert len(real) == 9 and not real.labelled and real.class_names == ()


NAMES = ["folder", "classes", "parquet", "one class", "npz", "array", "tensor", "pair", "dataset", "dataset of pairs"]


@pytest.mark.parametrize("name", NAMES)
def test_all_images_are_there_and_none_has_a_class(name: str, tmp_path: Path) -> None:
    splits = load(sources(tmp_path)[name], unlabelled=True, cache=tmp_path / "cache")
    real = splits.train
    assert len(real) == 9 and not real.labelled and real.class_names == () and real.sizes == []
    wanted = {x.tobytes() for x in X.transpose(0, 3, 1, 2)}
    assert {x.numpy().tobytes() for x in real.raw(torch.arange(9))} == wanted
    assert real.table.num_rows == 9 and "label" not in real.table.column_names
    with pytest.raises(UsageError, match="read without labels"):
        _ = splits.test


def test_with_and_without_labels_are_two_sets_in_the_cache(tmp_path: Path) -> None:
    source = sources(tmp_path)["classes"]
    for _ in range(2):
        plain, labelled = (load(source, unlabelled=u, cache=tmp_path / "cache").train for u in (True, False))
        assert (len(plain), plain.n_classes, labelled.n_classes) == (9, 0, 2)


def test_without_the_flag_labels_are_asked_for_as_before(tmp_path: Path) -> None:
    found = sources(tmp_path)
    for name in ("folder", "parquet", "one class", "npz"):
        with pytest.raises(DataError):
            load(found[name], cache=tmp_path / "cache")
    with pytest.raises(UsageError, match="is no source"):
        load(X)
    with pytest.raises(DataError, match="holds no images"):
        (tmp_path / "empty").mkdir()
        load(tmp_path / "empty", unlabelled=True)


def test_a_selection_of_them_is_a_set_that_opens_and_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    kept = attar.select(sources(tmp_path)["folder"], unlabelled=True, method="kcenter", rows=4, out=out)
    assert (out / "report.html").is_file() and attar.verify(out)["good"]
    assert kept[0][1] == -1 and kept.class_names == ()
    assert set(kept.table["file"].to_pylist()) <= {f"{i}.png" for i in range(3, 9)} | {
        f"deep/{i}.png" for i in range(3)
    }
    attar.export(out, format="folder", to=tmp_path / "images")
    assert len(list((tmp_path / "images").glob("*.png"))) == 4
    with pytest.raises(UsageError, match="read without labels"):
        attar.evaluate(out)


@pytest.mark.parametrize("method", ["random", "kcenter", "herding", "kmeans", "prototype", "semdedup"])
def test_methods_without_labels_choose_among_them(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    assert len(attar.select(X, unlabelled=True, method=method, rows=4)) == 4


@pytest.mark.parametrize("method", ["el2n", "entropy", "knn-shapley", "glister"])
def test_methods_that_need_labels_say_so(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    with pytest.raises((UsageError, DataError), match="class"):
        attar.select(X, unlabelled=True, method=method, rows=4)


def test_a_person_labels_what_has_no_label_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    asked = tmp_path / "l.csv"
    how: dict[str, Any] = {"query": "entropy", "rows": 4, "rounds": 1, "classes": "even,odd", "ask": str(asked)}
    how |= {"net": "convnet:width=4:depth=1", "epochs": 1, "unlabelled": True, "out": tmp_path / "out"}
    source = sources(tmp_path)["folder"]
    for _ in range(2):
        with pytest.raises(attar.errors.Waiting):
            attar.select(source, **how)
        head, *lines = asked.read_text().splitlines()
        answered = [line + (["even", "odd"][i % 2] if line.endswith(",") else "") for i, line in enumerate(lines)]
        asked.write_text("\n".join([head, *answered]) + "\n")
    kept = attar.select(source, **how)
    assert kept.class_names == ("even", "odd") and len(kept) == 4 and kept.labelled
