"""Signals that a user has: from a file, or from columns of the set, so that nothing is trained for them."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from attar.errors import DataError, UsageError, nearest
from attar.io import parquet
from attar.method import Resources, State
from attar.real.realset import RealSet
from attar.resources.dynamics import averaged

COLUMNS = "columns"
"""What stands for the columns of the set itself, in place of a path."""
ID = "id"
"""The column that tells whose signal a row is."""
USEFUL = ("confidence", "variability")
"""Signals that some rule or the map of a report may ask for; they are taken along where they are there."""


def seen(real: RealSet, res: Resources, where: str, runs: int, names: tuple[str, ...]) -> State:
    """The signals that a user gives, or the means of those that were watched in so many runs: float64 [N] each.

    Args:
        res: with the runs (:mod:`attar.resources.dynamics`), where none are given.
        where: as in :func:`given`; empty for the runs.
        names: what is needed.
    """
    return given(real, where, names) if where else averaged(res, runs, names)


def given(real: RealSet, where: str, names: tuple[str, ...]) -> State:
    """The signals of every example of the set, in its order.

    Args:
        real: N examples.
        where: a .parquet or .npz file with a column for each name, one row an example, in the order of the set or, where it
            has a column ``id``, in any order and of more examples; a .npy file with the values alone, for a single name; or
            ``columns``, for columns of the set.
        names: what is needed.

    Returns:
        float64 [N] each, finite; those of :data:`USEFUL` too.

    Raises:
        UsageError: no such file, or of another kind.
        DataError: a column that is missing or not of numbers, a wrong length, a missing or repeated id, a NaN; names it.
    """
    if where == COLUMNS:
        there = real.table.column_names
        table = {name: _array(real.table[name]) for name in there if name in (*names, *USEFUL)}
        where = f"the set {real.name}"
    else:
        table, there = read(Path(where).expanduser(), names)
    for name in names:
        if name not in table:
            hint = nearest(name, there) if there else "it has none"
            raise DataError(f"{where} has no column '{name}', which this method reads; {hint}")
    single = next((name for name, values in table.items() if not values.ndim), None)
    if single is not None:
        raise DataError(f"'{single}' of {where} is a single value; expected one number an example")
    lengths = {name: len(values) for name, values in table.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"the columns of {where} have different lengths: {lengths}; give one value an example in each")
    places = _places(real, table, where)
    found = {name: _checked(real, table[name], places, f"'{name}' of {where}") for name in names}
    for name in USEFUL:
        if name in table and name not in found:
            with contextlib.suppress(DataError):  # a column of that name may mean something else
                found[name] = _checked(real, table[name], places, name)
    return found


def read(path: Path, names: tuple[str, ...]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The columns of a file that are needed, useful, or the ids; and the names of all.

    Raises:
        UsageError: no such file, or of another kind.
        DataError: a damaged file.
    """
    wanted = (ID, *names, *USEFUL)
    if not path.is_file():
        raise UsageError(f"there is no file {path}; give signals as .parquet, .npz or .npy, or 'columns'")
    if path.suffix in (".parquet", ".pq"):
        there = parquet.schema(path).names
        table = parquet.read(path, [name for name in there if name in wanted])
        return {name: _array(table[name]) for name in table.column_names}, there
    if path.suffix not in (".npz", ".npy"):
        raise UsageError(f"{path} is no file of signals; give .parquet, .npz or .npy")
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return ({names[0]: content}, [names[0]]) if len(names) == 1 else ({}, [])
        with content:
            return {name: content[name] for name in content.files if name in wanted}, content.files
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as e:
        raise DataError(f"{path} is not a readable file of arrays ({e}); save it again") from e
    except ValueError as e:  # numpy's words advise to load what may run code
        raise DataError(f"{path} is not a file of plain arrays; save it again with numpy.savez") from e


def _array(column: pa.ChunkedArray) -> np.ndarray:
    """A column as an array; what is missing becomes NaN."""
    return column.to_numpy()


def _places(real: RealSet, table: Mapping[str, np.ndarray], where: str) -> np.ndarray | slice:
    """Where in the table the signal of each example of the set stands."""
    n = len(next(iter(table.values())))
    if ID not in table:
        if n != len(real):
            raise DataError(
                f"{where} has {n} rows but {real.name} has {len(real)} examples; give one row an example in the order of "
                f"the set, or a column '{ID}'"
            )
        return slice(None)
    ids = table[ID]
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise DataError(
            f"'{ID}' of {where} is {ids.dtype} of shape {list(ids.shape)}; expected whole numbers in one row"
        )
    order = ids.argsort(kind="stable")
    twice = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(twice):
        raise DataError(
            f"the id {ids[order][twice[0]]} stands twice in {where}, in row {order[twice[0] + 1]}; keep one"
        )
    wanted = real.ids.numpy()
    at = np.searchsorted(ids[order], wanted).clip(max=max(0, n - 1))
    absent = wanted[ids[order][at] != wanted] if n else wanted
    if len(absent):
        raise DataError(
            f"{where} has no row of id {absent[0]}, and so of {len(absent)} of {len(wanted)} examples; add them"
        )
    return order[at]


def _checked(real: RealSet, values: np.ndarray, places: np.ndarray | slice, what: str) -> torch.Tensor:
    """One signal of every example: float64 [N]."""
    if values.ndim != 1 or values.dtype.kind not in "iufb":
        raise DataError(f"{what} is {values.dtype} of shape {list(values.shape)}; expected one number an example")
    found = values.astype(np.float64)[places]
    bad = np.flatnonzero(~np.isfinite(found))
    if len(bad):
        row = int(bad[0])
        raise DataError(
            f"{what} is {found[row]} for the example with id {int(real.ids[row])} (row {row} of {real.name}), and not a "
            f"finite number for {len(bad)} of {len(found)}; mend or drop it"
        )
    return torch.from_numpy(found)
