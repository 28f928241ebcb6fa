"""From a folder of shards to a folder of kept rows: survey, choose, keep, write; resumable at any instant."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from attar import __version__
from attar.budget import Budget
from attar.errors import DataError, UsageError, nearest
from attar.execute.identity import key
from attar.execute.progress import Progress
from attar.io import atomic
from attar.io.lock import lock
from attar.scale import census, memory, output, shards
from attar.scale.parts import SHARED
from attar.scale.radix import COUNTS
from attar.scale.shards import Columns
from attar.scale.spent import Spent
from attar.scale.stage import Stage
from attar.scale.table import METHODS, find
from attar.scale.work import JOB, SURVEY, Job, Work, load

PLACES = ("local", "ray")
FEW = 5
"""Most classes that are named one by one."""
REFUSED = "refused"
"""The mark of a job that ended by what is wrong with it: its command can only end so again."""
COUNTING = 2 * 8 * COUNTS
"""Bytes of the calling process while it looks for a threshold: the counts and their running sums."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How shards are read, and by whom; nothing here but the columns and ``balanced`` changes the result."""

    on: str = "local"
    "Who works: local (processes of this machine) or ray (a Ray cluster; needs the extra ray)."
    memory: str = "2GB"
    "Memory of all processes together, as in 2GB or 500MB; less than the work needs is refused with the number."
    workers: int = 0
    "Most worker processes; 0 for one a core. The result is the same for any number."
    balanced: bool = False
    "The same number of every class, picked inside each class; else one pool of all rows."
    features_column: str = "embedding"
    "Column of feature vectors (a list of floats)."
    label_column: str = "label"
    "Column of labels, where there is one; none for no labels."
    id_column: str = "id"
    "Column of ids (whole numbers), where there is one; else, or with none, rows are numbered."
    score_column: str = "score"
    "Column of scores (method score)."

    def __post_init__(self) -> None:
        if self.on not in PLACES:
            raise UsageError(f"--on {self.on} is unknown; {nearest(self.on, PLACES)}")
        if self.workers < 0:
            raise UsageError(f"workers={self.workers} must be at least 1, or 0 for one a core")
        memory.parsed(self.memory)


@dataclass(frozen=True, kw_only=True)
class Request:
    """One call.

    Args:
        source: folder, bucket or file. name: of the method. method: with its settings. budget: None where a threshold of
            the method decides. reading: how. seed: of the run. out: folder to write. command: to be noted.
    """

    source: str
    name: str
    method: Any
    budget: Budget | None
    reading: Reading
    seed: int
    out: Path
    command: str = ""

    @property
    def running(self) -> Path:
        """Where finished parts are kept until the output stands."""
        return self.out.with_name(self.out.name + ".attar-run")


def run(request: Request, progress: Progress) -> dict[str, Any]:
    """Does the job, or goes on with it, or finds it done; gives the manifest.

    Raises:
        AttarError: one sentence; finished parts are kept.
    """
    began = time.monotonic()
    if request.method.__class__ is not METHODS[request.name][0]:
        raise UsageError(f"the settings are of another method than '{request.name}'")
    atomic.recover(request.out)
    atomic.sweep(request.out.parent, request.out.name)
    apart(request)
    job = planned(request)
    identity = of(job, changed=False)
    if request.out.exists():
        _mine(request.out, identity)
        if not request.running.exists():  # nobody is at it, and nothing has to be written
            return _found(request.out, job)
    with lock(request.running / "lock", str(request.out)), _forgotten_if_empty(request.running):
        if request.out.exists():  # since before the work, or by another run that had the lock until now
            _mine(request.out, identity)
            manifest = _found(request.out, job)
        else:
            manifest = _made(request, job, identity, began, progress)
        _remove(request.running)
    return manifest


def _mine(out: Path, identity: str) -> None:
    """Refuses an existing folder that another command has written."""
    if not output.is_kept(out) or output.read(out)["identity"] != identity:
        raise UsageError(f"{out} exists already and was made otherwise; choose another --out, or remove it")


