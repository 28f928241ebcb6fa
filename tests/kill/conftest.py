"""A warm process for the tests of this folder, and homes in memory where the system has a place for them."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from trials import WRITERS, Bench, every_method
from zygote import Zygote

if sys.platform != "linux":
    collect_ignore_glob = ["test_*.py"]  # the harness knows Linux alone


@pytest.fixture(scope="session")
def fast_folder() -> Iterator[Path]:
    """A folder in memory, else an ordinary one; other users may look into it."""
    shared = "/dev/shm"
    place = Path(tempfile.mkdtemp(dir=shared if os.access(shared, os.W_OK) else None))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="session")
def zygote(fast_folder: Path) -> Iterator[Zygote]:
    """The warm process."""
    notes = fast_folder / "notes"
    notes.mkdir()
    with Zygote(notes) as warm:
        yield warm


class Benches:
    """A bench for each writer, made when first asked for: as it is, or shorter."""

    def __init__(self, zygote: Zygote, place: Path) -> None:
        self.zygote, self.place = zygote, place
        self.made: dict[tuple[str, bool], Bench] = {}

    def __call__(self, name: str, *, shorter: bool = False) -> Bench:
        if (name, shorter) not in self.made:
            known = WRITERS | {w.name: w for w in every_method()}
            writer = known[name].shorter() if shorter else known[name]
            self.made[name, shorter] = Bench(self.zygote, writer, self.place / f"bench-{len(self.made)}")
        return self.made[name, shorter]


@pytest.fixture(scope="session")
def bench(zygote: Zygote, fast_folder: Path) -> Benches:
    """See :class:`Benches`."""
    return Benches(zygote, fast_folder)


@pytest.fixture
def dm(bench: Benches) -> Bench:
    """The shortest distillation, a save a step."""
    return bench("distill dm", shorter=True)


@pytest.fixture
def home(fast_folder: Path) -> Iterator[Path]:
    """An empty folder for one child's work."""
    place = fast_folder / "home"
    place.mkdir()
    yield place
    shutil.rmtree(place, ignore_errors=True)
