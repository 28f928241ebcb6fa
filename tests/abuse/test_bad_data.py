"""Bad data: every kind is refused in one sentence that names the place and the remedy, and leaves nothing behind."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from attar.errors import AttarError, DataError, UsageError
from attar.real import cache
from attar.real.load import load


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch) -> Path:
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ATTAR_CACHE", str(place))
    return place


def png(value: int = 100, size: tuple[int, int] = (4, 4)) -> bytes:
    """A grey PNG of (H, W)."""
    out = io.BytesIO()
    Image.fromarray(np.full(size, value, np.uint8)).save(out, "PNG")
    return out.getvalue()


def claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims a size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def photos(root: Path, **classes: list[bytes]) -> Path:
    """Class folders with files 0.png, 1.png ..."""
    for name, files in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i, data in enumerate(files):
            (root / name / f"{i}.png").write_bytes(data)
    return root


def table(path: Path, images=None, labels=None, names: tuple[str, ...] = (), **columns) -> Path:
    """A parquet file of images (bytes or None) and labels."""
    labels = [0, 1] * 3 if labels is None else labels
    images = [png(40 * i) for i in range(len(labels))] if images is None else images
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [None if b is None else {"bytes": b, "path": None} for b in images]
    made = pa.table({"image": pa.array(rows, kind), "label": labels, **columns})
    if names:
        page = {"info": {"features": {"label": {"names": names}}}}
        made = made.replace_schema_metadata({"huggingface": json.dumps(page)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(made, path)
    return path


def tree(root: Path) -> list[tuple[str, int]]:
    return sorted((str(p), p.stat().st_size) for p in root.rglob("*")) if root.is_dir() else []


def refused(source, *says: str, kind: type[AttarError] = DataError, test: bool = False, **options) -> None:
    """The source is refused in one sentence that holds every word of ``says``, and nothing is left behind."""
    before = tree(source.parent) if isinstance(source, Path) else []
    with pytest.raises(kind) as caught:
        splits = load(source, **options)
        if test:
            _ = splits.test
    message = str(caught.value)
    assert type(caught.value) is kind and caught.value.exit_code == {DataError: 3, UsageError: 2}[kind]
    assert "\n" not in message and not [s for s in says if s not in message], message
    assert len(cache.entries()) == int(test), "a refused split must not be cached"
    assert not [p for p in cache.root().rglob("*") if ".attar-tmp-" in p.name]
    assert (tree(source.parent) if isinstance(source, Path) else []) == before


# Nothing there, or nothing in it


def test_missing_path(tmp_path):
    photos(tmp_path / "photos", a=[png()], b=[png()])
    refused(tmp_path / "fotos", "nothing at", "did you mean 'photos'?", kind=UsageError)
    for i in range(30):
        (tmp_path / f"other{i:02d}").mkdir()
    names = ", ".join(f"other{i:02d}" for i in range(8))
    refused(tmp_path / "zzzzzz", f"nothing at {tmp_path}/zzzzzz; known: {names} and 23 others", kind=UsageError)
    refused(tmp_path / "none" / "fotos", "nor is there a folder", kind=UsageError)


def test_things_that_are_no_source(tmp_path):
    refused(42, "int is no source", "give a path", kind=UsageError)
    refused((1, 2, 3), "3 values", "(images, labels)", kind=UsageError)
    (tmp_path / "notes.txt").write_text("hello")
    refused(tmp_path / "notes.txt", "notes.txt", "give a folder of class folders")


def test_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty holds no images", "sub-folder")


def test_images_without_class_folders(tmp_path):
    (tmp_path / "flat").mkdir()
    for i in range(3):
        (tmp_path / "flat" / f"{i}.png").write_bytes(png())
    refused(tmp_path / "flat", "3 images but no class folders", "sub-folder named like the class")


def test_class_folder_without_images(tmp_path):
    source = photos(tmp_path / "set", cat=[png()] * 3, dog=[png()] * 3, owl=[])
    refused(source, "owl holds no images", "delete it")


def test_test_folder_without_training_folder(tmp_path):
    source = photos(tmp_path / "set" / "test", cat=[png()], dog=[png()]).parent
    refused(source, "no train folder", "add train/")


def test_one_class_only(tmp_path):
    refused(photos(tmp_path / "set", cat=[png()] * 3), "set-train has only the class 'cat'", "two classes")
    refused(table(tmp_path / "one.parquet", labels=[3, 3, 3]), "only the class '3'", "two classes")


def test_a_test_class_that_training_lacks(tmp_path):
    source = photos(tmp_path / "set" / "train", cat=[png()], dog=[png()]).parent
    photos(source / "test", owl=[png()])
    refused(source, "owl is a class that", "lacks", "cat, dog")
    table(tmp_path / "p" / "train.parquet", labels=["a", "b"])
    table(tmp_path / "p" / "test.parquet", labels=["a", "c"])
    refused(tmp_path / "p", "test.parquet, row 1", "class 'c'", "training split lacks", test=True)


# Images that cannot be read

BAD = {
    "zero bytes": (b"", "is empty"),
    "no image": (b"hello, I am a text", "is not an image"),
    "truncated": (png(size=(64, 64))[:-30], "is damaged"),
    "huge": (claiming(60000, 60000), "limit of 64 megapixels"),
    "large": (claiming(10000, 9000), "claims 10000x9000 pixels, more than the limit of 64 megapixels"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not an image"),
}


@pytest.mark.parametrize("what", BAD)
def test_unreadable_files(tmp_path, what):
    data, says = BAD[what]
    source = photos(
        tmp_path / "set", cat=[png(i, (64, 64)) for i in range(4)], dog=[png(i, (64, 64)) for i in range(4)]
    )
    (source / "dog" / "2.png").write_bytes(data)
    refused(source, "dog/2.png", says, "replace or delete it", "--on-bad skip")
    splits = load(source, on_bad="skip")
    assert len(splits.train) + len(splits.test) == 7
    assert splits.notes[0].startswith("1 of 8 images was skipped") and "dog/2.png" in splits.notes[0]


@pytest.mark.parametrize("what", BAD)
def test_unreadable_rows(tmp_path, what):
    data, says = BAD[what]
    images = [png(i, (64, 64)) for i in range(6)]
    images[3] = data
    source = table(tmp_path / "set.parquet", images)
    refused(source, "set.parquet, row 3", says, "--on-bad skip")
    splits = load(source, on_bad="skip")
    assert sorted([*splits.train.ids.tolist(), *splits.test.ids.tolist()]) == [0, 1, 2, 4, 5]


def test_null_image(tmp_path):
    images = [png(i) for i in range(5)] + [None]
    source = table(tmp_path / "set.parquet", images)
    refused(source, "row 5", "no image (null)", "delete the row")
    assert "1 of 6" in load(source, on_bad="skip").notes[0]


def test_nothing_readable_at_all(tmp_path):
    source = photos(tmp_path / "set", cat=[b"x"] * 2, dog=[b"y"] * 2)
    refused(source, "none of the 4 images could be read", "cat/0.png", on_bad="skip")


def test_a_class_that_loses_all_its_images(tmp_path):
    source = photos(tmp_path / "set", cat=[png()] * 3, dog=[b"x"] * 2)
    refused(source, "only the class 'cat'", on_bad="skip")


def test_an_image_path_in_a_table_is_not_followed(tmp_path):
    """A parquet file from elsewhere could name any file of the reader's disk."""
    (tmp_path / "private.png").write_bytes(png())
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": None, "path": str(tmp_path / "private.png")}] * 2
    pq.write_table(pa.table({"image": pa.array(rows, kind), "label": [0, 1]}), tmp_path / "set.parquet")
    refused(tmp_path / "set.parquet", "row 0", "no image (null)")