def _found(out: Path, job: Job) -> dict[str, Any]:
    """The manifest of a finished folder, whose files and shards are what they were."""
    _current(out, job)
    return output.verify(out)


def apart(request: Request) -> None:
    """Refuses a folder among the shards, where its files would be taken for shards.

    Raises:
        UsageError: the output is the source, or inside of it.
    """
    if "://" in request.source:
        return
    source, out = Path(request.source).expanduser().resolve(), request.out.resolve()
    if out == source or source in out.parents:
        raise UsageError(f"--out {request.out} lies among the shards of {request.source}; choose a folder elsewhere")


def _current(out: Path, job: Job) -> None:
    """Makes sure that shards which were written to since ``out`` was made of them hold the same.

    Raises:
        UsageError: one does not, though its length and its footer are the same.
    """
    before = {s["name"]: s for s in output.read(out)["source"]["shards"]}
    touched = [n for n, s in enumerate(job.shards) if s.changed != before[s.name]["changed"]]
    if not touched:
        return
    with tempfile.TemporaryDirectory() as folder:
        job.save(Path(folder))
        work = Work(Path(folder))
        for n in touched:
            units = [u for u, piece in enumerate(job.pieces) if piece.shard == n]
            content = census.digest([census.survey(work, SURVEY, u)[1]["digest"] for u in units])
            if content != before[job.shards[n].name]["content"]:
                raise UsageError(
                    f"{job.shards[n].name} was changed since {out} was made of it; choose another --out, or remove {out}"
                )


def _made(request: Request, job: Job, identity: str, began: float, progress: Progress) -> dict[str, Any]:
    """Does the job, or goes on with it, and writes its folder; gives the manifest."""
    work = Work(claimed(request.running, job))
    with executor(request, work) as workers:
        spent = Spent(work.folder, began, lambda: getattr(workers, "peak", 0))
        with spent.whatever_happens(), _marked(work.folder):
            stage = Stage(work, workers, memory.parsed(request.reading.memory), most(request.reading), progress, spent)
            chosen(request, stage)
            stage.map(output.KEEP, stage.pieces, "kept rows")
            output.assemble(work, request.out, manifest_of(request, work, identity, spent.facts(), stage))
    return output.read(request.out)


def planned(request: Request) -> Job:
    """The job, from the footers of all shards.

    Raises:
        AttarError: what shards, columns or budget are not.
    """
    kind, reading = type(request.method), request.reading
    balanced = reading.balanced or bool(request.budget and request.budget.ipc)
    if balanced and not kind.balances:
        raise UsageError(
            f"{request.name} has no --balanced for shards: distances do not know classes; select each class apart"
        )
    names = shards.found(request.source)
    with shards.opened(names[0]) as file:
        there = file.schema_arrow.names
    columns = Columns(
        features=reading.features_column if kind.features else None,
        label=_optional(reading, "label_column", there),
        id=_optional(reading, "id_column", there),
        score=reading.score_column if request.name == "score" else None,
    )
    if columns.label is None and (kind.labels or balanced):
        what = f"method {request.name}" if kind.labels else "a balanced choice"
        raise DataError(
            f"{what} needs labels, but {names[0]} has no column '{reading.label_column}'; give --label-column"
        )
    found, pieces, width, _ = shards.survey(names, columns)
    if kind.features and width < 1:
        raise DataError(f"the features of {names[0]} have no dimension; give vectors of at least one number")
    job = Job(
        method=request.name,
        settings=dataclasses.asdict(request.method),
        budget={k: v for k, v in vars(request.budget).items() if v is not None} if request.budget else {},
        balanced=balanced,
        seed=request.seed,
        columns=columns,
        shards=tuple(found),
        pieces=tuple(pieces),
        width=width,
        moments=kind.moments,
    )
    if request.budget is not None and request.budget.ipc is None:
        quotas(request.budget, [job.rows], [], balanced=False)
    return job


