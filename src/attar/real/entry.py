"""One decoded split: pixels in a mapped file, columns and per-image sums beside it, and a page that says what they are."""

from __future__ import annotations

import io
import json
import mmap
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import torch

from attar.errors import AttarError, DataError
from attar.io import atomic, tensors
from attar.real import objects
from attar.real.decode import Recipe, decode
from attar.real.labels import Classes, encode
from attar.real.realset import fingerprint
from attar.real.source import Part, Progress

SCHEMA = 1
"""Raised whenever an entry written by older code would be read as something else."""

PIXELS, COLUMNS, INDEX, PAGE = "pixels.u8", "table.arrow", "index.safetensors", "meta.json"


@dataclass(frozen=True, eq=False, kw_only=True)
class Entry:
    """A decoded split of n readable examples.

    Args:
        images: uint8 [n, C, H, W].
        table: n rows of every column but the image; ``label`` is int64.
        rows: int64 [n], positions in the source.
        sums: int64 [n, 2, C], sum and sum of squares of every image, from which the statistics of any subset follow.
        classes: the names of the labels.
        fingerprint: of pixels, columns and names.
        notes: sentences about what was left out.
    """

    images: torch.Tensor
    table: pa.Table
    rows: torch.Tensor
    sums: torch.Tensor
    classes: Classes
    fingerprint: str
    notes: tuple[str, ...] = ()


def build(
    part: Part,
    sink: BinaryIO,
    recipe: Recipe,
    known: Classes | None,
    *,
    name: str,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Entry:
    """Decodes a split into ``sink`` and checks its labels, before the pixels wherever they can be known before.

    Args:
        part: the split, undecoded.
        sink: an empty file, readable and writable, that holds the pixels from then on.
        recipe: how images become equal tensors.
        known: the classes of the training split; None for the training split itself.
        name: of set and split.
    """
    if not part.n:
        raise DataError(f"{name} has no examples; give at least one of every class")
    labelled = _categorised if part.task == objects.DETECTION else _labelled if part.labelled else _plain
    early = None if part.labels_last else labelled(part, torch.arange(part.n), known)
    decoded = decode(part, sink, recipe, name=name, workers=workers, progress=progress)
    table, classes = early or labelled(part, decoded.rows, known)
    if len(table) > len(decoded.rows):
        table = table.take(pa.array(decoded.rows.numpy()))
    notes = _skipped(decoded.bad, part.n)
    if part.task == objects.DETECTION:
        table = objects.fitted(table, decoded.shape[1:], recipe.resize)
    elif known is None and part.labelled:
        table, classes, dropped = _present(table, classes, name)
        notes += dropped
    sink.flush()
    images = mapped(sink, (len(decoded.rows), *decoded.shape))
    return Entry(
        images=images,
        table=table,
        rows=decoded.rows,
        sums=decoded.sums,
        classes=classes,
        fingerprint=fingerprint(images, table, classes.names),
        notes=notes,
    )


def save(entry: Entry, folder: Path, about: dict[str, Any]) -> None:
    """Writes everything but the pixels, which are in ``folder`` already; the page comes last."""
    out = io.BytesIO()
    table = entry.table.unify_dictionaries()  # categories of several files, of which the format holds one list
    with pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    files = {COLUMNS: out.getvalue(), INDEX: tensors.encode({"rows": entry.rows, "sums": entry.sums})}
    for name, data in files.items():
        atomic.write_new(folder / name, data)
    page = {
        "schema": SCHEMA,
        **about,
        "shape": list(entry.images.shape),
        "class_names": list(entry.classes.names),
        "declared": entry.classes.declared,
        "fingerprint": entry.fingerprint,
        "notes": list(entry.notes),
        "created": time.time(),
        "digests": {name: tensors.digest(data) for name, data in files.items()},
    }
    atomic.write_new(folder / PAGE, atomic.json_bytes(page))


def read(folder: Path) -> Entry | None:
    """Opens a saved entry; None where there is none or it is damaged, for it can be built again."""
    try:
        page = json.loads((folder / PAGE).read_bytes())
        shape = tuple(page["shape"])
        files = {name: (folder / name).read_bytes() for name in (COLUMNS, INDEX)}
        sound = page["digests"] == {name: tensors.digest(data) for name, data in files.items()}
        if not sound or page["schema"] != SCHEMA or (folder / PIXELS).stat().st_size != np.prod(shape):
            return None
        index = tensors.decode(files[INDEX], folder / INDEX)
        with open(folder / PIXELS, "rb") as f:
            images = mapped(f, shape)
        return Entry(
            images=images,
            table=pa.ipc.open_file(files[COLUMNS]).read_all(),
            rows=index["rows"],
            sums=index["sums"],
            classes=Classes(tuple(page["class_names"]), page["declared"]),
            fingerprint=page["fingerprint"],
            notes=tuple(page["notes"]),
        )
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException, AttarError):
        return None


