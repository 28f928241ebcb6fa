"""What ``select`` and ``distill`` share: from a source and a method to finished folders, resumable at any instant."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar import __version__
from attar.augment.strategy import written
from attar.budget import Budget
from attar.condensed import Condensed, condense, open_condensed
from attar.errors import ResourceError, UsageError
from attar.execute import log, memory, plan
from attar.execute.checkpoint import Checkpoint, Foreign
from attar.execute.identity import describe, files, key
from attar.execute.plan import Plan
from attar.execute.progress import Progress
from attar.io import atomic
from attar.io.lock import lock
from attar.manifest import is_condensed, read_manifest
from attar.method import Cost, Method, Resources, Rows
from attar.params import pixels
from attar.real.objects import DETECTION
from attar.real.realset import RealSet, Splits
from attar.report import page
from attar.resources import plane
from attar.resources.build import gather, spent
from attar.resources.resource import needed
from attar.resources.zca import ZCA
from attar.run import Outcome, run
from attar.seeds import Seeds
from attar.verbs.options import Amount, Compute, Data
from attar.verbs.read import read


@dataclass(frozen=True, kw_only=True)
class Job:
    """One call of ``select`` or ``distill``.

    Args:
        verb: select or distill. source: as the user gave it. name: the method's command-line name.
        method: the method with its settings.
        seed: the run's seed. minutes: stop by then. save_every: seconds between two saves.
        out: the folder to write; None keeps the result in memory alone.
        forewarn: told of the job, the data and the plan before any of the work.
    """

    verb: str
    source: Any
    name: str
    method: Method
    amount: Amount
    data: Data
    compute: Compute
    seed: int = 0
    minutes: float | None = None
    save_every: float = 30.0
    out: Path | None = None
    forewarn: Callable[[Job, RealSet, Plan], None] | None = None

    def __post_init__(self) -> None:
        if self.method.kind != self.verb:
            raise UsageError(f"method '{self.name}' is for attar {self.method.kind}, not attar {self.verb}")
        if self.data.zca and self.method.by_channel:
            raise UsageError(
                f"method '{self.name}' keeps pixels and normalises their channels itself, so its images cannot be whitened; "
                "leave zca out, or take a method that learns in the normalised space, as mtt or dm"
            )
        for name, value in [*vars(self.method).items(), *vars(self.data).items(), ("save_every", self.save_every)]:
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"{name}={value} is not a finite number")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise UsageError(f"minutes={self.minutes} must be a positive number")
        if self.method.steps < 0 or (self.verb == "distill" and self.method.steps < 1):
            raise UsageError(f"steps={self.method.steps} must be at least 1")
        _ = self.budgets  # refuses impossible ones

    @property
    def budgets(self) -> list[Budget]:
        return self.amount.budgets()

    @property
    def folders(self) -> list[Path]:
        """Where each budget's set is written: the folder itself, or one in it for each of several budgets."""
        assert self.out is not None
        return [self.out] if len(self.budgets) == 1 else [self.out / f"ipc-{b.ipc}" for b in self.budgets]

    @property
    def running(self) -> Path:
        """Where the unfinished run keeps its state."""
        assert self.out is not None
        return self.out.with_name(self.out.name + ".attar-run")

    def identity(self, real: RealSet) -> dict[str, Any]:
        """What makes this run this run; threads and precision are added by the plan."""
        settings = describe(self.method)
        return {
            "verb": self.verb,
            "method": self.name,
            "settings": settings,
            "files": files([self.name, settings]),
            "seed": self.seed,
            "budgets": [str(b) for b in self.budgets],
            "minutes": self.minutes,
            "data": real.fingerprint,
            "preprocessing": real.space,
            "written": written(real),  # which transforms ``auto`` stands for
            "attar": __version__,
        }

    def cost(self, real: RealSet) -> Cost:
        """The estimate: a step of the largest budget, and the larger memory of the method's and its resources'."""
        largest = max(self.budgets, key=lambda b: b.total(real.sizes or [len(real)], real.example_bytes))
        own = self.method.cost(real, largest)
        shared = [r.cost(real) for r in needed(self.method)]
        flops = max((c.flops_per_step for c in (own, *shared)), default=0.0)
        fitting = [ZCA().cost(real).memory] if self.data.zca else []
        together = self._crowded(sum(r.crowd for r in needed(self.method)))
        memories = (c.memory * (together if r.crowd else 1) for r, c in zip(needed(self.method), shared))
        return Cost(flops_per_step=flops, memory=max([*fitting, own.memory, *memories]))

    def _crowded(self, count: int) -> int:
        """How many of a crowd of resources are made at the same time."""
        return max(1, min(count, self.compute.threads or plan.cores())) if self.compute.device in (None, "cpu") else 1

    def flops(self, real: RealSet) -> float:
        """Floating-point operations of the whole job, resources included."""
        largest = max(self.budgets, key=lambda b: b.total(real.sizes or [len(real)], real.example_bytes))
        own = self.method.cost(real, largest).flops_per_step * max(1, self.method.length(real))
        return own + self.shared_flops(real)

    def shared_flops(self, real: RealSet) -> float:
        """Those of the resources, as experts, which no time limit bounds."""
        shared = (*needed(self.method), *((ZCA(),) if self.data.zca else ()))
        return sum(r.cost(real).flops_per_step * r.length(real) for r in shared)

    def plan(self, real: RealSet) -> Plan:
        """The plan of the unfinished run where there is one, else a new one; what the user gives wins."""
        stored = Checkpoint(self.running).plan() if self.out is not None else None
        c = self.compute
        if stored is not None and (c.device, c.threads, c.dtype, c.compile) == (None,) * 4:
            return Plan(**stored)
        hurried = c.compile is None and self.minutes is not None and self.minutes < plan.COMPILING
        return plan.make(
            device=c.device,
            threads=c.threads,
            dtype=c.dtype,
            compiled=False if hurried else c.compile,
            flops_per_step=self.cost(real).flops_per_step,
            flops=self.flops(real),
        )


