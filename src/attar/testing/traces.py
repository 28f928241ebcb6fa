"""Checks of what a run leaves behind: a whole artifact, a readable log, and nothing else anywhere."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from attar.budget import Budget
from attar.condensed import Condensed, open_condensed
from attar.execute import log
from attar.execute.progress import Progress, Silent
from attar.method import Method
from attar.real.realset import fingerprint
from attar.testing.toys import toy
from attar.testing.trial import folder, fresh, require
from attar.verbs.distill import job_of
from attar.verbs.look import verify
from attar.verbs.make import make


def made(method: Method, out: Path, progress: Progress | None = None) -> Condensed:
    """A folder made as ``attar distill`` or ``attar select`` makes it."""
    job = job_of(method.kind, toy(), method, out, {"ipc": 2, "threads": 1})
    return make(job, progress or Silent())[0]


def artifact_opens(method: Method) -> None:
    """The folder is whole, verifies, and opens with pyarrow, pandas and json."""
    with folder() as at:
        kept = made(method, at / "kept")
        require(bool(verify(at / "kept")["good"]), "the folder does not verify")
        opened = open_condensed(at / "kept")
        require(torch.equal(opened.images, kept.images), "the images read back differ from those that were kept")
        require(torch.equal(opened.labels, kept.labels), "the labels read back differ from those that were kept")
        table = pq.read_table(at / "kept" / "data" / "train.parquet")
        require(table["label"].to_pylist() == kept.labels.tolist(), "pyarrow reads other labels")
        manifest = json.loads((at / "kept" / "condensed.json").read_bytes(), parse_constant=_no_constant)
        require(manifest["budget"]["rows"] == len(kept) == table.num_rows, "the manifest counts other rows")
        require(sum(manifest["budget"]["per_class"]) == len(kept), "the manifest's classes do not add up")
        _pandas(at / "kept", kept)
        left = [p.name for p in at.iterdir() if p.name != "kept"]
        require(not left, f"{left} was left beside the folder")


def _no_constant(name: str) -> Any:
    raise AssertionError(f"the manifest holds {name}, which is no JSON")


def _pandas(at: Path, kept: Condensed) -> None:
    try:
        import pandas as pd
        from PIL import Image
    except ImportError:  # pandas is no dependency of attar
        return
    frame = pd.read_parquet(at / "data" / "train.parquet")
    require(frame["label"].tolist() == kept.labels.tolist(), "pandas reads other labels")
    pictures: list[dict[str, Any]] = frame["image"].tolist()
    first = Image.open(io.BytesIO(pictures[0]["bytes"]))
    require(first.size == tuple(kept.images.shape[:1:-1]), f"the first picture has the size {first.size}")


def source_unchanged(method: Method) -> None:
    """The real set holds after a run what it held before."""
    shared = toy()
    if shared.images is None:
        raise AssertionError("the toy has no images")
    real = dataclasses.replace(shared, images=shared.images.clone())  # not the one that other checks look at
    before = (fingerprint(real.images, real.table, real.class_names), real.rows.tolist(), real.ids.tolist())
    fresh(method, real, Budget(ipc=2), Budget(ipc=1))
    after = (fingerprint(real.images, real.table, real.class_names), real.rows.tolist(), real.ids.tolist())
    require(before == after == (real.fingerprint, *before[1:]), "the run changed the real set")


def no_side_effects(method: Method) -> None:
    """Generators, default dtype, threads, gradient mode, environment and working folder are as they were."""
    before = surroundings()
    with folder() as at:
        inside = surroundings()
        made(method, at / "kept")
        after = surroundings()
    for name, value in inside.items():
        require(value == after[name], f"{name} was changed by the run")
    require(before == surroundings(), "the check itself leaves traces")


def surroundings() -> dict[str, Any]:
    """What a library must not change."""
    return {
        "torch's generator": torch.default_generator.get_state().numpy().tobytes(),
        "numpy's generator": repr(np.random.get_state()),
        "Python's generator": random.getstate(),
        "the default dtype": torch.get_default_dtype(),
        "the number of threads": torch.get_num_threads(),
        "gradient mode": torch.is_grad_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "the environment": dict(os.environ),
        "the working folder": os.getcwd(),
    }


def no_network_no_stray_files(method: Method) -> None:
    """No connection and no new process; nothing is written outside the run's folder and the cache."""
    with folder() as at:
        with watched() as events:
            made(method, at / "kept")
        for event, where in events:
            inside = bool(where) and Path(where).is_relative_to(at.parent)
            require(inside, f"the run did {event} at {where or 'the system'}, outside its folder")


_events: ContextVar[list[tuple[str, str]] | None] = ContextVar("events", default=None)
_hooked: list[bool] = []
WRITES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "shutil.rmtree"}
OUTSIDE = {"socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "os.fork"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@contextmanager
def watched() -> Iterator[list[tuple[str, str]]]:
    """Notes (event, path) of connections, new processes and changes of files inside the block."""
    if not _hooked:  # an audit hook stays for the life of the process
        sys.addaudithook(_hook)
        _hooked.append(True)
    events: list[tuple[str, str]] = []
    token = _events.set(events)
    try:
        yield events
    finally:
        _events.reset(token)


def _hook(event: str, args: tuple[Any, ...]) -> None:
    events = _events.get()
    if events is None:
        return
    if event in OUTSIDE:
        events.append((event, ""))
    elif event in WRITES or (event == "open" and _writes(args)):
        in_open_folder = event in WRITES and isinstance(args[-1], int) and args[-1] >= 0
        if isinstance(args[0], int) or in_open_folder:  # an open file or folder: its opening was seen
            return
        path = os.path.realpath(os.fsdecode(args[0]))
        if path != os.devnull and "__pycache__" not in path:
            events.append((event, path))


def _writes(args: tuple[Any, ...]) -> bool:
    path, mode, flags = args
    if isinstance(path, int):
        return False
    return bool(flags & WRITING) if mode is None else any(c in mode for c in "wax+")


def progress_and_log(method: Method) -> None:
    """Progress goes forward to the end and not beyond; the log's lines are JSON with finite losses."""
    counts = Counts()
    with folder() as at:
        kept = made(method, at / "kept", counts)
        steps = method.length(toy())
        require(all(n >= 0 for n in counts.parts), "progress went backwards")
        require(sum(counts.parts) == counts.total, f"progress ended at {sum(counts.parts)} of {counts.total}")
        lines = (at / "kept" / "log.jsonl").read_bytes() if "log.jsonl" in kept.files else b""
    records = log.parse(lines)
    require(len(records) == len(lines.splitlines()), "a line of the log is no JSON")
    require(bool(records) == bool(steps), f"{steps} steps left {len(records)} lines in the log")
    at_step = [r["step"] for r in records]
    require(at_step == sorted(set(at_step)), f"the steps in the log are {at_step}")
    require(not records or at_step[-1] == steps, f"the log ends at step {at_step[-1:]} of {steps}")
    require(all(np.isfinite(r["loss"]).all() for r in records), "the log holds a loss that is not finite")


class Counts(Silent):
    """Progress that adds up the newest piece of work."""

    def __init__(self) -> None:
        self.total, self.parts = 0, [0]

    def start(self, label: str, total: int, done: int = 0) -> None:
        """Begins to count."""
        self.total, self.parts = total, [done]

    def advance(self, n: int = 1, **facts: float) -> None:
        """Notes a part."""
        self.parts.append(n)
