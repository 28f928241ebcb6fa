"""Reader of a folder with one sub-folder of images per class, perhaps inside train/, val/ and test/."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from attar.errors import DataError
from attar.real.entry import some
from attar.real.source import SPLIT_WORDS, Opening, Part, Picture, Source, files_identity, readable_name

SUFFIXES = frozenset(
    ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "gif", "ppm", "pgm", "pbm", "pnm", "tif", "tiff"]
)
"""Names that end so are images, as are names without an ending; other files are left out, and said so."""


def source(path: Path) -> Source:
    """A folder of class folders as a source.

    Raises:
        DataError: no images, no class folders, an empty class folder, a test class that training lacks.
    """
    places = _splits(path)
    if "train" not in places:
        if places and len(places) == len(_folders(path)):
            raise DataError(f"{path} has {some([p.name for p in places.values()])} but no train folder; add train/")
        places = {"train": path}
    classes = _classes(places["train"])
    for place in places.values():
        _same_classes(_folders(place), classes, places["train"])
    listings = {split: _listing(place, classes) for split, place in places.items()}
    _none_empty(places["train"], listings["train"][0], classes)
    for files, _others in listings.values():
        for file in files:
            readable_name(file)
    notes = tuple(_left_out(files, others) for files, others in listings.values() if others)
    return Source(
        reader="folder",
        name=path.absolute().name,
        path=str(path),
        splits={split: _opening(places[split], files, classes) for split, (files, _others) in listings.items()},
        notes=notes,
    )


def loose(path: Path) -> Source:
    """All images below a folder, or below its train/, as examples without classes.

    Raises:
        DataError: no images.
    """
    train = _splits(path).get("train", path)
    inside = _walk(train)
    files, others = ([p for p in inside if _is_image(p) is wanted] for wanted in (True, False))
    if not files:
        raise DataError(f"{train} holds no images; put some there")
    for file in files:
        readable_name(file)
    return Source(
        reader="folder",
        name=path.absolute().name,
        path=str(path),
        splits={"train": Opening(open=lambda: _part(train, files, ()), identity=files_identity("folder", files))},
        notes=(_left_out(files, others),) if others else (),
    )


def _splits(path: Path) -> dict[str, Path]:
    """The folders of splits; none where the sub-folders are classes, of which one may be called train, as of CIFAR-100.

    Raises:
        DataError: two folders of one split.
    """
    inner = _folders(path)
    named = [p for p in inner if p.name.lower() in SPLIT_WORDS]
    words = {SPLIT_WORDS[p.name.lower()] for p in named}
    if len(named) < len(inner) and len(words) == 1 and not any(_folders(p) for p in named):
        return {}
    places: dict[str, Path] = {}
    for p in named:
        other = places.setdefault(SPLIT_WORDS[p.name.lower()], p)
        if other is not p:
            raise DataError(f"{path} has {other.name} and {p.name}, which mean the same split; leave one of them")
    return places


def _classes(folder: Path) -> tuple[str, ...]:
    """The class names: the sub-folders of the training folder, sorted."""
    classes = _folders(folder)
    if not classes:
        loose = sum(_is_image(p) for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
        holds = f"{loose} images but no class folders" if loose else "no images"
        raise DataError(
            f"{folder} holds {holds}; put the images of each class in a sub-folder named like the "
            "class (select takes --unlabelled where there are no classes)"
        )
    return tuple(c.name for c in classes)


def _none_empty(folder: Path, files: Sequence[Path], classes: Sequence[str]) -> None:
    full = {p.relative_to(folder).parts[0] for p in files}
    for name in classes:
        if name not in full:
            raise DataError(f"the class folder {folder / name} holds no images; add some or delete it")


def _same_classes(folders: Sequence[Path], classes: Sequence[str], train: Path) -> None:
    for f in folders:
        if f.name not in classes:
            raise DataError(
                f"{f} is a class that {train} lacks (it has {some(list(classes))}); delete it or add training images"
            )


def _listing(folder: Path, classes: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """The image files of a split by class and name, and the files left out."""
    files = [p for name in classes if (folder / name).is_dir() for p in _walk(folder / name)]
    return [p for p in files if _is_image(p)], [p for p in files if not _is_image(p)]


def _opening(folder: Path, files: list[Path], classes: tuple[str, ...]) -> Opening:
    return Opening(open=lambda: _part(folder, files, classes), identity=files_identity("folder", files))


def _part(folder: Path, files: list[Path], classes: tuple[str, ...]) -> Part:
    inner = [p.relative_to(folder) for p in files]
    place = {name: k for k, name in enumerate(classes)}

    def pictures(size: int) -> Iterator[list[Picture]]:
        for start in range(0, len(files), size):
            yield list(files[start : start + size])

    return Part(
        n=len(files),
        pictures=pictures,
        columns=lambda: pa.table(
            {
                "label": pa.array([place.get(p.parts[0], 0) for p in inner]),
                "file": pa.array([p.as_posix() for p in inner]),
            }
        ),
        where=lambda i: str(files[i]),
        names=classes,
    )


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _walk(folder: Path) -> list[Path]:
    """All files below a folder, hidden ones left out, sorted by path."""
    files: list[Path] = []
    for top, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".")]
        files += [Path(top, n) for n in names if not n.startswith(".")]
    return sorted(p for p in files if p.is_file())


def _is_image(path: Path) -> bool:
    return not path.suffix or path.suffix[1:].lower() in SUFFIXES


def _left_out(files: list[Path], others: list[Path]) -> str:
    names = some([str(f) for f in others])
    return f"{len(others)} of {len(files) + len(others)} files are no images by their names and left out: {names}"
