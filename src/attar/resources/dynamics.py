"""Training dynamics: what every example did while a network was trained, as running statistics.

The training is that of :class:`~attar.resources.network.TrainedNetwork`, the statistics those of
:mod:`attar.resources.recording`. Each run is a resource by itself: it is resumed and cached apart, and a method that asks for
more runs than before has the first ones already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch

from attar.budget import Budget
from attar.errors import DataError, UsageError, nearest
from attar.execute.compile import fast
from attar.method import Batch, Cost, Descend, Resources, State, positive
from attar.nets.build import build
from attar.nets.fit import net_of
from attar.optim import Opt
from attar.real.realset import RealSet
from attar.resources import recording
from attar.resources.network import TrainedNetwork, params_of
from attar.seeds import Seeds

VIEWS = ("train", "eval")
PREFIX = "seen."
"""How the statistics are named in the state, beside the weights."""


@dataclass(frozen=True, kw_only=True)
class Opening(Opt):
    """The optimiser of a run that ends before its schedule does.

    Args:
        part: how much of the schedule the run goes through, at most 1.
    """

    part: float = 1.0

    def rate(self, done: float) -> float:
        """The learning rate when the fraction ``done`` of the run is over."""
        return super().rate(done * self.part)


@dataclass(frozen=True, kw_only=True)
class Dynamics(TrainedNetwork):
    """One run's signals, float32 [N] each, by the names of :func:`attar.resources.recording.signals`.

    In the view ``train`` the logits are those of the optimisation forward, which costs nothing: transformed images, weights
    before the update, batch statistics. In the view ``eval`` the same batch passes the same weights once more, not
    transformed and in evaluation mode, which costs a forward. The scores differ where images are transformed (``augment``, which
    selectors leave at none) or where the network has batch norms or dropout; where neither is so, as by default, the views are
    the same and the optimisation forward serves both.

    Cost: that of training, a third more in the view ``eval`` where it differs; 64 bytes an example, with a window 12 and 4 for
    each of its epochs more, for distributions 4 (K + window) more.
    """

    number: int = 0
    "Which run: another number has other first weights, orders and transforms."
    epochs: int = 30
    "Passes over the real set."
    course: int = 0
    "Epochs over which the learning rate falls to 0, of which the first ``epochs`` are trained; 0: as many as are trained."
    view: str = "train"
    "Whose logits: train (the optimisation forward) or eval (one more in evaluation mode: other by batch norms and dropout)."
    window: int = 0
    "Epochs of a window of Dyn-Unc, DUAL or TDDS; 0 for none."
    distributions: bool = False
    "Compare the distributions of successive epochs, for TDDS."
    chosen: tuple[int, ...] = ()
    "Epochs, from 1, whose EL2N is averaged; empty for all."

    schema: ClassVar[int] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.view not in VIEWS:
            raise UsageError(f"view '{self.view}' is unknown; {nearest(self.view, VIEWS)}")
        least = 3 if self.distributions else 2
        if (self.window and self.window < least) or (self.distributions and not self.window):
            raise UsageError(f"window={self.window} has no spread; it must be at least {least}")
        if self.window > self.epochs:
            raise UsageError(
                f"window={self.window} is longer than epochs={self.epochs}; raise --epochs or lower --window"
            )
        if self.course and self.course < self.epochs:
            raise UsageError(
                f"course={self.course} is shorter than epochs={self.epochs}; raise --course, or give 0 for as many"
            )
        wrong = [e for e in self.chosen if not 1 <= e <= self.epochs]
        if wrong:
            raise UsageError(
                f"epoch {wrong[0]} is none of the epochs 1 to {self.epochs}; choose others or raise --epochs"
            )

    @property
    def _opt(self) -> Opt:
        return Opening(**vars(super()._opt), part=self.epochs / self.course if self.course else 1.0)

    @property
    def name(self) -> str:  # type: ignore[override]  # every run has a place of its own
        """The key under which methods find it."""
        return f"dynamics-{self.number}"

    def init(self, real: RealSet, budget: Budget | None, seeds: Seeds, res: Resources) -> State:
        """Fresh weights, and statistics of nothing.

        Raises:
            DataError: a set of less than two classes, on which there is nothing to learn.
        """
        if real.n_classes < 2:
            raise DataError(
                f"{real.name} has {real.n_classes} classes, on which no training can be watched; give two at least, or "
                f"--signals"
            )
        weights = super().init(real, budget, self._own(seeds), res)
        classes = real.n_classes if self.distributions else 0
        seen = recording.start(len(real), window=self.window, classes=classes)
        return weights | {PREFIX + name: value.to(real.device) for name, value in seen.items()}

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        """A batch of training, with ``index`` int64 [B], ``epoch``, room for ``logits`` [B, K]; ``plain`` images for ``eval``."""
        own = self._own(seeds)
        batch = super().draw(real, own, res, step)
        index = self.rows(real, own, step)
        if self._apart(real):
            batch["plain"] = real.draw(index)
        logits = torch.zeros(len(index), real.n_classes, device=real.device)
        return batch | {"index": index.to(real.device), "logits": logits, "epoch": step // self._batches(real)}

    def logits(self, state: State, batch: Batch) -> torch.Tensor:
        """The optimisation forward, which also leaves its logits in the batch: float [B, K]."""
        z = super().logits(state, batch)
        if "plain" not in batch:
            batch["logits"].copy_(z.detach())
        return z

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        """One update, and what its examples did before it."""
        if "plain" in batch:
            batch["logits"].copy_(self._evaluated(state, batch["plain"], batch["target"].shape[1]))
        state = descend(state, self.loss, batch)
        finite(batch["logits"], batch["index"], batch["epoch"])
        new = recording.facts(batch["logits"], batch["target"].argmax(1), distribution=self.distributions)
        seen = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
        chosen = {e - 1 for e in self.chosen}
        recording.fold(seen, batch["index"], new, epoch=batch["epoch"], chosen=chosen)  # in place
        return state

    def finish(self, state: State, res: Resources) -> State:
        """The signals."""
        return recording.signals({k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)})

    def cost(self, real: RealSet, budget: Budget | None = None) -> Cost:
        """That of training, a forward more in the view ``eval``, and the statistics."""
        own = super().cost(real, budget)
        share = 8 / 6 if self._apart(real) else 1.0
        seen = recording.size(window=self.window, classes=real.n_classes if self.distributions else 0)
        return Cost(flops_per_step=share * own.flops_per_step, memory=own.memory + float(seen) * len(real))

    def _apart(self, real: RealSet) -> bool:
        """Whether the view needs a forward of its own: ``eval``, where it is another function than the optimisation forward."""
        return self.view == "eval" and (self.augment != "none" or not net_of(self.net, real).modeless)

    def _own(self, seeds: Seeds) -> Seeds:
        """Seeds that belong to this run's number at the same place."""
        return Seeds(_run(seeds.run, self.number), seeds.path)

    def _evaluated(self, state: State, x: torch.Tensor, classes: int) -> torch.Tensor:
        """Logits in evaluation mode: [B, C, H, W] -> [B, K]."""
        net = build(self.net, channels=x.shape[1], size=(x.shape[2], x.shape[3]), classes=classes)
        with torch.no_grad():
            return fast(net.__call__)(params_of(state), x, train=False).float()


