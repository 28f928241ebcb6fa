"""attar select on shards, as a user types it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_kit import Said

from attar import manifest
from attar.scale import output
from attar.verbs.shards import meant

Say = Callable[..., Said]


@pytest.fixture
def shards(tmp_path: Path) -> str:
    """A folder with one shard of 60 rows and a score for each."""
    folder = tmp_path / "shards"
    folder.mkdir()
    pq.write_table(pa.table({"id": np.arange(60), "score": np.linspace(0, 1, 60)}), folder / "0.parquet")
    return "shards"


@pytest.mark.parametrize("bound", [("--memory", "2GB"), ("--workers=1",), ("--on", "local")])
def test_a_bound_of_memory_or_workers_alone_means_shards(say: Say, shards: str, bound: tuple[str, ...]) -> None:
    done = say("select", shards, "--method", "score", "--keep", 0.1, *bound, "--json")
    assert done.code == 0, done.err
    assert (done.json["folder"], done.json["rows"]) == ("shards-score-fraction0.1", 6)
    assert output.is_kept("shards-score-fraction0.1")


def test_what_a_bound_does_not_mean(say: Say, shards: str) -> None:
    assert meant({"workers"}, "el2n") and meant({"on"}, "nobody")
    assert not meant({"memory"}, "facility-location"), "it has a memory of its own"
    assert not meant({"keep"}, "el2n")
    refused = say("select", shards, "--method", "semdedup", "--memory", "2GB")
    assert refused.code == 2 and "say how much to keep of the shards" in refused.err
    assert "--memory FLOAT" in say("select", "--method", "facility-location", "--memory", 1, "--help").out


def test_python_knows_the_same_bounds(shards: str, tmp_path: Path) -> None:
    import attar

    made = attar.select(tmp_path / shards, method="score", keep=0.1, workers=1, out=tmp_path / "kept")
    assert made["kept"]["rows"] == 6


def test_rows_of_shards_are_no_condensed_set(say: Say, shards: str) -> None:
    assert say("select", shards, "--method", "score", "--keep", 0.1, "--on", "local", "--out", "kept").code == 0
    assert manifest.OF_SHARDS == output.MANIFEST
    for words in (("evaluate", "kept"), ("report", "kept"), ("rerun", "kept"), ("export", "kept", "--to", "e.npz")):
        refused = say(*words, "--format", "npz") if words[0] == "export" else say(*words)
        said = " ".join(refused.err.split())
        assert refused.code == 3 and "kept from shards: take them from kept/data/*.parquet" in said, (words, said)
    assert not Path("e.npz").exists()


@pytest.mark.parametrize("words", [("--rows", "1.5"), ("--rows", "6.0"), ("--keep", "0.1", "--workers", "1.5")])
def test_whole_numbers_are_not_rounded(say: Say, shards: str, words: tuple[str, ...]) -> None:
    refused = say("select", shards, "--method", "score", "--on", "local", *words)
    assert refused.code == 2 and f"{words[-2]}: '{words[-1]}' is no whole number" in refused.err