def _optional(reading: Reading, field: str, there: list[str]) -> str | None:
    """A column that need not be there unless it is asked for by name."""
    name = getattr(reading, field)
    usual = next(f.default for f in dataclasses.fields(Reading) if f.name == field)
    return None if name == "none" or (name == usual and name not in there) else name


def quotas(budget: Budget, sizes: list[int], names: list[Any], *, balanced: bool) -> list[int]:
    """How many rows to keep of each group.

    Raises:
        DataError: more than there are, or nothing of a class.
    """
    if not balanced:
        total = budget.total(sizes)
        if total > sizes[0]:
            raise DataError(f"{budget} asks for {total} rows but there are {sizes[0]}; lower it")
        return [total]
    counts = budget.counts(sizes, names=[str(n) for n in names])
    if 0 in counts:
        gone = names[counts.index(0)]
        raise DataError(
            f"{budget} keeps {sum(counts)} rows of {len(sizes)} classes and so nothing of class '{gone}'; "
            "raise it, or drop --balanced"
        )
    return counts


def of(job: Job, *, changed: bool) -> str:
    """The hash of what a job is; with ``changed``, of when its shards were changed too."""
    facts = dataclasses.asdict(job)
    if not changed:
        facts["shards"] = [{k: v for k, v in s.items() if k != "changed"} for s in facts["shards"]]
    return key({**facts, "attar": __version__})


def claimed(running: Path, job: Job) -> Path:
    """The folder of a job, with what an unfinished run of it left; parts of shards that have not changed are taken over.

    Raises:
        UsageError: an unfinished run with other settings is there.
    """
    folder = running / f"job-{of(job, changed=True)[:16]}"
    for other in sorted(running.glob("job-*")):
        if other == folder:
            continue
        if (other / JOB).is_file():
            old = load(other)
            if settings(old) != settings(job) and not (other / REFUSED).exists():
                raise UsageError(
                    f"{running} holds an unfinished run with other settings; repeat its command to finish it, or remove "
                    "that folder to start anew"
                )
            if (old.columns, old.moments) == (job.columns, job.moments):
                _taken_over(other, old, folder, job)
        atomic.remove(other)
    with atomic.named(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for inner in folder.iterdir():
        atomic.sweep(inner)
    atomic.sweep(folder)
    if not (folder / JOB).is_file():
        job.save(folder)
    return folder


def settings(job: Job) -> dict[str, Any]:
    """What a job is asked for, without the shards."""
    return {k: v for k, v in dataclasses.asdict(job).items() if k not in ("shards", "pieces", "width")}


def _taken_over(old: Path, was: Job, new: Path, job: Job) -> None:
    """Links the surveyed parts of unchanged pieces into the folder of a job whose other shards have changed."""

    def place(job: Job, unit: int) -> tuple[Any, ...]:
        piece = job.pieces[unit]
        return job.shards[piece.shard], piece.groups, piece.first, piece.rows

    mine = {place(job, unit): unit for unit in range(len(job.pieces))} if was.width == job.width else {}
    before, after = Work(old).parts, Work(new).parts
    for unit in range(len(was.pieces)):
        target = mine.get(place(was, unit))
        if target is not None and before.has(SURVEY, unit) and not after.has(SURVEY, target):
            path = after.path(SURVEY, target)
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):  # where the file system has no links it is surveyed again
                os.link(before.path(SURVEY, unit), path)


@contextmanager
def executor(request: Request, work: Work) -> Iterator[Any]:
    """Who works."""
    bound, many = memory.parsed(request.reading.memory), most(request.reading)
    if request.reading.on == "ray":
        from attar.scale.cluster import Cluster

        with Cluster(work.folder, many) as workers:
            yield workers
    else:
        from attar.scale.local import Local

        with Local(work.folder, many, bound) as workers:
            yield workers


