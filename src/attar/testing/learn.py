"""The check that asks whether a network learns more from what was made than from random real examples."""

from __future__ import annotations

import dataclasses

import torch

from attar.budget import Budget
from attar.evaluate.baseline import random_examples
from attar.evaluate.protocol import Protocol
from attar.evaluate.train import accuracy, train
from attar.method import Method
from attar.nets.build import build
from attar.real.realset import RealSet
from attar.seeds import Seeds
from attar.testing.toys import toy
from attar.testing.trial import fresh, require, resources

STEPS, BATCH, SEEDS = 60, 16, 5
NET = "convnet:width=16:depth=1"
PROTOCOL = Protocol(name="short", epochs=40, lr=0.02, batch=64)


def beats_random(method: Method) -> None:
    """One image a class that the method makes teaches a small network more than a random real one does.

    Settings ``steps`` and ``batch``, where the method has them, are raised to 60 and 16.
    """
    names = {f.name for f in dataclasses.fields(method)}
    method = dataclasses.replace(method, **{k: v for k, v in {"steps": STEPS, "batch": BATCH}.items() if k in names})
    real, test = toy((40, 40, 40), noise=160.0), toy((80, 80, 80), noise=160.0, draw=1)
    test = test.normalised_as(real)
    state = fresh(method, real, Budget(ipc=1)).states[0]
    rows = method.finish(state, resources(method, real))
    made = taught(real, test, [(rows.columns["image"], rows.columns["label"])] * SEEDS)
    chance = taught(real, test, [random_examples(real, [1] * real.n_classes, Seeds(s)) for s in range(SEEDS)])
    require(made > chance, f"accuracy {made:.3f} after learning from what was made, {chance:.3f} from random examples")


def taught(real: RealSet, test: RealSet, lessons: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Mean test accuracy of one fresh network for each lesson."""
    net = build(NET, channels=real.shape[0], size=real.shape[1:], classes=real.n_classes)
    found = []
    for seed, (images, labels) in enumerate(lessons):
        params = train(net, images, labels, protocol=PROTOCOL, seeds=Seeds(seed))
        found.append(accuracy(net, params, test))
    return sum(found) / len(found)
