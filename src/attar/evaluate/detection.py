"""How well a small detector learns from chosen images: a heat map of box centres on a small convolutional network.

Zhou, Wang and Kraehenbuehl, Objects as Points, 2019 (arXiv 1904.07850): every class has a map that is 1 at the centres of
its boxes, with a bell around (as wide and high as the box, Liu et al., TTFNet, AAAI 2020); at the centres the size of the box
and what rounding took from its centre are regressed. A peak of the map is a detection; no anchors, no suppression.

    heat  = - 1/n sum of (1 - p)^2 log p at centres, (1 - y)^4 p^2 log(1 - p) elsewhere      n boxes, y the bells
    loss  = heat + .1 |size - w, h| + |offset - rest|                                         means over boxes, in cells

AP50 is COCO's: of every class, mean over recall 0, .01 ... 1 of the best precision at that recall or above; a detection is
right where it overlaps a box that no better one took by half or more of their union; those that fall on crowds do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import interpolate, l1_loss, logsigmoid, max_pool2d, relu

from attar.errors import DataError, UsageError
from attar.real.objects import DETECTION, Objects, objects_of
from attar.real.realset import RealSet
from attar.seeds import Seeds

STRIDE = 4
"""Pixels of a cell of the maps."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """How the detector is trained; the same for every selection, whatever its size.

    Args:
        steps: updates. batch: images of one. lr: Adam's rate, falling to 0 along a cosine after a tenth of warming up.
        width: channels of the first layer. top: detections of an image.
    """

    steps: int = 300
    batch: int = 8
    lr: float = 2e-3
    width: int = 16
    top: int = 100


class Found(NamedTuple):
    """Detections of one image, the surest first: box float [k, 4] x y w h in pixels, category int64 [k], score [k]."""

    box: torch.Tensor
    category: torch.Tensor
    score: torch.Tensor


class Detector(nn.Module):
    """[B, C, H, W] -> maps [B, K + 4, H / 4, W / 4]: K logits, size (w, h) and offset (x, y) in cells."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.stem = nn.Sequential(_layer(channels, width, 2), _layer(width, 2 * width, 2), _layer(2 * width, 2 * width))
        self.deep = nn.Sequential(
            _layer(2 * width, 4 * width, 2), _layer(4 * width, 4 * width, 2), _layer(4 * width, 4 * width)
        )
        self.join = nn.Sequential(_layer(6 * width, 4 * width), nn.Conv2d(4 * width, classes + 4, 1))
        last = self.join[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.normal_(last.weight, std=1e-2)
        nn.init.constant_(last.bias, 0.0)
        last.bias.data[
            :classes
        ] = -2.19  # a probability of .1 everywhere, so that the many empty cells do not rule at first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The maps."""
        near = self.stem(x)  # [B, 2 width, H / 4, W / 4]
        far = interpolate(self.deep(near), size=near.shape[2:], mode="nearest")
        return self.join(torch.cat([near, far], 1))


def _layer(c: int, d: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c, d, 3, stride, 1, bias=False), nn.GroupNorm(4, d), nn.ReLU())


def scored(
    train: RealSet, picked: Sequence[int], test: RealSet, *, seed: int = 0, course: Course | None = None
) -> dict[str, Any]:
    """AP50 on the test split of a detector trained on some images.

    Args:
        train: a detection set. picked: positions in it.
        test: in the same pixels and classes, looked at once, after training.
        seed: of weights, batches and mirrors.

    Returns:
        ``ap50`` in [0, 1], and ``per_class`` by name, None for a class without test objects.

    Raises:
        UsageError: no detection set, or no images.
    """
    if train.task != DETECTION or not len(picked):
        raise UsageError(
            f"{train.name} with {len(picked)} chosen images trains no detector; give images of a detection set"
        )
    course = course or Course()
    net = trained(train.subset(torch.as_tensor(picked, dtype=torch.int64)), course, Seeds(seed).at("detector"))
    found = detected(net, test, course)
    each = average_precisions(
        found, objects_of(test.table), train.n_classes, crowds=objects_of(test.table, crowds=True)
    )
    known = [v for v in each if v is not None]
    if not known:
        raise DataError(f"the test split of {test.name} holds no objects, so nothing can be measured on it")
    return {"ap50": sum(known) / len(known), "per_class": dict(zip(train.class_names, each))}


def trained(real: RealSet, course: Course, seeds: Seeds) -> Detector:
    """A detector trained on all images of a set, a pure function of (set, course, seeds)."""
    with seeds.globally("weights"):
        net = Detector(real.shape[0], real.n_classes, course.width).to(real.device)
    opt = torch.optim.Adam(net.parameters(), lr=course.lr)
    found, order = objects_of(real.table), seeds.generator("order")
    queue = torch.empty(0, dtype=torch.int64)
    for step in range(course.steps):
        for group in opt.param_groups:
            group["lr"] = course.lr * _rate(step / course.steps)
        while len(queue) < course.batch:  # every image once before any comes again
            queue = torch.cat([queue, torch.randperm(len(real), generator=order)])
        index, queue = queue[: course.batch], queue[course.batch :]
        x, some = mirrored(real.draw(index), _of(found, index), torch.rand(len(index), generator=order) < 0.5)
        opt.zero_grad(set_to_none=True)
        loss(net(x), some, net.classes).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        opt.step()
    return net


