"""Reader of Hugging Face datasets: objects in memory, and hub names where the network is allowed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from attar.errors import DataError, ResourceError, UsageError, missing_extra
from attar.real.source import SPLIT_WORDS, Opening, Part, Picture, Source, files_identity
from attar.real.table import declared_names, encoded, find_columns, without


def is_dataset(given: Any) -> bool:
    """Whether an object is a ``Dataset`` or ``DatasetDict`` of the package datasets, without importing it."""
    package = sys.modules.get("datasets")
    return package is not None and isinstance(given, (package.Dataset, package.DatasetDict))


def from_hub(name: str, *, labelled: bool = True) -> Source:
    """A dataset of the hub: ``owner/name``, or ``owner/name:config``.

    Raises:
        UsageError: the network is not allowed (it is with ATTAR_OFFLINE=0), or the package is missing.
        ResourceError: the download fails.
    """
    if os.environ.get("ATTAR_OFFLINE", "1") != "0":
        raise UsageError(
            f"'{name}' is no file or folder here, and reading it from the Hugging Face hub needs the network, "
            "which is off; set ATTAR_OFFLINE=0 to allow it, or give a path"
        )
    try:
        import datasets
    except ImportError as e:
        raise missing_extra("datasets", "hf", f"reading '{name}' from the Hugging Face hub") from e
    path, _, config = name.partition(":")
    try:
        given = datasets.load_dataset(path, config or None)
    except Exception as e:  # the package lets through what its many network libraries raise
        first = str(e).split("\n", 1)[0]
        raise ResourceError(
            f"'{name}' cannot be read from the Hugging Face hub ({first}); check name and network"
        ) from e
    return source(given, name=path.rsplit("/", 1)[-1], path=f"hf:{name}", labelled=labelled)


def source(given: Any, *, name: str = "", path: str = "", labelled: bool = True) -> Source:
    """A ``Dataset`` (one split) or a ``DatasetDict`` with train, and perhaps validation and test.

    Args:
        labelled: whether the examples have classes; else there need be no label column.
    """
    parts = (
        {SPLIT_WORDS.get(str(k), str(k)): v for k, v in given.items()} if isinstance(given, dict) else {"train": given}
    )
    if "train" not in parts:
        raise DataError(f"the dataset has the splits {', '.join(parts)} and no 'train'; give a DatasetDict with train")
    splits = {k: Opening(open=lambda ds=ds: part(ds, labelled), identity=_identity(ds)) for k, ds in parts.items()}
    return Source(
        reader="datasets", name=name or parts["train"].info.dataset_name or "dataset", path=path, splits=splits
    )


def part(ds: Any, labelled: bool = True) -> Part:
    """One split; image bytes come as they are stored, and the package decodes nothing."""
    schema = ds.features.arrow_schema
    image, label = find_columns(schema, "the dataset", labelled=labelled)
    only = ds.select_columns([image]).with_format("arrow")

    def where(i: int) -> str:
        return f"the dataset, row {i}"

    def pictures(size: int) -> Iterator[list[Picture]]:
        for start in range(0, len(ds), size):
            piece = only[start : start + size][image]
            yield encoded(piece, [where(start + i) for i in range(len(piece))], follow=True)

    def columns() -> pa.Table:
        alone = ds.column_names == [image]  # a dataset without columns has no rows
        return pa.table({}) if alone else without(ds.remove_columns([image]).with_format("arrow")[:], label)

    return Part(
        n=len(ds),
        pictures=pictures,
        columns=columns,
        where=where,
        names=declared_names(schema, label),
    )


def _identity(ds: Any) -> Any:
    """The files behind a dataset and the hash of what was done to it since; None for one made in memory."""
    files = [Path(f["filename"]) for f in ds.cache_files]
    mark = getattr(ds, "_fingerprint", None)
    return [files_identity("datasets", files), mark] if files and mark else None
