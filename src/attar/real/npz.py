"""Reader of .npz archives of plain arrays; nothing in them is unpickled, and each split is read when it is opened."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from attar.errors import DataError
from attar.real import arrays
from attar.real.source import Opening, Part, Source, files_identity


def source(path: Path, *, labelled: bool = True) -> Source:
    """An .npz with x_train, y_train and perhaps x_test, y_test, class_names (or names like them).

    Raises:
        DataError: not an archive, arrays of Python objects, no training arrays.
    """
    with _readable(path), np.load(path, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DataError(f"{path} is a single array; give an .npz with x_train and y_train")
        keys = arrays.find_keys(dict.fromkeys(archive.files), str(path), labelled=labelled)
        names = arrays.class_names(archive["class_names"] if "class_names" in archive.files else None, f"{path}")
    identity = files_identity("npz", [path])

    def opening(x: str, y: str) -> Opening:
        return Opening(open=lambda: _part(path, x, y, names), identity=[identity, x, y])

    return Source(
        reader="npz", name=path.stem, path=str(path), splits={split: opening(x, y) for split, (x, y) in keys.items()}
    )


def _part(path: Path, x: str, y: str, names: tuple[str, ...]) -> Part:
    with _readable(path), np.load(path, allow_pickle=False) as archive:
        return arrays.part(archive[x], archive[y] if y else None, names=names, x_name=x, y_name=y, where=str(path))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Names ``path`` in whatever reading an archive raises."""
    try:
        yield
    except (ValueError, OSError, EOFError, KeyError, MemoryError, NotImplementedError, RuntimeError) as e:
        if "allow_pickle" in str(e):
            raise DataError(f"{path} holds Python objects, which are never loaded; save plain arrays of numbers") from e
        raise DataError(f"{path} is not a readable .npz archive ({e}); restore it from a copy") from e
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, SyntaxError) as e:
        raise DataError(f"{path} is not a readable .npz archive ({e}); restore it from a copy") from e
