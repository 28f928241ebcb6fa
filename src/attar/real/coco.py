"""Reader of object detection in the COCO layout: a folder with an annotation file for each split, and images.

    photos/train.json, photos/test.json, photos/images/...
    photos/annotations/instances_train2017.json, photos/train2017/...
    photos/train/_annotations.coco.json with the images beside it

The fields of the annotation files are those of the COCO data format page (cocodataset.org, 2014 to 2017).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import pyarrow as pa
from PIL import ExifTags, Image

from attar.errors import DataError
from attar.io import atomic, images
from attar.real.objects import DETECTION, KIND
from attar.real.source import SPLIT_WORDS, Opening, Part, Picture, Source, files_identity, readable_name

LARGEST = 256
"""Longer side of the working copy where no size is given; the original files are what a selection keeps."""

SLACK = 1.0
"""Pixels by which a box may pass the edge of its image: annotation tools round."""

SNIFF = 1 << 20
"""Bytes in which an annotation file shows what it is."""

HALF = re.compile(rb"\\u[dD][89a-fA-F]")
"""A character, or a half of one, that JSON writes in two."""


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """A checked annotation file.

    Args:
        path: the file. folder: where its images are.
        images: N records. objects: N lists of records. names: K category names, in the order of the file.
        place: category id -> class number.
        rest: everything else in the file (info, licenses, categories ...).
    """

    path: Path
    folder: Path
    images: list[dict[str, Any]]
    objects: list[list[dict[str, Any]]]
    names: tuple[str, ...]
    place: dict[int, int]
    rest: dict[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        """The N image files."""
        return [self.folder / record["file_name"] for record in self.images]


def found(path: Path) -> dict[str, Path]:
    """split -> annotation file of a folder; empty where it is no COCO folder.

    Raises:
        DataError: two files for one split.
    """
    splits: dict[str, Path] = {}
    for file in _candidates(path):
        split = _split(file)
        if split is None or not _looks(file):
            continue
        if split in splits:
            raise DataError(f"{splits[split]} and {file} are both annotations of the {split} split; keep one of them")
        splits[split] = file
    return splits


def source(path: Path) -> Source:
    """A COCO folder, or one annotation file, as a source.

    Raises:
        DataError: a broken file, or records that contradict each other or the images; one sentence each.
    """
    files = found(path) if path.is_dir() else {"train": path}
    root = path if path.is_dir() else path.parent
    if "train" not in files:
        raise DataError(f"{path} has annotations of {', '.join(files)} but none of train; add train.json")
    train = _read(files["train"], root)
    frame = _frame(train)
    notes = ()
    if frame is not None:
        notes = (
            f"{root.absolute().name} is looked at in {frame[1]}x{frame[0]} pixels (--size sets others); "
            "what is kept are the original files and boxes",
        )
    return Source(
        reader="coco",
        name=root.absolute().name,
        path=str(path),
        splits={split: _opening(file, root) for split, file in files.items()},
        notes=notes,
        task=DETECTION,
        frame=frame,
    )


def is_annotations(path: Path) -> bool:
    """Whether a path is a JSON file that looks like COCO annotations."""
    return path.suffix.lower() == ".json"


def _candidates(path: Path) -> list[Path]:
    """The JSON files of a folder, its annotation folder and its split folders; ``instances`` alone where there are some."""
    inner = [p for p in path.iterdir() if p.is_dir() and (p.name == "annotations" or p.name.lower() in SPLIT_WORDS)]
    files = sorted(p for d in (path, *sorted(inner)) for p in d.glob("*.json") if not p.name.startswith("."))
    instances = [p for p in files if p.name.startswith("instances")]
    return instances or files


def _split(file: Path) -> str | None:
    """The split that a file's name, or its folder's, tells; a file called otherwise is the training split."""
    words = re.split(r"[^a-z]+", file.stem.lower())
    named = next((SPLIT_WORDS[w] for w in words if w in SPLIT_WORDS), None)
    return named or SPLIT_WORDS.get(file.parent.name.lower(), "train")


def _looks(file: Path) -> bool:
    """Whether a JSON file speaks of images and annotations; one that is named after a split may be broken and is claimed."""
    with atomic.named(file, "reading"), file.open("rb") as f:
        head = f.read(SNIFF)
    says = sum(word in head for word in (b'"images"', b'"annotations"', b'"categories"', b'"bbox"'))
    named = any(w in SPLIT_WORDS for w in re.split(r"[^a-z]+", file.stem.lower()))
    return says >= 2 or named


def _opening(file: Path, root: Path) -> Opening:
    def identity() -> list[Any]:
        return files_identity("coco", [file, *_read(file, root).files])

    def facts() -> dict[str, Any]:
        read = _read(file, root)
        return {"images": str(read.folder.absolute()), "coco": read.rest}

    return Opening(open=lambda: _part(_read(file, root)), identity=identity, facts=facts)


def _part(read: Annotations) -> Part:
    def pictures(size: int) -> Iterator[list[Picture]]:
        for start in range(0, len(read.images), size):
            yield [_picture(read, i) for i in range(start, min(start + size, len(read.images)))]

    return Part(
        n=len(read.images),
        pictures=pictures,
        columns=lambda: _columns(read),
        where=lambda i: str(read.folder / read.images[i]["file_name"]),
        names=read.names,
        task=DETECTION,
    )


def _columns(read: Annotations) -> pa.Table:
    """N rows, boxes in original pixels."""
    objects = [[_object(read, o) for o in some] for some in read.objects]
    records = [{"image_id": r["id"], "record": json.dumps(r, ensure_ascii=False)} for r in read.images]
    return pa.table(
        {
            "file": pa.array([r["file_name"] for r in read.images], pa.string()),
            "width": pa.array([r["width"] for r in read.images], pa.int64()),
            "height": pa.array([r["height"] for r in read.images], pa.int64()),
            "objects": pa.array(objects, KIND),
            "coco": pa.array(records, pa.struct([("image_id", pa.int64()), ("record", pa.string())])),
        }
    )


def _object(read: Annotations, o: Mapping[str, Any]) -> dict[str, Any]:
    area = o.get("area")
    return {
        "bbox": [float(v) for v in o["bbox"]],
        "category": read.place[o["category_id"]],
        "iscrowd": o.get("iscrowd", 0) in (1, True),
        "area": float(o["bbox"][2] * o["bbox"][3] if area is None else area),
        "id": o["id"],
        "annotation": json.dumps(o, ensure_ascii=False),
    }


def _picture(read: Annotations, i: int) -> Picture:
    """The path of an image whose header agrees with its record."""
    record, path = read.images[i], read.folder / read.images[i]["file_name"]
    try:
        with Image.open(path, formats=images.FORMATS) as image:
            w, h = image.size
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    except Exception:  # what is wrong with the file is said where it is decoded
        return path
    w, h = (h, w) if turned else (w, h)
    if (w, h) == (record["width"], record["height"]):
        return path
    return DataError(
        f"{path} has {w}x{h} pixels but {read.path.name} says {record['width']}x{record['height']}, so its boxes may be "
        "wrong; correct the record, or skip such images with --on-bad skip"
    )


def _frame(read: Annotations) -> tuple[int, int] | None:
    """(H, W) of the working copy: what holds every image, no side longer than LARGEST; None where all fit as they are."""
    sizes = {(r["height"], r["width"]) for r in read.images}
    h, w = max(s[0] for s in sizes), max(s[1] for s in sizes)
    if len(sizes) == 1 and max(h, w) <= LARGEST:
        return None
    scale = min(1.0, LARGEST / max(h, w))
    return max(1, round(h * scale)), max(1, round(w * scale))


@lru_cache(maxsize=8)
def _parsed(path: Path, _mark: tuple[int, int], root: Path) -> Annotations:
    return _checked(path, root)


def _read(path: Path, root: Path) -> Annotations:
    """A checked annotation file; read once while it does not change."""
    with atomic.named(path, "reading"):
        stat = path.stat()
    return _parsed(path, (stat.st_size, stat.st_mtime_ns), root)


def _checked(path: Path, root: Path) -> Annotations:
    page = _json(path)
    categories = _unique(path, page["categories"], "category", {"name": str})
    names = tuple(c["name"] for c in categories)
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path} has two categories called '{name}'; rename one of them")
    records = _unique(path, page["images"], "image", {"file_name": str, "width": int, "height": int})
    if not records or not names:
        raise DataError(f"{path} has no {'categories' if records else 'images'}; give at least one")
    for record in records:
        _plain(path, record)
    place = {c["id"]: k for k, c in enumerate(categories)}
    objects = _grouped(path, records, _unique(path, page["annotations"], "annotation", {}), place)
    folder = _folder(path, root, records)
    rest = {k: v for k, v in page.items() if k not in ("images", "annotations")}
    return Annotations(path=path, folder=folder, images=records, objects=objects, names=names, place=place, rest=rest)


def _json(path: Path) -> dict[str, Any]:
    with atomic.named(path, "reading"):
        data = path.read_bytes()
    try:
        page = json.loads(data, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as e:
        raise DataError(f"{path} is not valid JSON ({e}); restore it, or export the annotations again") from e
    if HALF.search(data):
        _whole(path, page)
    lists = ("images", "annotations", "categories")
    lacks = [k for k in lists if not isinstance(page, dict) or not isinstance(page.get(k), list)]
    if lacks:
        raise DataError(f"{path} lacks the list {lacks[0]}; COCO annotations have images, annotations and categories")
    return page


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def _whole(path: Path, page: Any) -> None:
    """Refuses a text with half of a character that JSON writes in two, which no file or table can hold."""
    try:
        json.dumps(page, ensure_ascii=False).encode()
    except UnicodeEncodeError as e:
        near = ascii(str(e.object)[max(0, e.start - 20) : e.end])
        raise DataError(f"{path} has half of a character in a text ({near}); write that text anew") from e


def _unique(path: Path, records: list[Any], what: str, fields: dict[str, type]) -> list[dict[str, Any]]:
    """Records with whole ids that differ, and fields of the right kind."""
    seen: set[int] = set()
    for i, r in enumerate(records):
        for name, kind in {"id": int, **fields}.items():
            value = r.get(name) if isinstance(r, dict) else None
            small = isinstance(value, int) and name in ("width", "height") and value < 1
            if not isinstance(value, kind) or isinstance(value, bool) or small:
                expected = "a text" if kind is str else "a whole number"
                raise DataError(f"{path}: {what} {i} has {name} {value!r}; expected {expected}; correct the record")
        if abs(r["id"]) >= 2**63:
            raise DataError(f"{path}: {what} {i} has the id {r['id']}, beyond 64 bits; number them anew")
        if r["id"] in seen:
            raise DataError(f"{path} has two {_plural(what)} with the id {r['id']}; ids must differ, number them anew")
        seen.add(r["id"])
    return records


def _plural(what: str) -> str:
    return "categories" if what == "category" else f"{what}s"


def _plain(path: Path, record: dict[str, Any]) -> None:
    """Refuses a name that leaves the folder of the images."""
    name = record["file_name"]
    inner = PurePosixPath(name)
    if not name or inner.is_absolute() or ".." in inner.parts or set("\\\0") & set(name):
        raise DataError(f"{path}: image {record['id']} is called {name!r}, no file inside the image folder; rename it")
    readable_name(name)


def _grouped(
    path: Path, records: list[dict[str, Any]], annotations: list[dict[str, Any]], place: dict[int, int]
) -> list[list[dict[str, Any]]]:
    """The annotations of each image, in the order of the file."""
    row = {r["id"]: i for i, r in enumerate(records)}
    groups: list[list[dict[str, Any]]] = [[] for _ in records]
    for o in annotations:
        i = row.get(_hashable(o.get("image_id")))
        if i is None:
            raise DataError(
                f"{path}: annotation {o['id']} names the image {o.get('image_id')!r}, which is not among the "
                f"{len(records)} images; add the image or delete the annotation"
            )
        if _hashable(o.get("category_id")) not in place:
            raise DataError(
                f"{path}: annotation {o['id']} has the category {o.get('category_id')!r}, which is not among the "
                f"{len(place)} categories; add the category or delete the annotation"
            )
        _box(path, o, records[i])
        groups[i].append(o)
    return groups


def _hashable(value: Any) -> int | None:
    """A whole number, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _box(path: Path, o: dict[str, Any], record: dict[str, Any]) -> None:
    """Refuses a box that is none, is empty, or passes the edge of its image."""
    box, area = o.get("bbox"), o.get("area", 0)
    where = f"{path}: annotation {o['id']} (image {record['id']}, {record['file_name']})"
    if not isinstance(box, list) or len(box) != 4 or not all(_number(v) for v in box):
        raise DataError(
            f"{where} has the box {box!r}; expected four numbers [x, y, width, height]; correct or delete it"
        )
    x, y, w, h = box
    if w <= 0 or h <= 0:
        raise DataError(f"{where} has the box {box}, which has no area; correct or delete it")
    if min(x, y) < -SLACK or x + w > record["width"] + SLACK or y + h > record["height"] + SLACK:
        raise DataError(
            f"{where} has the box {box}, which lies outside of its image of {record['width']}x{record['height']} pixels; "
            "clip or delete it"
        )
    if o.get("iscrowd", 0) not in (0, 1):
        raise DataError(f"{where} has iscrowd {o['iscrowd']!r}; expected 0 or 1; correct it or leave it out")
    if area is not None and not _number(area):
        raise DataError(f"{where} has the area {area!r}; expected a number; correct it or leave it out")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**53


def _folder(path: Path, root: Path, records: list[dict[str, Any]]) -> Path:
    """Where the images are: the first likely folder that has the first image; then all of them must be there."""
    stem, split = path.stem.removeprefix("instances_"), path.parent.name
    places = [path.parent, path.parent / "images", root / "images", root / stem, root / "images" / stem]
    places += [root / "images" / split, root]
    first = records[0]["file_name"]
    folder = next((p for p in places if (p / first).is_file()), None) or next(
        (p for p in places[1:] if p.is_dir()), root
    )
    for record in records:
        if not (folder / record["file_name"]).is_file():
            raise DataError(
                f"{path}: image {record['id']} is called {record['file_name']}, which is not in {folder}; "
                "add the file or delete its record"
            )
    return folder
