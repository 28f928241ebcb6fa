"""The command line in this process, in a folder of its own, and small sets made once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_kit import Said

import attar
from attar.cli.main import run


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for these tests alone."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests compute is kept there."""
    monkeypatch.setenv("ATTAR_CACHE", str(cache_folder))


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Runs ``attar WORDS`` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def said(*words: object) -> Said:
        capfd.readouterr()
        code = run([str(w) for w in words])
        out, err = capfd.readouterr()
        return Said(code, out, err)

    return said


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, cache_folder: Path) -> Path:
    """A folder with ``dm`` (synthetic, 10 digits) and ``random`` (20 real digits)."""
    home = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTAR_CACHE", str(cache_folder))
        attar.distill("digits", ipc=1, steps=3, batch=4, net="convnet:width=8:depth=1", out=home / "dm")
        attar.select("digits", method="random", ipc=2, out=home / "random")
    return home


@pytest.fixture
def dm(made: Path, tmp_path: Path) -> Path:
    """A copy of the synthetic set, as ``dm`` in the working folder."""
    return Path(shutil.copytree(made / "dm", tmp_path / "dm"))


@pytest.fixture
def random(made: Path, tmp_path: Path) -> Path:
    """A copy of the real rows, as ``random`` in the working folder."""
    return Path(shutil.copytree(made / "random", tmp_path / "random"))
