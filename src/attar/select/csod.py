"""CSOD. Hojun Lee, Suyoung Kim, Junhoo Lee, Jaeyoung Yoo and Nojun Kwak, Coreset Selection for Object Detection,
CVPR Workshops 2024, arXiv 2404.09161.

An image holds several objects of several classes, so neither the image as a whole nor one class of it says what it is
worth. Average the features of each class in each image, and take images in turn for one class after another: the image
whose average is most like those of the images that are left, and least like those that are kept.

    p_ic  = mean over the boxes of class c in image i of their features, at length 1
    score = lam * (mean over j left, j != i, of p_ic . p_jc) - (mean over j kept of p_ic . p_jc)
    next  = argmax over the images left that hold class c;  c = the next class that is left

An image counts for every class that it holds, whichever class it was taken for. A sum of products is a product with a sum,
so with T_c and S_c the sums over the images left and kept, n and m of them, no similarity of two images is ever computed:

    score = lam * (p . T_c - p . p) / (n - 1) - p . S_c / m

Differs from the paper, of which no code was published: the features are those of ground-truth boxes cut out at 32 x 32
pixels, as pixels or through a network of the house (random, or trained to tell the categories apart), not those that a
trained Faster R-CNN pools; the paper's lam (beta in its talk) is 1 here. Crowd regions are no objects, a mean over nothing
is 0, and images without objects come last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.method import Cost, Method, Resources, Rows, State, positive
from attar.real.objects import DETECTION, as_images, objects_of
from attar.real.realset import RealSet
from attar.resources.objects import ObjectFeatures
from attar.seeds import Seeds
from attar.select.pick import LARGEST, Picks, counts, rows_of

BLOCK = 1 << 15
"""Numbers of which products are held at once."""


@dataclass(frozen=True, kw_only=True)
class CSOD(Method):
    """Images for object detection, in turn for every class. Nested: greedy picks in order.

    In a set of images with one class each, every image is one object that fills it. ``gain`` is the score of each pick.

    Cost: a feature of every box; then D multiply-adds for each image of a class a pick, O(P D) memory for P pairs of an
    image and a class in it.

    Example:
        >>> attar.select("photos/", method="csod", rows=200, features="trained")
    """

    features: str = "pixels"
    "What boxes are compared by: pixels, random (a randomly initialised network) or trained (one that tells categories apart)."
    net: str = "convnet"
    "The network of random and trained features."
    epochs: int = 10
    "Epochs of training for trained features."
    lam: float = 1.0
    "Weight of likeness to the images left against likeness to those kept."

    paper: ClassVar[str] = "Lee, Kim, Lee, Yoo and Kwak, Coreset selection for object detection, CVPR Workshops 2024"
    modalities: ClassVar[tuple[str, ...]] = ("objects", "image")
    kind: ClassVar[str] = "select"

    def __post_init__(self) -> None:
        self.needs()  # refuses unknown features and networks at once
        positive(lam=self.lam)

    def needs(self) -> tuple[Any, ...]:
        """The features of the boxes."""
        return (ObjectFeatures(source=self.features, net=self.net, epochs=self.epochs),)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks.

        Raises:
            UsageError: a budget by class, where images hold several.
            DataError: more than there is, or features that are not finite.
        """
        k = _total(real, budget)
        image, category = _pairs(real)
        features = res[ObjectFeatures.name]["features"]
        _finite(real, image, features)
        order = real.ids.argsort()  # of two equal images the lower id is taken, whatever the order of the rows
        place = order.argsort()
        picks = csod(features, place[image], category, n=len(real), k=k, lam=self.lam)
        return {"picked": order[picks.places], "weight": torch.ones(k), "gain": picks.gain.float()}

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """Two products with every pair's prototype a pick; features and prototypes, the latter in float64."""
        n, width = len(as_images(real)), self.needs()[0].width(real)
        return Cost(flops_per_step=4.0 * n * width * _total(real, budget), memory=20.0 * n * width)


