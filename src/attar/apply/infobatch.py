"""Pruning while training. Ziheng Qin, Kai Wang, Zangwei Zheng, Jianyang Gu, Xiangyu Peng, Zhaopan Xu, Daquan Zhou, Lei
Shang, Baigui Sun, Xuansong Xie and Yang You, InfoBatch: lossless training speed up by unbiased dynamic data pruning, ICLR
2024, arXiv 2303.04947.

In every epoch leave out a random share r of the examples whose loss is below the mean, and let those of them that stay count
for the absent ones; in the last epochs see everything.

    kept_t = all with loss_i >= mean, and (1 - r) of the n_low others;    w_i = n_low / (n_low kept) for these, else 1

so that each example's expected weight is 1, and the expected sum of w_i g_i is the sum of all gradients.

Differs from official code: it weighs by 1 / (1 - r) though the number kept is rounded; here the weights add up exactly.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import torch

from attar.apply.loader import Chosen
from attar.errors import DataError, UsageError
from attar.method import positive
from attar.seeds import Seeds


class InfoBatch:
    """What ``refresh`` of a :class:`~attar.apply.loader.WeightedLoader` takes with ``every=1``; tell it each batch's losses.

        pruning = InfoBatch(len(dataset), epochs=100)
        loader = attar.WeightedLoader(dataset, refresh=pruning, every=1)
        for x, y, w in loader:
            losses = cross_entropy(model(x), y, reduction="none")
            pruning.told(loader.ids, losses)
            (losses * w).mean().backward()

    The loss is the mean of w l, not that over sum w, which would take the weights' effect away again.

    Args:
        n: examples of the dataset.
        epochs: of the whole training.
        prune: r, in [0, 1).
        anneal: share of the epochs, the last ones, that see everything; rounded up.
        seed: of what is left out.
    """

    def __init__(self, n: int, *, epochs: int, prune: float = 0.5, anneal: float = 0.125, seed: int = 0) -> None:
        positive(n=n, epochs=epochs)
        if not 0 <= prune < 1:
            raise UsageError(f"prune={prune} is not a share in [0, 1); try 0.5")
        if not 0 <= anneal <= 1:
            raise UsageError(f"anneal={anneal} is not a share in [0, 1]; try 0.125")
        self.epochs, self.prune, self.anneal, self.seed = epochs, prune, anneal, seed
        self.loss = torch.full((n,), torch.inf)  # of each example when it was last seen; never seen: never left out

    def told(self, ids: torch.Tensor, losses: torch.Tensor) -> None:
        """Notes the losses of a batch: int64 [B], float [B].

        Raises:
            DataError: a loss that is not finite, not one for each id, or of an id that is unknown.
        """
        ids, found = torch.as_tensor(ids).cpu(), losses.detach().float().cpu()
        if found.shape != ids.shape or ids.ndim != 1:
            raise DataError(
                f"losses of shape {list(found.shape)} beside ids of shape {list(ids.shape)}; give one loss for each example "
                "(reduction='none')"
            )
        strange = ids[(ids < 0) | (ids >= len(self.loss))]
        if len(strange):
            raise DataError(f"id {int(strange[0])} is none of the {len(self.loss)} examples; give the loader's ids")
        bad = torch.nonzero(~found.isfinite()).flatten()
        if len(bad):
            raise DataError(
                f"the loss of example {int(ids[bad[0]])} is {float(found[bad[0]])}; lower the learning rate or mend it"
            )
        self.loss[ids] = found

    def __call__(self, epoch: int) -> Chosen:
        """The examples of an epoch and their weights."""
        n, weight = len(self.loss), torch.ones(len(self.loss))
        known = self.loss.isfinite()
        if epoch >= self.epochs - math.ceil(Fraction(str(self.anneal)) * self.epochs) or not known.any():
            return Chosen(torch.arange(n), weight)
        low = torch.nonzero(self.loss < self.loss[known].double().mean()).flatten()
        order = torch.randperm(len(low), generator=Seeds(self.seed).generator("prune", epoch))
        stay = low[order[: max(1, round((1 - self.prune) * len(low)))]] if len(low) else low
        weight[low] = 0.0
        weight[stay] = len(low) / max(1, len(stay))
        ids = torch.nonzero(weight).flatten()
        return Chosen(ids, weight[ids])

    def state_dict(self) -> dict[str, Any]:
        """The losses; all else is said when it is made."""
        return {"loss": self.loss.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with the losses of a saved one.

        Raises:
            DataError: it was of another number of examples.
        """
        if state["loss"].shape != self.loss.shape:
            raise DataError(
                f"the saved losses are of {state['loss'].numel()} examples but there are {len(self.loss)}; load the state "
                "of a training on the same examples"
            )
        self.loss = state["loss"].clone()
