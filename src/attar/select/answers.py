"""Labels from a person: a CSV file that names the examples to look at, and is filled in between two calls.

One row an example, ``id,round,file,label``. Rounds that were answered stay in it, so that at the end the file is the whole
record of who said what; a run that starts again at the beginning asks the same and finds its answers there.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import NamedTuple

import torch

from attar.errors import DataError, Waiting, nearest
from attar.io import atomic
from attar.real.realset import RealSet

COLUMNS = ("id", "round", "file", "label")


class Past(NamedTuple):
    """What was asked so far, oldest first: int64 [m] each; ``answer`` is -1 where it is not known yet."""

    picked: torch.Tensor
    turn: torch.Tensor
    answer: torch.Tensor


class Line(NamedTuple):
    """One row of the file; ``where`` says which."""

    where: str
    id: int
    turn: int
    label: str


def heard(path: Path, real: RealSet, past: Past, names: tuple[str, ...], rounds: int) -> torch.Tensor:
    """The classes of what is not answered yet, int64 [n]; asks for them where the file does not hold them.

    Args:
        path: the CSV file; it is made, and grows by the rows of a round.
        real: gives ids and file names.
        past: the last round is the one to answer.
        names: what labels may be.
        rounds: R, for the message.

    Raises:
        Waiting: the file now names the examples, or some of its labels are still empty.
        DataError: the file is broken, misses a row, or has one too many, an unknown label or a changed answer.
    """
    turn = int(past.turn[-1])
    lines = read(path) if path.exists() else []
    old, new = [x for x in lines if x.turn < turn], [x for x in lines if x.turn == turn]
    open_ = past.answer < 0
    if not any(line.turn >= turn for line in lines):
        _unchanged(path, old, real, past, names) if lines else None
        atomic.write_bytes(path, written(real, past, names))
        raise Waiting(_please(path, int(open_.sum()), turn, rounds, names))
    _unchanged(path, old, real, past, names)
    asked = real.ids[past.picked[open_]].tolist()
    said = _by_id(path, new, asked, turn)
    found = [names.index(_known(said[i], names)) if said[i].label else -1 for i in asked]
    if -1 in found:
        raise Waiting(_please(path, found.count(-1), turn, rounds, names))
    return torch.tensor(found)


def read(path: Path) -> list[Line]:
    """The rows of the file.

    Raises:
        DataError: no such columns, or an id or round that is no whole number.
    """
    with atomic.named(path, "reading"):
        try:
            table = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
            rows = list(table)
        except (UnicodeDecodeError, csv.Error) as e:
            raise DataError(f"{path} is no CSV file in UTF-8 ({e}); save it as such") from e
    lacks = [c for c in ("id", "round", "label") if c not in (table.fieldnames or ())]
    if lacks:
        raise DataError(f"{path} has no column '{lacks[0]}'; its first line must be {','.join(COLUMNS)}")
    return [_line(f"{path}, row {n}", row) for n, row in enumerate(rows, 2)]


def _line(where: str, row: dict[str, str | None]) -> Line:
    try:
        return Line(where, int(row["id"] or ""), int(row["round"] or ""), (row["label"] or "").strip())
    except ValueError as e:
        raise DataError(
            f"{where}: id '{row['id']}' or round '{row['round']}' is no whole number; put it back as it was written"
        ) from e


def written(real: RealSet, past: Past, names: tuple[str, ...]) -> bytes:
    """The file with every question so far, and the answers that are known."""
    out = io.StringIO(newline="")
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)
    column = next((c for c in ("file", "path") if c in real.table.column_names), None)
    for row, turn, answer in zip(past.picked.tolist(), past.turn.tolist(), past.answer.tolist()):
        file = real.table[column][row].as_py() if column else ""
        table.writerow([int(real.ids[row]), turn, file, names[answer] if answer >= 0 else ""])
    return out.getvalue().encode()


def _by_id(path: Path, lines: list[Line], asked: list[int], turn: int) -> dict[int, Line]:
    """The row of each example that was asked for in a round: each once, and no others."""
    found: dict[int, Line] = {}
    for line in lines:
        if line.id not in asked:
            raise DataError(f"{line.where}: id {line.id} was not asked for in round {turn}; delete the row")
        if line.id in found:
            raise DataError(f"{line.where}: id {line.id} stands in an earlier row too; delete one of them")
        found[line.id] = line
    lost = [i for i in asked if i not in found]
    if lost:
        raise DataError(
            f"{path} lacks the row of id {lost[0]}, and so for {len(lost)} of {len(asked)} examples of round {turn}; put "
            "them back, or delete the file to have it written again"
        )
    return found


def _known(line: Line, names: tuple[str, ...]) -> str:
    if line.label not in names:
        raise DataError(f"{line.where}: '{line.label}' is none of the classes; {nearest(line.label, names)}")
    return line.label


def _unchanged(path: Path, lines: list[Line], real: RealSet, past: Past, names: tuple[str, ...]) -> None:
    """Refuses a file whose earlier answers are not those that the run was trained on."""
    asked = real.ids[past.picked].tolist()
    before = {(i, t): names[a] for i, t, a in zip(asked, past.turn.tolist(), past.answer.tolist()) if a >= 0}
    for line in lines:
        if before.pop((line.id, line.turn), None) != line.label:
            raise DataError(
                f"{line.where}: the answer for id {line.id} is not the one that round {line.turn} was trained on; put it "
                "back, or begin again with another --out and another file"
            )
    if before:
        i, turn = next(iter(before))
        raise DataError(f"{path} lacks the row of id {i} of round {turn}, which was answered before; put it back")


def _please(path: Path, n: int, turn: int, rounds: int, names: tuple[str, ...]) -> str:
    some = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
    return (
        f"{n} examples of round {turn} of {rounds} wait for labels in {path}; write {some} into the column label and run "
        "the same command again"
    )
