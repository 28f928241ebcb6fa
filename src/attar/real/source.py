"""What every reader hands over: the splits of a source, each described by its files and opened only when needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from PIL import Image

from attar.errors import DataError, UsageError
from attar.io.atomic import refused

Picture = bytes | Path | np.ndarray | Image.Image | DataError
"""One image as a reader finds it; a DataError where there is none to be had."""


class Progress(Protocol):
    """What decoding reports to."""

    def start(self, label: str, total: int) -> None:
        """A piece of work of ``total`` units."""
        ...

    def advance(self, n: int = 1) -> None:
        """``n`` more units are over."""
        ...

    def stop(self) -> None:
        """The piece of work is over."""
        ...


@dataclass(frozen=True, kw_only=True)
class Part:
    """One split before decoding: N rows.

    Args:
        n: N.
        pictures: size -> pieces of at most ``size`` images, in row order; read once, from start to end.
        columns: -> N rows of every column but the image; ``label`` holds whole numbers or strings.
        where: row -> how to name it in a message.
        names: class names that the source declares, by label number.
        labels_last: whether ``columns`` is known only after ``pictures`` was read to the end.
        in_memory: whether the pixels are in memory already, so that a decoded copy may be too.
        task: ``image-classification``; ``detection`` has the columns of :mod:`attar.real.objects` in place of ``label``.
        labelled: whether ``label`` is looked at; else it need not be there, and the examples have no classes.
    """

    n: int
    pictures: Callable[[int], Iterator[Sequence[Picture]]]
    columns: Callable[[], pa.Table]
    where: Callable[[int], str]
    names: tuple[str, ...] = ()
    labels_last: bool = False
    in_memory: bool = False
    task: str = "image-classification"
    labelled: bool = True


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A split that is not open yet.

    Args:
        open: reads what is needed to start decoding.
        identity: a JSON value that changes when the data change, or what gives it; None where nothing tells, and nothing
            is cached.
        facts: what else the real set tells of its source.
    """

    open: Callable[[], Part]
    identity: Any = None
    facts: Callable[[], dict[str, Any]] = dict


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a reader found.

    Args:
        reader: the reader's name.
        name: short name of the set.
        path: the source as the user wrote it.
        splits: ``train``, and ``val`` and ``test`` where present.
        notes: sentences to print.
        task: what the columns are for.
        frame: (H, W) that images of a detection set are decoded to where no size is asked for.
    """

    reader: str
    name: str
    path: str = ""
    splits: Mapping[str, Opening]
    notes: tuple[str, ...] = field(default=())
    task: str = "image-classification"
    frame: tuple[int, int] | None = None

    def without_labels(self) -> Source:
        """The training split as examples without classes.

        Raises:
            UsageError: a set of objects, whose boxes say what is in an image.
        """
        if self.task != "image-classification":
            raise UsageError(f"{self.name} is a set for {self.task}; leave unlabelled out")
        train = self.splits["train"]
        known = None if train.identity is None else ["unlabelled", train.identity]
        opening = replace(train, open=lambda: replace(train.open(), labelled=False), identity=known)
        return replace(self, splits={"train": opening})


def files_identity(reader: str, files: Sequence[Path]) -> list[Any]:
    """Absolute path, bytes and time of last change (ns) of every file."""
    marks = []
    for file in files:
        try:
            stat = file.stat()
        except OSError as e:
            raise refused(e, file, "reading") from e
        marks.append([str(file.absolute()), stat.st_size, stat.st_mtime_ns])
    return [reader, marks]


def readable_name(path: str | Path) -> None:
    """Refuses a path that no text can hold: its bytes would not go into a manifest.

    Raises:
        DataError: names it.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as e:
        raise DataError(f"the name {str(path)!a} is not valid UTF-8; rename it") from e


SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""What folders and files call a split -> its name here."""
