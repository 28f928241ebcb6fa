"""Labels of any writing as class numbers 0..K-1, agreed between the splits of a source by class name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.types as kinds

from attar.errors import DataError

Where = Callable[[int], str]


@dataclass(frozen=True)
class Classes:
    """The classes of a source, fixed by its training split.

    Args:
        names: K names.
        declared: whether label k of the source means ``names[k]``; else a label is its own name.
    """

    names: tuple[str, ...]
    declared: bool = False


def encode(
    column: pa.ChunkedArray, where: Where, *, declared: Sequence[str] = (), known: Classes | None = None
) -> tuple[np.ndarray, Classes]:
    """Labels as class numbers.

    Strings are names; whole numbers are numbers of the declared names, and where none are declared names themselves,
    in ascending order. With ``known`` classes (those of the training split) everything is matched by name.

    Args:
        column: N labels.
        where: names a row in messages.
        declared: names that the source gives for label numbers.
        known: the classes to match.

    Returns:
        int64 [N] and the classes.

    Raises:
        DataError: a null, a fraction, a negative or too large number, a class that ``known`` lacks.
    """
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise DataError(f"{where(row)} has no label; give it one or delete the row")
    if len(set(declared)) < len(declared):
        twice = next(n for n in declared if list(declared).count(n) > 1)
        raise DataError(f"{where(0)}: the class name '{twice}' is declared twice; class names must differ")
    if is_text(column.type):
        own, codes = np.unique(np.asarray(column.to_pylist(), dtype=object), return_inverse=True)
        return _agree(codes, Classes(tuple(own)), known, where)
    numbers = _whole(column, where)
    names = tuple(declared) or (known.names if known is not None and known.declared else ())
    if names:
        _in_range(numbers, names, where)
        return _agree(numbers, Classes(names, declared=True), known, where)
    values, codes = np.unique(numbers, return_inverse=True)
    return _agree(codes, Classes(tuple(str(v) for v in values)), known, where)


def _agree(codes: np.ndarray, own: Classes, known: Classes | None, where: Where) -> tuple[np.ndarray, Classes]:
    """Class numbers among ``own`` -> class numbers among ``known``, by name; int64 [N] both."""
    if known is None or own.names == known.names:
        return codes.astype(np.int64), known or own
    place = {name: k for k, name in enumerate(known.names)}
    table = np.asarray([place.get(name, -1) for name in own.names], np.int64)
    out = table[codes]
    if (out < 0).any():
        row = int(np.argmin(out))
        raise DataError(
            f"{where(row)} has the class '{own.names[codes[row]]}', which the training split lacks "
            f"(it has {_some(known.names)}); delete the row or add training examples"
        )
    return out, known


def _whole(column: pa.ChunkedArray, where: Where) -> np.ndarray:
    kind = column.type
    if not (kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind)):
        raise DataError(f"{where(0)} has a label of type {kind}; labels must be whole numbers or strings")
    raw = column.to_numpy()
    numbers = raw.astype(np.float64)
    odd = (numbers != np.floor(numbers)) | ~np.isfinite(numbers)
    for wrong, why in (
        (odd, "not a whole number"),
        (numbers < 0, "negative"),
        (numbers > 2**53, "too large to be a class"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"{where(row)} has the label {raw[row]}, which is {why}; number the classes 0, 1, 2 ... or give names"
            )
    return raw.astype(np.int64)


def _in_range(numbers: np.ndarray, names: Sequence[str], where: Where) -> None:
    if len(numbers) and numbers.max() >= len(names):
        row = int(np.argmax(numbers >= len(names)))
        raise DataError(
            f"{where(row)} has the label {numbers[row]}, but there are {len(names)} class names "
            f"(labels 0 to {len(names) - 1}); correct the label or add the missing names"
        )


def is_text(kind: pa.DataType) -> bool:
    """Whether values of a type are strings."""
    if isinstance(kind, pa.DictionaryType):
        kind = kind.value_type
    return kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind)


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
