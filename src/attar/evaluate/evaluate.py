"""evaluate: trains fresh networks on a small set and on baselines of the same size, and scores them on the test split.

The test split is opened when the first network is trained and not before; only the protocols that publish the best of
several looks look earlier. Random real examples meet the same networks, initial weights, protocol, numbers of every class and
teacher. A learning rate that was learned together with the images belongs to the images: random examples train with the
protocol's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from attar.condensed import Condensed
from attar.errors import UsageError
from attar.evaluate.bench import Bench, Exam, Marks
from attar.evaluate.lessons import (
    Offer,
    answered,
    beside_hard,
    fitting,
    full_lesson,
    offers,
    random_lesson,
    taught,
    unseen,
)
from attar.evaluate.presets import resolve
from attar.evaluate.protocol import Labels, Protocol
from attar.evaluate.scores import baseline, score, told
from attar.evaluate.store import Store
from attar.evaluate.teacher import Teacher, schooling, trained
from attar.evaluate.train import Broken
from attar.execute.plan import Plan
from attar.execute.progress import Progress, Silent
from attar.nets import Net, Spec, build
from attar.real.realset import RealSet, Splits


def evaluate(
    condensed: Condensed,
    splits: Splits,
    *,
    protocol: str | None = None,
    nets: Sequence[Spec] = ("convnet",),
    teacher: Spec | None = None,
    teacher_epochs: int | None = None,
    seeds: int = 5,
    first_seed: int = 0,
    random: bool = True,
    full: bool = False,
    eight_bit: bool = True,
    epochs: int | None = None,
    augment: str | None = None,
    store: Path | None = None,
    progress: Progress | None = None,
    device: torch.device | str = "cpu",
    plan: Plan | None = None,
    workers: int = 1,
    keep_going: bool = False,
) -> list[dict[str, Any]]:
    """Scores a small set by the test accuracy of networks trained on it.

    Args:
        splits: the real data: random examples and teachers come from ``train``, accuracies from ``test``.
        protocol: a preset of :mod:`attar.evaluate.presets`; None follows the set's recipe, or takes ``dc``.
        nets: one score for every network.
        teacher: the network that labels where the protocol has one; None takes the scored network's architecture. Beside a
            set's own soft labels it answers for the random examples, which have hard labels where no teacher is named.
        teacher_epochs: of the teacher's training; None takes those of the protocol ``full``.
        seeds: networks of one score; network i has seed ``first_seed + i``.
        random: whether random real examples of the same budget are scored beside.
        full: whether one network is trained on all real examples as well.
        eight_bit: whether the 8-bit pictures of a synthetic set get scores of their own.
        epochs, augment: other values than the protocol's; its name then tells them.
        store: a folder that keeps the results of single networks; a repeated call goes on where it was.
        plan: how a teacher is computed where the cache has none.
        workers: networks that are trained at the same time, each by one thread of a process of its own.
        keep_going: whether a network whose training on the set breaks gets a score object that tells so under ``broken``, in
            the place of accuracies.

    Returns:
        Score objects: for every network one of ``images`` exact, and for a synthetic set one of its 8-bit pictures;
        each with hard labels, and with soft ones beside where the recipe names them, or the teacher's where the
        protocol has one. Accuracies are fractions.

    Raises:
        DataError: the set and the real data differ in shape or classes; the set may have learned from the test examples.
        Broken: a training broke, and shall not be told.
        UsageError: an unknown protocol or network, a setting out of range, a teacher whom nobody asks.
    """
    if seeds < 1:
        raise UsageError(f"seeds={seeds} trains no network; it must be at least 1")
    real = fitting(condensed, splits.train)
    unseen(condensed, splits)
    built = [build(spec, channels=real.shape[0], size=real.shape[1:], classes=real.n_classes) for spec in nets]
    how: dict[str, Any] = {"protocol": protocol, "epochs": epochs, "augment": augment}
    how |= {"teacher": teacher, "teacher_epochs": teacher_epochs}
    plans, own = _protocols(condensed, real, built, **how)
    ways = list(offers(condensed, eight_bit=eight_bit))
    guided = _guided(plans[0], ways if random else (), teacher, teacher_epochs)
    if guided:
        for spec in nets:
            schooling(teacher or spec, real, teacher_epochs)  # refuses at once what is no teacher
    bench = Bench(
        splits=splits,
        real=real,
        store=Store(store),
        progress=progress or Silent(),
        device=torch.device(device),
        workers=workers,
    )
    numbers = range(first_seed, first_seed + seeds)
    drawn = condensed.counted if random else None  # of as many bytes as are stored
    sittings = []
    for spec, net, theirs, ours in zip(nets, built, plans, own):
        guide = None
        if guided:
            school: dict[str, Any] = {"plan": plan or Plan(device=str(device)), "progress": bench.progress}
            guide = trained(teacher or spec, real, epochs=teacher_epochs, **school)
        offered = list(beside_hard(ways, guide)) if guide is not None and theirs.labels == "teacher" else ways
        beside = _beside(real, net, theirs, guide, {w.labels for w in offered}, drawn, numbers)
        sittings.append(Sitting([(way, _exam(net, ours, way, numbers)) for way in offered], beside))
    exams = [exam for sitting in sittings for exam in sitting.exams]
    marks = dict(zip(exams, bench.sat(exams, keep_going=keep_going)))
    of = {"rows": len(condensed), "drawn": drawn, "keep_going": keep_going}
    scores = []
    for net, sitting in zip(built, sittings):
        everything = {"full": full_baseline(bench, net, numbers[0])} if full else {}
        for found, beside in _marked(sitting, marks, **of):
            scores.append({**found, "test": bench.test_facts(), "baseline": {**beside, **everything}})
    return scores


@dataclass(frozen=True)
class Sitting:
    """The exams of one architecture.

    Args:
        ways: every way to learn from the small set, and its exam.
        beside: for every kind of labels the exam of the random examples beside it; empty where none are asked for.
    """

    ways: list[tuple[Offer, Exam]]
    beside: dict[Labels, Exam]

    @property
    def exams(self) -> list[Exam]:
        """All of them, each once."""
        return list(dict.fromkeys([*(exam for _, exam in self.ways), *self.beside.values()]))


def _protocols(
    condensed: Condensed,
    real: RealSet,
    nets: Sequence[Net],
    *,
    protocol: str | None,
    epochs: int | None,
    augment: str | None,
    teacher: Spec | None,
    teacher_epochs: int | None,
) -> tuple[list[Protocol], list[Protocol]]:
    """How each network learns random examples, and how the set, whose recipe may name a learning rate.

    Args:
        protocol: None for that of the recipe, of which epochs and transforms are then taken, too.
    """
    recipe = condensed.recipe
    if protocol is None:
        epochs = recipe.get("epochs") if epochs is None else epochs
        augment = recipe.get("augment") if augment is None else augment
    name: str = recipe.get("protocol", "dc") if protocol is None else protocol
    counts = torch.bincount(condensed.labels, minlength=real.n_classes).tolist()
    how: dict[str, Any] = {"epochs": epochs, "augment": augment, "per_class": max(counts)}
    how |= {key: recipe.get(key, 1) for key in ("patches", "tiles")}
    how |= {"teacher": teacher if isinstance(teacher, str) else "", "teacher_epochs": teacher_epochs}
    plans = [resolve(name, real, net=net, **how) for net in nets]
    # A rate that was learned for SGD says nothing to AdamW.
    lr = recipe.get("lr") if plans[0].optimiser == "sgd" else None
    return plans, [resolve(name, real, net=net, lr=lr, **how) for net in nets]


def _guided(plan: Protocol, ways: Sequence[Offer], teacher: Spec | None, epochs: int | None) -> bool:
    """Whether a teacher is asked: by the protocol, or for random examples beside soft labels, where one is named.

    Args:
        ways: that random examples stand beside.
        epochs: of the teacher.

    Raises:
        UsageError: one is named, or its epochs are given, and nobody asks.
    """
    asked = plan.labels == "teacher" or (teacher is not None and any(way.labels == "soft" for way in ways))
    if not asked and (teacher is not None or epochs is not None):
        name = plan.name.partition(",")[0]
        raise UsageError(f"protocol '{name}' has no teacher; leave the teacher out, or take the protocol fkd or rded")
    return asked


def _exam(net: Net, plan: Protocol, way: Offer, seeds: range) -> Exam:
    """Of the small set, learned from in one way."""
    return Exam(
        label=f"{net.name}, {way.images} images",
        net=net,
        protocol=dataclasses.replace(plan, labels=way.labels),
        lessons=[way.lesson] * len(seeds),
        seeds=seeds,
    )


def _marked(
    sitting: Sitting, marks: Mapping[Exam, Marks], *, rows: int, drawn: list[int] | None, keep_going: bool
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """For every way to learn from the small set its score, and what random examples taught.

    Args:
        rows: kept examples. drawn: random ones of every class.
    """
    beside = {kind: _random(exam, marks[exam], drawn) for kind, exam in sitting.beside.items()}
    for way, exam in sitting.ways:
        yield _score(exam, way, marks[exam], rows=rows, keep_going=keep_going), beside.get(way.labels, {})


def _score(exam: Exam, way: Offer, marks: Marks, *, rows: int, keep_going: bool) -> dict[str, Any]:
    """The score object of one network and one way to learn, without test and baselines."""
    of = {"rows": rows, "first_seed": exam.seeds[0]}
    try:
        return score(exam.net, exam.protocol, way, marks.whole(), **of)
    except Broken as e:
        if not keep_going:
            raise
        return {**told(exam.net, exam.protocol, way, **of), "broken": str(e)}


def _beside(
    real: RealSet,
    net: Net,
    plan: Protocol,
    teacher: Teacher | None,
    labels: Iterable[Labels],
    counts: list[int] | None,
    seeds: range,
) -> dict[Labels, Exam]:
    """For every kind of labels the random examples beside it: with labels of the same kind by the teacher, else hard ones.

    Args:
        counts: examples of every class; None for no random examples.
    """
    if counts is None:
        return {}
    theirs: dict[Labels, Labels] = {kind: "hard" if teacher is None else kind for kind in sorted(labels)}
    made = {kind: _drawn(real, net, plan, kind, teacher, counts, seeds) for kind in sorted(set(theirs.values()))}
    return {kind: made[asked] for kind, asked in theirs.items()}


def _drawn(
    real: RealSet, net: Net, plan: Protocol, labels: Labels, teacher: Teacher | None, counts: list[int], seeds: range
) -> Exam:
    """Of random real examples, redrawn for every seed, with hard labels, soft ones or those of the teacher."""
    lessons = [random_lesson(real, counts, seed) for seed in seeds]
    if teacher is not None and labels != "hard":
        answer = taught if labels == "teacher" else answered  # at every step, or once of the images as they are
        lessons = [answer(lesson, teacher) for lesson in lessons]
    plan = dataclasses.replace(plan, labels=labels)
    return Exam(label=f"{net.name}, random examples", net=net, protocol=plan, lessons=lessons, seeds=seeds)


def _random(exam: Exam, marks: Marks, counts: list[int] | None) -> dict[str, Any]:
    """What the random examples taught."""
    return {"random": baseline(exam.protocol, marks.whole(), sum(counts or ()))}


def full_baseline(bench: Bench, net: Net, seed: int) -> dict[str, Any]:
    """One network on all real examples, by a protocol of its own."""
    real = bench.real
    plan = resolve("full", real, net=net)
    results = bench.results(f"{net.name}, all {len(real)} examples", net, plan, [full_lesson(real)], [seed])
    return baseline(plan, results, len(real))
