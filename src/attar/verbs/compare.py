"""compare: several methods at several sizes, by one protocol, in one table."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar import registry
from attar.condensed import Condensed
from attar.errors import UsageError, nearest
from attar.execute.progress import Progress, usual
from attar.io import atomic
from attar.report import compare as comparing
from attar.verbs.distill import job_of
from attar.verbs.evaluate import evaluate
from attar.verbs.make import Job, make
from attar.verbs.options import Compute, Data


@dataclass(frozen=True)
class Contender:
    """One method of the comparison with the settings given for it alone."""

    name: str
    settings: dict[str, Any]


def compare(
    source: Any,
    *,
    methods: str | tuple[str, ...] = "random,kcenter,herding,dm",
    ipc: str | int | tuple[int, ...] = "1,10",
    out: str | Path,
    seed: int = 0,
    protocol: str = "dsa",
    nets: str = "convnet",
    seeds: int = 5,
    epochs: int | None = None,
    full: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Makes and scores every method at every number of images per class; an interrupted comparison goes on.

    Args:
        source: the real data.
        methods: names, each with settings of its own where wanted: ``random,dm:steps=300:batch=64``.
        ipc: images per class, one or several.
        out: the folder for the sets, ``compare.json``, ``compare.md`` and ``compare.html``.
        protocol, nets, seeds, epochs, full: as for :func:`attar.evaluate`; the same for all methods.
        settings: how the data are read and the work computed, and settings of methods: ``steps=300`` holds for every
            method that has it.

    Returns:
        Rows of method, ipc, rows, bytes, seconds, folder and score.
    """
    progress, out = progress or usual(), Path(out)
    names = methods.split(",") if isinstance(methods, str) else methods
    contenders = [contender(name, settings) for name in names]
    check_settings(settings, contenders)
    shared = {k: v for k, v in settings.items() if k in _shared_names()}
    jobs = [_job(source, c, shared, ipc, seed, out) for c in contenders]  # all refusals before any work
    rows = []
    for job in jobs:
        for kept, budget in zip(make(job, progress), job.budgets):
            scores = evaluate(
                kept,
                real=source,
                protocol=protocol,
                nets=nets,
                seeds=seeds,
                epochs=epochs,
                full=full,
                eight_bit=False,
                progress=progress,
                **shared,
            )
            rows += [_row(job, kept, budget.ipc, score) for score in scores]
            _write(rows, out, source)
    return rows


def contender(text: str, settings: dict[str, Any]) -> Contender:
    """``dm:steps=300`` with the settings given for all methods.

    Raises:
        UsageError: an unknown method or setting.
    """
    name, *own = text.split(":")
    if name.endswith(".py") and own:
        name = f"{name}:{own.pop(0)}"
    fields = {f.name: f for f in dataclasses.fields(registry.find(name))}
    given = {k: v for k, v in settings.items() if k in fields}
    for part in own:
        key, _, value = part.partition("=")
        key = key.replace("-", "_")
        if key not in fields:
            raise UsageError(f"method '{name}' has no setting '{key}'; {nearest(key, fields)}")
        given[key] = typed(value, str(fields[key].type), f"{name}:{key}")
    return Contender(name, given)


def typed(text: str, kind: str, where: str) -> Any:
    """A setting's value from its text, by the annotation of its field."""
    makers = {"int": int, "float": float, "bool": lambda t: {"true": True, "false": False}[t.lower()], "str": str}
    if text.lower() == "none" and "None" in kind:
        return None
    try:
        return makers[kind.split(" | ")[0]](text)
    except (KeyError, ValueError):
        raise UsageError(f"{where}={text} is not of type {kind}") from None


def _shared_names() -> set[str]:
    return {f.name for kind in (Data, Compute) for f in dataclasses.fields(kind)}


def _job(source: Any, c: Contender, shared: dict[str, Any], ipc: Any, seed: int, out: Path) -> Job:
    settings = {**shared, **c.settings, "ipc": ipc, "seed": seed}
    return job_of(registry.find(c.name).kind, source, c.name, out / c.name.replace("/", "_"), settings)


def _row(job: Job, kept: Condensed, ipc: int | None, score: dict[str, Any]) -> dict[str, Any]:
    return {
        "method": job.name,
        "ipc": ipc,
        "rows": len(kept),
        "bytes": kept.manifest["budget"]["bytes_examples"],
        "seconds": kept.manifest["lineage"][0]["seconds"],
        "folder": str(kept.path),
        "score": score,
    }


def _write(rows: list[dict[str, Any]], out: Path, source: Any) -> None:
    title = f"Methods on {Path(str(source)).name}" if isinstance(source, (str, Path)) else "Methods"
    atomic.write_json(out / "compare.json", rows)
    atomic.write_bytes(out / "compare.md", comparing.markdown(rows).encode())
    atomic.write_bytes(out / "compare.html", comparing.render(rows, title=title).encode())


def check_settings(settings: dict[str, Any], contenders: list[Contender]) -> None:
    """Refuses a setting that neither a method nor the shared options have."""
    known = {f.name: None for c in contenders for f in dataclasses.fields(registry.find(c.name))}
    for name in settings:
        if name not in known and name not in _shared_names():
            raise UsageError(f"there is no setting '{name}'; {nearest(name, [*known, *_shared_names()])}")
