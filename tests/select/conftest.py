"""Small real sets made by hand, with features beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pytest
import torch

from attar.budget import Budget
from attar.method import Method, Resources, State
from attar.real.realset import RealSet
from attar.seeds import Seeds


def toy(labels: Sequence[int], *, classes: int | None = None, ids: Sequence[int] | None = None) -> RealSet:
    """A set of 2x2 images with the given labels; K is ``classes`` or as many as the labels name."""
    n = len(labels)
    return RealSet(
        name="toy",
        table=pa.table({"label": np.asarray(labels, dtype=np.int64)}),
        images=torch.arange(n * 4).remainder(251).to(torch.uint8).reshape(n, 1, 2, 2),
        rows=torch.arange(n),
        ids=torch.arange(n) if ids is None else torch.tensor(ids),
        class_names=tuple(f"c{k}" for k in range(max(labels, default=0) + 1 if classes is None else classes)),
        mean=(0.5,),
        std=(0.5,),
        fingerprint="toy",
    )


def given(features: np.ndarray) -> Resources:
    """The resource ``features``."""
    return {"features": {"features": torch.from_numpy(np.asarray(features, dtype=np.float32))}}


def chosen(method: Method, real: RealSet, budget: Budget, res: Resources | None = None, seed: int = 0) -> State:
    """The state of a selector that does all in init."""
    return method.init(real, budget, Seeds(seed).at("init"), res or {})


@pytest.fixture(scope="session")
def make_set() -> Callable[..., RealSet]:
    """See :func:`toy`."""
    return toy


@pytest.fixture(scope="session")
def as_resource() -> Callable[[np.ndarray], Resources]:
    """See :func:`given`."""
    return given


@pytest.fixture(scope="session")
def choose() -> Callable[..., State]:
    """See :func:`chosen`."""
    return chosen
