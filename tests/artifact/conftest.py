"""Small sets of every kind, made once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the package datasets is imported

import attar
from attar.condensed import Condensed, condense
from attar.io import png
from attar.method import Rows
from attar.real.realset import RealSet


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(autouse=True)
def own_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache for these tests alone."""
    monkeypatch.setenv("ATTAR_CACHE", str(home / "cache"))


@pytest.fixture(scope="session")
def synthetic(home: Path) -> Path:
    """10 digits by DM, scored."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTAR_CACHE", str(home / "cache"))
        net = "convnet:width=8:depth=1"
        attar.distill("digits", ipc=1, steps=12, batch=4, lr_img=50.0, net=net, out=home / "synthetic")
        attar.evaluate(home / "synthetic", nets=net, epochs=1, seeds=2)
    return home / "synthetic"


@pytest.fixture(scope="session")
def subset(home: Path) -> Path:
    """20 digits by herding."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTAR_CACHE", str(home / "cache"))
        attar.select("digits", method="herding", ipc=2, out=home / "subset")
    return home / "subset"


@pytest.fixture(scope="session")
def source(home: Path) -> Path:
    """A parquet file of 40 pictures in two classes with columns of many types."""
    g = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (40, 3, 6, 6), generator=g, dtype=torch.uint8)
    box = pa.struct([("x", pa.int32()), ("y", pa.float32()), ("names", pa.list_(pa.string()))])
    columns = {
        "image": pa.array([{"bytes": png.encode(x), "path": f"{i}.png"} for i, x in enumerate(pictures)]),
        "label": pa.array([i % 2 for i in range(40)]),
        "tags": pa.array([["a", "é"] * (i % 3) for i in range(40)], pa.list_(pa.string())),
        "box": pa.array([None if i == 7 else {"x": i, "y": i / 3, "names": ["n"] * (i % 2)} for i in range(40)], box),
        "taken": pa.array([1_700_000_000_000_000 + i for i in range(40)], pa.timestamp("us", "UTC")),
        "day": pa.array(range(40), pa.date32()),
        "weight": pa.array([i / 8 for i in range(40)], pa.float64()),
        "vector": pa.array([[i, i + 1] for i in range(40)], pa.list_(pa.int16(), 2)),
        "note": pa.array([None if i % 5 == 0 else f"line {i}\nand another" for i in range(40)], pa.large_string()),
        "flag": pa.array([i % 4 == 0 for i in range(40)]),
    }
    pq.write_table(pa.table(columns), home / "typed.parquet")
    return home / "typed.parquet"


@pytest.fixture(scope="session")
def typed(home: Path, source: Path) -> Path:
    """Rows chosen from it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTAR_CACHE", str(home / "cache"))
        attar.select(source, method="random", ipc=5, out=home / "typed")
    return home / "typed"


@pytest.fixture(params=["synthetic", "subset", "typed"])
def each(request: pytest.FixtureRequest) -> Path:
    """Every kind of folder."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def spoilt(synthetic: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(synthetic, tmp_path / "set"))


@pytest.fixture
def captions() -> Callable[[], Condensed]:
    """Chosen rows of a set that has neither images nor classes."""

    def made() -> Condensed:
        objects = pa.list_(pa.struct([("name", pa.string()), ("at", pa.list_(pa.float32()))]))
        table = pa.table(
            {
                "caption": [f"a dog number {i}" for i in range(9)],
                "objects": pa.array([[{"name": "dog", "at": [0.0, i / 2]}] * (i % 3) for i in range(9)], objects),
            }
        )
        real = RealSet(
            name="dogs", task="captioning", table=table, images=None, rows=torch.arange(9), ids=torch.arange(9) + 100
        )
        lineage = [{"verb": "select", "method": "by hand", "settings": {}}]
        return condense(Rows(picked=torch.tensor([4, 1, 8])), real, kind="subset", lineage=lineage)

    return made
