"""select on parquet shards that need not fit into memory: what ``--on`` asks for, or a bound of memory or workers."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import Any

from attar.budget import Budget
from attar.errors import UsageError
from attar.execute.progress import Progress, usual
from attar.scale import output
from attar.scale.run import Reading, Request, run
from attar.scale.table import METHODS, find
from attar.verbs.options import Amount, divide


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chance:
    """What is random."""

    seed: int = 0
    "Seed of the run."


def meant(asked: Collection[str], method: Any) -> bool:
    """Whether ``select`` is asked for shards: ``on`` says so, and ``memory`` or ``workers`` beside a method for them.

    Args:
        asked: names of the settings that were given.
        method: as it was given; some methods that are not for shards have a ``memory`` of their own.
    """
    bounded = "memory" in asked or "workers" in asked
    return "on" in asked or (bounded and isinstance(method, str) and method in METHODS)


def select_shards(
    source: str | Path,
    *,
    method: str = "el2n",
    out: str | Path,
    progress: Progress | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Chooses rows of parquet shards of features, in bounded memory, on one machine or a Ray cluster.

    Args:
        source: a folder or bucket of shards, or one of them.
        method: a name of :data:`attar.scale.table.METHODS`.
        out: the folder to write; the same call goes on with an interrupted run.
        settings: ``ipc``, ``rows`` or ``keep``; ``seed``; the fields of :class:`~attar.scale.run.Reading` and of the method.

    Returns:
        The manifest of the folder.

    Raises:
        AttarError: one sentence with the remedy.
    """
    made, amount, reading, chance = divide(settings, (find(method), Amount, Reading, Chance))
    return run(request(str(source), method, made, amount, reading, chance.seed, Path(out)), progress or usual())


def request(source: str, name: str, method: Any, amount: Amount, reading: Reading, seed: int, out: Path) -> Request:
    """The call that these settings make.

    Raises:
        UsageError: a budget that shards do not know, none at all, or one beside a threshold.
    """
    budget = _budget(amount, getattr(method, "threshold", None))
    command = _command(source, name, method, budget, reading, seed, out)
    return Request(
        source=source,
        name=name,
        method=method,
        budget=budget,
        reading=reading,
        seed=seed,
        out=out.expanduser(),
        command=command,
    )


def _budget(amount: Amount, threshold: float | None) -> Budget | None:
    given = {k: v for k, v in vars(amount).items() if v is not None}
    if threshold is not None:
        if given:
            raise UsageError(
                f"threshold={threshold} decides how much is kept; give it or --{next(iter(given))}, not both"
            )
        return None
    if not given or amount.bytes is not None:
        raise UsageError("say how much to keep of the shards: --keep 0.1, --rows 1000, or --ipc 10 for each class")
    budgets = amount.budgets()
    if len(budgets) > 1:
        raise UsageError(f"ipc={amount.ipc} are {len(budgets)} budgets; give one of them for shards")
    return budgets[0]


def _command(source: str, name: str, method: Any, budget: Budget | None, reading: Reading, seed: int, out: Path) -> str:
    """The shell command that selects the same."""
    asked = {} if budget is None else {k: v for k, v in vars(budget).items() if v is not None}
    flags: dict[str, Any] = {"keep" if k == "fraction" else k: v for k, v in asked.items()} | {"seed": seed}
    for settings in (method, reading):
        for f in dataclasses.fields(settings):
            value = getattr(settings, f.name)
            if f.name in ("on", "memory") or value != f.default:
                flags[f.name] = value
    words = ["attar", "select", source, "--method", name]
    for flag, value in flags.items():
        dashed = flag.replace("_", "-")
        words += ([f"--{dashed}"] if value else []) if isinstance(value, bool) else [f"--{dashed}", str(value)]
    return shlex.join([*words, "--out", str(out)])


def verify_shards(folder: str | Path) -> dict[str, Any]:
    """Checks every byte of a selection from shards.

    Raises:
        DataError: the first thing that is wrong.
    """
    manifest = output.verify(folder)
    return {
        "folder": str(folder),
        "kind": manifest["kind"],
        "rows": manifest["kept"]["rows"],
        "files": {name: facts["bytes"] for name, facts in manifest["files"].items()},
        "method": manifest["method"],
        "good": True,
    }
