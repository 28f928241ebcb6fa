"""The rows of a condensed set as one parquet file in the Hugging Face image layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from attar.errors import DataError
from attar.io import png

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def with_images(table: pa.Table, bytes8: torch.Tensor | None, class_names: Sequence[str]) -> pa.Table:
    """The table with its ``image`` column of PNG files first, and the features that ``datasets`` reads.

    Args:
        bytes8: uint8 [M, C, H, W] or None.
    """
    if bytes8 is not None:
        cells = [{"bytes": png.encode(x), "path": None} for x in bytes8]
        table = table.add_column(0, pa.field("image", IMAGE), pa.array(cells, IMAGE))
    features = {f.name: _feature(f, class_names) for f in table.schema}
    known = {k: v for k, v in features.items() if v is not None}
    if len(known) < len(features):  # datasets infers all columns where the features are not whole
        return table.replace_schema_metadata({"attar_classes": json.dumps(list(class_names))})
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": known}})})


def encode(table: pa.Table, bytes8: torch.Tensor | None, class_names: Sequence[str]) -> bytes:
    """The parquet file's bytes; equal rows give equal bytes."""
    out = pa.BufferOutputStream()
    pq.write_table(with_images(table, bytes8, class_names), out, compression="zstd", row_group_size=4096)
    return out.getvalue().to_pybytes()


def decode(data: bytes, where: Path) -> tuple[pa.Table, torch.Tensor | None]:
    """Reads what :func:`encode` wrote: the table without images, and uint8 [M, C, H, W] or None.

    Raises:
        DataError: not such a file.
    """
    try:
        table = pq.read_table(pa.BufferReader(data)).replace_schema_metadata(None)
        if "image" not in table.column_names:
            return table, None
        cells = table["image"].to_pylist()
        return table.drop_columns(["image"]), torch.stack(
            [png.decode(c["bytes"], f"{where}, row {i}") for i, c in enumerate(cells)]
        )
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, RuntimeError) as e:
        raise DataError(f"{where} does not hold rows of a condensed set ({e}); restore it from a copy") from e


def _feature(column: pa.Field, class_names: Sequence[str]) -> dict[str, Any] | None:
    """The Hugging Face feature of a column, or None where it is left to inference."""
    if column.name == "image" and column.type == IMAGE:
        return {"_type": "Image"}
    if column.name == "label" and class_names and pa.types.is_integer(column.type):
        return {"names": list(class_names), "_type": "ClassLabel"}
    return _value(column.type)


def _value(kind: pa.DataType) -> Any:
    """The feature of a type, or None for types that ``datasets`` must find out by itself."""
    if pa.types.is_struct(kind):
        fields = {f.name: _value(f.type) for f in kind}
        return None if None in fields.values() else fields
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = _value(kind.value_type)
        which = {"length": kind.list_size} if pa.types.is_fixed_size_list(kind) else {}
        of = "LargeList" if pa.types.is_large_list(kind) else "List"
        return None if inner is None else {"feature": inner, **which, "_type": of}
    if pa.types.is_nested(kind) or isinstance(kind, (pa.BaseExtensionType, pa.DictionaryType)):
        return None
    names = {
        pa.float16(): "float16",
        pa.float32(): "float32",
        pa.float64(): "float64",
        pa.date32(): "date32",
        pa.date64(): "date64",
    }
    return {"dtype": names.get(kind, str(kind)), "_type": "Value"}