def test_mixed_sizes(tmp_path):
    source = photos(tmp_path / "set", cat=[png(size=(4, 6)), png(size=(5, 6))], dog=[png(size=(4, 6))])
    refused(source, "6x4", "6x5", "cat/0.png", "cat/1.png", "--size 4")
    assert load(source, size=4).train.shape == (1, 4, 4)


def test_a_test_split_of_another_size(tmp_path):
    table(tmp_path / "p" / "train.parquet")
    table(tmp_path / "p" / "test.parquet", [png(size=(9, 9))] * 2, [0, 1])
    refused(tmp_path / "p", "training split has 4x4", "test.parquet, row 0 has 9x9", "--size", test=True)


# Tables


def test_corrupt_parquet(tmp_path):
    whole = table(tmp_path / "set.parquet").read_bytes()
    for k, data in enumerate((b"", b"PAR1", whole[:-20], whole[:100] + whole[200:], b"PAR1" + b"\0" * 100 + b"PAR1")):
        (tmp_path / f"{k}.parquet").write_bytes(data)
        refused(tmp_path / f"{k}.parquet", f"{k}.parquet is not a readable parquet file", "restore it")


def test_a_parquet_file_without_rows(tmp_path):
    refused(table(tmp_path / "none.parquet", [], pa.array([], pa.int64())), "none.parquet has no rows")


