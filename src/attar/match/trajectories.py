"""What trajectory matching draws from its experts, and how far an end is from theirs."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from attar.augment import siamese
from attar.execute.pieces import BACKWARD, piece_size
from attar.method import Cost, Resources
from attar.nets.fit import activation_bytes
from attar.nets.net import Net, Params
from attar.resources.experts import name_of, snapshot, snapshot_bytes
from attar.seeds import Seeds

ROWS = 1024
"""Rows of transforms that an inner step draws; a batch of more kept images begins with them anew."""


def segment(
    res: Resources, seeds: Seeds, *, count: int, starts: int, epochs: int, device: torch.device
) -> dict[str, Params]:
    """A piece of an expert's way.

    Args:
        res: with ``count`` experts. starts: the piece begins after 0 to ``starts`` - 1 epochs. epochs: its length.

    Returns:
        ``begin`` and ``goal``: name -> weight.
    """
    generator = seeds.generator("segment")
    which, epoch = (int(torch.randint(n, (), generator=generator)) for n in (count, starts))
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


def unrolled_cost(net: Net, *, steps: int, batch: int, kept: int, experts: int, epochs: int, hessian: bool) -> Cost:
    """Estimate of one update through some inner steps: 12 forwards of every image of each (9 without the Hessian).

    Args:
        batch: kept images of an inner step. kept: M. experts, epochs: what is held of them.
    """
    weights, pixels = 4 * net.n_parameters, 4 * net.channels * net.size[0] * net.size[1]
    piece = piece_size(net, batch, "cpu", most=BACKWARD)
    transforms = 65 * ROWS * steps
    return Cost(
        flops_per_step=2.0 * net.macs * (12 if hessian else 9) * steps * batch,
        memory=weights * (steps + 8)
        + 3.0 * activation_bytes(net) * piece
        + pixels * (4 * kept + 8 * batch)
        + 2 * transforms
        + experts * snapshot_bytes(net.n_parameters, epochs),
    )
