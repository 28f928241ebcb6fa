"""CSOD against its definition by loops, its ties, and what it is for: rare classes are covered."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path

import pytest
import torch

from attar.budget import Budget
from attar.errors import UsageError
from attar.execute.progress import Silent
from attar.real.load import load
from attar.real.objects import objects_of
from attar.resources.build import gather
from attar.seeds import Seeds
from attar.select.csod import CSOD, csod, products
from attar.testing.trial import PLAN, folder

DATA = Path(os.environ.get("ATTAR_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def plain(features, image, category, *, n: int, k: int, lam: float) -> tuple[list[int], list[float]]:
    """The definition: every pair of images, no running sums."""

    def prototype(i: int, c: int) -> list[float] | None:
        mine = [x for x, j, d in zip(features, image, category) if (j, d) == (i, c)]
        if not mine:
            return None
        mean = [sum(column) / len(mine) for column in zip(*mine)]
        length = math.sqrt(sum(v * v for v in mean))
        return [v / length for v in mean] if length else mean

    classes = sorted(set(category))
    p = {(i, c): v for i in range(n) for c in classes if (v := prototype(i, c)) is not None}

    def cosines(i: int, others: list[int], c: int) -> float:
        dots = [sum(a * b for a, b in zip(p[i, c], p[j, c])) for j in others if (j, c) in p and j != i]
        return sum(dots) / len(dots) if dots else 0.0

    kept: list[int] = []
    gains: list[float] = []
    for c in itertools.cycle(classes):
        left = [i for i in range(n) if i not in kept]
        if len(kept) == k or not any((i, d) in p for i in left for d in classes):
            break
        scores = {i: lam * cosines(i, left, c) - cosines(i, kept, c) for i in left if (i, c) in p}
        if scores:
            kept.append(max(scores, key=lambda i: (scores[i], -i)))
            gains.append(scores[kept[-1]])
    rest = [i for i in range(n) if i not in kept][: k - len(kept)]
    return kept + rest, gains + [0.0] * len(rest)


@pytest.mark.parametrize("seed, lam", [(s, lam) for s in range(6) for lam in (0.3, 1.0, 5.0)])
def test_the_vector_form_is_the_definition(seed: int, lam: float) -> None:
    random = torch.Generator().manual_seed(seed)
    n, objects = 14, 40
    features = torch.randn(objects, 5, generator=random, dtype=torch.float64)
    features[3] = 0  # a feature of length 0
    image = torch.randint(n - 2, (objects,), generator=random)  # the last two images are empty
    category = torch.randint(4, (objects,), generator=random)
    for k in (1, 5, n):
        found = csod(features, image, category, n=n, k=k, lam=lam)
        want, gains = plain(features.tolist(), image.tolist(), category.tolist(), n=n, k=k, lam=lam)
        assert found.places.tolist() == want and len(set(want)) == k
        assert found.gain.tolist() == pytest.approx(gains, abs=1e-12)


def test_of_equal_images_the_lower_is_taken_and_smaller_budgets_come_first() -> None:
    x = torch.tensor([[3.0, 4.0]]).repeat(6, 1)
    image, category = torch.arange(6), torch.zeros(6, dtype=torch.int64)
    assert csod(x, image, category, n=6, k=6, lam=1.0).places.tolist() == [0, 1, 2, 3, 4, 5]
    y = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    where, what = torch.arange(30) % 12, torch.arange(30) % 3
    whole = csod(y, where, what, n=12, k=12, lam=1.0).places.tolist()
    assert all(csod(y, where, what, n=12, k=k, lam=1.0).places.tolist() == whole[:k] for k in range(1, 12))


@pytest.mark.parametrize("block", [1, 7, 40, 41, 10**6])
def test_products_in_blocks_are_those_of_all_rows_at_once(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    g = torch.Generator().manual_seed(0)
    p, v = torch.randn(23, 20, generator=g, dtype=torch.float64), torch.randn(20, generator=g, dtype=torch.float64)
    wanted, held = (p * v).sum(1), []
    monkeypatch.setattr("attar.select.csod.BLOCK", block)
    monkeypatch.setattr(
        torch.Tensor, "split", lambda x, size, split=torch.Tensor.split: (held.append(size), split(x, size))[1]
    )
    assert torch.equal(products(p, v), wanted)
    assert held == [max(1, block // 20)]


def test_an_image_counts_for_every_class_that_it_holds() -> None:
    """Image 0 holds both classes. Taken for class 0, it is kept for class 1 too: what is like it there comes last."""
    x = torch.tensor([[1.0, 0], [1, 0], [1, 0], [1, 0], [0, 1.0]])
    image, category = torch.tensor([0, 0, 1, 2, 3]), torch.tensor([0, 1, 0, 1, 1])
    found = csod(x, image, category, n=4, k=3, lam=0.1).places.tolist()
    assert found[0] == 0 and found[1] == 3


def test_scale_of_features_and_order_of_objects_change_nothing() -> None:
    random = torch.Generator().manual_seed(3)
    x, image = torch.rand(25, 6, generator=random), torch.randint(9, (25,), generator=random)
    category = torch.randint(3, (25,), generator=random)
    first = csod(x, image, category, n=9, k=6, lam=1.0).places.tolist()
    turn = torch.randperm(25, generator=random)
    assert csod(7 * x[turn], image[turn], category[turn], n=9, k=6, lam=1.0).places.tolist() == first


@pytest.mark.skipif(not (DATA / "bccd").exists(), reason=f"no data at {DATA / 'bccd'}; set ATTAR_DATA")
def test_the_rarest_class_is_covered_above_random_on_real_images() -> None:
    """Platelets are the rarest class of bccd, in boxes and in images (every image has a white cell or two)."""
    real = load(DATA / "bccd", size=(72, 96)).train
    found = objects_of(real.table)
    tally = torch.zeros(len(real), 3).index_put_((found.image, found.category), torch.ones(1), accumulate=True)
    rare = int(tally.sum(0).argmin())
    assert real.class_names[rare] == "Platelets" and rare == int((tally > 0).sum(0).argmin())
    with folder():
        method = CSOD(features="pixels")
        res = gather(method, real, seed=0, plan=PLAN, progress=Silent())
    for k in (10, 25, 50):
        kept = tally[method.init(real, Budget(rows=k), Seeds(0), res)["picked"]][:, rare]
        assert kept.sum() > k * tally[:, rare].mean(), "boxes, against the mean of random draws"
        assert (kept > 0).sum() > k * (tally[:, rare] > 0).float().mean(), "images, against the mean of random draws"
    with pytest.raises(UsageError, match="counts images of one class, but the images of bccd hold objects of several"):
        method.init(real, Budget(ipc=1), Seeds(0), res)
