"""Active learning. Burr Settles, Active learning literature survey, University of Wisconsin 2009; the default query is BADGE:
Jordan Ash, Chicheng Zhang, Akshay Krishnamurthy, John Langford and Alekh Agarwal, Deep batch active learning by diverse,
uncertain gradient lower bounds, ICLR 2020, arXiv 1906.03671. As a way to make a training set small: Rana, Nur Nobi and Sung,
DeepDistAL, CVPR Workshops 2024.

Labels cost, images do not. Label a few, train on them, ask for those that would teach the network most, and again.
What was never asked for is never labelled: where a label column exists, only the asked rows of it are read.

    L_0 = some at random;   for r = 1 ... rounds:  net = train(L_(r-1));   L_r = L_(r-1) + query(net, pool - L_(r-1))

    query = least-confidence | entropy | margin | bald | kcenter | badge | random      (:mod:`attar.select.queries`)

Differs from official code: BADGE's writes out the n x (K D) products (p - e_yhat) x h, of which distances are taken here from
their factors, and starts its k-means++ as here with the longest; modAL and baal keep a scored pool in memory and lose the
round on a crash. BALD asks an ensemble of freshly trained networks, not dropout, which these networks do not have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from attar.budget import Budget, largest_remainder
from attar.errors import DataError, UsageError, nearest
from attar.execute import pieces
from attar.method import Batch, Cost, Descend, Method, Resources, Rows, State, positive
from attar.nets.fit import activation_bytes, net_of
from attar.real.realset import RealSet
from attar.real.split import group_column
from attar.resources.features import Features
from attar.resources.network import TrainedNetwork, params_of
from attar.seeds import Seeds
from attar.select import answers, queries
from attar.select.hashed import keys, smallest
from attar.select.room import Room

QUERIES = ("badge", "entropy", "margin", "least-confidence", "bald", "kcenter", "random")
UNSURE = {"entropy": queries.entropy, "margin": queries.margin, "least-confidence": queries.least_confidence}
BLOCK = 256
"""Images of the pool that are read at a time."""


@dataclass(frozen=True, kw_only=True)
class Active(Method):
    """Asks for labels in rounds. Nested: the picks of round r and before are what was labelled then.

    Beside every pick stand its ``round`` (0: the first ones, at random) and its ``score`` (how unsure the network was, or how
    far it lay from what was labelled; 0 for random ones). Not divided over the classes, which nobody knows yet.

    Cost: a round trains on what is labelled by then and runs the whole pool through the network once (BADGE: twice); badge and
    kcenter hold the pool's features, n (K + D) numbers, and take O(n (K + D)) a pick.

    Example:
        >>> attar.select("photos/", query="badge", rounds=5, keep=0.1)
    """

    query: str = "badge"
    "What to ask next: badge, entropy, margin, least-confidence, bald, kcenter or random."
    rounds: int = 5
    "Rounds of training and asking, after the first examples."
    first: int | None = None
    "Examples labelled before the first training; left out, as many as in every round."
    start: str = "random"
    "How these are chosen: random, or stratified, which looks at all labels and is for sets that have them."
    net: str = "convnet"
    "The network that is trained anew in every round."
    epochs: int = 50
    "Epochs of each training."
    lr: float = 0.01
    "Learning rate, falling to 0 along a cosine."
    batch: int = 64
    "Largest batch."
    augment: str = "none"
    "Transforms of the training images, joined by _; none; or auto (all that suit the classes)."
    members: int = 5
    "Networks of bald, which asks where they disagree; other queries train one."
    cap: int | None = None
    "Most examples of one group in a round, such as frames of one video."
    cap_by: str | None = None
    "Column that names the group of each example for cap."
    ask: str | None = None
    "CSV file through which a person gives the labels; left out, the label column answers."
    classes: str | None = None
    "Class names that the person chooses from, joined by commas; left out, those of the set."

    balanced: ClassVar[bool] = False  # classes are known only of what was asked for
    paper: ClassVar[str] = "Settles, Active learning literature survey, 2009"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"
    quick: ClassVar[Mapping[str, Any]] = {"net": "convnet:width=32", "epochs": 20}

    def __post_init__(self) -> None:
        if self.query not in QUERIES:
            raise UsageError(f"query '{self.query}' is unknown; {nearest(self.query, QUERIES)}")
        if self.start not in ("random", "stratified"):
            raise UsageError(f"start '{self.start}' is unknown; {nearest(self.start, ('random', 'stratified'))}")
        positive(rounds=self.rounds, first=self.first, members=self.members, cap=self.cap)
        if (self.cap is None) != (self.cap_by is None):
            raise UsageError("cap and cap_by go together; give both, as in --cap 2 --cap-by video, or neither")
        if self.classes is not None and self.ask is None:
            raise UsageError("classes are for labels that a person gives; add --ask labels.csv or leave --classes out")
        if self.ask is not None and self.start == "stratified":
            raise UsageError("start=stratified needs labels that ask is still to find out; use start=random")
        _ = self.lessons, self.names(())  # refuses impossible training and names at once

    @property
    def lessons(self) -> TrainedNetwork:
        """How one network is trained."""
        return TrainedNetwork(net=self.net, epochs=self.epochs, lr=self.lr, batch=self.batch, augment=self.augment)

    @property
    def nets(self) -> int:
        """E, the networks of a round."""
        return 0 if self.query == "random" else self.members if self.query == "bald" else 1

    def names(self, known: tuple[str, ...]) -> tuple[str, ...]:
        """The K class names: those of the settings, else those of the set."""
        if self.classes is None:
            return known
        found = tuple(name.strip() for name in self.classes.split(","))
        if "" in found or len(set(found)) < len(found):
            raise UsageError(f"classes={self.classes} has an empty or repeated name; write them as in cat,dog")
        return found

    @property
    def _round(self) -> int:
        """Steps of a round: every epoch of every network, and the question; the first also hears the answers."""
        return self.nets * self.epochs + 1

    def length(self, real: RealSet) -> int:
        """All rounds, and the answers to the last question."""
        return self.rounds * self._round + 1

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """The first examples, chosen without a network.

        Raises:
            DataError: nobody to ask, a budget beyond the set, or a cap that leaves too few.
        """
        pool = self._pool(real)
        m = _total(pool, budget)
        due = self._due(m)
        state: State = {
            "picked": torch.full((m,), -1),
            "answer": torch.full((m,), -1),
            "round": torch.full((m,), -1),
            "score": torch.zeros(m),
            "count": torch.zeros((), dtype=torch.int64),
            "due": torch.tensor(due),
        }
        for e in range(self.nets):
            net = self.lessons.init(pool, None, seeds.at("net", e), res)
            for name, opt in self.lessons.learned(net).items():
                net |= opt.slots(name, net[name])
            state |= {f"{e}.{name}": value for name, value in net.items()}
        rows, room = self._candidates(real, state, 0)
        self._put(state, rows[self._first(real, rows, due[0], room, seeds)], torch.zeros(due[0]), 0)
        return state

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        """Where in the rounds the step stands, and the set that its part may look at; no tensors."""
        turn, part = divmod(step, self._round)
        return {"real": real, "turn": turn, "part": part, "seeds": seeds}

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        """One epoch of one network, or the next question; a round begins with the answers to the last one.

        Raises:
            Waiting: a person has to fill in labels first.
        """
        real, turn, part, seeds = batch["real"], batch["turn"], batch["part"], batch["seeds"]
        if part == 0:
            self._hear(state, real)
        if turn == self.rounds or int(state["due"][turn + 1]) == 0:
            return state  # the end, or a budget smaller than the rounds: nothing more is asked
        if part < self.nets * self.epochs:
            loss = self._train(state, real, *divmod(part, self.epochs), seeds)
            descend(state, _told, {"loss": loss})
        else:
            self._ask(state, real, turn + 1, seeds)
        return state

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in the order of asking; of those that a person labels, the labelled ones, with these labels."""
        m = int(state["count"] if self.ask is None else (state["answer"] >= 0).sum())
        given = {} if self.ask is None else {"label": state["answer"][:m]}
        return Rows(
            columns=given,
            picked=state["picked"][:m],
            weight=torch.ones(m),
            extra={name: state[name][:m] for name in ("round", "score")},
            class_names=self.names(()),
        )

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """The mean over the steps; the networks, a batch's activations, and what is held of the pool."""
        pool = self._pool(real)
        m, own = _total(pool, budget), 64.0 * len(real)
        if not self.nets:
            return Cost(flops_per_step=8.0 * (len(real) + m), memory=own)
        net = net_of(self.net, pool)
        answers = 16.0 * len(real) * pool.n_classes  # in float64, and what is reckoned with them
        seen = 16.0 * len(real) * Features(source="random", net=self.net).width(pool)
        own += {"badge": answers + seen, "kcenter": seen}.get(self.query, self.nets * answers)
        train, ask = 6.0 * net.macs * m / 2 * self.epochs, 2.0 * net.macs * len(real)
        size = min(self.batch, self._due(m)[0])
        memory = self.nets * 8.0 * net.n_parameters + 4.0 * net.n_parameters + size * activation_bytes(net)
        return Cost(flops_per_step=self.nets * (train + ask) / self._round, memory=own + memory)

    def _due(self, m: int) -> list[int]:
        """Examples of every round, the first included: R + 1 numbers that add up to m."""
        if self.first is None:
            return largest_remainder(m, [1] * (self.rounds + 1))
        if self.first > m:
            raise UsageError(f"first={self.first} is more than the budget of {m} examples; lower it")
        return [self.first, *largest_remainder(m - self.first, [1] * self.rounds)]

    def _pool(self, real: RealSet) -> RealSet:
        """The set without its labels, under the class names that are asked for.

        Raises:
            DataError: no labels and nobody to ask, or no class names.
        """
        names = self.names(real.class_names)
        if not names or (self.ask is None and not real.n_classes):
            raise DataError(f"{real.name} has no labels to ask for; give --ask labels.csv and --classes cat,dog")
        return _hidden(real, names)

    def _candidates(self, real: RealSet, state: State, turn: int) -> tuple[torch.Tensor, Room]:
        """Rows that were not asked for yet, int64 [n] in the order of their ids, and the room that the cap leaves.

        Raises:
            DataError: the room is too small for the round.
        """
        order = real.ids.argsort()
        new = torch.ones(len(real), dtype=torch.bool)
        new[state["picked"][: int(state["count"])].cpu()] = False
        rows = order[new[order]]
        codes = _codes(real, self.cap_by)[rows] if self.cap_by is not None else None
        room, k = Room(len(rows), codes, self.cap), int(state["due"][turn])
        if room.most < k:
            raise DataError(
                f"round {turn} asks for {k} examples but cap={self.cap} of each '{self.cap_by}' leaves {room.most} of "
                f"{len(rows)}; raise --cap or --rounds, or lower the budget"
            )
        return rows, room

    def _first(self, real: RealSet, rows: torch.Tensor, k: int, room: Room, seeds: Seeds) -> torch.Tensor:
        """Places of the first examples: at random, or at random in every class."""
        order = _shuffled(real, rows, seeds)
        if self.start == "random":
            return room.along(order, k)
        labels = real.labels[rows[order]]  # known, as start says
        share = Budget(rows=k).counts(real.sizes, names=real.class_names)
        picks = torch.cat([room.along(order[labels == c], n) for c, n in enumerate(share)])
        return torch.cat([picks, room.along(order, k - len(picks))])  # what a cap kept out of a class

    def _put(self, state: State, rows: torch.Tensor, score: torch.Tensor, turn: int) -> None:
        """Appends picks."""
        done = int(state["count"])
        here = slice(done, done + len(rows))
        state["picked"][here], state["score"][here], state["round"][here] = (
            rows.to(state["picked"]),
            score.float(),
            turn,
        )
        state["count"] += len(rows)

    def _hear(self, state: State, real: RealSet) -> None:
        """Labels of the picks that have none yet."""
        m, known = int(state["count"]), int((state["answer"] >= 0).sum())
        rows = state["picked"][known:m].cpu()
        if not len(rows):
            return
        if self.ask is None:
            found = real.labels[rows]
        else:
            past = answers.Past(*(state[name][:m].cpu() for name in ("picked", "round", "answer")))
            found = answers.heard(Path(self.ask), real, past, self.names(real.class_names), self.rounds)
        state["answer"][known:m] = found.to(state["answer"])

    def _train(self, state: State, real: RealSet, e: int, epoch: int, seeds: Seeds) -> torch.Tensor:
        """An epoch of network e on what is labelled; before the first, it is made anew. Returns the mean loss."""
        pool, net = self._pool(real), _member(state, e)
        if epoch == 0:
            fresh = self.lessons.init(pool, None, seeds, {})
            for name, value in net.items():
                value.copy_(fresh[name]) if name in fresh else value.zero_()
        m = int(state["count"])
        return self.lessons.teach(net, pool, state["picked"][:m].cpu(), state["answer"][:m].cpu(), seeds, epoch)

    def _ask(self, state: State, real: RealSet, turn: int, seeds: Seeds) -> None:
        """The next picks."""
        rows, room = self._candidates(real, state, turn)
        k, pool = int(state["due"][turn]), self._pool(real)
        if self.query == "random":
            places = room.along(_shuffled(real, rows, seeds), k)
            return self._put(state, rows[places], torch.zeros(k), turn)
        nets = [params_of(_member(state, e)) for e in range(self.nets)]
        if self.query == "kcenter":
            labelled = state["picked"][: int(state["count"])].cpu()
            x = self._seen(pool, nets[0], torch.cat([rows, labelled]), features=True).float()  # [n + m, D]
            places, score = queries.cover(x[: len(rows)], x[len(rows) :], k, room)
        elif self.query == "badge":
            a = queries.surprise(self._seen(pool, nets[0], rows).softmax(1))
            h = self._seen(pool, nets[0], rows, features=True)
            places, score = queries.spread(a, h, k, room, seeds.generator("badge"))
        elif self.query == "bald":
            p = torch.stack([self._seen(pool, net, rows).softmax(1) for net in nets])
            places, score = queries.highest(queries.bald(p), k, room)
        else:
            places, score = queries.highest(UNSURE[self.query](self._seen(pool, nets[0], rows).softmax(1)), k, room)
        return self._put(state, rows[places], score, turn)

    def _seen(self, pool: RealSet, params: State, rows: torch.Tensor, *, features: bool = False) -> torch.Tensor:
        """Logits [n, K] or features [n, D] of some rows in evaluation mode: float64 on the CPU.

        Raises:
            DataError: one that is NaN or infinite; names the row.
        """
        net, found = net_of(self.net, pool), torch.empty(0)
        for start in range(0, len(rows), BLOCK):
            x = pool.draw(rows[start : start + BLOCK])
            part = pieces.features(net, params, x, train=False) if features else pieces.logits(net, params, x)
            if start == 0:
                found = torch.empty(len(rows), part.shape[1], dtype=torch.float64)
            found[start : start + BLOCK] = part
        bad = torch.nonzero(~torch.isfinite(found).all(1)).flatten()
        if len(bad):
            row = int(rows[bad[0]])
            raise DataError(
                f"the network's output for the example with id {int(pool.ids[row])} (row {row} of {pool.name}) is not "
                f"finite, and so for {len(bad)} of {len(rows)} examples; mend or drop it, or lower the learning rate"
            )
        return found