def named(out: Path) -> Path:
    """A path with a name of its own, which ``.`` and ``..`` are not."""
    return out if out.name not in ("", "..") else out.resolve()


def make(job: Job, progress: Progress) -> list[Condensed]:
    """Does the job, or goes on with it, or finds it done.

    Raises:
        AttarError: see the rooms below; nothing is half-written.
    """
    if job.out is None:
        splits = read(job.source, job.data, progress=progress)
        return _compute(job, splits, progress)
    atomic.recover(job.out)
    atomic.sweep(job.out.parent, job.out.name)
    if job.out.exists():
        _mine(job)
    with _above(job.out):
        writable(job.out)
        splits = read(job.source, job.data, progress=progress)
        with lock(job.running / "lock", str(job.out)):
            try:
                done = _finished(job, splits.train) if job.out.exists() else _written(job, splits, progress)
            except Foreign:
                raise
            except BaseException:
                _forget_if_empty(job.running)
                raise
            Checkpoint(job.running).discard()
    return done


@contextlib.contextmanager
def _above(out: Path) -> Iterator[None]:
    """Removes the folders above ``out`` that were made on the way to an error, where nothing is in them."""
    absent = [p for p in out.absolute().parents if not p.exists()]
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for folder in absent:
                folder.rmdir()
        raise


def _mine(job: Job) -> None:
    """Refuses an existing folder that the same command could not have written, before any work."""
    for folder in job.folders:
        last = read_manifest(folder)["lineage"][-1] if is_condensed(folder) else {}
        if (last.get("verb"), last.get("method"), last.get("seed")) != (job.verb, job.name, job.seed):
            raise UsageError(f"{job.out} exists already; choose another --out, or remove it")


def _finished(job: Job, real: RealSet) -> list[Condensed]:
    """The folders that a finished run of the same command left."""
    wanted = key(job.identity(real))
    done = [open_condensed(folder) for folder in job.folders]
    for last in (c.manifest["lineage"][-1] for c in done):
        if last.get("identity") != wanted or _computed_otherwise(last.get("plan", {}), job.compute):
            raise UsageError(
                f"{job.out} exists already and was made with other settings; choose another --out, or remove it"
            )
    return done


def _computed_otherwise(plan: Mapping[str, Any], asked: Compute) -> bool:
    """Whether another precision or device is asked for than that of a plan; threads and compiling change the last bits alone."""
    pairs = ((plan.get("dtype"), asked.dtype), (plan.get("device"), asked.device))
    return any(now is not None and now != then for then, now in pairs)


def _compute(job: Job, splits: Splits, progress: Progress) -> list[Condensed]:
    real, began = splits.train, time.time()
    if real.task == DETECTION and job.verb == "distill":
        raise UsageError(
            f"{real.name} is a set for detection, of which nothing is distilled; attar select takes csod for it"
        )
    if job.verb == "distill":  # before hours of shared trainings, not after them
        for budget in job.budgets:
            first_images(job, real, budget)
    memory.require(job.cost(real).memory, f"{job.name} at {job.budgets[-1]}")
    how = job.plan(real)
    folder = job.running if job.out is not None else None
    if folder is not None:
        Checkpoint(folder).claim({**job.identity(real), "plan": how.facts()})
    if job.forewarn is not None:
        job.forewarn(job, real, how)
    res = gather(job.method, real, seed=job.seed, plan=how, progress=progress)
    outcome = run(
        job.method,
        real,
        job.budgets,
        seed=job.seed,
        plan=how,
        res=res,
        folder=folder,
        identity=job.identity(real),
        progress=progress,
        label=f"{job.name} {job.budgets[0] if len(job.budgets) == 1 else 'ipc ' + str(job.amount.ipc)}",
        save_every=job.save_every,
        minutes=job.minutes,
    )
    return [
        _condense(job, splits, i, dataclasses.replace(outcome, log=log.of_budget(outcome.log, i)), res, how, began)
        for i in range(len(job.budgets))
    ]