def test_wrong_columns(tmp_path):
    pq.write_table(pa.table({"text": ["a"], "size": [1]}), tmp_path / "set.parquet")
    refused(tmp_path / "set.parquet", "lacks an image column and a label column", "text (string), size (int64)")
    pq.write_table(pa.table({"image": ["a.png"], "label": [1]}), tmp_path / "paths.parquet")
    refused(tmp_path / "paths.parquet", "lacks an image column", "image (string)", "struct<bytes, path>")


def test_files_of_one_split_with_different_columns(tmp_path):
    table(tmp_path / "p" / "train-0.parquet")
    table(tmp_path / "p" / "train-1.parquet", extra=[1] * 6)
    refused(tmp_path / "p", "train-1.parquet has other columns than", "train-0.parquet")


@pytest.mark.parametrize(
    ("labels", "names", "says"),
    [
        ([0, 1, -1, 0], (), ("row 2", "label -1", "negative")),
        ([0, 1, 0, 2], ("a", "b"), ("row 3", "label 2", "2 class names")),
        ([0.0, 1.0, 1.5, 0.0], (), ("row 2", "1.5", "not a whole number")),
        ([0.0, float("nan"), 1.0, 0.0], (), ("row 1", "nan", "not a whole number")),
        ([0, 1, None, 0], (), ("row 2", "no label")),
        (["a", None, "b", "a"], (), ("row 1", "no label")),
        ([0, 1, 0, 1], ("a", "a"), ("'a'", "declared twice")),
    ],
)
def test_bad_labels(tmp_path, labels, names, says):
    refused(table(tmp_path / "set.parquet", labels=labels, names=names), "set.parquet", *says)


def test_labels_of_a_type_that_is_no_label(tmp_path):
    pq.write_table(pa.table({"image": [png()] * 2, "label": [[1], [2]]}), tmp_path / "set.parquet")
    refused(tmp_path / "set.parquet", "lacks a label column", "label (list")


def test_group_column(tmp_path):
    source = table(tmp_path / "set.parquet", patient=[1, 1, 2, 2, 3, 3])
    with pytest.raises(UsageError, match=r"no column 'patent'.*did you mean 'patient'"):
        load(source, group="patent")
    bad = table(tmp_path / "null.parquet", patient=[1, 1, 2, None, 3, 3])
    with pytest.raises(DataError, match="row 3 has no value in the group column"):
        load(bad, group="patient")
    whole = table(tmp_path / "whole.parquet", patient=[1] * 6)
    with pytest.raises(DataError, match="only one of some class"):
        load(whole, group="patient")


# Arrays

X, Y = np.zeros((4, 3, 3), np.uint8), np.array([0, 1, 0, 1])


