"""What ends up in the file of pixels: channels, sizes, order, statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from real_makers import encoded, pictures, write_folder, write_parquet

from attar.real import decode, statistics
from attar.real.load import load


def everything(real) -> torch.Tensor:
    return real.raw(torch.arange(len(real)))


@pytest.mark.parametrize("first_colour", [0, 1, 63, 64, 65, 149])
def test_one_coloured_image_makes_the_whole_set_coloured(tmp_path, first_colour):
    """Whenever it comes, also after blocks of grey images were written."""
    assert decode.BLOCK == 64
    grey, colour = pictures(150, colour=False), pictures(150, seed=1)
    images = [colour[i] if i == first_colour else grey[i] for i in range(150)]
    write_parquet(tmp_path / "train.parquet", images, [i % 2 for i in range(150)])
    write_parquet(tmp_path / "test.parquet", grey[:2], [0, 1])
    splits = load(tmp_path)
    expected = np.stack([x if x.ndim == 3 else np.stack([x] * 3, -1) for x in images]).transpose(0, 3, 1, 2)
    assert torch.equal(everything(splits.train), torch.from_numpy(expected.copy()))
    assert splits.test.shape == (3, 6, 5)
    x = expected / 255
    assert np.allclose(splits.train.mean, x.mean((0, 2, 3)), atol=1e-12)
    assert np.allclose(splits.train.std, x.std((0, 2, 3)), atol=1e-12)


def test_a_grey_set_stays_grey_and_its_test_split_follows(tmp_path):
    write_parquet(tmp_path / "train.parquet", pictures(4, colour=False), [0, 1, 0, 1])
    write_parquet(tmp_path / "test.parquet", pictures(2), [0, 1])
    splits = load(tmp_path)
    assert splits.train.shape == splits.test.shape == (1, 6, 5)


def test_sizes_are_made_equal_where_asked(tmp_path):
    images = [pictures(1, size=(h, w))[0] for h, w in ((8, 12), (20, 5), (6, 6), (9, 31))]
    write_parquet(tmp_path / "train.parquet", images, [0, 1, 0, 1])
    for policy in ("crop", "squash", "pad"):
        assert load(tmp_path, size=7, resize=policy).train.shape == (3, 7, 7)
    assert load(tmp_path, size=(4, 6)).train.shape == (3, 4, 6)


def test_skipped_rows_leave_ids_labels_and_columns_in_step(tmp_path):
    images: list = list(pictures(8, colour=False))
    images[1], images[6] = b"no image", None
    write_parquet(tmp_path / "train.parquet", images, [0, 1] * 4, note=[f"n{i}" for i in range(8)])
    write_parquet(tmp_path / "test.parquet", images[2:4], [0, 1])
    for _ in range(2):  # decoded, then from the cache
        splits = load(tmp_path, on_bad="skip")
        train = splits.train
        assert train.ids.tolist() == [0, 2, 3, 4, 5, 7]
        assert train.labels.tolist() == [0, 0, 1, 0, 1, 1]
        assert train.table["note"].to_pylist() == [f"n{i}" for i in train.ids]
        kept = np.stack([images[i] for i in train.ids])[:, None]
        assert torch.equal(everything(train), torch.from_numpy(kept))
        assert splits.notes[0].startswith("2 of 8 images were skipped (unreadable): ") and "row 1" in splits.notes[0]


def test_many_skipped_files_are_counted_and_some_named(tmp_path):
    write_folder(tmp_path, {"a": pictures(3), "b": pictures(3)})
    for i in range(9):
        (tmp_path / "a" / f"bad{i}.png").write_bytes(b"bad")
    note = load(tmp_path, on_bad="skip").notes[0]
    assert note.startswith("9 of 15 ") and "bad0.png" in note and note.endswith("and 4 more")


def test_workers_do_not_change_a_bit(tmp_path, monkeypatch):
    images = [encoded(x, "JPEG", quality=90) for x in pictures(70, size=(16, 16))]
    write_parquet(tmp_path / "train.parquet", images, [i % 2 for i in range(70)])
    prints = set()
    for workers in (1, 3):
        monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / f"cache{workers}"))
        prints.add(load(tmp_path / "train.parquet", size=8, workers=workers).train.fingerprint)
    assert len(prints) == 1


def test_progress_is_told(tmp_path):
    told: list = []

    class Progress:
        def start(self, label, total):
            told.append((label, total))

        def advance(self, n=1):
            told.append(n)

        def stop(self):
            told.append("stop")

    write_parquet(tmp_path / "train.parquet", pictures(70), [i % 2 for i in range(70)])
    load(tmp_path / "train.parquet", progress=Progress())
    assert told[0][1] == 70 and sum(told[1:-1]) == 70 and told[-1] == "stop"


@pytest.mark.parametrize("channels", [1, 3])
def test_moments_are_those_of_the_pixels(channels):
    x = torch.randint(0, 256, (50, channels, 7, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = statistics.moments(statistics.image_sums(x), x.shape[1:])
    y = x.double() / 255
    assert torch.allclose(torch.tensor(mean).double(), y.mean((0, 2, 3)), atol=1e-7)
    assert torch.allclose(torch.tensor(std).double(), y.std((0, 2, 3), correction=0), atol=1e-7)


def test_a_constant_channel_has_deviation_one():
    x = torch.full((5, 1, 2, 2), 51, dtype=torch.uint8)
    assert statistics.moments(statistics.image_sums(x), (1, 2, 2)) == ((0.2,), (1.0,))


def test_statistics_are_of_the_training_part():
    splits = load("digits", test_fraction=0.5)
    x = everything(splits.train).double() / 255
    assert abs(splits.train.mean[0] - x.mean()) < 1e-12 and abs(splits.train.std[0] - x.std(correction=0)) < 1e-12
    assert splits.test.mean == splits.train.mean


def test_published_constants_need_name_shape_and_class_count(tmp_path):
    images, labels = pictures(20, size=(28, 28), colour=False), [i % 10 for i in range(20)]
    found = {}
    for name, size in (("MNIST", None), ("mnist-like", None), ("mnist", 27)):
        write_parquet(tmp_path / name / "train.parquet", images, labels)
        found[name] = load(tmp_path / name, size=size).train
    assert found["MNIST"].mean == (0.1307,) and found["MNIST"].std == (0.3081,)
    assert [found[n].source["statistics"] for n in found] == ["published", "computed", "computed"]
