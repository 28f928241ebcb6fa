"""The tables of README and docs, and the figures in the package, are those of the recorded rows."""

from __future__ import annotations

import sys

import pytest
from house_reading import HOME

ROOT = HOME.parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="the benchmarks are not beside the package")


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import tables

    yield tables
    sys.modules.pop("tables", None)


def test_the_pages_are_made_from_the_rows(tables) -> None:
    for page in tables.PAGES:
        assert tables.filled(page.read_text()) == page.read_text(), f"run python benchmarks/tables.py: {page.name}"
    assert tables.MEASURED.read_text() == tables.measured(), "run python benchmarks/tables.py"


def test_a_changed_row_changes_the_page(tables, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{**r, "ratio": 123.0} for r in tables.rows("speed")]
    monkeypatch.setattr(tables, "rows", lambda name: rows if name == "speed" else [])
    assert "**123.00**" in tables.filled((ROOT / "README.md").read_text())


def test_every_method_has_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import pages

    from attar import registry

    for entry in registry.METHODS:
        path = pages.HERE / f"{entry.name}.md"
        assert path.exists() and path.read_text() == pages.page(entry.name), "run python docs/pages.py"
