"""D2 pruning. Adyasha Maharana, Prateek Yadav and Mohit Bansal, D2 pruning: Message passing for balancing diversity and
difficulty in data pruning, ICLR 2024, arXiv 2310.07931.

Difficulty flows along a graph of neighbours: first every example takes up the difficulty around it, then each pick sends
back a message that lowers the examples like it. Hard and dense regions are kept, but not twice.

    forward   u_i  = s_i + sum over neighbours j of exp(-d_ij) s_j
    pick      next = argmax of u
    reverse   u_j  = u_j - exp(-gamma d_next,j) u_next  for every neighbour j

Where little is kept, the authors first leave out the hardest examples and then do this in every stratum of equal width in
the difficulty, with neighbours of the stratum alone (``cutoff``, ``strata``; for a tenth of CIFAR-10 ``difficulty=forgetting``,
0.4 and 25). A stratum that has no more than its share is taken whole.

Differs from the official code: distances are divided by the median distance of neighbours (``scale``), as exp(-d) vanishes
for features of large norm and no message arrives; scores are moved to start at 0 where one is negative; a pick of negative
value sends no message (there it would raise its neighbours); the graph is never an n x n array. Strata are those of each class
where classes are balanced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from attar.budget import Budget
from attar.errors import UsageError, nearest
from attar.execute import pairs
from attar.method import Cost, Method, Resources, Rows, State, positive
from attar.real.realset import RealSet
from attar.resources.dynamics import dynamics
from attar.resources.features import Features
from attar.resources.graph import Graph
from attar.seeds import Seeds
from attar.select.pick import Picks, features_of, groups, in_turn, pick, rows_of
from attar.select.rules.ccs import covered
from attar.select.rules.pool import Pool
from attar.select.rules.ranked import finite
from attar.select.scores import dynamics as scores
from attar.select.signals import seen
from attar.select.suppress import Edges, edges_of, summed, suppress

REVERSE = ("weighted", "absolute")
DIFFICULTY: dict[str, tuple[str, ...]] = {
    "aum": ("aum",),
    "forgetting": ("forgetting", "learned", "epochs"),
    "el2n": ("el2n",),
    "uniform": (),
}
"""What can be the difficulty, and the signals that it is made of."""


@dataclass(frozen=True, kw_only=True)
class D2(Method):
    """Difficult and diverse by messages between neighbours. Nested as long as the cutoff leaves enough.

    ``gain`` is the value that was left to a pick when it was picked.

    Cost: the training of a network that is watched, unless the difficulty is uniform or given; the graph (every pair once,
    by blocks); then O((n + M k) log n). 8 N k bytes.

    Example:
        >>> attar.select("photos/", method="d2", ipc=10, features="trained")
    """

    balanced: bool = True
    "Same number of every class, neighbours inside each class; else one pool over all classes."
    features: str = "pixels"
    "What is compared: pixels, random (a randomly initialised network) or trained (a network trained for it)."
    net: str = "convnet"
    "The network of random and trained features, and the one that is watched."
    epochs: int = 30
    "Epochs of the training that tells the difficulty, and of the one for trained features."
    difficulty: str = "aum"
    "Where messages start: aum (small margins are hard), forgetting, el2n (signals of a training), or uniform."
    signals: str = ""
    "File (.parquet, .npz, .npy) with these signals; columns: those of the set; empty: a network is trained."
    lr: float = 0.01
    "Learning rate of that training, falling to 0 along a cosine."
    batch: int = 256
    "Largest batch of that training."
    neighbours: int = 5
    "Nearest neighbours of each example."
    gamma: float = 0.1
    "How fast the reverse message falls with distance; smaller: more diverse."
    reverse: str = "weighted"
    "Reverse message: weighted (by distance) or absolute (the whole value)."
    scale: bool = True
    "Divide distances by the median distance of neighbours."
    strata: int = 1
    "Strata of equal width in the difficulty, each with a graph and a share of the picks of its own; 1: no strata."
    cutoff: float = 0.0
    "Share of the examples that is left out first, the hardest; less of it where too few would be left."
    search: str = "exact"
    "How neighbours are found: exact, or approximate (needs faiss)."

    paper: ClassVar[str] = "Maharana, Yadav and Bansal, D2 pruning, ICLR 2024"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"
    quick: ClassVar[Mapping[str, Any]] = {"net": "convnet:width=32", "epochs": 10}

    def __post_init__(self) -> None:
        positive(neighbours=self.neighbours, gamma=self.gamma, strata=self.strata)
        if self.difficulty not in DIFFICULTY:
            raise UsageError(f"difficulty '{self.difficulty}' is unknown; {nearest(self.difficulty, DIFFICULTY)}")
        if not 0 <= self.cutoff < 1:
            raise UsageError(
                f"cutoff={self.cutoff} is not a share in [0, 1); the authors take 0.4 for a tenth of CIFAR-10"
            )
        if self.cutoff and not DIFFICULTY[self.difficulty]:
            raise UsageError(
                f"cutoff={self.cutoff} leaves out the hardest, but difficulty=uniform tells none; drop one of them"
            )
        if self._apart and self.search != "exact":
            raise UsageError("strata and cutoff need exact graphs of their own; leave search=approximate out")
        if self.reverse not in REVERSE:
            raise UsageError(f"reverse '{self.reverse}' is unknown; {nearest(self.reverse, REVERSE)}")
        self.needs()  # refuses unknown features and networks at once

    @property
    def _apart(self) -> bool:
        """Whether the graph is not that of all examples."""
        return self.strata > 1 or self.cutoff > 0

    def needs(self) -> tuple[Any, ...]:
        """What tells neighbours, and a training that is watched where the difficulty is not given."""
        told = {"source": self.features, "net": self.net, "epochs": self.epochs}
        graph = Graph(k=self.neighbours, within=self.balanced, search=self.search, **told)
        near = Features(**told) if self._apart else graph
        if self.signals or not DIFFICULTY[self.difficulty]:
            return (near,)
        return near, *dynamics(1, net=self.net, epochs=self.epochs, lr=self.lr, batch=self.batch)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks; nothing random."""
        hard = finite(real, self._difficulty(real, res))

        def rule(rows: torch.Tensor, k: int, group: int) -> Picks:
            s = hard[rows] - hard[rows].min().clamp(max=0)  # [n], from 0
            pool = Pool(score=s, hard=s, ids=real.ids[rows])
            found = []
            for part, share in covered(pool, k, self.strata, self.cutoff, "d2"):
                if share:
                    picks, value = self._sent(real, res, rows[part], s[part], share)
                    found.append((part[picks], value))
            places, values = (torch.cat(each) for each in zip(*found))
            order = in_turn([len(part) for part, _ in found])
            return Picks(places[order], values[order])

        return pick(real, budget, rule, balanced=self.balanced)

    def _sent(
        self, real: RealSet, res: Resources, rows: torch.Tensor, s: torch.Tensor, k: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The picks among some rows [n] of difficulties [n]: places int64 [k] and values [k]."""
        if not self._apart:
            edges = edges_of(res["graph"], rows)
        else:
            x, own = features_of(real, res, rows), torch.arange(len(rows))
            ids, distances = pairs.closest(x, x, self.neighbours, own=own)
            edges = edges_of({"ids": ids.cpu(), "distances": distances.masked_fill(ids < 0, 0.0).cpu()}, own)
        gamma = self.gamma if self.reverse == "weighted" else 0.0
        return messages(s.numpy(), scaled(edges) if self.scale else edges, k, gamma)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """A few operations an edge; the neighbours of the largest group, twice. In strata, half of the distances in a group."""
        n = max((len(g) for g in groups(real, self.balanced)), default=0)
        edges, memory = 8.0 * len(real) * self.neighbours, 30.0 * n * self.neighbours + 8.0 * len(real)
        if not self._apart:
            return Cost(flops_per_step=edges, memory=memory)
        width = self.needs()[0].width(real)
        return Cost(flops_per_step=edges + 1.5 * len(real) * n * width, memory=memory + 4.0 * n * width)

    def _difficulty(self, real: RealSet, res: Resources) -> torch.Tensor:
        """[N], high = hard."""
        names = DIFFICULTY[self.difficulty]
        if not names:
            return torch.ones(len(real))
        known = seen(real, res, self.signals, 1, names)
        if self.difficulty == "aum":
            return scores.aum(known, "logit")
        return scores.el2n(known) if self.difficulty == "el2n" else scores.forgetting(known, "epochs")


def messages(difficulty: np.ndarray, edges: Edges, k: int, gamma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The forward pass, then greedy picks with reverse messages.

    Args:
        difficulty: [n], finite; moved to start at 0 where one is negative.
        edges: of n nodes.
        k: picks, 1 to n.
        gamma: of the reverse message; 0: the whole value.

    Returns:
        places int64 [k] and values float64 [k].
    """
    s = difficulty.astype(np.float64) - min(difficulty.min(), 0.0)
    value = s + summed(edges, np.exp(-edges.length) * s[edges.to])
    return suppress(value, edges, np.exp(-gamma * edges.length), k)


def scaled(edges: Edges) -> Edges:
    """Distances over their median; as they are where that is 0."""
    middle = float(np.median(edges.length)) if len(edges.length) else 0.0
    return edges._replace(length=edges.length / middle) if middle > 0 else edges
