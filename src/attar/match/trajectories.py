"""What trajectory matching starts from, draws from its experts, compares with them and costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import one_hot

from attar.augment import siamese
from attar.budget import Budget
from attar.execute.pieces import BACKWARD, piece_size
from attar.match.chunks import chunks
from attar.match.unroll import unroll
from attar.method import Batch, Cost, Resources, State, positive
from attar.nets.build import build
from attar.nets.fit import activation_bytes, net_of
from attar.nets.net import Params
from attar.optim import Opt
from attar.params.table import decoded, first, made_of
from attar.real.realset import RealSet
from attar.resources.experts import Expert, experts, name_of, snapshot
from attar.seeds import Seeds

SHORT: Mapping[str, Any] = {
    "steps": 300,
    "experts": 4,
    "batch_expert": 1024,
    "lr_expert": 0.02,
    "max_start": 6,
    "expert_epochs": 1,
    "syn_steps": 60,
    "batch_syn": 10,
    "lr_img": 150.0,
    "rate": 0.012,
}
"""The short schedule of trajectory matching, for two CPU cores: pieces of few large batches, which 60 small steps can follow,
from the first six epochs at twice the paper's rate, so that what these learn late is matched, too."""
ROWS = 1024
"""Rows of transforms that an inner step draws; a batch of more kept images begins with them anew."""


def start(real: RealSet, budget: Budget, seeds: Seeds, *, kind: str, rate: float, params: str = "pixels") -> State:
    """The first tensors of what the set is made of, the classes of its images as distributions, and the inner rate.

    Args:
        params: what the set is made of (:mod:`attar.params.table`).

    Returns:
        its tensors, ``label`` int64 [M], ``target`` [M, K] (as a loss must know K) and ``rate``, a scalar.
    """
    state = first(params, real, budget, seeds, kind=kind)
    return {**state, "target": one_hot(state["label"], real.n_classes).float(), "rate": torch.tensor(rate)}


def experts_of(method: Any, **flat: Any) -> tuple[Expert, ...]:
    """The experts that a method's settings name, trained to the last epoch that it looks at (``reach``).

    Args:
        method: anything with ``experts``, ``net``, ``augment``, ``reach``, ``lr_expert``, ``batch_expert``,
            ``batches_expert`` and ``seed_expert``.
        flat: ``rho``, ``alpha`` and ``adaptive`` of those who look for flat valleys.

    Raises:
        UsageError: a setting that trains nothing, by the name that the method has for it.
    """
    positive(batch_expert=method.batch_expert, batches_expert=method.batches_expert)
    return experts(
        method.experts,
        net=method.net,
        epochs=method.reach,
        lr=method.lr_expert,
        batch=method.batch_expert,
        batches=method.batches_expert,
        augment=method.augment,
        seed=method.seed_expert,
        **flat,
    )


def learned(
    *, lr_img: float, lr_lr: float, momentum: float, average: float | None = None, params: str = "pixels"
) -> dict[str, Opt]:
    """The optimisers of what images are made of and of the inner rate, which stays above 0.

    Args:
        average: decay of a moving average of the images, kept beside. params: what the set is made of.
    """
    return {
        **made_of(params).learn(Opt(lr=lr_img, momentum=momentum, average=average)),
        "rate": Opt(lr=lr_lr, momentum=momentum, project=(1e-6, 1e6)),
    }


def course(
    real: RealSet,
    seeds: Seeds,
    res: Resources,
    *,
    experts: int,
    starts: int,
    epochs: int,
    steps: int,
    strategy: str,
    first: int = 0,
) -> Batch:
    """All that is drawn for an update: a piece of an expert's way (:func:`segment`) and a walk beside it (:func:`walk`)."""
    piece = segment(res, seeds, count=experts, starts=starts, epochs=epochs, device=real.device, first=first)
    return {**piece, **walk(strategy, steps, seeds, size=real.shape[1:], device=real.device)}


