"""Trains one network on a set, and counts what it gets right.

The gradient of a batch is taken in pieces (:mod:`attar.execute.pieces`), which compile. With a teacher the loss is the cross
entropy of softmax(student / T) against softmax(teacher / T): the divergence KL(teacher || student) of the papers and the
teacher's entropy, which no weight moves, so that the gradients are theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from attar.errors import DataError
from attar.evaluate.batches import batches, check_teacher, of_mean_one, targets
from attar.evaluate.optimiser import optimiser
from attar.evaluate.protocol import Protocol
from attar.evaluate.teacher import Teacher
from attar.execute.pieces import BACKWARD, logits, piece_size, weight_gradient
from attar.execute.progress import Progress
from attar.nets import Net, Params
from attar.real.realset import RealSet
from attar.seeds import Seeds


class Broken(DataError):
    """A training whose loss or weights became infinite or NaN."""


def train(
    net: Net,
    images: torch.Tensor | RealSet,
    labels: torch.Tensor,
    *,
    protocol: Protocol,
    seeds: Seeds,
    weight: torch.Tensor | None = None,
    teacher: Teacher | None = None,
    progress: Progress | None = None,
    watch: Callable[[Params], None] | None = None,
) -> Params:
    """Trains a fresh network.

    Args:
        images: [M, C, H, W] in the normalised space; or a real set, whose images are normalised batch by batch.
        labels: int64 [M], or distributions [M, K], on the device to train on.
        seeds: initial weights, order of examples, augmentation and dropout depend on these and the epoch alone.
        weight: [M], scaled to mean 1; None weighs all alike.
        teacher: labels every batch in place of ``labels``, where the protocol says so.
        progress: advanced by one for every epoch.
        watch: called with the parameters at the epochs where ``protocol`` looks at the test set.

    Returns:
        Parameters and buffers of the last epoch.

    Raises:
        Broken: loss or weights became infinite or NaN.
        DataError: a batch of one image, and a batch norm over a map of one pixel.
        UsageError: a teacher who is not there, or one whom the protocol does not ask.
    """
    check_teacher(protocol, teacher)
    params = net.init(seeds.at("init"), labels.device)
    size = piece_size(net, min(len(labels), protocol.batch), labels.device, most=BACKWARD)
    rule = optimiser(protocol, net)
    moments = rule.start(params)
    w = of_mean_one(weight, labels, params[net.trainable[0]].dtype)
    y = targets(labels, protocol, classes=net.classes, dtype=w.dtype)
    temperature = 1.0 if teacher is None else protocol.temperature
    for epoch in range(protocol.passes):
        if epoch == protocol.drop:
            moments = rule.start(params)
        losses = []
        with seeds.globally("dropout", epoch), _alone(protocol):
            for b in batches(images, y, w, protocol=protocol, seeds=seeds, epoch=epoch, teacher=teacher):
                if protocol.unmixed and net.has_batch_statistics:
                    _meet(net, params, b.plain)
                loss, grads = weight_gradient(net, params, b.x, b.y, b.w / len(b.w), size=size, temperature=temperature)
                rule.update(params, moments, grads, protocol.rate(epoch, b.share))
                losses.append(loss)
        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            raise _broken("loss", epoch, protocol)
        if progress is not None:
            progress.advance(1, loss=mean)
        if watch is not None and protocol.looks(epoch):
            watch(params)
    if not all(bool(torch.isfinite(params[name]).all()) for name in net.trainable):
        raise _broken("weights", protocol.passes - 1, protocol)
    return params


@contextmanager
def _alone(protocol: Protocol) -> Iterator[None]:
    """Turns torch's refusal of a batch without a spread into a sentence."""
    try:
        yield
    except ValueError as e:
        if "more than 1 value per channel" not in str(e):
            raise
        raise DataError(
            f"a batch of protocol '{protocol.name}' ({protocol.batch} images, the last what is left) holds one image, of which a "
            "batch norm over a map of one pixel has no spread; keep another number of rows, or a network without batch norms"
        ) from e


@torch.no_grad()
def _meet(net: Net, params: Params, x: torch.Tensor) -> None:
    """Moves the running statistics of batch norms by a batch, and nothing else."""
    net(params, x, train=True)


def _broken(what: str, epoch: int, protocol: Protocol) -> Broken:
    return Broken(
        f"training by protocol '{protocol.name}' broke in epoch {epoch + 1} of {protocol.passes}: the {what} became NaN or "
        f"infinite; look for extreme values in the images, or lower the learning rate of {protocol.lr:g}"
    )


@torch.no_grad()
def accuracy(net: Net, params: Params, test: RealSet, *, batch: int = 256) -> float:
    """The share of a set that a network in evaluation mode gets right, in [0, 1].

    Args:
        test: in the normalised space that the network was trained in.
        batch: images of one forward; it changes time and memory alone.
    """
    first = params[net.trainable[0]]
    right = 0
    for index in torch.arange(len(test)).split(batch):
        x = test.draw(index).to(first.device, first.dtype)
        found = logits(net, params, x).argmax(1)  # [B]
        right += int((found == test.labels[index].to(first.device)).sum())
    return right / len(test)