def csod(features: torch.Tensor, image: torch.Tensor, category: torch.Tensor, *, n: int, k: int, lam: float) -> Picks:
    """Greedy picks of images, in turn for each class.

    Args:
        features: float [O, D], finite, of the objects.
        image: int64 [O], the image of each object, 0 to n - 1.
        category: int64 [O], its class.
        n: images. k: picks, 1 to n. lam: as in the formula above.

    Returns:
        ``places`` int64 [k], unique, ties to the lower image; ``gain`` float64 [k], the score of each pick, 0 for an image
        without objects.
    """
    turns = [_Turn(*prototypes(features, image, category, c)) for c in category.unique().tolist()]
    free = torch.ones(n, dtype=torch.bool)
    places, gains = [], []
    while len(places) < k and any(turn.left for turn in turns):
        for turn in turns:
            if not turn.left or len(places) == k:
                continue
            chosen, gain = turn.best(lam)
            places.append(chosen)
            gains.append(gain)
            free[chosen] = False
            for other in turns:
                other.keep(chosen)
    rest = torch.nonzero(free).flatten().tolist()[: k - len(places)]
    return Picks(torch.tensor(places + rest), torch.tensor(gains + [0.0] * len(rest), dtype=torch.float64))


def prototypes(
    features: torch.Tensor, image: torch.Tensor, category: torch.Tensor, c: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The images that hold a class, int64 [n] ascending, and the mean feature of the class in each, at length 1: [n, D].

    Computed in float64; a mean of length 0 stays 0.
    """
    of = category == c
    order = image[of].argsort(stable=True)
    images, at, sizes = image[of][order].unique_consecutive(return_inverse=True, return_counts=True)
    total = torch.zeros(len(images), features.shape[1], dtype=torch.float64)
    total.index_add_(0, at, features[of][order].to(torch.float64))
    return images, torch.nn.functional.normalize(total / sizes[:, None], dim=1)


class _Turn:
    """One class: its images, their prototypes, and the sums over those left and kept."""

    def __init__(self, images: torch.Tensor, p: torch.Tensor) -> None:
        self.images, self.p = images, p  # [n], [n, D]
        self.place = {i: row for row, i in enumerate(images.tolist())}
        self.is_left = torch.ones(len(images), dtype=torch.bool)
        self.own = torch.cat([(some * some).sum(1) for some in _blocks(p)])  # 1, or 0 for a feature of length 0
        self.t, self.s = p.sum(0), torch.zeros_like(p[0])
        self.left, self.kept = len(images), 0

    def best(self, lam: float) -> tuple[int, float]:
        """The image to take, and its score."""
        like = (products(self.p, self.t) - self.own) / max(1, self.left - 1)
        near = products(self.p, self.s) / max(1, self.kept)
        if self.left == 1:
            like = torch.zeros_like(like)
        score = torch.where(self.is_left, lam * like - near, -torch.inf)
        row = int(score.argmax())
        return int(self.images[row]), float(score[row])

    def keep(self, image: int) -> None:
        """Moves an image from those left to those kept, where it holds the class."""
        row = self.place.get(image)
        if row is None:
            return
        self.is_left[row] = False
        self.t, self.s = self.t - self.p[row], self.s + self.p[row]
        self.left, self.kept = self.left - 1, self.kept + 1


def products(p: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """<p_i, v>, row by row, so that equal rows have equal ones; no table beside p is made: float64 [n, D], [D] -> [n]."""
    return torch.cat([(some * v).sum(1) for some in _blocks(p)])


def _blocks(p: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """A few rows at a time, which stay in the processor's cache."""
    return p.split(max(1, BLOCK // p.shape[1]))


def _pairs(real: RealSet) -> tuple[torch.Tensor, torch.Tensor]:
    """Image and class of every object: int64 [O] each."""
    if real.task == DETECTION:
        found = objects_of(real.table)
        return found.image, found.category
    labels = real.labels if real.labelled else torch.zeros(len(real), dtype=torch.int64)
    return torch.arange(len(real)), labels


def _total(real: RealSet, budget: Budget) -> int:
    """How many images to keep."""
    if budget.ipc is not None and real.task == DETECTION:
        raise UsageError(
            f"{budget} counts images of one class, but the images of {real.name} hold objects of several; "
            "give --rows 10 or --keep 0.1"
        )
    return sum(counts(real, budget, True))


def _finite(real: RealSet, image: torch.Tensor, features: torch.Tensor) -> None:
    """Refuses features that cannot be compared: [O, D]."""
    length = torch.linalg.vector_norm(features, dim=1)
    bad = torch.nonzero(~(length < LARGEST)).flatten()  # not <: NaN too
    if len(bad):
        row = int(image[bad[0]])
        raise DataError(
            f"the features of an object in the example with id {int(real.ids[row])} (row {row} of {real.name}) are not "
            f"finite or beyond {LARGEST:g}, and so for {len(bad)} of {len(features)}; mend or drop it"
        )
