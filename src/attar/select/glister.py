"""GLISTER. Krishnateja Killamsetty, Durga Sivasubramanian, Ganesh Ramakrishnan and Rishabh Iyer, GLISTER: generalization
based data subset selection for efficient and robust learning, AAAI 2021, arXiv 2012.10630.

Keep the examples whose training step lowers the loss of other, held-out examples the most. To first order, a step on e takes
lr <g_e, v> off the held-out loss, whose gradient is v. After each round of picks the last layer takes their step, and v and
all g are computed anew.

    v       = mean over held-out i of g_i(theta)
    gain(e) = lr * < g_e(theta), v >
    theta   = theta - lr * (mean of g_j over the picks of the round)

with last-layer gradients g_i = (p_i - y_i) (x) [h_i, 1] and theta = [W, b]; a step moves the logits by what it moves theta.

The examples that judge are a share of every class of the training data, drawn by the seed; the network has not seen them. They
are picked only where their group has no others left. The test split is never looked at.

Differs from official code: DeepCore (Guo, Zhao and Bai 2022) misspells the update, so that v is never computed anew (that is
``rounds=1``), and judges by the training set itself where it is given no other; CORDS never ends where fewer examples than
rounds are wanted. Here a round may give none, and judges are always held out. CORDS moves theta along the sum or the mean of
the picks as its variant is; here along the mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.method import Cost, Method, Resources, Rows, State, positive
from attar.real.realset import RealSet
from attar.resources.gradients import Gradients, name_of, residuals
from attar.seeds import Seeds
from attar.select.factored import Factors, correlation, factors_of, total
from attar.select.pick import Picks, counts, groups, pick, rows_of


@dataclass(frozen=True, kw_only=True)
class Glister(Method):
    """Keeps what lowers the loss of held-out examples. Not nested: the rounds depend on the budget.

    ``gain`` is the first-order change of the held-out loss at the time of the pick.

    Cost: a training, two forwards of every image; then O(N K D) a round; the factors of all examples.

    Example:
        >>> attar.select("photos/", method="glister", ipc=10, rounds=5)
    """

    balanced: bool = True
    "Same number of every class; else the best of all classes."
    net: str = "convnet"
    "The network whose last layer learns."
    epochs: int = 10
    "Epochs of its training; 0 takes it as it is initialised."
    validation: float = 0.1
    "Share of every class that is held out to judge the others."
    rounds: int = 15
    "How often the last layer moves and all gains are computed anew; 1 picks the highest gains at once."
    lr: float = 0.01
    "Learning rate of the last layer's steps."

    paper: ClassVar[str] = "Killamsetty et al., GLISTER: generalization based data subset selection, AAAI 2021"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"
    quick: ClassVar[Mapping[str, Any]] = {"net": "convnet:width=32"}

    def __post_init__(self) -> None:
        positive(rounds=self.rounds, lr=self.lr)
        if not 0 < self.validation < 1:
            raise UsageError(f"validation={self.validation} is not a share in (0, 1); try 0.1")
        self.needs()  # refuses impossible training at once

    def needs(self) -> tuple[Any, ...]:
        """The gradients of a network that has not seen the judges."""
        return (Gradients(net=self.net, epochs=self.epochs, held=self.validation),)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks; what is random is which examples judge.

        Raises:
            DataError: no class has two examples, of which one could judge.
        """
        everyone = torch.arange(len(real))
        factors_of(real, res, everyone)  # refuses what is not finite
        stored = res[name_of(0)]
        held, wanted = stored["held"].cpu(), counts(real, budget, self.balanced)
        if not held.any() and sum(wanted) < len(real):
            raise DataError(
                f"no class of {real.name} has two examples, so none can be held out to judge the others; "
                "give more examples, or keep all"
            )
        logits, h = (stored[name].to(real.device) for name in ("logits", "hidden"))
        chosen = in_rounds(
            logits, h, real.labels, held, groups(real, self.balanced), wanted, rounds=self.rounds, lr=self.lr
        )
        return pick(real, budget, lambda rows, k, group: chosen[group], balanced=self.balanced)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """Three products of all factors a round; two copies of the hidden factor and some of the other."""
        n, k, width = len(real), real.n_classes, self.needs()[0].width(real)
        return Cost(flops_per_step=6.0 * n * k * width * self.rounds, memory=4.0 * n * (6 * k + 2 * width))


def in_rounds(
    logits: torch.Tensor,
    h: torch.Tensor,
    labels: torch.Tensor,
    held: torch.Tensor,
    members: list[torch.Tensor],
    wanted: list[int],
    *,
    rounds: int,
    lr: float,
) -> list[Picks]:
    """The picks of each group: in every round its share of the highest gains, ties to the lower place.

    Args:
        logits: [N, K] before any step. h: [N, D]. labels: int64 [N]. held: bool [N], who judges.
        members: the rows of each group, int64 [n] each. wanted: picks of each group.

    Returns:
        Picks by places in their group.
    """
    free = ~torch.zeros_like(held)
    places: list[list[torch.Tensor]] = [[] for _ in members]
    gains: list[list[torch.Tensor]] = [[] for _ in members]
    judges = torch.nonzero(held).flatten().to(h.device)
    for r in range(rounds):
        x = Factors(residuals(logits, labels), h)
        gain = lr * correlation(x, total(x.at(judges)) / max(1, len(judges))).cpu()  # [N]
        new = []
        for group, (rows, k) in enumerate(zip(members, wanted)):
            share = k * (r + 1) // rounds - k * r // rounds
            found = best(gain[rows], free[rows], held[rows], share)
            places[group].append(found)
            gains[group].append(gain[rows[found]])
            new.append(rows[found])
        step = torch.cat(new)
        free[step] = False
        if len(step):
            delta = total(x.at(step.to(h.device))) / len(step)  # [K, D + 1]
            logits = logits - lr * (h @ delta[:, :-1].T + delta[:, -1])
    return [Picks(torch.cat(p), torch.cat(g)) for p, g in zip(places, gains)]


def best(gain: torch.Tensor, free: torch.Tensor, held: torch.Tensor, k: int) -> torch.Tensor:
    """The k highest gains of those that are free, ties to the lower place; judges after all others.

    Args:
        gain: [n]. free: bool [n], at least k. held: bool [n].
    """
    order = gain.argsort(descending=True, stable=True)
    order = order[free[order]]
    return order[held[order].long().argsort(stable=True)][:k]
