"""A small real set of noisy shapes that a network can learn, and the digits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch

from attar.execute.plan import Plan
from attar.method import Resources, State
from attar.real.load import load
from attar.real.realset import RealSet, Splits
from attar.resources.resource import Resource
from attar.run import run


def small(n: int = 50) -> RealSet:
    """n images of 1x4x4 in two classes: bright above or bright below."""
    rng = np.random.default_rng(0)
    label = np.arange(n) % 2
    images = rng.integers(0, 120, size=(n, 1, 4, 4))
    images[label == 0, :, :2] += 100
    images[label == 1, :, 2:] += 100
    return RealSet(
        name="shapes",
        table=pa.table({"label": label.astype(np.int64)}),
        images=torch.from_numpy(images.astype(np.uint8)),
        rows=torch.arange(n),
        ids=torch.arange(n) + 1000,
        class_names=("above", "below"),
        mean=(0.4,),
        std=(0.25,),
        fingerprint="shapes",
    )


def made(resource: Resource, real: RealSet, res: Resources | None = None, seed: int = 0) -> State:
    """A resource by the loop."""
    outcome = run(resource, real, [None], seed=seed, plan=Plan(), res=res)  # pyright: ignore[reportArgumentType]
    return resource.finish(outcome.states[0], res or {})


@pytest.fixture(scope="session")
def make_set() -> Callable[..., RealSet]:
    """See :func:`small`."""
    return small


@pytest.fixture(scope="session")
def build() -> Callable[..., State]:
    """See :func:`made`."""
    return made


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    """1,797 digits of 8x8 pixels."""
    return load("digits", cache=tmp_path_factory.mktemp("cache"))
