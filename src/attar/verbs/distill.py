"""distill and select: make a dataset small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attar import registry
from attar.condensed import Condensed
from attar.errors import UsageError
from attar.execute.progress import Progress, usual
from attar.method import Method
from attar.verbs import estimate
from attar.verbs.make import Job, make, named
from attar.verbs.options import Amount, Compute, Course, Data, divide
from attar.verbs.schedule import ahead
from attar.verbs.shards import meant, select_shards


def distill(
    source: Any,
    *,
    method: str | Method = "dm",
    out: str | Path | None = None,
    quick: bool = False,
    preset: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Any:
    """Synthesises a tiny set that trains like the large one.

    Args:
        source: a name (``digits``), a path (class folders, parquet, npz), arrays, a torch or Hugging Face dataset.
        method: a name (:func:`attar.methods` lists them), ``my.py:MyMethod``, or a Method with its settings.
        out: the folder to write; the same call goes on with an interrupted run. None keeps the result in memory.
        quick: take the method's short schedule for two CPU cores in place of the paper's; settings that are given win.
        preset: take the authors' settings for a data set and images per class, as ``cifar10-10``; what is given wins.
        dry_run: estimate cost and memory, and do nothing.
        progress: what is told of the progress; bars in terminals and notebooks where left out.
        settings: ``ipc``, ``rows``, ``keep`` or ``bytes``; ``seed``, ``minutes``; ``size``, ``group`` and whatever reads
            the data; ``device``, ``threads``, ``dtype``, ``compile``; and every setting of the method.

    Returns:
        A :class:`~attar.condensed.Condensed`; a list of them for several ipc; the estimate of a dry run.

    Raises:
        AttarError: one sentence with the remedy.

    Example:
        >>> kept = distill("digits", method="dm", ipc=1, steps=2, batch=8, net="convnet:width=8")
        >>> len(kept)
        10
    """
    job = job_of("distill", source, method, out, scheduled(method, settings, quick=quick, preset=preset))
    return estimate.estimate(job) if dry_run else result(job, progress)


def select(
    source: Any,
    *,
    method: str | Method | None = None,
    out: str | Path | None = None,
    quick: bool = False,
    preset: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Any:
    """Chooses the real examples that matter; arguments and errors as for :func:`distill`.

    With ``on="local"`` or ``on="ray"``, or ``memory`` or ``workers`` beside a method for shards, the source is a folder of
    parquet shards of features that need not fit into memory, and the result a manifest
    (:func:`attar.verbs.shards.select_shards`).

    Without a method it is ``kcenter``, or ``active`` where a ``query`` is given.

    Example:
        >>> kept = select("digits", method="random", ipc=2)
        >>> len(kept), kept.kind
        (20, 'subset')
    """
    method = method or ("active" if "query" in settings else "kcenter")
    if meant(settings, method):
        if not isinstance(method, str) or out is None or quick or preset is not None or dry_run:
            raise UsageError(
                "select from shards takes the name of a method and out=, and none of quick, preset and dry_run"
            )
        return select_shards(source, method=method, out=out, progress=progress, **settings)
    job = job_of("select", source, method, out, scheduled(method, settings, quick=quick, preset=preset))
    return estimate.estimate(job) if dry_run else result(job, progress)


def result(job: Job, progress: Progress | None) -> Condensed | list[Condensed]:
    """One set, or a list for several budgets."""
    done = make(job, progress or usual())
    return done[0] if len(job.budgets) == 1 else done


def scheduled(method: str | Method, settings: dict[str, Any], *, quick: bool, preset: str | None) -> dict[str, Any]:
    """Settings over those of the method's short schedule or preset.

    Raises:
        UsageError: a method object, whose settings are all decided; or what :func:`attar.verbs.schedule.ahead` refuses.
    """
    if not quick and preset is None:
        return settings
    if isinstance(method, Method):
        asked = "quick=True" if quick else f"preset='{preset}'"
        raise UsageError(f"{asked} goes with the name of a method, but this one has its settings; leave it out")
    return {**ahead(registry.find(method), settings, quick=quick, preset=preset), **settings}


def job_of(verb: str, source: Any, method: str | Method, out: str | Path | None, settings: dict[str, Any]) -> Job:
    """Sorts keywords into the settings of the method, the budget, the data and the computation."""
    if isinstance(method, Method):
        name, made = registry.name_of(type(method)), method
        course, amount, data, compute = divide(settings, (Course, Amount, Data, Compute))
    else:
        name = method
        made, course, amount, data, compute = divide(settings, (registry.find(method), Course, Amount, Data, Compute))
    return Job(
        verb=verb,
        source=source,
        name=name,
        method=made,
        amount=amount,
        data=data,
        compute=compute,
        out=named(Path(out).expanduser()) if out is not None else None,
        **vars(course),
    )
