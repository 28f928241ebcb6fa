"""The tables of README and docs, and the figures in the package, are those of the recorded rows."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

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


@pytest.fixture
def pictures(tables):
    import pictures

    yield pictures
    sys.modules.pop("pictures", None)


def test_the_pictures_are_drawn_from_the_rows_and_shown(pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    for name, (_, sources, _) in pictures.PICTURES.items():
        if all(pictures.rows(source) for source in sources):
            assert pictures.current(name), f"run python benchmarks/pictures.py: {name}"
            assert f"](pictures/{name}.svg)" in page
    monkeypatch.setattr(pictures, "rows", lambda source: [])
    assert not any(map(pictures.current, pictures.PICTURES))


def drawn(keep: float, method: str, seeds: int) -> dict[str, Any]:
    """A made-up row of selection.py."""
    interval = [0.4, 0.6] if seeds > 1 else None
    return {"data": "cifar10", "examples": None, "method": method, "keep": keep, "last_mean": 0.5, "interval": interval}


def test_a_picture_tells_its_methods(pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [drawn(k, m, s) for k, s in ((0.1, 3), (0.7, 1)) for m in ("random", "el2n", "dual", "herding")]
    monkeypatch.setattr(pictures, "rows", lambda source: found if source == "selection" else [])
    monkeypatch.setattr(pictures, "PLACE", tmp_path)
    pictures.draw("kept")
    text = (tmp_path / "kept.svg").read_text()
    assert pictures.current("kept") and all(f">{name}</text>" in text for name in ("el2n", "dual", "herding", "10%"))
    before = text
    pictures.draw("kept")
    assert (tmp_path / "kept.svg").read_text() == before, "the same rows give the same bytes"


def test_a_changed_row_changes_the_page(tables, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{**r, "ratio": 123.0} for r in tables.rows("speed")]
    monkeypatch.setattr(tables, "rows", lambda name: rows if name == "speed" else [])
    readme, docs = tables.PAGES
    assert "**123.0** times as fast" in tables.filled(readme.read_text())
    assert "**123.00**" in tables.filled(docs.read_text())


def test_every_method_has_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import pages

    from attar import registry

    for entry in registry.METHODS:
        path = pages.HERE / f"{entry.name}.md"
        assert path.exists() and path.read_text() == pages.page(entry.name), "run python docs/pages.py"


REACHED = {"data": "mnist", "ipc": 1, "method": "dm", "quick": True, "last_mean": 0.5, "interval": [0.4, 0.6]}
REACHED |= {"set_means": [0.5], "accuracies": [0.4, 0.6], "interval_over": "networks", "make_seconds": [3.2]}
REACHED |= {"dtype": "bfloat16"}
COMPARED = {"data": "faces", "ipc": 1, "quick": True, "bytes": 640, "seconds": 8.0, "shared_seconds": 0.0}
COMPARED |= {"random": {"last_mean": 0.2, "last_std": 0.02}}
KEY = {"memory": "2GB", "workers": 2, "what": "el2n"}
MADE_UP = {
    "matching": [
        {**REACHED, "made_steps": 500, "set_means": [0.5, 0.6]},
        {**REACHED, "method": "random", "last_mean": 0.3, "set_means": [0.3, 0.4], "made_steps": 0},
        {**REACHED, "method": "idm", "last_mean": 0.7, "set_means": [0.7, 0.8], "made_steps": 300},
    ],
    "compared": [
        {**COMPARED, "method": method, "network": net, "labels": labels, **reached}
        for method, labels, reached in (
            ("dm", "hard", {"last_mean": 0.5, "last_std": 0.01}),
            ("datm", "hard", {"last_mean": 0.6, "last_std": 0.01}),
            ("datm", "soft", {"last_mean": 0.7, "last_std": 0.01}),
            ("cafe", "hard", {"broken": "NaN"}),
        )
        for net in ("convnet", "mlp")
    ]
    + [{"data": "faces", "method": "all", "whole_seconds": 60.0}],
    "fidelity": [
        {**REACHED, "dtype": dtype, "steps": 9, "published_steps": 10, "published": 0.6, "set_means": means}
        | {"quick": False, "protocol": "dsa", "environment": {"cpu": "a processor"}}
        for dtype, means in (("float32", [0.5, 0.6]), ("bfloat16", [0.5, 0.62]))
    ],
    "params": [
        {**REACHED, "data": "fashion_mnist", "steps": 0, "settings": {"params": "tiles"}, "images": 40, "bytes": 640}
    ],
    "stream": [
        {**KEY, "n": 10, "seconds": 1.5, "peak_memory": 2e8},
        {**KEY, "n": [10, 100], "seconds": [1.5, 9.0], "exponent": 0.9},
    ],
    "memory": [{"who": who, "steps": 4, "batch": 100, "bytes": b} for who, b in (("twin", 8e8), ("attar", 2e8))],
    "active": [
        {"query": "badge", "seed": 0, "accuracy": [0.5]},
        {
            "mean_of": "badge",
            "data": "faces",
            "labels": 90,
            "share": 0.1,
            "mean": 0.7,
            "interval": [0.6, 0.8],
            "seeds": 5,
        }
        | {"over_random": {"mean": 0.01, "interval": [-0.02, 0.04]}},
    ],
    "selection": [
        {"data": data, "examples": None, "method": method, "keep": 0.75, "last_mean": mean, "best_mean": 0.6}
        | {"interval": [0.4, 0.6], "accuracies": [mean - 0.01, mean + 0.01]}
        for data, method, mean in (
            ("cifar10", "el2n", 0.5),
            ("fashion_mnist", "full", 0.5),
            ("fashion_mnist", "ccs", 0.4),
        )
    ],
    "detection": [
        {"set": "bccd", "method": "csod", "rows": 10, "seed": 0, "ap50": 0.3, "boxes": {"cell": 12}},
        {"set": "bccd", "method": "csod", "rows": 10, "seed": 1, "ap50": 0.3, "boxes": {"cell": 14}},
        {"set": "bccd", "method": "csod", "rows": 10, "seed": "all", "ap50_mean": 0.3, "interval": None, "seeds": 2},
    ],
}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "matching",
            "| mnist | 1 | `idm`, quick | 0.7000 | 0.4000-0.6000, of networks | +0.400 (6 s.e.) | +0.200 | 300 | 3 s |",
        ),
        ("compared", "| 1 | `datm`, quick | 0.600 ± 0.010 | 0.600 ± 0.010 | 640 | 8 s | 0 s |"),
        ("compared", "| 1 | `datm`, quick, soft labels | 0.700 ± 0.010 | 0.700 ± 0.010 | 640 | 8 s | 0 s |"),
        ("compared", "| 1 | `cafe`, quick | diverged | diverged | 640 | 8 s | 0 s |"),
        ("compared", "| 1 | random examples | 0.200 ± 0.020 | 0.200 ± 0.020 |  |  |  |"),
        ("compared", "|  | all of it, scored too |  |  |  | 1 min |  |"),
        ("fidelity", "| mnist | 1 | `dm` | 0.5500 | 0.5600 | +0.0100 | 0.0781 |"),
        ("params", "| `dm`, quick | `tiles` | 40 | 640 | 0.5000 | 0.4000-0.6000, of networks |"),
        ("selection", "| `ccs` | 75% | 0.400 (0.400-0.600), best 0.600 | -0.1000 (-0.1000 to -0.1000) | 2 |"),
        ("selection", "| `el2n` | 0.500 (0.400-0.600), best 0.600 |"),
        ("stream", "| el2n | 10 | 1.5 | 200 MB | 2GB | 2 | 0.90 |"),
        ("memory", "| 4 | 100 | 800 MB | 200 MB | **4.0** |"),
        ("active", "| `badge` | 90 | 10% | 0.7000 | 0.6000-0.8000 | +0.0100 (-0.0200 to 0.0400) | 5 |"),
        ("detection", "| bccd | `csod` | 10 | 0.3000 | - | 2 | cell 13 |"),
    ],
)
def test_every_benchmark_has_its_table(tables, monkeypatch: pytest.MonkeyPatch, name: str, line: str) -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    monkeypatch.setattr(tables, "rows", lambda asked: MADE_UP[name] if asked == name else [])
    filled = tables.filled(page)
    assert line in filled and filled.count(line) == 1
    assert f"<!-- table {name} -->\nNot measured yet.\n" not in filled
    monkeypatch.setattr(tables, "rows", lambda asked: [])
    assert f"<!-- table {name} -->\nNot measured yet.\n<!-- end -->" in tables.filled(page)


def test_a_billion_rows_are_reckoned_from_the_largest_size(tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers for an hour over 10 million rows are 200 core-hours over a billion, or 2,000 where work grows as N^1.5."""
    from billion import LARGE

    how = {"workers": 2, "width": 64, "worker_seconds": 3600.0, "call_seconds": 3636.0}
    sizes = [{"n": 10**6, "worker_seconds": 1.0}, {"n": 10**7}, {"n": [1, 2], "exponent": 1.0}]
    found = [{**how, "what": what, **size} for what in LARGE for size in sizes]
    monkeypatch.setattr(tables, "rows", lambda asked: found if asked == "stream" else [])
    lines = {line.split(" | ")[0][2:]: line.split(" | ")[1:5] for line in tables.billion().splitlines()[2:]}
    assert set(lines) == set(LARGE)
    assert lines["el2n, rule ccs, a tenth"] == ["N", "200", "47 min", "60 min"]
    assert lines["semdedup, half"] == ["N^1.5", "2,000", "7.8 h", "60 min"]
    assert lines["kcenter, 1000 rows"] == ["N", "200", "47 min", "60 min"]


def test_no_benchmark_is_left_out(tables) -> None:
    written = [re.search(r'RESULTS / "(\w+)\.jsonl"', p.read_text()) for p in (ROOT / "benchmarks").glob("*.py")]
    files = {found[1] for found in written if found}
    make, told = ((ROOT / name).read_text() for name in ("Makefile", "benchmarks/README.md"))
    assert all(f"benchmarks/{name}.py" in make and f"benchmarks/{name}.py" in told for name in files)
    assert len(files) > 10 and set(tables.TABLES) >= files


def test_rows_of_short_schedules_are_those_of_today(tables) -> None:
    """A row of an earlier schedule would tell of settings that ``--quick`` no longer takes: it is measured anew or removed."""
    import matching
    import params

    for name in ("matching", "params"):
        sys.modules.pop(name)
    today = {
        "matching": {cell.name: cell.schedule for cell in matching.cells()},
        "params": {name: cell.schedule for name, cell in params.cells(params.DATA).items()},
    }
    for name, schedules in today.items():
        old = [r["cell"] for r in tables.rows(name) if r["schedule"] != schedules.get(r["cell"])]
        assert not old, f"run python benchmarks/{name}.py --cells {','.join(old)}"
