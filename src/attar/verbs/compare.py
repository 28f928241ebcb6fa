"""compare: several methods at several sizes, by one protocol, in one table."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attar import registry
from attar.card import CLASSIFIED
from attar.condensed import Condensed
from attar.errors import UsageError, nearest
from attar.evaluate.presets import resolve
from attar.execute.progress import Progress, usual
from attar.io import atomic
from attar.manifest import fault, is_condensed
from attar.nets.build import build
from attar.real.load import load
from attar.real.realset import RealSet
from attar.report import compare as comparing
from attar.verbs.distill import job_of
from attar.verbs.evaluate import evaluate, specs
from attar.verbs.make import Job, make
from attar.verbs.options import Compute, Data


@dataclass(frozen=True)
class Contender:
    """One method of the comparison.

    Args:
        label: as the user wrote it: ``dm``, ``dm:steps=300``.
        name: the method.
        settings: given for it alone, or for all methods that have them.
    """

    label: str
    name: str
    settings: dict[str, Any]

    @property
    def folder(self) -> str:
        """A plain name for its sets."""
        return re.sub(r"[^\w.+=-]+", "-", self.label).strip("-.") or "method"


@dataclass(frozen=True)
class Hurry:
    """What a comparison takes where the user leaves it out."""

    nets: str | tuple[str, ...] = "convnet"
    seeds: int = 5
    epochs: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)


NARROW = "convnet:width=32"
QUICK = Hurry(nets=(NARROW, "mlp", "alexnet:width=32"), seeds=3, epochs=300, settings={"net": NARROW})
"""Convolutions a quarter as wide: AlexNet whole takes 4.4 PFLOP to score every matching method at 1 and 10 images per class."""


def compare(
    source: Any,
    *,
    methods: str | Sequence[str] = "random,kcenter,herding,dm",
    ipc: str | int | tuple[int, ...] = "1,10",
    out: str | Path,
    seed: int = 0,
    protocol: str = "dsa",
    nets: str | tuple[Any, ...] | None = None,
    seeds: int | None = None,
    epochs: int | None = None,
    full: bool = False,
    quick: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Makes and scores every method at every number of images per class; an interrupted comparison goes on.

    Args:
        source: the real data.
        methods: names, each with settings of its own where wanted: ``random,dm:steps=300:batch=64``. One method may stand
            there several times with different settings. ``matching`` stands for every method of the matching families,
            ``selection`` for every selector.
        ipc: images per class, one or several.
        out: the folder for the sets, ``compare.json``, ``compare.md`` and ``compare.html``.
        protocol, nets, seeds, epochs, full: as for :func:`attar.evaluate`; the same for all methods. Five seeds and the
            convnet where left out.
        quick: short schedules for two CPU cores, a narrow convnet with an MLP and a narrow AlexNet beside it, 300 epochs and
            three seeds, where nothing else is given. Such rows are marked: they are no figures of the papers' schedules.
        settings: how the data are read and the work computed, and settings of methods: ``steps=300`` holds for every
            method that has it.

    Returns:
        Rows of method, ipc, rows, bytes, seconds, folder, score, and the rules by which it was scored. A score whose
        training broke tells that under ``broken``, and the others go on.

    Raises:
        AttarError: one sentence with the remedy; wrong names and settings are refused before any work.
    """
    progress, out = progress or usual(), Path(out).expanduser()
    hurry = QUICK if quick else Hurry()
    contenders = contenders_of(methods, settings, quick=quick)
    shared = {k: v for k, v in settings.items() if k in _shared_names()}
    jobs = [_job(source, c, shared, ipc, seed, out) for c in contenders]
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; choose another --out for the folder of the comparison")
    how = {
        "protocol": protocol,
        "nets": specs(hurry.nets if nets is None else nets),
        "seeds": hurry.seeds if seeds is None else seeds,
        "epochs": hurry.epochs if epochs is None else epochs,
        "full": full,
    }
    check(load(source, progress=progress, **jobs[0].data.arguments()).train, how)
    rules = {**how, "nets": [str(n) for n in how["nets"]], "seed": seed, "quick": quick}
    known = _earlier(out, rules)
    table = {(c.label, b.ipc): known.get((c.label, b.ipc), []) for c, job in zip(contenders, jobs) for b in job.budgets}
    for c, job in zip(contenders, jobs):
        for kept, budget in zip(make(job, progress), job.budgets):
            scores = evaluate(kept, real=source, eight_bit=False, keep_going=True, progress=progress, **how, **shared)
            marked = {"rules": rules} | ({"quick": True} if quick else {})
            table[c.label, budget.ipc] = [_row(c, kept, budget.ipc, score) | marked for score in scores]
            _write([row for cell in table.values() for row in cell], out, source)
    return [row for cell in table.values() for row in cell]