def mapped(file: BinaryIO, shape: tuple[int, ...]) -> torch.Tensor:
    """The bytes of a file as a uint8 tensor of ``shape`` that loads its pages when they are looked at.

    Writing to the tensor changes a private copy of the page, never the file.
    """
    if isinstance(file, io.BytesIO):
        return torch.frombuffer(file.getbuffer(), dtype=torch.uint8).view(shape)  # [n*C*H*W] -> [n, C, H, W]
    if sys.platform == "linux":  # without MAP_NORESERVE (0x4000) a set larger than the memory is refused
        flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0x4000)
        pages = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    else:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return torch.frombuffer(pages, dtype=torch.uint8).view(shape)  # [n*C*H*W] -> [n, C, H, W]


def _labelled(part: Part, rows: torch.Tensor, known: Classes | None) -> tuple[pa.Table, Classes]:
    """The columns of some rows (int64 [n]) with their labels as class numbers."""
    table = part.columns()
    if len(rows) < len(table):
        table = table.take(pa.array(rows.numpy()))
    codes, classes = encode(table["label"], lambda i: part.where(int(rows[i])), declared=part.names, known=known)
    return _relabelled(table, codes).replace_schema_metadata(None), classes


def _plain(part: Part, rows: torch.Tensor, known: Classes | None) -> tuple[pa.Table, Classes]:
    """The columns of some rows (int64 [n]) without their labels; the number of each row where there is no other column."""
    table = part.columns()
    table = table.select([name for name in table.column_names if name != "label"])
    if not table.num_columns:
        table = pa.table({"row": pa.array(range(part.n), pa.int64())})
    if len(rows) < len(table):
        table = table.take(pa.array(rows.numpy()))
    return table.replace_schema_metadata(None), Classes(())


def _categorised(part: Part, rows: torch.Tensor, known: Classes | None) -> tuple[pa.Table, Classes]:
    """The columns of a detection split (rows int64 [n]) with categories numbered as in the training split."""
    where = [part.where(i) for i in rows.tolist()]
    table, names = objects.renamed(part.columns(), part.names, known.names if known else None, where)
    return table, Classes(names, declared=True)


def _relabelled(table: pa.Table, codes: np.ndarray) -> pa.Table:
    return table.set_column(table.column_names.index("label"), "label", pa.array(codes))


def _present(table: pa.Table, classes: Classes, name: str) -> tuple[pa.Table, Classes, tuple[str, ...]]:
    """Leaves out class names without a training example, and refuses a single class."""
    found = np.unique(table["label"].to_numpy())
    if len(found) < 2:
        only = f"only the class '{classes.names[found[0]]}'" if len(found) else "no examples"
        raise DataError(f"{name} has {only}, so there is nothing to tell apart; at least two classes are needed")
    if len(found) == len(classes.names):
        return table, classes, ()
    names = tuple(classes.names[k] for k in found)
    absent = [n for n in classes.names if n not in set(names)]
    table = _relabelled(table, np.searchsorted(found, table["label"].to_numpy()))
    note = f"{len(absent)} of {len(classes.names)} classes have no training example and are left out: {some(absent)}"
    return table, Classes(names, classes.declared), (note,)


def _skipped(bad: tuple[tuple[str, str], ...], n: int) -> tuple[str, ...]:
    if not bad:
        return ()
    were = "was" if len(bad) == 1 else "were"
    return (f"{len(bad)} of {n} images {were} skipped (unreadable): {some([where for where, _ in bad])}",)


def some(names: list[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
