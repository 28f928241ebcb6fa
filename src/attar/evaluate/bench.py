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
from attar.evaluate.train import accuracy, train
from attar.execute import crew
from attar.execute.progress import Progress
from attar.nets import Net, Params
from attar.real.realset import RealSet, Splits
from attar.seeds import Seeds


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

        Args:
            label: what the progress bar says.
        """
        with crew.one_thread() if self.workers > 1 and len(seeds) > 1 else nullcontext():
            return self._results(label, net, protocol, lessons, seeds)

    def _results(
        self, label: str, net: Net, protocol: Protocol, lessons: Sequence[Lesson], seeds: Sequence[int]
    ) -> list[Result]:
        # A user's own network can change under the same name, so its results are not kept.
        store = self.store if net.source is None else Store(None)
        facts = [self._facts(net, protocol, lesson, seed) for lesson, seed in zip(lessons, seeds, strict=True)]
        found = {i: kept for i, f in enumerate(facts) if (kept := store.get(f, lambda: self.test.fingerprint))}
        missing = [i for i in range(len(facts)) if i not in found]
        pieces = [partial(self._made, net, protocol, lessons[i], seeds[i], facts[i], store) for i in missing]
        if pieces:
            total, workers = protocol.passes * len(pieces), self.workers if len(seeds) > 1 else 1
            made = crew.done(pieces, workers=workers, progress=self.progress, label=label, total=total)
            found |= dict(zip(missing, made))
        return [found[i] for i in range(len(facts))]

    def _made(
        self,
        net: Net,
        protocol: Protocol,
        lesson: Lesson,
        seed: int,
        facts: dict[str, Any],
        store: Store,
        progress: Progress,
    ) -> Result:
        result = self._trained(net, protocol, lesson, seed, progress)
        store.put(facts, self.test.fingerprint, result)
        return result

    def _trained(self, net: Net, protocol: Protocol, lesson: Lesson, seed: int, progress: Progress) -> Result:
        """Trains and then tests one network."""
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
            seeds=Seeds(seed).at("evaluate"),
            weight=weight,
            teacher=lesson.teacher,
            progress=progress,
            watch=watch,
        )
        seconds = time.perf_counter() - start
        last = accuracy(net, params, self.test)
        return Result(accuracy=last, best=max([*seen, last]) if protocol.select == "best" else None, seconds=seconds)

    def _facts(self, net: Net, protocol: Protocol, lesson: Lesson, seed: int) -> dict[str, Any]:
        return {
            **lesson.identity,
            "space": self.real.space,
            "protocol": protocol.facts(),
            "network": [net.name, net.channels, *net.size, net.classes],
            "seed": seed,
            **circumstances(self.device),
        }
