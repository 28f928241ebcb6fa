"""Each reader gives the pixels, labels, names and ids that went in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from real_makers import encoded, image_table, pictures, write_folder, write_parquet
from torch.utils.data import Dataset, IterableDataset

from attar.errors import DataError, UsageError
from attar.real.load import load
from attar.real.realset import RealSet, Splits


def planes(images: np.ndarray) -> torch.Tensor:
    """[n, H, W] or [n, H, W, 3] -> [n, C, H, W]."""
    return torch.from_numpy(images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2).copy())


def everything(real: RealSet) -> torch.Tensor:
    return real.raw(torch.arange(len(real)))


def same(real: RealSet, images: np.ndarray, labels: list[int], names: tuple[str, ...]) -> None:
    assert torch.equal(everything(real), planes(images))
    assert real.labels.tolist() == labels
    assert real.class_names == names


def test_digits_are_scaled_to_eight_bits():
    splits = load("digits")
    whole = torch.cat([splits.train.ids, splits.test.ids])
    assert whole.sort().values.tolist() == list(range(1797))
    assert splits.train.shape == (1, 8, 8) and splits.train.n_classes == 10
    values = everything(splits.train).unique().tolist()
    assert values == [round(v * 255 / 16) for v in range(17)]
    assert splits.train.draw(torch.arange(1438)).mean().abs() < 1e-5


def test_folder_with_splits(tmp_path):
    train, test = pictures(5), pictures(3, seed=1)
    write_folder(tmp_path / "train", {"cat": train[:2], "ant": train[2:]})
    write_folder(tmp_path / "test", {"ant": test[:1], "cat": test[1:]})
    write_folder(tmp_path / "valid", {"ant": test[:2]})
    (tmp_path / "train" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "train" / "cat" / ".hidden.png").write_bytes(b"x")
    splits = load(tmp_path)
    same(splits.train, np.concatenate([train[2:], train[:2]]), [0, 0, 0, 1, 1], ("ant", "cat"))
    same(splits.test, test, [0, 1, 1], ("ant", "cat"))
    assert splits.val is not None
    same(splits.val, test[:2], [0, 0], ("ant", "cat"))
    assert splits.train.table["file"].to_pylist()[3] == "cat/000.png"
    assert splits.test.mean == splits.train.mean == splits.val.mean
    assert splits.notes == ()


def test_a_class_may_be_called_train(tmp_path):
    made = {name: pictures(5, seed=k) for k, name in enumerate(("apple", "train", "whale"))}
    splits = load(write_folder(tmp_path / "cifar100", made))
    assert splits.train.class_names == ("apple", "train", "whale") and len(splits.train) + len(splits.test) == 15
    assert len(load(tmp_path / "cifar100", unlabelled=True).train) == 15


def test_folders_beside_those_of_splits_are_left_alone(tmp_path):
    write_folder(tmp_path / "set" / "train", {"a": pictures(2), "b": pictures(2)})
    (tmp_path / "set" / "docs").mkdir()
    assert load(tmp_path / "set").train.class_names == ("a", "b")


def test_two_folders_of_one_split_are_refused(tmp_path):
    for name in ("train", "val", "validation"):
        write_folder(tmp_path / "set" / name, {"a": pictures(2), "b": pictures(2)})
    with pytest.raises(DataError, match="has val and validation, which mean the same split"):
        load(tmp_path / "set")


def test_folder_leaves_out_files_that_are_no_images_and_says_so(tmp_path):
    write_folder(tmp_path, {"a": pictures(3), "b": pictures(3)})
    (tmp_path / "a" / "notes.txt").write_text("hello")
    splits = load(tmp_path)
    assert len(splits.train) + len(splits.test) == 6
    assert "1 of 7 files" in splits.notes[0] and "notes.txt" in splits.notes[0]


def test_folders_below_a_class_folder_belong_to_the_class(tmp_path):
    write_folder(tmp_path / "a", {"x": pictures(2), "y": pictures(2)})
    write_folder(tmp_path, {"b": pictures(4)})
    splits = load(tmp_path)
    assert sorted([*splits.train.sizes, *splits.test.sizes]) == [1, 1, 3, 3]


@pytest.mark.parametrize("struct", [True, False])
def test_parquet_folder(tmp_path, struct):
    train, test = pictures(6, colour=False), pictures(2, colour=False, seed=1)
    names = ("zebra", "ant")
    write_parquet(tmp_path / "train.parquet", train, [0, 1, 0, 1, 0, 1], names, struct)
    write_parquet(tmp_path / "test.parquet", test, [1, 0], names, struct)
    splits = load(tmp_path)
    same(splits.train, train, [0, 1, 0, 1, 0, 1], names)
    same(splits.test, test, [1, 0], names)
    assert splits.train.name == tmp_path.name


def test_parquet_shards_in_a_data_folder(tmp_path):
    images = pictures(6)
    for k in range(2):
        rows = slice(3 * k, 3 * k + 3)
        write_parquet(tmp_path / "data" / f"train-{k:05}-of-00002.parquet", images[rows], [0, 1, 2], ("a", "b", "c"))
    write_parquet(tmp_path / "data" / "validation-00000-of-00001.parquet", images[:2], [2, 1], ("a", "b", "c"))
    splits = load(tmp_path)
    same(splits.train, images, [0, 1, 2, 0, 1, 2], ("a", "b", "c"))
    same(splits.test, images[:2], [2, 1], ("a", "b", "c"))
    assert "validation split serves" in splits.notes[0]


def test_labels_are_matched_between_files_by_name(tmp_path):
    images = pictures(4)
    write_parquet(tmp_path / "train.parquet", images, [0, 1, 0, 1], ("a", "b"))
    write_parquet(tmp_path / "test.parquet", images[:2], [0, 1], ("b", "a"))
    assert load(tmp_path).test.labels.tolist() == [1, 0]


def test_test_labels_without_names_follow_the_training_names(tmp_path):
    images = pictures(4)
    write_parquet(tmp_path / "train.parquet", images, [0, 1, 0, 1], ("a", "b"))
    write_parquet(tmp_path / "test.parquet", images[:2], [1, 1])
    assert load(tmp_path).test.labels.tolist() == [1, 1]


def test_numbers_without_names_become_names_in_order(tmp_path):
    images = pictures(4)
    write_parquet(tmp_path / "train.parquet", images, [7, 30, 7, 4])
    write_parquet(tmp_path / "test.parquet", images[:2], [30, 7])
    splits = load(tmp_path)
    same(splits.train, images, [1, 2, 1, 0], ("4", "7", "30"))
    assert splits.test.labels.tolist() == [2, 1]


def test_string_labels_and_other_column_names(tmp_path):
    import pyarrow.parquet as pq

    images = pictures(4)
    table = image_table(images, ["no", "yes", "no", "yes"]).rename_columns(["img", "fine_label"])
    pq.write_table(table, tmp_path / "train.parquet")
    pq.write_table(table, tmp_path / "test.parquet")
    splits = load(tmp_path)
    same(splits.test, images, [0, 1, 0, 1], ("no", "yes"))


def test_declared_classes_without_examples_are_left_out_and_named(tmp_path):
    images = pictures(4)
    write_parquet(tmp_path / "train.parquet", images, [2, 0, 2, 0], ("a", "b", "c"))
    write_parquet(tmp_path / "test.parquet", images[:2], [2, 0], ("a", "b", "c"))
    splits = load(tmp_path)
    same(splits.train, images, [1, 0, 1, 0], ("a", "c"))
    assert splits.test.labels.tolist() == [1, 0]
    assert "left out: b" in splits.notes[0]


@pytest.mark.parametrize("keys", ["x_train y_train x_test y_test", "train_images train_labels test_images test_labels"])
def test_npz(tmp_path, keys):
    train, test = pictures(4, colour=False), pictures(2, colour=False, seed=1)
    arrays = dict(zip(keys.split(), (train, np.array([0, 1, 0, 1]), test, np.array([1, 0], np.uint8))))
    np.savez_compressed(tmp_path / "set.npz", class_names=np.array(["a", "b"]), **arrays)
    for source in (tmp_path, tmp_path / "set.npz"):
        splits = load(source)
        same(splits.train, train, [0, 1, 0, 1], ("a", "b"))
        same(splits.test, test, [1, 0], ("a", "b"))


@pytest.mark.parametrize("layout", ["HW", "HWC", "CHW", "tensor"])
def test_arrays(layout):
    images = pictures(6, colour=layout != "HW")
    y = np.array([0, 1] * 3)
    x = {"HW": images, "HWC": images, "CHW": planes(images).numpy(), "tensor": planes(images)}[layout]
    splits = load({"x_train": x, "y_train": y, "x_test": x[:2], "y_test": y[:2], "class_names": ["a", "b"]})
    same(splits.train, images, y.tolist(), ("a", "b"))
    same(splits.test, images[:2], [0, 1], ("a", "b"))
    held = load((x, torch.from_numpy(y)))
    assert len(held.train) + len(held.test) == 6


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: (x / 255).astype(np.float32),
        lambda x: x.astype(np.uint16) * 257,
        lambda x: x.astype(np.int64),
        lambda x: torch.from_numpy(x) / 255,
    ],
)
def test_deeper_pixels_come_back_to_the_same_eight_bits(convert):
    images = pictures(6, colour=False)
    splits = load({"x_train": convert(images), "y_train": np.arange(6) % 2})
    assert torch.equal(everything(splits.train), planes(images)[splits.train.ids])


class Pairs(Dataset):
    """A map-style dataset of given items."""

    classes = ("a", "b")

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        item = self.items[i]
        if isinstance(item, Exception):
            raise item
        return item


@pytest.mark.parametrize("form", ["pillow", "array", "tensor"])
def test_torch_datasets(form):
    from PIL import Image

    images = pictures(6)
    convert = {
        "pillow": Image.fromarray,
        "array": lambda x: x,
        "tensor": lambda x: torch.from_numpy(x.transpose(2, 0, 1)) / 255,
    }[form]
    train = Pairs([(convert(x), i % 2) for i, x in enumerate(images)])
    test = Pairs([(convert(x), torch.tensor(1)) for x in images[:2]])
    splits = load((train, test))
    same(splits.train, images, [0, 1, 0, 1, 0, 1], ("a", "b"))
    same(splits.test, images[:2], [1, 1], ("a", "b"))
    assert len(load(train).test) == 2


def test_torch_items_that_fail_are_skipped_with_their_labels():
    items = [(x, i % 2) for i, x in enumerate(pictures(6))]
    items[2] = OSError("gone")
    splits = load((Pairs(items), Pairs(items[:1])), on_bad="skip")
    assert splits.train.labels.tolist() == [0, 1, 1, 0, 1]
    assert splits.train.ids.tolist() == [0, 1, 3, 4, 5]
    assert "1 of 6" in splits.notes[0] and "item 2" in splits.notes[0]


def test_streams_are_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            yield 1

    with pytest.raises(UsageError, match="map-style"):
        load(Stream())


def hub_dataset(images: np.ndarray, labels: list[int]):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    rows = {"image": [{"bytes": encoded(x), "path": None} for x in images], "label": labels}
    return datasets.Dataset.from_dict(rows, features=features)


def test_hub_objects_in_memory():
    import datasets

    images = pictures(6)
    train = hub_dataset(images, [0, 1] * 3)
    splits = load(datasets.DatasetDict(train=train, test=train.select([5, 0])))
    same(splits.train, images, [0, 1] * 3, ("a", "b"))
    same(splits.test, images[[5, 0]], [1, 0], ("a", "b"))
    assert len(load(train).test) == 2


def test_hub_objects_may_name_files(tmp_path):
    import datasets

    images = pictures(4)
    for i, x in enumerate(images):
        (tmp_path / f"{i}.png").write_bytes(encoded(x))
    rows = {"image": [str(tmp_path / f"{i}.png") for i in range(4)], "label": ["u", "v", "u", "v"]}
    train = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    splits = load(datasets.DatasetDict(train=train, test=train))
    same(splits.train, images, [0, 1, 0, 1], ("u", "v"))


def test_the_network_is_off_unless_allowed(monkeypatch):
    monkeypatch.delenv("ATTAR_OFFLINE", raising=False)
    for name in ("hf:owner/name", "owner/name"):
        with pytest.raises(UsageError, match="ATTAR_OFFLINE=0"):
            load(name)


def test_the_hub_package_is_asked_for_where_it_is_missing(monkeypatch):
    import sys

    monkeypatch.setenv("ATTAR_OFFLINE", "0")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"attar\[hf\]"):
        load("hf:owner/name")


def test_sets_pass_through():
    splits = load("digits")
    assert load(splits) is splits
    again = load(splits.train, test_fraction=0.5)
    assert isinstance(again, Splits) and len(again.train) == len(again.test) == 719
    assert again.train.mean == splits.train.mean
    with pytest.raises(UsageError, match="already decoded"):
        load(splits, size=4)


@pytest.mark.parametrize(
    ("name", "shape", "sizes", "test"),
    [("brain_mri", (1, 96, 96), [709, 658, 262, 667], 574), ("real_fake_faces", (3, 96, 96), [471, 560], 258)],
)
def test_real_sets(data, name, shape, sizes, test):
    splits = load(data(name))
    assert splits.train.shape == shape and splits.train.sizes == sizes
    assert len(splits.test) == test and splits.test.shape == shape
    assert splits.train.source["statistics"] == "computed"


def test_a_validation_split_is_decoded_when_it_is_asked_for(tmp_path):
    for split, n in (("train", 4), ("test", 2), ("val", 2)):
        write_folder(tmp_path / split, {"a": pictures(n), "b": pictures(n, seed=1)})
    (tmp_path / "val" / "a" / "000.png").write_bytes(b"no picture")
    splits = load(tmp_path)
    assert len(splits.test) == 4
    with pytest.raises(DataError, match=r"000\.png"):
        _ = splits.val