def _total(pool: RealSet, budget: Budget) -> int:
    """How many examples a budget asks for, without a look at how many there are of each class.

    Raises:
        DataError: more than there are.
    """
    total = budget.total(largest_remainder(len(pool), [1] * pool.n_classes), pool.example_bytes)
    if total > len(pool):
        raise DataError(f"{budget} asks for {total} examples but there are {len(pool)}; lower it")
    return total


def _told(state: State, batch: Batch) -> torch.Tensor:
    """The loss that a step found by itself."""
    return batch["loss"]


@lru_cache(maxsize=4)
def _hidden(real: RealSet, names: tuple[str, ...]) -> RealSet:
    """The set without a label column."""
    kept = [c for c in real.table.column_names if c != "label"]
    return dataclasses.replace(real, table=real.table.select(kept), class_names=names)


@lru_cache(maxsize=4)
def _codes(real: RealSet, column: str) -> torch.Tensor:
    """The number of the group of every row: int64 [N]."""
    _, code = np.unique(np.asarray([str(g) for g in group_column(real, column)]), return_inverse=True)
    return torch.from_numpy(code.astype(np.int64))


def _shuffled(real: RealSet, rows: torch.Tensor, seeds: Seeds) -> torch.Tensor:
    """Places of some rows in a random order that depends on their ids and the seed alone: int64 [n] -> [n]."""
    return smallest(keys(real.ids[rows].numpy(), seeds.number("order")), len(rows)) if len(rows) else rows


def _member(state: State, e: int) -> State:
    """The tensors of network e, shared with the state."""
    return {k.removeprefix(f"{e}."): v for k, v in state.items() if k.startswith(f"{e}.")}
