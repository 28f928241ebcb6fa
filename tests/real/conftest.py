"""A cache of its own for every test, and the real data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REAL = Path(os.environ.get("ATTAR_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch) -> Path:
    """An empty cache folder."""
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ATTAR_CACHE", str(place))
    return place


@pytest.fixture
def data():
    """The path of a real set, or a skip with the reason."""

    def find(name: str) -> Path:
        if not (REAL / name).exists():
            pytest.skip(f"no data at {REAL / name}; set ATTAR_DATA")
        return REAL / name

    return find