def with_value(value: float) -> np.ndarray:
    x = np.zeros((4, 3, 3), np.float32)
    x[2, 1, 1] = value
    return x


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (with_value(np.nan), Y, ("row 2", "NaN")),
        (with_value(np.inf), Y, ("row 2", "infinite")),
        (with_value(255), Y, ("row 2", "255", "divide by 255")),
        (with_value(-0.5), Y, ("row 2", "-0.5", "do not normalise")),
        (X.astype(np.int64) - 1, Y, ("row 0", "-1", "0..255")),
        (X.astype(np.uint16) + 200, Y, ("uint16", "no pixel is above 200", "convert it to uint8")),
        (X, Y[:3], ("4 images", "3 labels")),
        (X[:, :, 0], Y, ("[4, 3]", "[N, H, W]")),
        (np.zeros((4, 5, 5, 4), np.uint8), Y, ("row 0", "[5, 5, 4]", "C of 1 or 3")),
        (np.zeros((4, 0, 3), np.uint8), Y, ("row 0", "[0, 3]")),
        (X.astype(object), Y, ("Python objects",)),
        (X.astype("datetime64[s]"), Y, ("datetime64",)),
        (X, Y + 0.5, ("row 0", "0.5")),
        (X, Y - 1, ("row 0", "negative")),
        (X[:0], Y[:0], ("no ",)),
    ],
)
def test_bad_arrays(tmp_path, x, y, says):
    refused((x, y), *says)
    if x.dtype != object:
        np.savez(tmp_path / "set.npz", x_train=x, y_train=y)
        refused(tmp_path / "set.npz", "set.npz", *says)


def test_objects_in_archives_are_not_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    np.savez(tmp_path / "set.npz", x_train=np.array([Trap(), Trap()], object), y_train=np.array([0, 1]))
    refused(tmp_path / "set.npz", "set.npz holds Python objects, which are never loaded", "plain arrays")
    assert not (tmp_path / "sprung").exists()


def test_archives_without_the_arrays(tmp_path):
    np.savez(tmp_path / "set.npz", a=X, b=Y)
    refused(tmp_path / "set.npz", "set.npz has the arrays a, b", "x_train and y_train")
    np.savez(tmp_path / "test.npz", x_test=X, y_test=Y)
    refused(tmp_path / "test.npz", "x_test, y_test", "x_train and y_train")
    refused({"x_train": X}, "x_train", "y_train")


def test_broken_archives(tmp_path):
    np.savez(tmp_path / "whole.npz", x_train=X, y_train=Y)
    whole = (tmp_path / "whole.npz").read_bytes()
    for k, data in enumerate((b"", b"PK\3\4", whole[:-30], whole[:150] + b"\xff" * 20 + whole[170:])):
        (tmp_path / f"{k}.npz").write_bytes(data)
        refused(tmp_path / f"{k}.npz", f"{k}.npz is not a readable .npz archive", "restore it")


def test_several_archives(tmp_path):
    for k in range(2):
        (tmp_path / "set").mkdir(exist_ok=True)
        np.savez(tmp_path / "set" / f"{k}.npz", x_train=X, y_train=Y)
    refused(tmp_path / "set", "2 .npz archives", "give the path of one")


def test_a_test_label_beyond_the_declared_names():
    arrays = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1, "class_names": ["a", "b"]}
    with pytest.raises(DataError, match=r"x_test, row 1 has the label 2, but there are 2 class names"):
        _ = load(arrays).test


# Arguments


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": 0}, "from 1 to 4096"),
        ({"size": (4, 100000)}, "from 1 to 4096"),
        ({"resize": "crob"}, "did you mean 'crop'?"),
        ({"on_bad": "ignore"}, "known: skip, stop"),
        ({"workers": 0}, "at least 1"),
        ({"test_fraction": 1.0}, "between 0 and 1"),
    ],
)
def test_bad_arguments(options, says):
    refused("digits", says, kind=UsageError, **options)


# Noise


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from(["a.parquet", "a.npz", "a/0.png"]))
def test_random_files_are_refused(tmp_path, noise, name):
    root = tmp_path / "noise"
    photos(root, a=[], b=[png()])
    (root / name).write_bytes(noise)
    with pytest.raises(AttarError):
        load(root / name if name != "a/0.png" else root)
    (root / name).unlink()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_tables_are_read_or_refused(tmp_path, data):
    body = bytearray(table(tmp_path / "whole.parquet", labels=["a", "b", "a"], tags=[["x"], [], None]).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "damaged.parquet").write_bytes(body)
    try:
        splits = load(tmp_path / "damaged.parquet")
        assert len(splits.train) + len(splits.test) >= 2
    except AttarError as e:
        assert "\n" not in str(e)
