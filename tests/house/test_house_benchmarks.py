"""The benchmarks' own machinery: figures take hours, so a mistake in it must not wait for their end."""

from __future__ import annotations

import argparse
import importlib
import json
import operator
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from attar.errors import Interrupted

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports one by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def test_a_process_that_ends_without_a_word_is_not_waited_for(benchmark: Any) -> None:
    answer = benchmark("alone").answer
    assert answer(operator.methodcaller("put", 3)) == 3
    assert answer(id) is None


def test_a_missing_package_ends_the_work_with_none(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    choosing, told = benchmark("choosing"), []
    monkeypatch.setitem(sys.modules, "numba", None)
    found = type("Found", (), {"put": lambda self, facts: told.append(facts)})()
    how = {"kind": "float32", "compiled": False}
    with pytest.raises(ImportError):
        choosing.work("facility-location", choosing.Size(64, 4, 4, 1), 1, how, found)
    assert told == [None]


def test_a_benchmark_that_is_stopped_says_how_to_go_on(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped() -> None:
        raise Interrupted("stopped; run the same command again to go on", 15)

    with pytest.raises(SystemExit) as end:
        benchmark("rows").ended(stopped)
    assert end.value.code == 143
    assert capsys.readouterr().err == "stopped; run the same command again to go on\n"


@pytest.mark.parametrize(
    ("sets", "cores", "at_a_time"), [(1, 2, 1), (2, 2, 2), (3, 2, 3), (15, 2, 3), (3, 16, 3), (4, 2, 2)]
)
def test_no_core_waits_for_the_last_set(benchmark: Any, sets: int, cores: int, at_a_time: int) -> None:
    assert benchmark("fidelity").beside(sets, cores) == at_a_time


def test_the_sets_of_a_cell_find_the_experts_that_were_trained_for_them(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fidelity = benchmark("fidelity")
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fidelity, "data", lambda cell: "digits")
    small = {"experts": 3, "max_start": 1, "expert_epochs": 1, "syn_steps": 1, "net": "convnet:width=4:depth=1"}
    cell = fidelity.Cell("digits", "mtt", 1, steps=1, settings=small)
    given = argparse.Namespace(device=None, threads=1, dtype="float32", compile=None, work=tmp_path)
    fidelity.share(cell, given)
    experts = {folder.name for folder in (tmp_path / "cache" / "resources").iterdir()}
    assert len(experts) == 3
    fidelity.made(cell, given, 1)
    assert {folder.name for folder in (tmp_path / "cache" / "resources").iterdir()} == experts


def test_a_share_of_no_picks_is_none(benchmark: Any) -> None:
    size = benchmark("choosing").Size
    for share in (1.0, 0.1):
        assert size(1000, 4, 0, 1).scaled(share).picks == 0
    assert size(1000, 4, 100, 1).scaled(0.01) == size(64, 4, 4, 1)
    assert size(1000, 4, 100, 1).scaled(1.0) == size(1000, 4, 100, 1)


def test_an_unfinished_selection_from_shards_is_gone_on_with_whatever_else_is_asked_for(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder belongs to the work, and the peak to all of its calls."""
    stream, asked = benchmark("stream"), []
    names = list(stream.WORKS)

    def measured(words: list[str]) -> dict[str, Any]:
        asked.append(words[-1])
        return {"seconds": 1.0, "peak_memory": 1}

    monkeypatch.setattr(stream, "measured", measured)
    monkeypatch.setattr(stream, "folder", lambda home, n: home)
    for number, works in enumerate((names[1:], names)):
        words = ["stream.py", "--works", ";".join(works), "--sizes", "10", "--place", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", [*words, "--out", str(tmp_path / f"rows-{number}.jsonl")])
        stream.main()
    assert asked[:2] == asked[3:] and len(set(asked)) == 3


def test_the_peak_is_that_of_all_calls(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = benchmark("stream")
    said = json.dumps({"seconds": 2.0, "rows": 5, "peak_memory": 10**15, "folder": str(tmp_path)})
    (tmp_path / "manifest.json").write_text(json.dumps({"workers": {"seconds": 1.5}}))
    monkeypatch.setattr(stream.sys, "executable", str(BENCHMARKS.parent / "no"))
    popen = stream.subprocess.Popen
    monkeypatch.setattr(stream.subprocess, "Popen", lambda words, stdout: popen(["/bin/echo", said], stdout=stdout))
    found = stream.measured([])
    assert (found["peak_memory"], found["worker_seconds"]) == (10**15, 1.5)


def test_rows_of_several_processes_stand_beside_each_other(benchmark: Any, tmp_path: Path) -> None:
    rows = benchmark("rows").Rows
    ours, theirs = rows(tmp_path / "a.jsonl"), rows(tmp_path / "a.jsonl")
    ours.put({"value": 1}, cell="a")
    theirs.put({"value": 2}, cell="b")
    ours.put({"value": 3}, cell="a")
    found = rows(tmp_path / "a.jsonl")
    assert [found.find(cell=name) for name in "ab"] == [{"cell": "a", "value": 3}, {"cell": "b", "value": 2}]
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_twin_works_in_a_process_of_its_own(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told by its settings; it answers once a call and ends with the block."""
    speed = benchmark("speed")
    own = "import json, os, sys\nfor _ in sys.stdin: print(json.dumps(float(os.environ['TOOK'])), flush=True)"
    popen, children = speed.subprocess.Popen, []

    def started(words: list[str], **how: Any) -> Any:
        children.append(popen([sys.executable, "-c", own], **how))
        return children[-1]

    monkeypatch.setattr(speed.subprocess, "Popen", started)
    with speed.twin_of("dm", speed.Plan(), {"TOOK": "2.5"}) as seconds:
        assert [seconds(), seconds()] == [2.5, 2.5]
    assert children[0].poll() == 0


def test_the_time_of_a_comparison_is_that_of_all_calls(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = benchmark("compared")
    monkeypatch.setattr(compared, "BEAT", 0.01)
    path = tmp_path / "work" / "seconds.txt"
    with pytest.raises(KeyboardInterrupt), compared.noted(path):
        while not path.exists():  # written while it runs, for a kill leaves no time to
            time.sleep(0.01)
        raise KeyboardInterrupt
    with compared.noted(path):
        pass
    assert len([float(line) for line in path.read_text().split()]) == 2