def missed(
    spec: str,
    batch: Batch,
    image: torch.Tensor,
    target: torch.Tensor,
    rate: torch.Tensor,
    *,
    size: int | None,
    hessian: bool = True,
) -> torch.Tensor:
    """How far from the expert's later weights some steps on the kept images end: :func:`trajectory_distance`.

    Differentiable in ``image``, ``target`` and ``rate``.

    Args:
        spec: the network. batch: from :func:`course`. image: [M, C, H, W]. target: distributions [M, K]. rate: a scalar.
        size: images of a step; None for all. hessian: see :func:`attar.match.unroll.unroll`.
    """
    net = build(spec, channels=image.shape[1], size=(image.shape[2], image.shape[3]), classes=target.shape[1])
    index = chunks(len(image), size, batch["keys"])
    end = unroll(net, batch["begin"], image, target, rate, index=index, ops=batch["augment"], hessian=hessian)
    return trajectory_distance(end, batch["goal"], batch["begin"])


def segment(
    res: Resources, seeds: Seeds, *, count: int, starts: int, epochs: int, device: torch.device, first: int = 0
) -> dict[str, Params]:
    """A piece of an expert's way.

    Args:
        res: with ``count`` experts. epochs: its length.
        starts: the piece begins after ``first`` to ``starts`` - 1 epochs.

    Returns:
        ``begin`` and ``goal``: name -> weight.
    """
    generator = seeds.generator("segment")
    which, epoch = (int(torch.randint(n, (), generator=generator)) for n in (count, starts - first))
    epoch += first
    expert = res[name_of(which)]
    ends = {"begin": snapshot(expert, epoch), "goal": snapshot(expert, epoch + epochs)}
    return {key: {name: value.to(device) for name, value in end.items()} for key, end in ends.items()}


def walk(strategy: str, steps: int, seeds: Seeds, *, size: tuple[int, int], device: torch.device) -> dict[str, object]:
    """The chance in some inner steps: ``keys`` int64 [T] (:mod:`attar.match.chunks`) and ``augment`` [T, R, ...].

    One operation is drawn for all images of a step, each with parameters of its own.

    Args:
        strategy: siamese operations. size: (H, W).
    """
    generator = seeds.generator("walk")
    keys = torch.randint(2**62, (steps,), generator=generator)
    drawn = [siamese.draw(strategy, ROWS, generator, size=size, one_op=True) for _ in range(steps)]
    stacked = {name: torch.stack([ops[name] for ops in drawn]).to(device) for name in drawn[0]}
    return {"keys": keys.to(device), "augment": stacked}


def trajectory_distance(end: Params, goal: Params, begin: Params) -> torch.Tensor:
    """|| end - goal ||^2 / || begin - goal ||^2 over all weights: 1 where nothing moved, 0 where the goal is met."""
    return squared(end, goal) / squared(begin, goal)


def squared(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """|| a - b ||^2, a scalar."""
    return torch.stack([(a[name] - b[name]).square().sum() for name in a]).sum()


def unrolled_cost(
    spec: str,
    real: RealSet,
    budget: Budget,
    *,
    steps: int,
    size: int | None,
    hessian: bool = True,
    params: str = "pixels",
) -> Cost:
    """Estimate of one update through some inner steps: 12 forwards of every image of each (9 without the Hessian).

    Args:
        size: kept images of an inner step; None for all.
        params: what the set is made of.
    """
    net, kept = net_of(spec, real), decoded(params, real, budget)
    batch = min(kept, size or kept)
    weights, pixel_bytes = 4 * net.n_parameters, 4 * real.example_bytes
    piece = piece_size(net, batch, "cpu", most=BACKWARD)
    transforms = 65 * ROWS * steps
    return Cost(
        flops_per_step=2.0 * net.macs * (12 if hessian else 9) * steps * batch,
        memory=weights * (steps + 8)  # experts are read where they are used
        + 3.0 * activation_bytes(net) * piece
        + pixel_bytes * (4 * kept + 8 * batch)
        + 2 * transforms,
    )
