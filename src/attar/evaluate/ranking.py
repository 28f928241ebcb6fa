"""dd-ranking: a small set against random examples with labels and augmentation taken apart, learning rates tuned for both.

The scores are those of :mod:`attar.evaluate.robust`, of four arms: the set and random examples of the same numbers of every
class, each with and without augmentation, by the protocol of the set (its own labels, epochs and network); and the set with
hard labels where its own are others. Where the protocol has no augmentation, that of ``dsa`` stands for it.

Differs from the official code, in which the rate is chosen on the test set, for the random examples always and for the set
where none is given, and the best of all looks at the test set counts:

- every arm chooses its rate from the same five, by one network each, on a tenth of the real training examples. These rows are
  in none of the random examples and not among the rows of a selected set. A distilled set was made from all training rows,
  these too: that can bend the choice of its rate, and not the score;
- the test set is opened when all rates of the first network are chosen, and read after the last epoch of every training;
- random examples are drawn anew for every seed. Beside soft labels of a set theirs are a teacher's, one answer for every image;
  teachers learn from the rows that are not held out.

One network for a rate, and a tenth of the rows, are not stated by the paper; ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from attar.condensed import Condensed
from attar.errors import UsageError
from attar.evaluate.arms import GRID, Tuned, arms, augments, parted, tuned
from attar.evaluate.bench import Bench
from attar.evaluate.evaluate import full_baseline
from attar.evaluate.lessons import (
    Lesson,
    Offer,
    answered,
    beside_hard,
    fitting,
    offers,
    random_lesson,
    taught,
    unseen,
)
from attar.evaluate.presets import RANKING, resolve
from attar.evaluate.protocol import Protocol
from attar.evaluate.robust import augmentation_robust_score, check, label_robust_score
from attar.evaluate.scores import baseline, score, summary
from attar.evaluate.store import Store
from attar.evaluate.teacher import Teacher, schooling, trained
from attar.execute.plan import Plan
from attar.execute.progress import Progress, Silent
from attar.nets import Net, Spec, build
from attar.real.realset import Splits


def ranking(
    condensed: Condensed,
    splits: Splits,
    *,
    protocol: str | None = None,
    nets: Sequence[Spec] = ("convnet",),
    teacher: Spec | None = None,
    teacher_epochs: int | None = None,
    seeds: int = 5,
    first_seed: int = 0,
    epochs: int | None = None,
    augment: str | None = None,
    store: Path | None = None,
    progress: Progress | None = None,
    device: torch.device | str = "cpu",
    plan: Plan | None = None,
    workers: int = 1,
    w: float = 0.5,
    gamma: float = 0.5,
) -> list[dict[str, Any]]:
    """The label-robust and the augmentation-robust score of a small set; its exact images are scored.

    Args:
        protocol: a preset of :mod:`attar.evaluate.presets` for all arms; None follows the set's recipe, or takes ``dc``.
        nets, seeds, first_seed, epochs, augment, store, plan, workers: as for :func:`attar.evaluate.evaluate.evaluate`.
        teacher: who labels where the set's labels are not hard; None takes the scored network's architecture.
        teacher_epochs: of the teacher's training; None takes those of the protocol ``full``.
        w, gamma: weights of :mod:`attar.evaluate.robust`.

    Returns:
        One score object for every network, of the set under its own labels and augmentation, beside random and all real
        examples; ``ranking`` holds both scores with intervals over the seeds, every raw accuracy, and the rates.

    Raises:
        DataError: the set and the real data differ, too few real examples to hold some out; a final training broke.
        UsageError: a setting out of range.
    """
    if seeds < 1:
        raise UsageError(f"seeds={seeds} trains no network; it must be at least 1")
    check(w=w, gamma=gamma)
    real = fitting(condensed, splits.train)
    unseen(condensed, splits)
    built = [build(spec, channels=real.shape[0], size=real.shape[1:], classes=real.n_classes) for spec in nets]
    recipe, counts = condensed.recipe, torch.bincount(condensed.labels, minlength=real.n_classes).tolist()
    if protocol is None:
        epochs = recipe.get("epochs") if epochs is None else epochs
        augment = recipe.get("augment") if augment is None else augment
    how: dict[str, Any] = {"epochs": epochs, "augment": augment, "per_class": max(counts)}
    how |= {"teacher": teacher if isinstance(teacher, str) else "", "teacher_epochs": teacher_epochs}
    how |= {key: recipe.get(key, 1) for key in ("patches", "tiles")}
    plans = [resolve(protocol or recipe.get("protocol", "dc"), real, net=net, **how) for net in built]
    asked = [own.labels == "teacher" or _own(condensed, own).labels != "hard" for own in plans]
    if not any(asked) and (teacher is not None or teacher_epochs is not None):
        raise UsageError("the labels of this set are hard, so that no teacher is asked; leave the teacher out")
    for spec in (s for s, needed in zip(nets, asked) if needed):
        schooling(teacher or spec, real, teacher_epochs)  # refuses at once what is no teacher
    rest, held = parted(real, condensed)
    common: dict[str, Any] = {"store": Store(store), "progress": progress or Silent(), "device": torch.device(device)}
    common["workers"] = workers
    contest = Contest(
        condensed=condensed,
        trial=Bench(splits=Splits(train=rest, open_test=lambda: held), real=rest, **common),
        final=Bench(splits=splits, real=real, **common),
        seeds=range(first_seed, first_seed + seeds),
        w=w,
        gamma=gamma,
    )
    compute = plan or Plan(device=str(device))
    scores = []
    for spec, net, own, needed in zip(nets, built, plans, asked):
        school: dict[str, Any] = {"epochs": teacher_epochs, "plan": compute, "progress": contest.trial.progress}
        guide = trained(teacher or spec, rest, **school) if needed else None
        scores.append(contest.score(net, own, guide))
    return scores


@dataclass(frozen=True, kw_only=True)
class Contest:
    """A small set and where its sides are trained: rates are chosen on ``trial``, accuracies come from ``final``."""

    condensed: Condensed
    trial: Bench
    final: Bench
    seeds: range
    w: float
    gamma: float

    def score(self, net: Net, own: Protocol, teacher: Teacher | None) -> dict[str, Any]:
        """The score object of one network: the set under its own condition, with random and all real examples beside it.

        Args:
            own: the protocol of the set. teacher: where its labels are not hard.
        """
        way, rows = _own(self.condensed, own), len(self.condensed)
        if own.labels == "teacher" and teacher is not None:
            way = list(beside_hard([way], teacher))[1]
        counts = self.condensed.counted  # of as many bytes as are stored
        draws = [_labelled(random_lesson(self.trial.real, counts, seed), way, teacher) for seed in self.seeds]
        sides = tuned(self.trial, self.final, net, arms(self.condensed, way, draws, own, self.final.real), self.seeds)
        full = full_baseline(self.final, net, self.seeds[0])
        condition = "augmented" if augments(own) else "plain"
        ours, random = sides[f"set_{condition}"], sides[f"random_{condition}"]
        found = _ranked(sides, full["accuracies"], own=condition, w=self.w, gamma=self.gamma)
        return {
            **score(net, ours.plan, way, ours.results, rows=rows, first_seed=self.seeds[0]),
            "protocol": f"{RANKING}, {own.name}",
            "test": self.final.test_facts(),
            "baseline": {"random": baseline(random.plan, random.results, sum(counts)), "full": full},
            "ranking": {**found, "validation": {**self.trial.test_facts(), **found["validation"]}},
        }


def _own(condensed: Condensed, plan: Protocol) -> Offer:
    """The exact images with the labels of the set; with hard ones where a teacher will label."""
    ways = {way.labels: way for way in offers(condensed, eight_bit=False)}
    return ways["hard"] if plan.labels == "teacher" else ways.get("soft", ways["hard"])


def _labelled(lesson: Lesson, way: Offer, teacher: Teacher | None) -> Lesson:
    """Random examples with the kind of labels that the set has."""
    if teacher is None:
        return lesson
    return taught(lesson, teacher) if way.labels == "teacher" else answered(lesson, teacher)


def _ranked(sides: Mapping[str, Tuned], full: list[float], *, own: str, w: float, gamma: float) -> dict[str, Any]:
    """Both scores, of the mean accuracies, with intervals over the seeds; the accuracies, rates and their choice."""
    each = {name: side.accuracies for name, side in sides.items()}
    n = len(each["set_plain"])
    each = {**each, "full_hard": full * n, "set_own": each[f"set_{own}"], "random_own": each[f"random_{own}"]}
    each.setdefault("set_hard", each["set_own"])
    means = {name: sum(a) / n for name, a in each.items()}
    label, augmentation = _both(means, w, gamma)
    by_seed = [_both({name: a[i] for name, a in each.items()}, w, gamma) for i in range(n)]
    intervals = [summary([pair[k] for pair in by_seed])["interval"] for k in (0, 1)]
    return {
        "label_robust": {"score": label, "interval": intervals[0], "w": w},
        "augmentation_robust": {"score": augmentation, "interval": intervals[1], "gamma": gamma},
        "accuracies": means,
        "rates": {name: side.plan.lr for name, side in sides.items()},
        "validation": {"grid": list(GRID), "accuracies": {name: list(s.validation) for name, s in sides.items()}},
    }


def _both(a: Mapping[str, float], w: float, gamma: float) -> tuple[float, float]:
    """Label-robust and augmentation-robust score of raw accuracies by name."""
    label = {name: a[name] for name in ("full_hard", "set_hard", "set_own", "random_own")}
    augmentation = {f"{side}_{how}": a[f"{side}_{how}"] for side in ("set", "random") for how in ("augmented", "plain")}
    return label_robust_score(**label, w=w), augmentation_robust_score(**augmentation, gamma=gamma)
