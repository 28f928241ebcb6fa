"""Reader of map-style torch datasets: items (image, label), or images without labels; Pillow images, arrays or tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from attar.errors import DataError, UsageError
from attar.real.arrays import as_array
from attar.real.source import Opening, Part, Picture, Source


def source(train: Dataset[Any], test: Dataset[Any] | None = None, *, labelled: bool = True) -> Source:
    """A dataset, or a training and a test dataset. Every item is read once, so a random transform is drawn once.

    Class names come from the attribute ``classes`` where there is one.

    Args:
        labelled: whether items are pairs; else they may be images alone, and of a pair the image is taken.
    """
    for given in (train, test):
        if isinstance(given, IterableDataset) or (given is not None and not hasattr(given, "__len__")):
            raise UsageError(f"{type(given).__name__} cannot be indexed; give a map-style dataset with __len__")
    splits = {"train": Opening(open=lambda: part(train, labelled))}
    if test is not None:
        splits["test"] = Opening(open=lambda: part(test, labelled))
    return Source(reader="torch", name=type(train).__name__.lower(), splits=splits)


def part(dataset: Any, labelled: bool = True) -> Part:
    """One split; labels come to light while the images are read."""
    n, kind = len(dataset), type(dataset).__name__
    labels: list[Any] = []

    def where(i: int) -> str:
        return f"{kind}, item {i}"

    def pictures(size: int) -> Iterator[list[Picture]]:
        labels.clear()
        for start in range(0, n, size):
            items = [_item(dataset, i, where(i), labelled) for i in range(start, min(start + size, n))]
            labels.extend(label for _image, label in items)
            yield [image for image, _label in items]

    def columns() -> pa.Table:
        try:
            return pa.table({"label": pa.array(labels)})
        except (pa.ArrowException, TypeError) as e:
            raise DataError(f"{kind} has labels of different kinds ({e}); give whole numbers or strings") from e

    return Part(n=n, pictures=pictures, columns=columns, where=where, names=_names(dataset), labels_last=True)


def _item(dataset: Any, i: int, where: str, labelled: bool) -> tuple[Picture, Any]:
    """(image, label) of an item, None as label where none is wanted; a DataError in place of an image that cannot be had."""
    try:
        item = dataset[i]
    except Exception as e:  # foreign code may raise anything; the item is named and the cause is kept
        error = DataError(
            f"{where} cannot be read ({type(e).__name__}: {e}); mend it, or skip such items with --on-bad skip"
        )
        error.__cause__ = e
        return error, None
    if not labelled:
        return _picture(item[0] if isinstance(item, (tuple, list)) and item else item, where), None
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        raise DataError(
            f"{where} is {type(item).__name__}, and not (image, label); wrap the dataset so that it gives pairs"
        )
    image, label = item[:2]
    return _picture(image, where), label.item() if isinstance(label, torch.Tensor) or hasattr(label, "dtype") else label


def _picture(image: Any, where: str) -> Picture:
    return image if isinstance(image, (bytes, Image.Image)) else as_array(image, where)


def _names(dataset: Any) -> tuple[str, ...]:
    names = getattr(dataset, "classes", None)
    whole = isinstance(names, (list, tuple)) and all(isinstance(n, str) for n in names)
    return tuple(names) if names is not None and whole else ()
