"""Teacher: a network that was trained on all real training examples and labels what others learn from.

It is a resource: made once for all sets, seeds and students, by the loop and in the cache of :mod:`attar.resources`, on
the training split alone. Its recipe is ours: the epochs of the protocol ``full`` (about 2,500 updates), the resource's own SGD
(rate .01 along a cosine, momentum .9, decay 5e-4, batch 256), without augmentation. Published teachers were trained longer;
labels of a better one give higher scores, to random examples too: ``teacher_epochs`` trains longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from attar.errors import UsageError
from attar.evaluate.presets import resolve
from attar.execute.pieces import logits
from attar.execute.plan import Plan
from attar.execute.progress import Progress
from attar.nets import Net, Params, Spec
from attar.nets.fit import net_of
from attar.real.realset import RealSet
from attar.resources.build import identify, made
from attar.resources.network import TrainedNetwork


@dataclass(frozen=True, eq=False)
class Teacher:
    """A network in evaluation mode.

    Args:
        net: its architecture. params: its weights, on the device of the students.
        identity: what its weights depend on, as JSON.
    """

    net: Net
    params: Params
    identity: Mapping[str, Any]

    @torch.no_grad()
    def __call__(self, x: torch.Tensor, temperature: float) -> torch.Tensor:
        """softmax(logits / temperature) of images as the student sees them: [B, C, H, W] -> [B, K]."""
        first = self.params[self.net.trainable[0]]
        return (logits(self.net, self.params, x.to(first.device, first.dtype)) / temperature).softmax(1)

    @property
    def bytes(self) -> int:
        """Of its weights."""
        return sum(v.numel() * v.element_size() for v in self.params.values())


def schooling(spec: Spec, real: RealSet, epochs: int | None = None) -> tuple[Net, TrainedNetwork]:
    """The architecture of a teacher and how it is trained on a real set, for the epochs of ``full`` where none are given.

    Raises:
        UsageError: an unknown network, or one that is no name, under which nothing could be kept.
    """
    if not isinstance(spec, str):
        raise UsageError("a teacher is kept under the name of its network; name one, as in teacher='resnet18'")
    net = net_of(spec, real)
    name = net.name if net.source is None else spec
    return net, TrainedNetwork(net=name, epochs=resolve("full", real).epochs if epochs is None else epochs)


def trained(spec: Spec, real: RealSet, *, epochs: int | None = None, plan: Plan, progress: Progress) -> Teacher:
    """The teacher of an architecture for a real training set, from the cache or made.

    Raises:
        UsageError: as :func:`schooling`.
    """
    net, resource = schooling(spec, real, epochs)
    params = made(resource, real.on(plan.device), {}, seed=0, plan=plan, progress=progress)
    params = {name: value.to(plan.device) for name, value in params.items()}
    return Teacher(net, params, identify(resource, real, 0, plan))
