"""The small detector: AP50 by hand, targets and decoding as inverses, and that it learns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch

from attar.errors import UsageError
from attar.evaluate.detection import (
    Course,
    Found,
    average_precisions,
    decoded,
    matched,
    mirrored,
    overlaps,
    scored,
    targets,
    trained,
)
from attar.real.objects import KIND, Objects
from attar.real.realset import RealSet
from attar.seeds import Seeds


def objects(*rows: tuple[int, list[float], int]) -> Objects:
    image, box, category = zip(*rows)
    return Objects(torch.tensor(image), torch.tensor(box, dtype=torch.float64), torch.tensor(category))


def found(*rows: tuple[list[float], int, float]) -> Found:
    if not rows:
        return Found(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    box, category, score = zip(*rows)
    return Found(torch.tensor(box), torch.tensor(category), torch.tensor(score))


HERE, THERE, FAR = [0.0, 0, 10, 10], [20.0, 0, 10, 10], [50.0, 50, 10, 10]


def test_average_precision_by_hand() -> None:
    """Two boxes: right (.9), wrong (.8), right (.7). Precision 1 up to recall .5, 2/3 above it: (51 + 50 * 2/3) / 101."""
    truth = objects((0, HERE, 0), (1, THERE, 0))
    seen = [found((HERE, 0, 0.9), (FAR, 0, 0.8)), found((THERE, 0, 0.7))]
    assert average_precisions(seen, truth, 2) == [pytest.approx((51 + 50 * 2 / 3) / 101), None]


def test_a_box_is_found_once_by_the_surest_and_half_an_overlap_is_enough() -> None:
    truth = objects((0, HERE, 0))
    twice = [
        found((HERE, 0, 0.5), ([0.0, 0, 10, 5], 0, 0.9))
    ]  # the surer covers half of it: right; the exact one is late
    assert average_precisions(twice, truth, 1) == [pytest.approx(1.0)]
    less = [found(([0.0, 0, 10, 4.9], 0, 0.9))]
    assert average_precisions(less, truth, 1) == [0.0]
    assert average_precisions([found()], truth, 1) == [0.0]
    assert average_precisions([found((HERE, 1, 0.9))], truth, 2)[0] == 0.0  # of another class


def test_a_detection_takes_the_box_it_overlaps_most() -> None:
    truth = objects((0, HERE, 0), (0, [3.0, 0, 10, 10], 0))
    seen = [found(([2.5, 0, 10, 10], 0, 0.9), ([0.0, 0, 10, 10], 0, 0.8))]
    assert average_precisions(seen, truth, 1) == [pytest.approx(1.0)]


def test_a_detection_in_a_crowd_does_not_count() -> None:
    truth, crowds = objects((0, HERE, 0)), objects((0, [40.0, 40, 60, 60], 0))
    seen = [found((FAR, 0, 0.9), (HERE, 0, 0.5))]
    assert average_precisions(seen, truth, 1) == [pytest.approx(0.5)]
    assert average_precisions(seen, truth, 1, crowds=crowds) == [pytest.approx(1.0)]


def test_average_precision_is_that_of_looking_at_every_image_and_class_apart() -> None:
    """Random boxes with equal scores, crowds, images without any, and objects of images that are not there."""
    g = torch.Generator().manual_seed(0)

    def boxes(k: int) -> torch.Tensor:
        return torch.cat(
            [torch.randint(0, 12, (k, 2), generator=g), torch.randint(4, 9, (k, 2), generator=g)], 1
        ).double()

    def some(k: int) -> Objects:
        return Objects(torch.randint(0, 7, (k,), generator=g), boxes(k), torch.randint(0, 3, (k,), generator=g))

    truth, crowds = some(60), some(9)
    seen = []
    for i in range(6):  # the seventh image is none of those that were looked at
        k = 40 if i != 2 else 0
        score = torch.randint(0, 6, (k,), generator=g) / 5
        seen.append(Found(boxes(k).float(), torch.randint(0, 4, (k,), generator=g), score))
    for regions in (None, crowds):
        found = average_precisions(seen, truth, 3, crowds=regions)
        assert found == [pytest.approx(apart(seen, truth, regions, c), abs=1e-12) for c in range(3)]
        assert 0 < sum(p or 0 for p in found) < 3
    assert average_precisions([], truth, 4) == [0.0, 0.0, 0.0, None]


def apart(seen: list[Found], truth: Objects, crowds: Objects | None, c: int) -> float:
    """Every image and class by a mask over everything, the curve by a loop."""
    rows = []
    for i, one in enumerate(seen):
        mine = one.category == c
        order = one.score[mine].argsort(descending=True, stable=True)
        own = truth.box[(truth.image == i) & (truth.category == c)]
        none = torch.zeros(0, 4, dtype=torch.float64)
        crowd = none if crowds is None else crowds.box[(crowds.image == i) & (crowds.category == c)]
        right, counts = matched(one.box[mine][order].double(), own, crowd, 0.5)
        rows += [(float(s), bool(r)) for s, r, n in zip(one.score[mine][order], right, counts) if n]
    rows.sort(key=lambda row: -row[0])  # stable
    n, hits, curve = int((truth.category == c).sum()), 0, []
    for k, (_, right) in enumerate(rows):
        hits += right
        curve.append((hits / n, hits / (k + 1)))
    return sum(max((p for r, p in curve if r >= t / 100), default=0.0) for t in range(101)) / 101


def test_overlaps() -> None:
    a = torch.tensor([[0.0, 0, 4, 4]])
    b = torch.tensor([[2.0, 2, 4, 4], [4, 0, 4, 4], [0, 0, 4, 4]])
    assert overlaps(a, b).tolist() == [[pytest.approx(4 / 28), 0.0, 1.0]]
    assert overlaps(a, b, crowd=True).tolist() == [[0.25, 0.0, 1.0]]


def test_what_the_targets_say_is_decoded_to_the_boxes() -> None:
    some = objects((0, [3.0, 5, 21, 13], 1), (0, [40.0, 30, 9, 9], 0), (1, [10.0, 10, 30, 20], 1))
    bells, cell, wanted = targets(some, (2, 2, 16, 16))
    maps = torch.zeros(2, 6, 16, 16)
    maps[:, :2] = torch.logit(bells, eps=1e-6)
    maps[:, 2:].flatten(2)[some.image, :, cell] = wanted
    back = decoded(maps, 2, 2)
    for i in (0, 1):
        mine = some.image == i
        got = {
            (int(c), *(round(v, 3) for v in b))
            for b, c, s in zip(back[i].box.tolist(), back[i].category, back[i].score)
            if s > 0.9
        }
        assert got == {(int(c), *b) for b, c in zip(some.box[mine].tolist(), some.category[mine])}


def test_a_mirror_turns_images_and_boxes_alike() -> None:
    x = torch.zeros(2, 1, 8, 12)
    x[:, 0, 2:5, 1:4] = 1
    some = objects((0, [1.0, 2, 3, 3], 0), (1, [1.0, 2, 3, 3], 0))
    image, turned = mirrored(x, some, torch.tensor([True, False]))
    for i, (left, top, w, h) in enumerate(turned.box.long().tolist()):
        assert image[i, 0, top : top + h, left : left + w].min() == 1 and image[i].sum() == 9


def shapes(n: int, seed: int) -> RealSet:
    """Grey images with a bright square (class 0) and a dark one (class 1)."""
    random = np.random.default_rng(seed)
    images, rows = np.full((n, 1, 32, 32), 128, np.uint8), []
    for i in range(n):
        row = []
        for k, left in enumerate(random.permutation([0, 16])):
            x, y, s = int(left + random.integers(0, 4)), int(random.integers(0, 20)), int(random.integers(8, 12))
            images[i, 0, y : y + s, x : x + s] = 255 * (1 - k)
            row.append(
                {
                    "bbox": [x, y, s, s],
                    "category": k,
                    "iscrowd": False,
                    "area": s * s,
                    "id": 2 * i + k,
                    "annotation": "{}",
                }
            )
        rows.append(row)
    return RealSet(
        name="shapes", task="detection", table=pa.table({"objects": pa.array(rows, KIND)}), images=torch.from_numpy(images),
        rows=torch.arange(n), ids=torch.arange(n), class_names=("bright", "dark"), mean=(0.5,), std=(0.25,),
    )  # fmt: skip


def test_it_learns_and_is_the_same_for_the_same_seed() -> None:
    train, test = shapes(16, 0), shapes(12, 1)
    course = Course(steps=80, batch=8, width=8, lr=5e-3)
    first = scored(train, range(16), test, course=course)
    assert first["ap50"] > 0.5 and set(first["per_class"]) == {"bright", "dark"}
    untrained = scored(train, range(16), test, course=dataclasses.replace(course, steps=1))
    assert untrained["ap50"] < 0.1
    short = dataclasses.replace(course, steps=5)
    some = train.subset(torch.tensor([0, 3]))
    once, again, other = (trained(some, short, Seeds(s).at("detector")).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(once[k], again[k]) for k in once)
    assert any(not torch.equal(once[k], other[k]) for k in once)


def test_a_set_without_objects_is_refused() -> None:
    real = shapes(4, 0)
    with pytest.raises(UsageError, match="trains no detector"):
        scored(real, [], real)
    with pytest.raises(UsageError, match="trains no detector"):
        scored(dataclasses.replace(real, task="image-classification"), [0], real)