def first_images(job: Job, real: RealSet, budget: Budget) -> None:
    """Refuses a budget that the first images of a distillation cannot fill.

    Raises:
        DataError: a class that is smaller than its share of real images, or empty; a set without classes.
    """
    settings = vars(job.method)
    if "start" in settings:
        pixels.asked(real, budget, kind="noise" if settings["start"] == "noise" else "real")


def _condense(job: Job, splits: Splits, index: int, outcome: Outcome, res: Any, how: Plan, began: float) -> Condensed:
    """The set of one budget, with its page."""
    real, budget = splits.train, job.budgets[index]
    rows = mapped(job.method.finish(outcome.states[index], res), res, job.seed)
    asked = {k: v for k, v in vars(budget).items() if v is not None}
    kept = condense(
        rows,
        real,
        kind="subset" if rows.picked is not None else "synthetic",
        lineage=[
            {
                "verb": job.verb,
                "method": job.name,
                "settings": describe(job.method),
                "seed": job.seed,
                "budget": asked,
                "source": str(job.source) if isinstance(job.source, (str, Path)) else None,
                "data": describe(job.data),
                "minutes": job.minutes,
                "paper": job.method.paper,
                "command": command(job, asked),
                "identity": key(job.identity(real)),
                "plan": how.facts(),
                "environment": plan.environment(),
                "steps": outcome.steps,
                "seconds": round(outcome.seconds, 3),
                "shared_seconds": round(spent(job.method, real, seed=job.seed, plan=how), 3),
                "peak_memory": max(outcome.peak_memory, memory.peak()),
                "started": int(began),
                "notes": list(splits.notes),
            }
        ],
        budget={"asked": str(budget)},
    )
    if outcome.log:
        kept.files["log.jsonl"] = outcome.log
    seen = real if kept.class_names == real.class_names else None  # labels of a person may have classes of their own
    folder = job.folders[index].name if job.out is not None else None
    kept.files["report.html"] = page.render(kept, real=seen, folder=folder).encode()
    return kept


def mapped(rows: Rows, res: Resources, seed: int) -> Rows:
    """A selection with the places of all examples in the map of the features that it compared, where it did."""
    features = plane.compared(res)
    if rows.picked is None or features is None:
        return rows
    found = plane.places(features, rows.picked, Seeds(seed).at("plane"))
    return dataclasses.replace(rows, judged={**rows.judged, **found})


def _written(job: Job, splits: Splits, progress: Progress) -> list[Condensed]:
    """Computes the sets and writes one folder, or the folder of several, in one step, and opens it again."""
    assert job.out is not None
    done = _compute(job, splits, progress)
    if len(done) == 1:
        done[0].save(job.out)
    else:
        with atomic.folder(job.out) as tmp:
            for kept, folder in zip(done, job.folders):
                kept.save(tmp / folder.name)
    for kept, folder in zip(done, job.folders):
        open_condensed(folder)
        kept.path = folder
    return done


def command(job: Job, budget: dict[str, Any]) -> str:
    """The shell command that makes the same set."""
    source = str(job.source) if isinstance(job.source, (str, Path)) else "DATA"
    words = ["attar", job.verb, source, "--method", job.name]
    flags = {"keep" if k == "fraction" else k: v for k, v in budget.items()} | {"seed": job.seed}
    for settings in (job.method, job.data):
        fields = dataclasses.fields(settings)
        flags |= {
            f.name: getattr(settings, f.name) for f in fields if f.init and getattr(settings, f.name) != f.default
        }
    if job.minutes is not None:
        flags["minutes"] = job.minutes
    for name, value in flags.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            words += [f"--{flag}", "x".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)]
    return shlex.join(words)


def writable(out: Path) -> None:
    """Refuses a place that cannot be written to, before the work.

    Raises:
        ResourceError: no permission, or a read-only or full disk.
    """
    probe = atomic.temporary(out)
    try:
        atomic.write_new(probe, b"\0" * 4096)
    finally:
        atomic.remove(probe)


def _forget_if_empty(running: Path) -> None:
    """Removes a run's folder that holds no state (a call that was refused or stopped early)."""
    if not any(running.glob("state-*")):
        with contextlib.suppress(ResourceError):  # the error on its way matters more
            atomic.remove(running)