def contenders_of(methods: str | Sequence[str], settings: dict[str, Any], *, quick: bool = False) -> list[Contender]:
    """The methods of a comparison; a group of them stands for all of its methods.

    Raises:
        UsageError: an unknown method or setting, the same method twice.
    """
    words = [m.strip() for m in (methods.split(",") if isinstance(methods, str) else methods)]
    labels = [label for word in words for label in registry.group(word) or (word,)]
    contenders = [contender(label, settings, quick=quick) for label in labels]
    if not contenders:
        raise UsageError("methods names no method; try random,dm")
    for i, c in enumerate(contenders):
        if c.folder in [other.folder for other in contenders[:i]]:
            raise UsageError(f"methods names '{c.label}' twice; leave one out, or give it other settings")
    known = {f.name for c in contenders for f in dataclasses.fields(registry.find(c.name))} | _shared_names()
    for name in settings:
        if name not in known:
            raise UsageError(f"none of the methods has a setting '{name}'; {nearest(name, known)}")
    return contenders


def contender(label: str, settings: dict[str, Any], *, quick: bool = False) -> Contender:
    """``dm:steps=300`` with the settings given for all methods, over those of its short schedule where that is asked for.

    A short schedule's own network wins over the narrow one that the others take: it was chosen for what the method needs.

    Raises:
        UsageError: an unknown method or setting.
    """
    name, *own = label.split(":")
    if own and name not in registry.names():  # my.py:Mine
        name = f"{name}:{own.pop(0)}"
    kind = registry.find(name, registry.WORDS)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}
    short = {**QUICK.settings, **kind.quick} if quick else {}
    given = {k: v for k, v in {**short, **settings}.items() if k in fields}
    for part in own:
        key, equals, value = part.partition("=")
        key = key.replace("-", "_")
        if key not in fields:
            raise UsageError(f"method '{name}' has no setting '{key}'; {nearest(key, fields)}")
        if not equals:
            raise UsageError(f"'{label}' gives '{key}' no value; write {name}:{key}=VALUE")
        given[key] = typed(value, str(fields[key].type), f"{name}:{key}")
    return Contender(label, name, given)


def typed(text: str, kind: str, where: str) -> Any:
    """A setting's value from its text, by the annotation of its field."""
    makers = {"int": int, "float": float, "bool": lambda t: {"true": True, "false": False}[t.lower()], "str": str}
    if text.lower() == "none" and "None" in kind:
        return None
    try:
        return makers[kind.split(" | ")[0]](text)
    except (KeyError, ValueError):
        raise UsageError(
            f"{where}={text} is not of type {kind.split(' | ')[0]}; attar methods {where.partition(':')[0]} lists what it takes"
        ) from None


def check(real: RealSet, how: dict[str, Any]) -> None:
    """Refuses what no evaluation could do, before the sets are made.

    Raises:
        UsageError: an unknown protocol or network, seeds or epochs out of range, examples that are no classified images.
    """
    if real.images is None or real.task != CLASSIFIED:
        raise UsageError(
            f"only classified images can be compared so, but the task of '{real.name}' is '{real.task}'; give one "
            "whose images have classes"
        )
    if how["seeds"] < 1:
        raise UsageError(f"seeds={how['seeds']} trains no network; it must be at least 1")
    for spec in how["nets"]:
        net = build(spec, channels=real.shape[0], size=real.shape[1:], classes=real.n_classes)
        resolve(how["protocol"], real, net=net, epochs=how["epochs"])


def _shared_names() -> set[str]:
    return {f.name for kind in (Data, Compute) for f in dataclasses.fields(kind)}


def _job(source: Any, c: Contender, shared: dict[str, Any], ipc: Any, seed: int, out: Path) -> Job:
    settings = {**shared, **c.settings, "ipc": ipc, "seed": seed}
    return job_of(registry.find(c.name).kind, source, c.name, out / c.folder, settings)


def _earlier(out: Path, rules: dict[str, Any]) -> dict[tuple[str, int | None], list[dict[str, Any]]]:
    """What an earlier comparison by the same rules left of each method and size, where its sets still stand.

    The table shows it until it is found again, so that going over a finished comparison never makes it shorter.
    """
    try:
        rows = json.loads((out / "compare.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    found: dict[tuple[str, int | None], list[dict[str, Any]]] = {}
    for row in rows if isinstance(rows, list) else []:
        whole = fault(row, {"method": str, "ipc": int, "folder": str, "score": {}, "rules": {}}) is None
        if whole and row["rules"] == rules and is_condensed(row["folder"]):
            found.setdefault((row["method"], row["ipc"]), []).append(row)
    return found


def _row(c: Contender, kept: Condensed, ipc: int | None, score: dict[str, Any]) -> dict[str, Any]:
    return {
        "method": c.label,
        "ipc": ipc,
        "rows": len(kept),
        "bytes": kept.manifest["budget"]["bytes_examples"],
        "seconds": kept.manifest["lineage"][0]["seconds"],
        "shared_seconds": kept.manifest["lineage"][0].get("shared_seconds"),
        "folder": str(kept.path),
        "score": score,
    }


def _write(rows: list[dict[str, Any]], out: Path, source: Any) -> None:
    title = f"Methods on {Path(str(source)).name}" if isinstance(source, (str, Path)) else "Methods"
    atomic.write_json(out / "compare.json", rows)
    atomic.write_bytes(out / "compare.md", comparing.markdown(rows).encode())
    atomic.write_bytes(out / "compare.html", comparing.render(rows, title=title).encode())