def most(reading: Reading) -> int:
    """Most workers."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return reading.workers or cores


def chosen(request: Request, stage: Stage) -> None:
    """Surveys the shards and writes the numbers of the choice; refuses before all reading what cannot fit with any classes."""
    work, job = stage.work, stage.work.job
    total = request.budget.total([job.rows]) if request.budget and not request.budget.ipc else 1
    _room(request, stage, 0, total)
    stage.room(0, 0)
    stage.map(SURVEY, stage.pieces, "survey")
    names, sizes = census.classes(work) if job.columns.label is not None else ([], [])
    stage.share(SURVEY, {}, {"classes": names, "sizes": sizes})
    if work.parts.has(output.CHOICE, SHARED):
        return
    census.unique(work, stage.free() // 32)
    groups = sizes if job.balanced else [job.rows]
    k = quotas(request.budget, groups, names, balanced=job.balanced) if request.budget else []
    _room(request, stage, len(names), sum(k))
    numbers = request.method.choose(stage, groups, k)
    stage.room(0, 0)
    stage.share(output.CHOICE, numbers, {"names": sorted(numbers)})


def _room(request: Request, stage: Stage, classes: int, k: int) -> None:
    """Makes room for the choice of k rows.

    Raises:
        ResourceError: not even one worker fits.
    """
    method, job = request.method, stage.work.job
    stage.room(method.worker_bytes(job, classes, k), COUNTING + method.caller_bytes(job, classes))


def manifest_of(request: Request, work: Work, identity: str, spent: dict[str, float], stage: Stage) -> dict[str, Any]:
    """What was done."""
    job, names = work.job, [str(name) for name in work.classes]
    total, each = output.kept_rows(work)
    lost = [name for name, count in zip(names, each) if not count]
    found = [{**dataclasses.asdict(s), "content": d} for s, d in zip(job.shards, census.digests(work))]
    return {
        "kind": output.KIND,
        "schema": 1,
        "method": job.method,
        "settings": job.settings,
        "budget": job.budget,
        "balanced": job.balanced,
        "seed": job.seed,
        "columns": dataclasses.asdict(job.columns),
        "source": {"name": request.source, "rows": job.rows, "width": job.width, "shards": found},
        "kept": {"rows": total, "per_class": dict(zip(names, each)) if names else {}},
        "notes": [f"nothing is kept of class '{name}'" for name in lost] if len(lost) <= FEW else [_many(lost)],
        "command": request.command,
        "identity": identity,
        "seconds": round(spent["seconds"], 3),
        "memory": {"bound": stage.bound, "peak": int(spent["peak"])},
        "workers": {"on": request.reading.on, "most": stage.asked, "seconds": round(spent["mapped"], 3)},
        "environment": {
            "attar": __version__,
            "numpy": np.__version__,
            "pyarrow": pa.__version__,
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
        },
    }


@contextmanager
def _marked(folder: Path) -> Iterator[None]:
    """Marks a job that is refused, so that another one may take its place."""
    (folder / REFUSED).unlink(missing_ok=True)
    try:
        yield
    except (DataError, UsageError):
        with contextlib.suppress(OSError):
            (folder / REFUSED).touch()
        raise


def _many(lost: list[str]) -> str:
    return f"nothing is kept of {len(lost)} classes: {', '.join(lost[:FEW])} and others"


@contextmanager
def _forgotten_if_empty(running: Path) -> Iterator[None]:
    """Removes the folder of a run that ended before anything was finished."""
    try:
        yield
    except BaseException:
        if not any(running.rglob("*.part")):
            _remove(running)
        raise


def _remove(running: Path) -> None:
    """Deletes what an unfinished run kept; what cannot be deleted stays."""
    with contextlib.suppress(OSError):
        shutil.rmtree(running, ignore_errors=True)


__all__ = ["Reading", "Request", "find", "run"]
