"""Digits, small sets made of them, and a tiny network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest
import torch

from attar.condensed import Condensed, condense
from attar.method import Rows
from attar.nets import Net, build
from attar.real.load import load
from attar.real.realset import RealSet, Splits
from attar.seeds import Seeds

TINY = "convnet:depth=1:width=8"


@pytest.fixture(scope="session")
def digits() -> Splits:
    """1,797 grey images of 8x8 in ten classes, a part held out."""
    return load("digits")


@pytest.fixture(scope="session")
def net() -> Net:
    """A network for them that trains in a second."""
    return build(TINY, channels=1, size=(8, 8), classes=10)


@pytest.fixture(scope="session")
def make_real() -> Callable[..., RealSet]:
    """Real sets of a given name, class names and shape, whose images all differ."""

    def made(
        *,
        name: str = "things",
        classes: tuple[str, ...] = ("cat", "dog"),
        shape: tuple[int, int, int] = (3, 8, 8),
        n: int = 12,
    ) -> RealSet:
        c, h, w = shape
        pixels = torch.randint(256, (n, c, h, w), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        return RealSet(
            name=name,
            table=pa.table({"label": [i % len(classes) for i in range(n)]}),
            images=pixels,
            rows=torch.arange(n),
            ids=torch.arange(n),
            class_names=classes,
            mean=(0.5,) * c,
            std=(0.25,) * c,
            fingerprint=f"{name}-{n}",
        )

    return made


@pytest.fixture(scope="session")
def keep(digits: Splits) -> Callable[..., Condensed]:
    """``ipc`` real digits of every class, as a selection or as a synthetic set with some noise added."""

    def kept(*, ipc: int = 2, kind: str = "subset", noise: float = 0.0, extra: Any = None, **recipe: Any) -> Condensed:
        real, lineage = digits.train, [{"verb": "select", "method": "random", "seed": 0}]
        picked = real.sample(ipc, Seeds(1).generator("keep")).flatten()  # [K, ipc] -> [M]
        weight = torch.linspace(1, 3, len(picked)) if recipe.get("weighted") is not None else None
        if kind == "subset":
            rows = Rows(picked=picked, recipe=recipe, weight=weight)
        else:
            images = real.draw(picked)
            images = images + noise * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
            columns = {"image": images, "label": real.labels[picked]}
            rows = Rows(columns=columns, recipe=recipe, weight=weight, extra=extra or {})
        return condense(rows, real, kind=kind, lineage=lineage)

    return kept


@dataclass
class Counted:
    """A progress that counts."""

    labels: list[str] = field(default_factory=list)
    totals: list[int] = field(default_factory=list)
    done: int = 0
    stopped: int = 0

    def start(self, label: str, total: int, done: int = 0) -> None:
        self.labels.append(label)
        self.totals.append(total)

    def advance(self, n: int = 1, **facts: float) -> None:
        self.done += n

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def counted() -> Counted:
    """A progress that counts epochs."""
    return Counted()
