"""A selection in one's own training loop: a torch subset, and a loader whose batches bring their weights with them.

    loader = attar.WeightedLoader(dataset, "kept", batch=128, seed=0)
    for epoch in range(loader.epoch, 100):
        for x, y, w in loader:
            loss = weighted_mean(cross_entropy(model(x), y, reduction="none"), w)

The order of an epoch is a function of (seed, epoch) alone, and ``state_dict`` holds what else a training needs to go on in the
middle of one. ``dataset`` is the one that was selected from: ids are positions in it before any split or shuffle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, Subset

from attar.condensed import Condensed, open_condensed
from attar.errors import DataError, UsageError
from attar.method import positive
from attar.seeds import Seeds


class Chosen(NamedTuple):
    """Which examples of a dataset, int64 [M], and how much each counts, float32 [M]."""

    ids: torch.Tensor
    weight: torch.Tensor


Kept = Condensed | str | Path | tuple[Any, Any]
"""A selection: a Condensed or its folder, or (ids, weights) with None for equal weights."""
Refresh = Callable[[int], tuple[Any, Any]]
"""Epoch -> (ids, weights) to train on from then on."""


def chosen(kept: Kept, n: int) -> Chosen:
    """The ids and weights of a selection out of a dataset of n examples.

    Raises:
        UsageError: a synthetic set, which has no examples in the dataset.
        DataError: an id that the dataset does not have, or a weight that is negative or not finite.
    """
    kept = open_condensed(kept) if isinstance(kept, (str, Path)) else kept
    if isinstance(kept, Condensed):
        if kept.kind != "subset":
            raise UsageError("a synthetic set holds no examples of a dataset; train on it as it is: it is one itself")
        kept = torch.from_numpy(kept.table["source_id"].to_numpy().copy()), kept.weight
    ids = torch.as_tensor(kept[0]).flatten()
    if ids.is_floating_point() and len(ids):
        raise DataError(f"ids are {ids.dtype} (the first is {float(ids[0])}); give whole numbers")
    ids = ids.long()
    weight = torch.ones(len(ids)) if kept[1] is None else torch.as_tensor(kept[1], dtype=torch.float32).flatten()
    if len(weight) != len(ids) or not len(ids):
        raise DataError(f"{len(ids)} ids have {len(weight)} weights; give one weight for each, and one id at least")
    if int(ids.min()) < 0 or int(ids.max()) >= n:
        raise DataError(
            f"the selection holds id {int(ids.max() if ids.min() >= 0 else ids.min())} but the dataset has {n} examples; "
            "give the dataset that was selected from, whole and in its own order"
        )
    bad = torch.nonzero(~((weight >= 0) & weight.isfinite())).flatten()
    if len(bad) or not float(weight.sum()) > 0:
        raise DataError(
            f"the weight of id {int(ids[bad[0]])} is {float(weight[bad[0]])}; weights must be finite and at least 0"
            if len(bad)
            else "all weights are 0; one at least must be larger"
        )
    return Chosen(ids, weight)


def subset(kept: Kept, dataset: Dataset[Any]) -> Subset[Any]:
    """The chosen examples as a torch dataset, in the order of the selection; weights stay behind.

    Args:
        kept: what ``attar select`` made, or (ids, None).
        dataset: the one that was selected from, map-style.

    Raises:
        AttarError: see :func:`chosen`.
    """
    return Subset(dataset, chosen(kept, len(dataset)).ids.tolist())  # type: ignore[arg-type]  # map-style


def weighted_mean(losses: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """sum_i w_i l_i / sum_i w_i: float [B], [B] -> scalar; 0 where all weights of a batch are 0."""
    total = weight.sum()
    return (losses * weight).sum() / torch.where(total > 0, total, 1.0)


class Weighted(Dataset[Any]):
    """The chosen examples, each with its weight behind what the dataset gives: (x, y) -> (x, y, w)."""

    def __init__(self, dataset: Dataset[Any], kept: Chosen) -> None:
        self.dataset, self.kept = dataset, kept

    def __len__(self) -> int:
        return len(self.kept.ids)

    def __getitem__(self, place: int) -> tuple[Any, ...]:
        item = self.dataset[int(self.kept.ids[place])]
        return (*(item if isinstance(item, (tuple, list)) else (item,)), self.kept.weight[place])


class WeightedLoader:
    """Shuffled batches (x, y, w) of the chosen examples; every epoch has each of them once.

    An iteration is one epoch, or what is left of one that was broken off or loaded. While a batch is at work, ``epoch`` and
    ``step`` are those of the next one, and ``ids`` are its own ids, int64 [B].

    Args:
        dataset: map-style; items are (x, y), or any tuple, or one thing.
        kept: see :data:`Kept`; None where ``refresh`` gives the first selection too.
        batch: largest batch; the batches of an epoch differ by one at most.
        seed: of the order of every epoch.
        refresh: called with the epoch at the start of every ``every``-th one, the 0th only where ``kept`` is None.
        every: R.
        workers: processes that read. collate: of torch's DataLoader.

    Raises:
        AttarError: see :func:`chosen`.

    Example:
        >>> pairs = [(torch.tensor([float(i)]), i % 2) for i in range(6)]
        >>> loader = WeightedLoader(pairs, ([1, 4, 5], [1.0, 2.0, 0.5]), batch=2)
        >>> sorted(float(w) for x, y, w in loader for w in w)
        [0.5, 1.0, 2.0]
    """

    def __init__(
        self,
        dataset: Any,
        kept: Kept | None = None,
        *,
        batch: int = 128,
        seed: int = 0,
        refresh: Refresh | None = None,
        every: int = 20,
        workers: int = 0,
        collate: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        positive(batch=batch, every=every)
        if kept is None and refresh is None:
            raise UsageError("nothing says what to train on; give a selection, or refresh to make one, or both")
        self.dataset, self.batch, self.seed, self.every = dataset, batch, seed, every
        self.refresh, self.workers, self.collate = refresh, workers, collate
        self.chosen = None if kept is None else chosen(kept, len(dataset))
        self.epoch = self.step = 0
        self.ids = torch.zeros(0, dtype=torch.int64)

    def __len__(self) -> int:
        """Batches of an epoch of the present selection."""
        return 0 if self.chosen is None else -(-len(self.chosen.ids) // self.batch)

    def __iter__(self) -> Iterator[Any]:
        if self.refresh is not None and self.step == 0 and self._due():
            self.chosen = chosen(self.refresh(self.epoch), len(self.dataset))
        assert self.chosen is not None  # refused when the loader was made
        epoch, kept, parts = self.epoch, self.chosen, self._parts(self.chosen)
        left = parts[self.step :]
        reader = DataLoader(
            Weighted(self.dataset, kept),
            batch_sampler=[part.tolist() for part in left],
            num_workers=self.workers,
            collate_fn=self.collate,
            generator=Seeds(self.seed).generator("workers", epoch),  # else torch asks the global one
        )
        for i, (part, values) in enumerate(zip(left, reader), len(parts) - len(left) + 1):
            self.epoch, self.step = (epoch + 1, 0) if i == len(parts) else (epoch, i)
            self.ids = kept.ids[part]
            yield values

    def state_dict(self) -> dict[str, Any]:
        """Where the training stands; load it into a loader of the same arguments."""
        ids, weight = self.chosen if self.chosen is not None else (None, None)
        return {
            "epoch": self.epoch,
            "step": self.step,
            "seed": self.seed,
            "batch": self.batch,
            "ids": ids,
            "weight": weight,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where the state was taken.

        Raises:
            UsageError: the state of a loader with another seed or batch.
        """
        for name in ("seed", "batch"):
            if state[name] != getattr(self, name):
                raise UsageError(
                    f"the saved loader had {name}={state[name]}, this one has {name}={getattr(self, name)}; make it alike"
                )
        self.epoch, self.step = state["epoch"], state["step"]
        self.chosen = None if state["ids"] is None else chosen((state["ids"], state["weight"]), len(self.dataset))

    def _due(self) -> bool:
        """Whether this epoch begins with a new selection."""
        return self.chosen is None or (self.epoch > 0 and self.epoch % self.every == 0)

    def _parts(self, kept: Chosen) -> list[torch.Tensor]:
        """The places of every batch of the epoch."""
        order = torch.randperm(len(kept.ids), generator=Seeds(self.seed).generator("epoch", self.epoch))
        return list(order.tensor_split(-(-len(order) // self.batch)))
