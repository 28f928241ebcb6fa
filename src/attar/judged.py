"""scores.parquet: what a selection knew of every real example, so that it can be looked at and used again.

One row an example, in the order of the real set: ``id``, ``label`` where there are classes, ``kept``, then numbers as
float32: ``score`` (high = keep), then by name the signals that it came from (a later selection can read them from here as
``signals``), and ``pc1`` and ``pc2``, its place in the map of the compared features. What is not known of an example is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from attar.errors import DataError
from attar.method import Rows
from attar.real.realset import RealSet

SCORES = "scores.parquet"
SCORE = "score"
OWN = {"id": pa.int64(), "label": pa.int64(), "kept": pa.bool_()}
"""Columns beside the numbers."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Judged:
    """N real examples.

    Args:
        ids: int64 [N].
        kept: bool [N].
        labels: int64 [N], or None where there are no classes.
        values: float32 [N] by name, NaN where it is missing.
    """

    ids: torch.Tensor
    kept: torch.Tensor
    labels: torch.Tensor | None
    values: Mapping[str, torch.Tensor]

    def __len__(self) -> int:
        return len(self.ids)


def encode(rows: Rows, real: RealSet) -> bytes | None:
    """The file of a selection; None where it knew nothing of single examples. Equal inputs give equal bytes.

    Args:
        rows: of ``Method.finish``.
        real: the N examples that they were picked from.
    """
    if rows.picked is None or not rows.judged:
        return None
    kept = torch.zeros(len(real), dtype=torch.bool)
    kept[rows.picked.cpu()] = True
    columns = {"id": pa.array(real.ids.numpy())}
    if real.labelled:
        columns["label"] = pa.array(real.labels.numpy())
    columns["kept"] = pa.array(kept.numpy())
    for name, value in sorted(rows.judged.items(), key=lambda item: (item[0] != SCORE, item[0])):
        if name not in OWN:
            columns[name] = pa.array(value.detach().cpu().float().numpy(), from_pandas=True)  # NaN is missing
    out = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), out, compression="zstd")
    return out.getvalue().to_pybytes()


def decode(data: bytes, where: Path | str = SCORES) -> Judged:
    """Reads what :func:`encode` wrote.

    Raises:
        DataError: not such a file.
    """
    try:
        table = pq.read_table(pa.BufferReader(data)).replace_schema_metadata(None)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as e:
        raise _unreadable(where, str(e).split("\n", 1)[0].rstrip(".")) from e
    if wrong := _fault(table):
        raise _unreadable(where, wrong)
    found = {name: torch.tensor(table[name].to_numpy()) for name in table.column_names}
    return Judged(
        ids=found["id"],
        kept=found["kept"],
        labels=found.get("label"),
        values={name: value for name, value in found.items() if name not in OWN},
    )


def _unreadable(where: Path | str, why: str) -> DataError:
    return DataError(f"{where} does not hold the scores of a selection ({why}); restore it from a copy")


def contradiction(judged: Judged, source_id: pa.ChunkedArray) -> str | None:
    """How the scores differ from the rows that were kept, whose ids are given; None where they do not."""
    known = pa.types.is_integer(source_id.type) and not source_id.null_count
    ids = torch.tensor(source_id.to_numpy() if known else [], dtype=torch.int64)
    if torch.equal(judged.ids[judged.kept].sort().values, ids.sort().values):
        return None
    return f"{SCORES} marks other examples as kept than the rows are"


def _fault(table: pa.Table) -> str:
    """The first column that is not as :func:`encode` writes it."""
    for name, kind in OWN.items():
        if name not in table.column_names:
            if name != "label":
                return f"no column '{name}'"
        elif table.schema.field(name).type != kind or table[name].null_count:
            return f"'{name}' is not {kind} throughout"
    other = [f.name for f in table.schema if f.name not in OWN and f.type != pa.float32()]
    return f"'{other[0]}' is not float" if other else ""
