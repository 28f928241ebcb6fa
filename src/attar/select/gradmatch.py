"""GradMatch. Krishnateja Killamsetty, Durga Sivasubramanian, Ganesh Ramakrishnan, Abir De and Rishabh Iyer, GRAD-MATCH:
gradient matching based data subset selection for efficient deep model training, ICML 2021.

A weighted subset whose gradient is that of all: orthogonal matching pursuit, which adds the example that points most along
what is still missing, and fits the weights of all picks again.

    minimise over w >= 0    E(w) = || b - sum_{j in S} w_j g_j ||^2 + ridge * || w ||^2,      b = sum over i of g_i
    next = argmax over j not in S of < g_j, b - sum_{s in S} w_s g_s >

with last-layer gradients g_i = (p_i - y_i) (x) [h_i, 1], of which only products are computed (:mod:`attar.select.factored`).
Where no example points along what is missing, no positive weight of a further one can help: the rest of the budget goes to
those that point along it the most, with weight 0. Where b itself is 0, every weight is n / k.

Differs from official code: CORDS (Killamsetty et al. 2021) fills up with random examples of weight 1 and stops at a tolerance
of 1e-100, that is never; DeepCore (Guo, Zhao and Bai 2022) calls a function that torch has removed and runs on CUDA alone.
Both form gradients of K (D + 1) numbers, and let weights be negative while picking and mend them at the end; here they are
fitted without negatives after every pick (Lawson and Hanson's algorithm), so that the error never grows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.budget import Budget
from attar.method import Cost, Method, Resources, Rows, State, positive
from attar.real.realset import RealSet
from attar.resources.gradients import Gradients
from attar.seeds import Seeds
from attar.select.factored import Factors, correlation, factors_of, inner, total
from attar.select.nonnegative import Fit
from attar.select.pick import Picks, counts, groups, pick, rows_of

NOTHING = 1e-10
"""Share of the largest first correlation that counts as 0."""


@dataclass(frozen=True, kw_only=True)
class GradMatch(Method):
    """Keeps examples whose weighted gradients add up to the gradient of all. The picks are nested, their weights are not.

    ``gain`` is what each pick took off E; ``weight`` fits the sum of the group's gradients, and training uses it, scaled to
    a mean of 1 over all that is kept.

    Cost: a training, two forwards of every image; then O(n M (K + D + M)) for a group of n, in float64; 8 n M bytes.

    Example:
        >>> attar.select("photos/", method="gradmatch", ipc=10)
    """

    balanced: bool = True
    "Same number of every class, each class's gradient matched by itself; else one pool over all classes."
    net: str = "convnet"
    "The network whose gradients are matched."
    epochs: int = 10
    "Epochs of its training; 0 takes it as it is initialised."
    ridge: float = 0.5
    "Price of large weights, against the squared error of the gradient."

    paper: ClassVar[str] = "Killamsetty et al., GRAD-MATCH: gradient matching based data subset selection, ICML 2021"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"
    quick: ClassVar[Mapping[str, Any]] = {"net": "convnet:width=32"}

    def __post_init__(self) -> None:
        self.needs()  # refuses impossible training at once
        positive(ridge=self.ridge)

    def needs(self) -> tuple[Any, ...]:
        """The gradients."""
        return (Gradients(net=self.net, epochs=self.epochs),)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks and weights; nothing random."""

        def rule(rows: torch.Tensor, k: int, group: int) -> Picks:
            x = factors_of(real, res, rows)
            return pursue(Factors(x.a.double(), x.h.double()), k, ridge=self.ridge)

        return pick(real, budget, rule, balanced=self.balanced)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order; training weighs them."""
        return rows_of(state, {"weighted": True})

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """Products of each pick with its group, and of the picks with what is missing; float64."""
        n, width = [len(g) for g in groups(real, self.balanced)], real.n_classes + self.needs()[0].width(real)
        both = list(zip(n, counts(real, budget, self.balanced)))
        flops = sum(2.0 * m * k * (width + k / 2) for m, k in both)
        memory = max(8.0 * m * k + 16.0 * k * k for m, k in both) + 16.0 * max(n) * width
        return Cost(flops_per_step=flops, memory=memory)


def pursue(x: Factors, k: int, *, ridge: float) -> Picks:
    """k picks out of n gradients and their weights.

    Args:
        x: float64.
        k: 1 to n.
        ridge: > 0.

    Returns:
        places in the order of picking, what each took off E, and weights >= 0 that sum to more than 0.
    """
    target = total(x)  # b, [K, D + 1]
    first = correlation(x, target)  # [n]
    nothing = NOTHING * float(first.abs().max())
    free = torch.ones(len(first), dtype=torch.bool, device=first.device)
    products = first.new_empty(k, len(first))  # < g_s, g_i > for each pick s
    places, gain = torch.zeros(k, dtype=torch.int64), torch.zeros(k, dtype=torch.float64)
    fit, missing, t = Fit(k, ridge), first, 0
    while t < k:
        place = int(missing.masked_fill(~free, -torch.inf).argmax())
        if float(missing[place]) <= nothing:
            break
        places[t], free[place] = place, False
        products[t] = inner(x.at(torch.tensor([place], device=first.device)), x)[0]
        before = fit.explained
        fit.add(products[t, places[: t + 1].to(first.device)].cpu(), float(first[place]))
        gain[t] = fit.explained - before
        t += 1
        missing = first - products[:t].T @ fit.weight[:t].to(first.device)
    rest = missing.masked_fill(~free, -torch.inf).argsort(descending=True, stable=True)
    places[t:] = rest[: k - t].cpu()
    weight = fit.weight if t else torch.full((k,), len(first) / k, dtype=torch.float64)
    return Picks(places, gain, weight)
