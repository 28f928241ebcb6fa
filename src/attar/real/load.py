"""load: a user's data, wherever they are, as training, validation and test splits of equal images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from attar.errors import UsageError, nearest
from attar.io.images import RESIZE
from attar.real import statistics
from attar.real.cache import fetch
from attar.real.decode import Recipe
from attar.real.entry import Entry
from attar.real.find import find
from attar.real.labels import Classes
from attar.real.objects import DETECTION
from attar.real.realset import RealSet, Splits
from attar.real.source import Progress, Source
from attar.real.split import divide, group_column


def load(
    source: Any,
    *,
    size: int | tuple[int, int] | None = None,
    resize: str = "crop",
    on_bad: str = "stop",
    test_fraction: float = 0.2,
    group: str | None = None,
    split_seed: int = 0,
    unlabelled: bool = False,
    cache: Path | str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Splits:
    """Reads a source as splits; decoded images are cached, so that the second time takes a second.

    Args:
        source: see :func:`attar.real.find.find`; a :class:`RealSet` gets a held-out test split, :class:`Splits` pass through.
        size: side, or (height, width), to resize to; None demands that all images have one size.
        resize: ``crop``, ``squash`` or ``pad`` (:func:`attar.io.images.fit`).
        on_bad: ``stop`` at the first unreadable image, or ``skip`` and count them.
        test_fraction: share of every class that is held out where the source has no test split.
        group: column whose equal values stay together when a test split is held out.
        split_seed: seed of the held-out split.
        unlabelled: read images without classes, and forget those of images that have some; all are training examples.
        cache: the cache folder; default :func:`attar.real.cache.root`.
        workers: decoding threads.
        progress: what decoding reports to.

    Raises:
        UsageError: nothing is there, or an argument is out of range.
        DataError: the data cannot be used as they are.
        ResourceError: the cache cannot be written.

    Example:
        >>> splits = load("digits")
        >>> len(splits.train), len(splits.test), splits.train.shape
        (1438, 359, (1, 8, 8))
    """
    recipe = Recipe(size=_size(size), resize=_one_of(resize, RESIZE, "resize"), on_bad=_one_of(on_bad, BAD, "on_bad"))
    hold = _HoldOut(test_fraction, split_seed, group)
    if isinstance(source, (Splits, RealSet)):
        if size is not None:
            raise UsageError(
                f"size={size} cannot change a set that is already decoded; give it where the set is loaded"
            )
        if unlabelled:
            raise UsageError("unlabelled cannot change a set that is already loaded; give it where the set is loaded")
        return source if isinstance(source, Splits) else hold.out(source, notes=())
    if workers is not None and workers < 1:
        raise UsageError(f"workers={workers} cannot decode; give at least 1")
    at = Path(cache).expanduser().absolute() if cache is not None else None
    return _Loading(find(source, labelled=not unlabelled), recipe, at, workers, progress).splits(hold)


BAD = ("stop", "skip")


@dataclass(frozen=True)
class _HoldOut:
    """How a test split is made where there is none."""

    fraction: float
    seed: int
    group: str | None

    def out(
        self, whole: RealSet, *, notes: tuple[str, ...], finish: Callable[[RealSet], RealSet] | None = None
    ) -> Splits:
        """Divides a set; ``finish`` gives the training part its statistics."""
        train, test = divide(whole, fraction=self.fraction, seed=self.seed, group=self.group)
        train = finish(train) if finish else train
        test = dataclasses.replace(test, source={**test.source, "split": "held-out"})
        how = f"by the groups of '{self.group}'" if self.group else "from every class"
        note = (
            f"{whole.name} has no test split: {len(test)} of {len(whole)} examples are held out as one, "
            f"{how} (seed {self.seed}), {len(train)} remain"
        )
        return Splits(train=train, open_test=lambda: test, notes=(*notes, note), held_out=True)


@dataclass(frozen=True)
class _Loading:
    """One call of :func:`load`."""

    found: Source
    recipe: Recipe
    at: Path | None
    workers: int | None
    progress: Progress | None

    def splits(self, hold: _HoldOut) -> Splits:
        """The training split now; the others when they are asked for."""
        notes = self.found.notes if self.recipe.size is None or self.found.frame is None else ()
        recipe, padded = self._working()
        first = self._fetch("train", recipe, None)
        notes = (*notes, *padded, *first.notes)
        whole = self._real(first, "train")
        test = next((s for s in ("test", "val") if s in self.found.splits), None)
        if not whole.labelled and whole.task != DETECTION:
            return Splits(train=self._normalised(whole, first), open_test=lambda: _untested(whole), notes=notes)
        if test is None:
            return hold.out(whole, notes=notes, finish=lambda train: self._normalised(train, first))
        if hold.group is not None:
            group_column(whole, hold.group)
        train = self._normalised(whole, first)
        recipe = dataclasses.replace(recipe, shape=train.shape)

        def other(split: str) -> RealSet:
            return self._real(self._fetch(split, recipe, first.classes), split).normalised_as(train)

        if test == "val":
            notes += (f"{self.found.name} has no test split; its validation split serves as one",)
        val = (lambda: other("val")) if test == "test" and "val" in self.found.splits else None
        return Splits(train=train, open_val=val, open_test=lambda: other(test), notes=notes)

    def _working(self) -> tuple[Recipe, tuple[str, ...]]:
        """The recipe for the task: images with boxes get a size of their own where none is asked for, and lose no edge."""
        recipe = self.recipe
        if self.found.task != DETECTION:
            return recipe, ()
        size = recipe.size or self.found.frame
        if recipe.resize != "crop":
            return dataclasses.replace(recipe, size=size), ()
        said = ("images are padded where their shape differs, for a crop would cut boxes off",) if recipe.size else ()
        return dataclasses.replace(recipe, size=size, resize="pad"), said

    def _fetch(self, split: str, recipe: Recipe, known: Classes | None) -> Entry:
        name = f"{self.found.name}-{split}"
        opening = self.found.splits[split]
        return fetch(opening, name, recipe, known, at=self.at, workers=self.workers, progress=self.progress)

    def _real(self, entry: Entry, split: str) -> RealSet:
        """The set without statistics."""
        return RealSet(
            name=self.found.name,
            task=self.found.task,
            table=entry.table,
            images=entry.images,
            rows=torch.arange(len(entry.rows)),
            ids=entry.rows,
            class_names=entry.classes.names,
            source={
                "reader": self.found.reader,
                "path": self.found.path,
                "split": split,
                "size": list(self.recipe.size) if self.recipe.size else None,
                "resize": self.recipe.resize if self.recipe.size else None,
                "notes": list(entry.notes),
                **self.found.splits[split].facts(),
            },
            fingerprint=entry.fingerprint,
        )

    def _normalised(self, train: RealSet, entry: Entry) -> RealSet:
        """The training set with its mean and standard deviation."""
        known = statistics.published(train.name, train.shape, train.n_classes)
        mean, std = known or statistics.moments(entry.sums[train.rows], train.shape)
        origin = {**train.source, "statistics": "published" if known else "computed"}
        return dataclasses.replace(train, mean=mean, std=std, source=origin)


def _untested(real: RealSet) -> RealSet:
    raise UsageError(
        f"{real.name} was read without labels, by which alone a network can be tested; leave unlabelled out"
    )


def _size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    h, w = (size, size) if isinstance(size, int) else size
    if not (1 <= h <= 4096 and 1 <= w <= 4096):
        raise UsageError(f"size={size} is out of range; give a side, or (height, width), from 1 to 4096")
    return h, w


def _one_of(value: str, known: tuple[str, ...], name: str) -> str:
    if value not in known:
        raise UsageError(f"{name}='{value}' is unknown; {nearest(value, known)}")
    return value