def _rate(done: float) -> float:
    """Warm-up over a tenth, then a cosine to 0."""
    return done / 0.1 if done < 0.1 else 0.5 * (1 + float(torch.cos(torch.tensor((done - 0.1) / 0.9 * torch.pi))))


def _of(found: Objects, index: torch.Tensor) -> Objects:
    """The objects of the images at ``index`` (int64 [B]), their images numbered 0 to B - 1."""
    rows = [torch.nonzero(found.image == i).flatten() for i in index]
    image = torch.repeat_interleave(torch.arange(len(index)), torch.tensor([len(r) for r in rows]))
    every = torch.cat(rows)
    return Objects(image, found.box[every], found.category[every])


def mirrored(x: torch.Tensor, some: Objects, flip: torch.Tensor) -> tuple[torch.Tensor, Objects]:
    """Images [B, C, H, W] and their objects, those of ``flip`` (bool [B]) left to right."""
    image = torch.where(flip.to(x.device)[:, None, None, None], x.flip(3), x)
    box = some.box.clone()
    turned = flip[some.image]
    box[turned, 0] = x.shape[3] - box[turned, 0] - box[turned, 2]
    return image, some._replace(box=box)


def targets(some: Objects, size: tuple[int, int, int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The bells [B, K, h, w] of some objects, their cells int64 [O] (y * w + x), and size and offset in cells [O, 4].

    Args:
        size: (B, K, h, w) of the maps.
    """
    b, k, h, w = size
    x, y, bw, bh = (some.box / STRIDE).to(torch.float32).unbind(1)  # [O] each, in cells
    cx, cy = x + bw / 2, y + bh / 2
    ix, iy = cx.floor().clamp(0, w - 1), cy.floor().clamp(0, h - 1)
    bells = torch.zeros(b, k, h, w)
    across = torch.exp(
        -(((torch.arange(w)[None] - ix[:, None]) / (bw / 12).clamp(min=0.7)[:, None]) ** 2) / 2
    )  # [O, w]
    down = torch.exp(-(((torch.arange(h)[None] - iy[:, None]) / (bh / 12).clamp(min=0.7)[:, None]) ** 2) / 2)  # [O, h]
    for i, c, bell in zip(some.image.tolist(), some.category.tolist(), down[:, :, None] * across[:, None]):
        torch.maximum(bells[i, c], bell, out=bells[i, c])
    return bells, (iy * w + ix).long(), torch.stack([bw, bh, cx - ix, cy - iy], 1)


def loss(maps: torch.Tensor, some: Objects, classes: int) -> torch.Tensor:
    """The loss above, of maps [B, K + 4, h, w]; a batch without objects teaches emptiness alone."""
    b, _, h, w = maps.shape
    bells, cell, wanted = (t.to(maps.device) for t in targets(some, (b, classes, h, w)))
    logit = maps[:, :classes]
    p = logit.sigmoid()
    centre = (bells == 1).to(p.dtype)
    heat = centre * (1 - p) ** 2 * logsigmoid(logit) + (1 - centre) * (1 - bells) ** 4 * p**2 * logsigmoid(-logit)
    total = -heat.sum() / max(1, len(cell))
    if not len(cell):
        return total
    told = maps[:, classes:].flatten(2)[some.image.to(maps.device), :, cell]  # [O, 4]
    return total + 0.1 * l1_loss(told[:, :2], wanted[:, :2]) + l1_loss(told[:, 2:], wanted[:, 2:])


@torch.no_grad()
def detected(net: Detector, real: RealSet, course: Course) -> list[Found]:
    """The detections in every image of a set."""
    blocks = torch.arange(len(real)).split(16)
    return [found for index in blocks for found in decoded(net(real.draw(index)), net.classes, course.top)]


def decoded(maps: torch.Tensor, classes: int, top: int) -> list[Found]:
    """The ``top`` highest peaks of each image's maps [B, K + 4, h, w]; a peak is no lower than its eight neighbours."""
    _, _, h, w = maps.shape
    heat = maps[:, :classes].sigmoid()
    heat = heat * (heat == max_pool2d(heat, 3, 1, 1))
    score, place = heat.flatten(1).topk(min(top, classes * h * w))  # [B, top] each
    category, cell = place // (h * w), place % (h * w)
    told = maps[:, classes:].flatten(2).gather(2, cell[:, None].expand(-1, 4, -1))  # [B, 4, top]
    size = relu(told[:, :2])
    centre = torch.stack([cell % w, cell // w], 1) + told[:, 2:]
    box = torch.cat([centre - size / 2, size], 1).transpose(1, 2) * STRIDE  # [B, top, 4]
    return [Found(box[i].cpu(), category[i].cpu(), score[i].cpu()) for i in range(len(maps))]


def average_precisions(
    found: Sequence[Found], truth: Objects, classes: int, *, crowds: Objects | None = None, least: float = 0.5
) -> list[float | None]:
    """Average precision of every class by COCO's rule; None for a class without objects.

    Args:
        found: N detections. truth: the objects of the N images. crowds: regions in which detections do not count.
        least: the overlap from which on a detection is right.
    """
    n = len(found)
    image = torch.arange(n).repeat_interleave(torch.tensor([len(one.score) for one in found], dtype=torch.int64))
    box, category, score = (torch.cat(parts) for parts in zip(*found)) if found else NOTHING
    seen = Sorted(image, category, box, n, score)
    regions = Sorted(crowds.image, crowds.category, crowds.box, n) if crowds is not None else None
    sizes = truth.category.bincount(minlength=classes).tolist()
    objects = Sorted(truth.image, truth.category, truth.box, n)
    return [_precision(seen, objects, regions, c, sizes[c], least) if sizes[c] else None for c in range(classes)]


class Sorted:
    """Boxes in the order of class, image and falling score, so that those of a class in an image lie together.

    Args:
        image, category: int64 [k]. box: [k, 4]. images: N; boxes of others are left out. score: [k]; the same for all without.
    """

    def __init__(
        self,
        image: torch.Tensor,
        category: torch.Tensor,
        box: torch.Tensor,
        images: int,
        score: torch.Tensor | None = None,
    ) -> None:
        score = torch.zeros(len(image)) if score is None else score
        order = torch.nonzero(image < images).flatten()
        order = order[score[order].argsort(descending=True, stable=True)]
        key, at = (category[order] * images + image[order]).sort(stable=True)
        self.box, self.score, self.images = box[order[at]].to(torch.float64), score[order[at]], images
        cells, sizes = key.unique_consecutive(return_counts=True)
        ends = sizes.cumsum(0).tolist()
        self.cells = {c: slice(end - size, end) for c, end, size in zip(cells.tolist(), ends, sizes.tolist())}

    def of(self, i: int, c: int) -> slice:
        """Where the boxes of a class in an image are."""
        return self.cells.get(c * self.images + i, slice(0, 0))


NOTHING = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0)
"""Boxes, classes and scores of no detections."""


def _precision(seen: Sorted, truth: Sorted, crowds: Sorted | None, c: int, n: int, least: float) -> float:
    """Of one class with n objects."""
    scores, rights = [seen.score[:0]], [torch.zeros(0, dtype=torch.bool)]
    for i in range(seen.images):
        own = seen.of(i, c)
        if own.start < own.stop:
            crowd = NOTHING[0].double() if crowds is None else crowds.box[crowds.of(i, c)]
            right, counts = matched(seen.box[own], truth.box[truth.of(i, c)], crowd, least)
            scores.append(seen.score[own][counts])
            rights.append(right[counts])
    right = torch.cat(rights)[torch.cat(scores).argsort(descending=True, stable=True)].to(torch.float64)
    hits = right.cumsum(0)
    precision = hits / torch.arange(1, len(right) + 1)
    best = precision.flip(0).cummax(0).values.flip(0) if len(right) else precision  # at this recall or above
    at = torch.searchsorted(hits / n, torch.linspace(0, 1, 101, dtype=torch.float64))
    return float(torch.cat([best, best.new_zeros(1)])[at].sum() / 101)


def matched(
    box: torch.Tensor, truth: torch.Tensor, crowd: torch.Tensor, least: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which detections of one image and class are right, and which count: bool [k] each.

    Args:
        box: [k, 4], the surest first; each takes the free true box that it overlaps most. truth: [t, 4]. crowd: [r, 4].
    """
    overlap, inside = overlaps(box, truth), overlaps(box, crowd, crowd=True)
    free = torch.ones(len(truth), dtype=torch.bool)
    right, counts = torch.zeros(len(box), dtype=torch.bool), torch.ones(len(box), dtype=torch.bool)
    for j in range(len(box)):
        mine = torch.where(free, overlap[j], -1.0)
        if len(truth) and mine.max() >= least:
            free[mine.argmax()] = False
            right[j] = True
        elif len(crowd) and inside[j].max() >= least:
            counts[j] = False
    return right, counts


def overlaps(a: torch.Tensor, b: torch.Tensor, *, crowd: bool = False) -> torch.Tensor:
    """Intersection over union of boxes x y w h, [n, 4] and [m, 4] -> [n, m]; over the area of ``a`` where ``b`` are crowds."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum((a[:, :2] + a[:, 2:])[:, None], (b[:, :2] + b[:, 2:])[None])
    shared = (high - low).clamp(min=0).prod(2)
    own, other = a[:, 2:].prod(1)[:, None], b[:, 2:].prod(1)[None]
    return shared / (own if crowd else own + other - shared).clamp(min=1e-12)
