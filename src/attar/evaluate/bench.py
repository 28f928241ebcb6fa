"""Bench: trains networks on given lessons and scores each on the test split, through the store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch

from attar.errors import DataError
from attar.evaluate.lessons import Lesson
from attar.evaluate.protocol import Protocol
from attar.evaluate.store import Result, Store, circumstances
from attar.evaluate.train import Broken, accuracy, train
from attar.execute import crew
from attar.execute.progress import Progress
from attar.nets import Net, Params
from attar.real.realset import RealSet, Splits
from attar.seeds import Seeds


@dataclass(frozen=True, kw_only=True, eq=False)
class Exam:
    """Networks of one kind that learn by one protocol and are tested: one of every lesson, by the seed beside it.

    Args:
        label: what a progress bar says of it.
    """

    label: str
    net: Net
    protocol: Protocol
    lessons: Sequence[Lesson]
    seeds: Sequence[int]

    def __post_init__(self) -> None:
        assert len(self.lessons) == len(self.seeds)


@dataclass(frozen=True)
class Marks:
    """What came out of an exam: the result of every network, or how its training broke."""

    each: list[Result | Broken]

    def whole(self) -> list[Result]:
        """The results of all networks.

        Raises:
            Broken: a training broke; the first one is told.
        """
        for found in self.each:
            if isinstance(found, Broken):
                raise found
        return [found for found in self.each if not isinstance(found, Broken)]


@dataclass(frozen=True, kw_only=True)
class Training:
    """One network of an exam.

    Args:
        number: of its lesson and seed. store: where its result is kept. facts: what that depends on.
    """

    exam: Exam
    number: int
    store: Store
    facts: dict[str, Any]

    @property
    def work(self) -> float:
        """Multiplications of one image by all epochs, which tells long trainings on the same set from short ones."""
        return float(self.exam.net.macs) * self.exam.protocol.passes


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where networks are trained and tested.

    Args:
        splits: holds the test split, which is opened as late as can be.
        real: the training split in the normalised space of what is scored.
        device: where networks are trained.
        workers: processes that train at the same time, each by one thread.
    """

    splits: Splits
    real: RealSet
    store: Store
    progress: Progress
    device: torch.device
    workers: int = 1

    @cached_property
    def test(self) -> RealSet:
        """The test split in the same space, on the device."""
        test = self.splits.test.normalised_as(self.real)
        if not len(test):
            raise DataError(f"the test split of '{test.name}' is empty; give one with examples")
        return test.on(self.device)

    def test_facts(self) -> dict[str, Any]:
        """Name, rows and fingerprint of the test split."""
        return {"name": self.test.name, "rows": len(self.test), "fingerprint": self.test.fingerprint}

    def results(
        self, label: str, net: Net, protocol: Protocol, lessons: Sequence[Lesson], seeds: Sequence[int]
    ) -> list[Result]:
        """Trains a network on every lesson with the seed beside it, but those whose result is kept.

        Raises:
            Broken: a training broke.
        """
        return self.sat([Exam(label=label, net=net, protocol=protocol, lessons=lessons, seeds=seeds)])[0].whole()

    def sat(self, exams: Sequence[Exam], *, keep_going: bool = False) -> list[Marks]:
        """What comes out of several exams, whose networks are trained beside each other but for those whose result is kept.

        The largest networks come first, so that no core waits long for the last one.

        Args:
            keep_going: whether a training that broke is told in its place, and the others go on.

        Raises:
            Broken: a training broke, and shall not be told.
        """
        workers = self.workers if any(len(exam.seeds) > 1 for exam in exams) else 1
        with crew.one_thread() if workers > 1 else nullcontext():
            return self._sat(exams, workers, keep_going)

    def _sat(self, exams: Sequence[Exam], workers: int, keep_going: bool) -> list[Marks]:
        trainings = [self._training(exam, i) for exam in exams for i in range(len(exam.seeds))]
        found = {
            i: kept for i, t in enumerate(trainings) if (kept := t.store.get(t.facts, lambda: self.test.fingerprint))
        }
        missing = sorted((i for i in range(len(trainings)) if i not in found), key=lambda i: -trainings[i].work)
        if missing:
            pieces = [partial(self._made, trainings[i], keep_going) for i in missing]
            total = sum(trainings[i].exam.protocol.passes for i in missing)
            label = _label([trainings[i].exam for i in missing])
            made = crew.done(pieces, workers=workers, progress=self.progress, label=label, total=total)
            found |= dict(zip(missing, made))
        results = iter([found[i] for i in range(len(trainings))])
        return [Marks([next(results) for _ in exam.seeds]) for exam in exams]

    def _training(self, exam: Exam, number: int) -> Training:
        # A user's own network can change under the same name, so its results are not kept.
        store = self.store if exam.net.source is None else Store(None)
        return Training(exam=exam, number=number, store=store, facts=self._facts(exam, number))

    def _made(self, training: Training, keep_going: bool, progress: Progress) -> Result | Broken:
        try:
            result = self._trained(training.exam, training.number, progress)
        except Broken as e:
            if not keep_going:
                raise
            return e
        training.store.put(training.facts, self.test.fingerprint, result)
        return result

    def _trained(self, exam: Exam, number: int, progress: Progress) -> Result:
        """Trains and then tests one network."""
        net, protocol, lesson = exam.net, exam.protocol, exam.lessons[number]
        images, labels, weight = lesson.make()
        seen: list[float] = []  # stays empty unless the protocol looks at the test split on the way

        def watch(params: Params) -> None:
            seen.append(accuracy(net, params, self.test))

        start = time.perf_counter()
        params = train(
            net,
            images.on(self.device) if isinstance(images, RealSet) else images.to(self.device),
            labels.to(self.device),
            protocol=protocol,
            seeds=Seeds(exam.seeds[number]).at("evaluate"),
            weight=weight,
            teacher=lesson.teacher,
            progress=progress,
            watch=watch,
        )
        seconds = time.perf_counter() - start
        last = accuracy(net, params, self.test)
        return Result(accuracy=last, best=max([*seen, last]) if protocol.select == "best" else None, seconds=seconds)

    def _facts(self, exam: Exam, number: int) -> dict[str, Any]:
        net = exam.net
        return {
            **exam.lessons[number].identity,
            "space": self.real.space,
            "protocol": exam.protocol.facts(),
            "network": [net.name, net.channels, *net.size, net.classes],
            "seed": exam.seeds[number],
            **circumstances(self.device),
        }


def _label(exams: Sequence[Exam]) -> str:
    """What a progress bar says of networks, each given by its exam."""
    labels, nets = {exam.label for exam in exams}, {exam.net.name for exam in exams}
    if len(labels) == 1:
        return labels.pop()
    many = f"{len(exams)} networks"
    return f"{nets.pop()}, {many}" if len(nets) == 1 else many
