"""The method that CONTRIBUTING.md shows is complete: it passes the checks and runs, as the page says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import attar
import attar.testing

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the page in a file of its own."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    path = tmp_path_factory.mktemp("shown") / "my_method.py"
    path.write_text(code)
    return path


def test_the_page_is_short_and_shows_the_example_to_the_letter(shown: Path) -> None:
    assert len(PAGE.read_text().splitlines()) <= 60
    assert shown.read_text() == (ROOT / "examples" / "my_method.py").read_text()


def test_it_passes_every_check(shown: Path) -> None:
    done = attar.testing.check_method(f"{shown}:MyMethod")
    assert len(done) > 25
    assert attar.testing.check_method(f"{shown}:MyMethod", checks=["beats_random"])


def test_the_commands_of_the_page_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run where the page is read, but written elsewhere."""
    (check,) = re.findall(r"python -c \"(.*?)\"", PAGE.read_text())
    (words,) = re.findall(r"bin/attar (distill digits .*?)`", PAGE.read_text())
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    check = check.replace("MyMethod')", "MyMethod', checks=['exact_budget'])")  # the rest is done above
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)
    out = tmp_path / "kept"
    command = [sys.executable, "-m", "attar", *words.split(), "--steps", "5", "--out", str(out), "--json"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["rows"] == 10
    kept = attar.open(out)
    assert kept.manifest["lineage"][0]["method"] == "examples/my_method.py:MyMethod"
    assert kept.kind == "synthetic"


def test_a_method_given_as_an_object_is_found_again(shown: Path, tmp_path: Path, monkeypatch) -> None:
    """Its file stands in the manifest, so that the set can be made again by another process."""
    from attar import registry

    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    method = registry.load(f"{shown}:MyMethod")(steps=3, batch=4)
    kept = attar.distill("digits", method=method, ipc=1, out=tmp_path / "kept")
    assert kept.manifest["lineage"][0]["method"] == f"{shown}:MyMethod"
    again = attar.rerun(tmp_path / "kept", out=tmp_path / "again", trust=[f"{shown}:MyMethod"])
    assert again.images.equal(kept.images)
