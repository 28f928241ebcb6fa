"""Selections by the gradients of the network that is being trained, renewed on the way.

As the training loops of CORDS (Killamsetty, Bhat, Ramakrishnan and Iyer 2021) do for GLISTER, GradMatch and CRAIG: every R
epochs the network as it stands is shown all examples once, and the method chooses by its last-layer gradients.

    refresh = by_gradients("gradmatch", model, dataset, Budget(fraction=0.1))
    loader = attar.WeightedLoader(dataset, batch=128, refresh=refresh, every=20)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import torch
from torch import nn
from torch.utils.data import DataLoader

from attar import registry
from attar.apply.loader import Chosen
from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.method import Method
from attar.real.realset import RealSet
from attar.resources.gradients import Gradients, parts
from attar.resources.resource import needed
from attar.seeds import Seeds


def by_gradients(
    method: str | Method,
    model: nn.Module,
    dataset: Any,
    budget: Budget,
    *,
    head: str | None = None,
    seed: int = 0,
    batch: int = 256,
) -> Callable[[int], Chosen]:
    """What ``refresh`` of a :class:`~attar.apply.loader.WeightedLoader` takes: the choice of the model as it then is.

    Args:
        method: ``glister``, ``gradmatch``, ``craig``, ``grand`` or another that needs the gradients of one network alone.
        model: (x [B, ...]) -> logits [B, K]; it is looked at in evaluation mode, and left as it was.
        dataset: map-style, items (x, label).
        head: name of the linear layer that gives the logits; left out, the last one.
        seed: of what is random in a method: who judges in GLISTER.
        batch: examples of one forward.

    Raises:
        UsageError: a method that needs something else, or a model without a linear layer.
        DataError: when it is called, of a label for which the model has no logit.
    """
    made = _one_network(method) if isinstance(method, str) else method
    asks = needed(made)
    gradients = [r for r in asks if isinstance(r, Gradients)]
    if made.kind != "select" or len(gradients) != 1 or any(not isinstance(r, Gradients) for r in made.needs()):
        raise UsageError(
            f"method '{method if isinstance(method, str) else registry.name_of(type(made))}' does not choose by the gradients "
            "of one network; take glister, gradmatch or craig, or write a function of your own as refresh"
        )
    asked, layer = gradients[0], linear(model, head)

    def refresh(epoch: int) -> Chosen:
        logits, hidden, labels = seen(model, layer, dataset, batch)
        _check(labels, logits.shape[1])
        real = examples(labels, logits.shape[1])
        judges = torch.zeros(len(labels), dtype=torch.bool)
        judges[parts(real, asked.held, seed)[1]] = True
        res = {asked.name: {**asked.kept(logits, hidden, labels), "held": judges}}
        state = made.init(real, budget, Seeds(seed).at("refresh", epoch), res)
        rows = made.finish(state, res)
        assert rows.picked is not None  # a selector
        return Chosen(rows.picked, torch.ones(len(rows)) if rows.weight is None else rows.weight)

    return refresh


def _one_network(name: str) -> Method:
    """A method of that name that looks at one network, where it would average over several."""
    kind = registry.find(name)
    return kind(**({"networks": 1} if "networks" in kind.__dataclass_fields__ else {}))


def _check(labels: torch.Tensor, k: int) -> None:
    wrong = torch.nonzero((labels < 0) | (labels >= k)).flatten()
    if len(wrong):
        raise DataError(
            f"example {int(wrong[0])} of the dataset has the label {int(labels[wrong[0]])}, but the model has logits for the "
            f"classes 0 to {k - 1}; number the classes from 0, or give the model as many outputs"
        )


def linear(model: nn.Module, head: str | None) -> nn.Linear:
    """The layer of that name, or the last linear one.

    Raises:
        UsageError: there is none.
    """
    found = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    if not found or (head is not None and head not in found):
        what = f"linear layer '{head}'" if head is not None else "linear layer"
        raise UsageError(f"{type(model).__name__} has no {what}; it has {', '.join(found) or 'none'}; name one as head")
    return found[head] if head is not None else list(found.values())[-1]


@torch.no_grad()
def seen(model: nn.Module, layer: nn.Linear, dataset: Any, batch: int) -> tuple[torch.Tensor, ...]:
    """What a model makes of all examples: logits [N, K], what its last layer sees [N, D], labels int64 [N]; on the CPU.

    Raises:
        UsageError: the layer is not called with [B, D], or does not give as many numbers as there are logits.
    """
    device = layer.weight.device
    found: list[list[torch.Tensor]] = [[], [], []]
    with evaluated(model), tapped(layer) as inputs:
        for x, y, *_ in DataLoader(dataset, batch_size=batch, generator=torch.Generator()):
            z = model(x.to(device))
            if not inputs or inputs[-1].ndim != 2 or z.shape[1:] != (layer.out_features,):
                raise UsageError(
                    f"the logits of {type(model).__name__} do not come from the layer {layer} that is looked at, in evaluation "
                    "mode; name the one that they come from as head"
                )
            values = z, inputs.pop(), y
            for part, value in zip(found, values):
                part.append(value.cpu())
    logits, hidden, labels = (torch.cat(part) for part in found)
    return logits.float(), hidden.flatten(1).float(), labels.long()


@contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; every module has its own mode again afterwards."""
    before = {m: m.training for m in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for m, training in before.items():
            m.training = training


@contextmanager
def tapped(layer: nn.Module) -> Iterator[list[torch.Tensor]]:
    """The input of a layer at its last call, in a list."""
    inputs: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach()))
    try:
        yield inputs
    finally:
        hook.remove()


def examples(labels: torch.Tensor, k: int) -> RealSet:
    """Labels as a real set whose ids are positions; its images are one pixel, which no method of gradients looks at."""
    n = len(labels)
    return RealSet(
        name="the dataset",
        table=pa.table({"label": labels.numpy()}),
        images=torch.zeros(1, 1, 1, 1, dtype=torch.uint8),
        rows=torch.zeros(n, dtype=torch.int64),
        ids=torch.arange(n),
        class_names=tuple(map(str, range(k))),
        mean=(0.0,),
        std=(1.0,),
    )