@lru_cache(maxsize=64)
def _run(seed: int, number: int) -> int:
    return Seeds(seed).number("dynamics", number)


def finite(logits: torch.Tensor, index: torch.Tensor, epoch: int) -> None:
    """Refuses logits [B, K] that are NaN or infinite, by the row of their example.

    Raises:
        DataError: names row and epoch.
    """
    broken = torch.nonzero(~torch.isfinite(logits).all(1)).flatten()
    if len(broken):
        row = int(index[broken[0]])
        raise DataError(
            f"the network's logits of row {row} are not finite in epoch {epoch + 1}; lower the learning rate"
        )


def dynamics(runs: int, **settings: Any) -> tuple[Dynamics, ...]:
    """The first runs of a kind; the settings are those of :class:`Dynamics`."""
    positive(runs=runs)
    return tuple(Dynamics(number=i, **settings) for i in range(runs))


def averaged(res: Mapping[str, State], runs: int, names: tuple[str, ...]) -> State:
    """Some signals, and ``confidence`` and ``variability`` for rules and maps; means over the runs: float64 [N] each."""
    found = [res[f"dynamics-{i}"] for i in range(runs)]
    wanted = dict.fromkeys((*names, "confidence", "variability"))
    return {n: torch.stack([run[n].double() for run in found]).mean(0) for n in wanted}
