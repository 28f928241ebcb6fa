"""Reader of parquet files in the Hugging Face image layout: one file, or a folder with train*.parquet and test*.parquet."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from attar.errors import DataError
from attar.io import parquet
from attar.real.source import SPLIT_WORDS, Opening, Part, Picture, Source, files_identity
from attar.real.table import declared_names, encoded, find_columns, without


def source(path: Path, *, labelled: bool = True) -> Source:
    """A parquet file, or a folder of them, as a source.

    The files of a folder are sorted; ``train-00000-of-00002.parquet`` and the like are parts of one split, found in the
    folder itself, in ``data/``, or in its only sub-folder. Without split names all files are training files. Where examples are
    not ``labelled`` there need be no label column.
    """
    files = [path] if path.is_file() else found(path)
    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault("train" if len(files) == 1 else split_of(file), []).append(file)
    if "train" not in splits:
        names = ", ".join(f.name for f in files)
        raise DataError(f"{path} has no training file, only {names}; name it train.parquet or train-*.parquet")
    return Source(
        reader="parquet",
        name=_name(path),
        path=str(path),
        splits={split: _opening(part, labelled) for split, part in splits.items()},
    )


def found(folder: Path) -> list[Path]:
    """The parquet files of a folder, sorted: in itself, in ``data/``, or in its only sub-folder."""
    inside = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    places = [folder, folder / "data", *(inside if len(inside) == 1 else [])]
    for place in places:
        files = sorted(p for p in place.glob("*.parquet") if p.is_file() and not p.name.startswith("."))
        if files:
            return files
    return []


def split_of(file: Path) -> str:
    """The split that a file name speaks of; train where it speaks of none."""
    words = re.split(r"[^a-z]+", file.stem.lower())
    return next((SPLIT_WORDS[w] for w in words if w in SPLIT_WORDS), "train")


def part(files: Sequence[Path], *, labelled: bool = True) -> Part:
    """One split from its files, which must have the same columns."""
    schema = parquet.schema(files[0])
    image, label = find_columns(schema, str(files[0]), labelled=labelled)
    for file in files[1:]:
        if not parquet.schema(file).equals(schema):
            raise DataError(f"{file} has other columns than {files[0]}; give files of one layout")
    ends = list(itertools.accumulate(parquet.length(f) for f in files))
    if not ends[-1]:
        raise DataError(f"{files[0]} has no rows; give a file with examples")

    def where(i: int) -> str:
        k = bisect.bisect_right(ends, i)
        return f"{files[k]}, row {i - (ends[k - 1] if k else 0)}"

    def columns() -> pa.Table:
        others = [n for n in schema.names if n != image]
        return without(pa.concat_tables(parquet.read(file, others) for file in files), label)

    def pictures(size: int) -> Iterator[list[Picture]]:
        row = 0
        for piece in itertools.chain.from_iterable(parquet.batches(file, image, size) for file in files):
            yield encoded(piece, [where(row + i) for i in range(len(piece))])
            row += len(piece)

    return Part(n=ends[-1], pictures=pictures, columns=columns, where=where, names=declared_names(schema, label))


def _opening(files: list[Path], labelled: bool) -> Opening:
    return Opening(open=lambda: part(files, labelled=labelled), identity=files_identity("parquet", files))


def _name(path: Path) -> str:
    """The folder's name, also for the file of a split inside it."""
    absolute = path.absolute()
    if path.is_dir():
        return absolute.name
    plain = set(re.split(r"[^a-z]+", path.stem.lower())) <= {*SPLIT_WORDS, "data", "of", ""}
    return absolute.parent.name if plain else path.stem
