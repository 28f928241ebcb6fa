"""Detectors trained on chosen images of bccd: ``OMP_NUM_THREADS=1 python benchmarks/detection.py``.

CSOD beside random images, which are drawn anew for every seed; the detector is that of :mod:`attar.evaluate.detection`, the
same course for all. A row is one training, kept as it ends, so that a run that was stopped goes on; the last rows are means
over the seeds with 95 % intervals. The test split is looked at once for each training, and nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from pathlib import Path
from typing import Any

from rows import HERE, RESULTS, Rows, command, ended, environment

SET, SIZE = "bccd", (120, 160)
METHODS: dict[str, dict[str, Any]] = {"csod": {}, "random": {}}
BUDGETS = (10, 25)


def once(source: Path, method: str, rows: int, seed: int) -> dict[str, Any]:
    """One selection and one training."""
    import attar
    from attar.evaluate.detection import Course, scored

    splits, course = attar.load(source, size=SIZE), Course()
    kept = attar.select(splits, method=method, rows=rows, seed=seed, threads=1, device="cpu", **METHODS[method])
    began = time.perf_counter()
    score = scored(splits.train, kept.table["source_id"].to_pylist(), splits.test, seed=seed, course=course)
    boxes = dict(zip(splits.train.class_names, kept.manifest["budget"]["objects_per_class"]))
    took = {"seconds": round(time.perf_counter() - began, 1), "environment": environment()}
    return {**score, "boxes": boxes, "course": dataclasses.asdict(course), "command": command(), **took}


def together(found: Rows, key: dict[str, Any], seeds: int) -> dict[str, Any]:
    """What the seeds of one method and budget say."""
    from attar.evaluate.scores import summary

    each = [row["ap50"] for s in range(seeds) if (row := found.find(**key, seed=s)) is not None]
    said = summary(each)
    return {
        "seeds": len(each),
        "ap50_mean": said["last_mean"],
        "ap50_std": said["last_std"],
        "interval": said["interval"],
    }


def main() -> None:
    """All rows that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "detection.jsonl")
    asked = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    found = Rows(asked.out)
    source = Path(os.environ.get("ATTAR_DATA", HERE.parents[1] / "shared" / "data")) / SET
    for rows in BUDGETS:
        for method in METHODS:
            key = {"set": SET, "method": method, "rows": rows}
            for seed in range(asked.seeds):
                if found.find(**key, seed=seed) is None:
                    found.put(once(source, method, rows, seed), **key, seed=seed)
            found.put(together(found, key, asked.seeds), **key, seed="all")
            print(found.find(**key, seed="all"), flush=True)


if __name__ == "__main__":
    ended(main)
