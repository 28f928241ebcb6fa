"""Columns of any type travel with their rows."""

from __future__ import annotations

import pickle

import pyarrow as pa
import torch
from real_makers import pictures, write_parquet

from attar.real.load import load

TAGS = [["a", f"t{i}"] if i % 3 else [] for i in range(10)]
BOXES = [{"x": i, "where": {"w": i / 2, "name": None if i == 4 else f"box {i}"}} for i in range(10)]


def test_lists_and_structs_are_carried_unchanged(tmp_path):
    columns = {
        "tags": pa.array(TAGS, pa.list_(pa.string())),
        "box": pa.array(BOXES),
        "when": pa.array(range(10), pa.timestamp("ms")),
        "kind": pa.array(["u", "v"] * 5).dictionary_encode(),
    }
    path = write_parquet(tmp_path / "rich.parquet", pictures(10), [0, 1] * 5, **columns)
    for _ in range(2):  # decoded, then from the cache
        splits = load(path)
        for part in (splits.train, splits.test, splits.train.subset(torch.tensor([5, 0, 3]))):
            ids = part.ids.tolist()
            assert part.table["tags"].to_pylist() == [TAGS[i] for i in ids]
            assert part.table["box"].to_pylist() == [BOXES[i] for i in ids]
            for name, column in columns.items():
                assert part.table.schema.field(name).type == column.type
        assert splits.train.table.column_names == ["label", "tags", "box", "when", "kind"]


def test_categories_of_several_files_are_united(tmp_path):
    for name, kinds in (("a", ["u", "v"]), ("b", ["w", "v"])):
        kind = pa.array(kinds * 5).dictionary_encode()
        write_parquet(tmp_path / f"train-{name}.parquet", pictures(10, seed=ord(name)), [0, 1] * 5, kind=kind)
    for _ in range(2):  # decoded, then from the cache
        splits = load(tmp_path)
        both = {**dict(zip(splits.train.ids.tolist(), splits.train.table["kind"].to_pylist()))}
        both |= dict(zip(splits.test.ids.tolist(), splits.test.table["kind"].to_pylist()))
        assert [both[i] for i in range(20)] == ["u", "v"] * 5 + ["w", "v"] * 5


def test_the_label_column_is_called_label_and_the_image_stays_out(tmp_path):
    import pyarrow.parquet as pq

    path = write_parquet(tmp_path / "a.parquet", pictures(4), ["x", "y"] * 2, extra=[1, 2, 3, 4])
    pq.write_table(pq.read_table(path).rename_columns(["img", "class", "extra"]), path)
    train = load(path).train
    assert train.table.column_names == ["label", "extra"]
    assert train.table["extra"].to_pylist() == [int(i) + 1 for i in train.ids]


def test_fingerprints_see_columns_names_and_pixels(tmp_path):
    prints = set()
    for k, (seed, names, extra) in enumerate(((0, "ab", 1), (1, "ab", 1), (0, "ac", 1), (0, "ab", 2))):
        path = write_parquet(
            tmp_path / f"{k}.parquet", pictures(4, seed=seed), [0, 1] * 2, tuple(names), extra=[extra] * 4
        )
        prints.add(load(path).train.fingerprint)
    assert len(prints) == 4


def test_a_set_is_pickled_with_its_pixels_apart_which_nobody_copies(tmp_path):
    write_parquet(tmp_path / "train.parquet", pictures(4), [0, 1, 0, 1])
    real, apart = load(tmp_path).train, []
    assert real.sizes  # what is derived is not sent
    sent = pickle.dumps(real, protocol=5, buffer_callback=apart.append)
    assert any(len(b.raw()) == real.images.numel() for b in apart)
    there = pickle.loads(sent, buffers=[bytes(b.raw()) for b in apart])  # noqa: S301
    assert "classes" not in vars(there)
    assert torch.equal(there.draw(torch.arange(len(real))), real.draw(torch.arange(len(real))))
    assert (there.fingerprint, there.sizes, there.space) == (real.fingerprint, real.sizes, real.space)
    assert there.table.equals(real.table) and torch.equal(there.ids, real.ids)
