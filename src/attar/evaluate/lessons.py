"""Lessons: what networks are trained on, out of a small set or of real data, each with an identity for the store."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from attar.condensed import Condensed
from attar.errors import DataError, UsageError
from attar.evaluate.baseline import random_examples
from attar.evaluate.protocol import Labels
from attar.evaluate.store import content
from attar.evaluate.teacher import Teacher
from attar.real.realset import RealSet, Splits
from attar.seeds import Seeds


@dataclass(frozen=True)
class Lesson:
    """What a network is trained on.

    Args:
        identity: what tells it from others, as JSON.
        make: gives images ([M, C, H, W] or a real set), labels and weights (or None); called where a training is due.
        teacher: who labels the images as they are shown, in place of the labels.
    """

    identity: Mapping[str, Any]
    make: Callable[[], tuple[torch.Tensor | RealSet, torch.Tensor, torch.Tensor | None]]
    teacher: Teacher | None = None


@dataclass(frozen=True)
class Offer:
    """One way to learn from a small set.

    Args:
        images: ``exact`` as stored, or ``8-bit`` as pictures show them.
        labels: hard, soft or teacher.
        bytes: of images and labels as stored; a hard label takes one.
    """

    images: Literal["exact", "8-bit"]
    labels: Labels
    lesson: Lesson
    bytes: int


def offers(condensed: Condensed, *, eight_bit: bool) -> Iterator[Offer]:
    """The exact images first, then the 8-bit pictures of a synthetic set; hard labels, then the recipe's soft ones.

    Raises:
        DataError: soft labels that are missing or no distributions.
    """
    weight = condensed.weight if condensed.recipe.get("weighted") else None
    targets: list[tuple[Labels, torch.Tensor]] = [("hard", condensed.labels)]
    if condensed.recipe.get("labels") == "soft":
        targets.append(("soft", _distributions(condensed)))
    floats = "image" in condensed.exact
    kinds: list[tuple[Literal["exact", "8-bit"], torch.Tensor]] = [("exact", condensed.images)]
    if floats and eight_bit:
        kinds.append(("8-bit", condensed.images8))
    for images, x in kinds:
        size = condensed.image_bytes(eight_bit=images == "8-bit")
        for labels, y in targets:
            lesson = Lesson({"content": content(x, y, weight)}, lambda x=x, y=y: (x, y, weight))
            yield Offer(images, labels, lesson, size + (condensed.worth if labels == "hard" else y.nbytes))


def taught(lesson: Lesson, teacher: Teacher) -> Lesson:
    """The same images, labelled by a teacher."""
    return Lesson({**lesson.identity, "teacher": teacher.identity}, lesson.make, teacher)


def answered(lesson: Lesson, teacher: Teacher) -> Lesson:
    """The same images with one answer of a teacher each, of the images as they are, at temperature 1."""

    def make() -> tuple[torch.Tensor | RealSet, torch.Tensor, torch.Tensor | None]:
        images, _, weight = lesson.make()
        x = images.draw(torch.arange(len(images))) if isinstance(images, RealSet) else images
        return x, torch.cat([teacher(part, 1.0).cpu() for part in x.split(256)]), weight

    return Lesson({**lesson.identity, "answers": teacher.identity}, make)


def beside_hard(ways: Sequence[Offer], teacher: Teacher) -> Iterator[Offer]:
    """Each offer of hard labels, then its images labelled by a teacher; what has to be kept for it is the teacher's weights."""
    for way in (w for w in ways if w.labels == "hard"):
        yield way
        yield Offer(way.images, "teacher", taught(way.lesson, teacher), way.bytes + teacher.bytes)


def random_lesson(real: RealSet, counts: Sequence[int], seed: int) -> Lesson:
    """Random real examples, drawn for a seed."""
    identity = {"random": real.fingerprint, "counts": list(counts), "draw": seed}
    return Lesson(identity, lambda: (*random_examples(real, counts, Seeds(seed).at("random")), None))


def full_lesson(real: RealSet) -> Lesson:
    """All real examples."""
    return Lesson({"full": real.fingerprint}, lambda: (real, real.labels, None))


def fitting(condensed: Condensed, real: RealSet) -> RealSet:
    """The real set in the normalised space of the small one, whose own whitening it gets, after checking that the two fit.

    Raises:
        UsageError: the task is not image classification.
        DataError: other channels, sizes or classes.
    """
    if condensed.bytes8 is None or condensed.manifest["task"] != "image-classification":
        raise UsageError(
            f"only classified images can be scored so, but this set's task is '{condensed.manifest['task']}'"
        )
    ours, theirs = _shape(condensed.images.shape[1:]), _shape(real.shape)
    if ours == theirs:
        ours, theirs = _classes(condensed.class_names), _classes(real.class_names)
    if ours != theirs or condensed.class_names != tuple(real.class_names):
        raise DataError(
            f"the small set has {ours} but '{real.name}' has {theirs}; give the real data that it was made from "
            f"('{condensed.manifest['source']['name']}'), read in the same way"
        )
    space = condensed.manifest["preprocessing"]
    mean, std = tuple(space["mean"]), tuple(space["std"])
    return dataclasses.replace(real, mean=mean, std=std, whitening=condensed.whitening)


def unseen(condensed: Condensed, splits: Splits) -> None:
    """Refuses a test split that is held out of other data than the set was made from, which may have learned from it.

    Data of the same fingerprint that are divided in the same way hold out the same examples.

    Raises:
        DataError: as said.
    """
    real = splits.train
    if splits.held_out and real.fingerprint != condensed.manifest["source"]["fingerprint"]:
        raise DataError(
            f"'{real.name}' has no test split, and what is held out of it as one may be what the set was made from, because its "
            "examples, or the way in which they are divided, are others than then; read the same data as then, or give data "
            "with a test split of their own, as in --real path/to/data"
        )


def _distributions(condensed: Condensed) -> torch.Tensor:
    """float32 [M, K], each row a distribution over the classes."""
    soft = condensed.exact.get("soft_label")
    shape = (len(condensed), len(condensed.class_names))
    if soft is None or tuple(soft.shape) != shape:
        found = "none" if soft is None else f"shape {tuple(soft.shape)}"
        raise DataError(f"the recipe names soft labels of shape {shape} but the set has {found}; relabel it")
    soft = soft.to(torch.float32)
    if not ((soft >= 0).all() and torch.allclose(soft.sum(1), torch.ones(len(soft)), atol=1e-3)):
        raise DataError("the soft labels are no distributions (rows >= 0 with sum 1); relabel the set")
    return soft


def _shape(chw: Sequence[int]) -> str:
    return "images of {} x {} x {} (channels, height, width)".format(*chw)


def _classes(names: Sequence[str]) -> str:
    return f"{len(names)} classes ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
