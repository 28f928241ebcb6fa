"""Which columns of a table hold the image and the label, and what its metadata call the classes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.types as kinds

from attar.errors import DataError
from attar.real.labels import is_text
from attar.real.source import Picture

IMAGES = ("image", "img", "images", "picture", "photo", "jpg", "jpeg", "png", "webp")
LABELS = ("label", "labels", "fine_label", "class", "cls", "target", "y", "category", "class_label")


def find_columns(schema: pa.Schema, where: str, *, labelled: bool = True) -> tuple[str, str]:
    """The names of the image and the label column, which is empty where labels are not wanted and there is none.

    Well-known names come first, in any case; else the only column that holds encoded images will do.

    Raises:
        DataError: one of them is missing.
    """
    if len(set(schema.names)) < len(schema.names):
        twice = next(n for n in schema.names if schema.names.count(n) > 1)
        raise DataError(f"{where} has two columns called '{twice}'; rename one of them")
    image = _named(schema, IMAGES, is_image)
    if image is None and len(fitting := [f.name for f in schema if is_image(f.type)]) == 1:
        image = fitting[0]
    label = _named(schema, LABELS, _is_label)
    if label is None and not labelled:
        label = ""
    if image is None or label is None:
        lacks = " and ".join(["an image column"] * (image is None) + ["a label column"] * (label is None))
        columns = ", ".join(f"{f.name} ({f.type})" for f in schema)
        raise DataError(
            f"{where} lacks {lacks}; its columns are {columns}; expected image: struct<bytes, path> or binary, "
            "and label: whole numbers or strings (select takes --unlabelled where there are none)"
        )
    return image, label


def declared_names(schema: pa.Schema, label: str) -> tuple[str, ...]:
    """The class names that a ``huggingface`` ClassLabel in the metadata gives for label numbers; none where absent."""
    try:
        page = json.loads((schema.metadata or {})[b"huggingface"])
        names = page["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        return ()
    return tuple(names)


def is_image(kind: pa.DataType) -> bool:
    """Whether values of a type can be encoded images: binary, or a struct with ``bytes``."""
    if kinds.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_binary(kind.field("bytes").type)
    return _is_binary(kind)


def encoded(column: pa.Array | pa.ChunkedArray, where: Sequence[str], *, follow: bool = False) -> list[Picture]:
    """The images of a piece of an image column.

    Args:
        column: B values, binary or struct with ``bytes``.
        where: B names for messages.
        follow: whether a value without bytes may be read from the path that it gives; only for objects that the user
            made in memory, for a file from elsewhere could name any path.
    """
    return [_picture(value, at, follow) for value, at in zip(column.to_pylist(), where)]


def _picture(value: bytes | dict[str, Any] | None, where: str, follow: bool) -> Picture:
    data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if data is not None:
        return data
    if follow and path is not None:
        return Path(path)
    return DataError(f"{where} has no image (null); delete the row, or skip such rows with --on-bad skip")


def without(table: pa.Table, label: str) -> pa.Table:
    """The table with its label column called ``label``; a second one of that name gives way."""
    if label in ("", "label"):
        return table
    names = [n for n in table.column_names if n != "label"]
    return table.select(names).rename_columns(["label" if n == label else n for n in names])


def _named(schema: pa.Schema, known: Sequence[str], fits: Callable[[pa.DataType], bool]) -> str | None:
    lower = {f.name.lower(): f.name for f in reversed(list(schema)) if fits(f.type)}
    return next((lower[name] for name in known if name in lower), None)


def _is_label(kind: pa.DataType) -> bool:
    return is_text(kind) or kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_binary_view(kind)
