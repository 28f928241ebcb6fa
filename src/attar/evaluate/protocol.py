"""Protocol: how a network is trained on a set before its accuracy counts. Named ones are in :mod:`attar.evaluate.presets`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from attar.evaluate.rates import RATES, Schedule, first_low

Labels = Literal["hard", "soft", "teacher"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The settings of one training; equal protocols give comparable figures.

    Args:
        name: the preset, and what was changed of it.
        epochs: E.
        lr: the first learning rate.
        momentum: of SGD.
        weight_decay: coupled for SGD, as in ``torch.optim.SGD``; decoupled and of weights of more than one dimension for AdamW.
        batch: examples of one update; the last batch of an epoch may be smaller.
        schedule: one of :mod:`attar.evaluate.rates`; ``drop`` trains E + 1 epochs, the others E.
        augment: spec of :class:`attar.augment.Augment`.
        select: ``last``, or ``best`` to look at the test set every ``evaluate_every`` epochs too.
        evaluate_every: epochs between two looks.
        labels: ``hard``, ``soft`` (cross entropy against distributions) or ``teacher`` (a network labels every batch).
        optimiser: ``sgd`` or ``adamw``.
        cutmix: share of the batches that are mixed.
        looks_after: share of the epochs before the first look.
        temperature: divides the logits of student and teacher, where there is one.
        unmixed: whether the network also meets the images before they are mixed, for its batch norms alone.
    """

    name: str
    epochs: int
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch: int = 256
    schedule: Schedule = "drop"
    augment: str = "none"
    select: Literal["last", "best"] = "last"
    evaluate_every: int = 0
    labels: Labels = "hard"
    optimiser: Literal["sgd", "adamw"] = "sgd"
    cutmix: float = 0.0
    looks_after: float = 0.0
    temperature: float = 1.0
    unmixed: bool = False

    @property
    def passes(self) -> int:
        """Epochs that are trained."""
        return self.epochs + 1 if self.schedule == "drop" else self.epochs

    @property
    def drop(self) -> int:
        """The first epoch at the lower rate, with momentum from zero; -1 where there is none."""
        return first_low(self.epochs) if self.schedule == "drop" else -1

    def rate(self, epoch: int, share: float = 0.0) -> float:
        """The learning rate in an epoch of which ``share`` in [0, 1) is over."""
        return self.lr * RATES[self.schedule](epoch, share, self.epochs)

    def looks(self, epoch: int) -> bool:
        """Whether the test set is looked at after an epoch that is not the last."""
        if self.select == "last" or epoch == self.passes - 1 or epoch < self.looks_after * self.epochs:
            return False
        return (epoch + 1) % self.evaluate_every == 0

    def facts(self) -> dict[str, Any]:
        """What a training depends on as JSON, so not the name.

        Later settings only where they are used, so that results from before them are still found.
        """
        unused = {f.name for f in fields(self) if f.name in LATER and getattr(self, f.name) == f.default}
        return {name: value for name, value in asdict(self).items() if name not in {*unused, "name"}}


LATER = ("optimiser", "cutmix", "looks_after", "temperature", "unmixed")
"""Settings that the first protocols did not have."""
