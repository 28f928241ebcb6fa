"""What a manifest says, read tolerantly: any key may be absent or of another type in an old or foreign one.

Nothing here raises. A fact that is not there is None (or empty), and the page leaves it out or says so.
"""

from __future__ import annotations

import json
import math
import shlex
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Pairs = tuple[tuple[str, str], ...]
"""Names with their values, ready to show."""

_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
"""Characters that turn the direction of what follows them: a name must not reorder its neighbours."""


def text(value: Any, limit: int = 200) -> str:
    """Any value as one line that can be encoded and that touches nothing around it.

    Control characters, lone surrogates and direction marks become the replacement character; what is longer than
    ``limit`` is cut with an ellipsis.
    """
    try:
        line = _plain(value)
    except (RecursionError, ValueError):  # ValueError: an integer of more than 4300 digits
        line = "too large to show"
    line = line[: limit + 1].replace("\n", " ").replace("\t", " ")
    line = "".join("\ufffd" if c in _BIDI or unicodedata.category(c) in ("Cc", "Cs") else c for c in line)
    return line if len(line) <= limit else line[:limit].rstrip() + "…"


def number(value: Any) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < 1e300 else None  # false for NaN; keeps a huge int from overflowing


def whole(value: Any) -> int | None:
    """A whole number, else None."""
    found = number(value)
    return None if found is None else int(found)


def mapping(value: Any) -> Mapping[str, Any]:
    """A dictionary, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: Any) -> list[Any]:
    """A list, else an empty one."""
    return list(value) if isinstance(value, (list, tuple)) else []


def pairs(value: Any, limit: int = 400) -> Pairs:
    """A dictionary as names and values."""
    return tuple((text(k, 80), text(v, limit)) for k, v in mapping(value).items())


@dataclass(frozen=True, kw_only=True)
class Measure:
    """An accuracy over seeds, as fractions in [0, 1].

    Args:
        mean, std: of the last epoch over seeds; a single seed has no spread.
        interval: (low, high) of the mean.
        protocol, labels: where they are told, as for a baseline that has ones of its own.
        each: one accuracy per seed.
        best: mean of the best epoch, where the protocol reports it.
    """

    mean: float
    std: float | None = None
    interval: tuple[float, float] | None = None
    each: tuple[float, ...] = ()
    seeds: int | None = None
    best: float | None = None
    protocol: str = ""
    labels: str = ""

    @property
    def drawn(self) -> tuple[float, float]:
        """The interval, or the mean alone."""
        return self.interval or (self.mean, self.mean)

    @property
    def reach(self) -> tuple[float, float]:
        """The interval, or mean plus and minus one deviation, or the mean alone."""
        spread = self.std or 0.0
        return self.interval or (self.mean - spread, self.mean + spread)


@dataclass(frozen=True, kw_only=True)
class Score:
    """What was measured of a set under one protocol with one network, and what stands beside it."""

    network: str
    protocol: str
    labels: str
    images: str
    augment: str
    epochs: str
    kept: Measure | None
    baselines: Mapping[str, Measure] = field(default_factory=dict)
    robust: Pairs = ()
    broken: str = ""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One entry of the lineage."""

    verb: str
    method: str
    settings: Pairs
    seed: str
    budget: str
    plan: Pairs
    environment: Pairs
    seconds: float | None
    shared: float | None
    steps: int | None
    memory: int | None
    command: str

    @property
    def named(self) -> str:
        """The method, and the rule that turned its score into a choice where it is another than the highest."""
        rule = dict(self.settings).get("rule", "").partition(":")[0]
        return self.method if rule in ("", "top", self.method) else f"{self.method} with rule {rule}"

    @property
    def shown(self) -> Pairs:
        """Settings, seed and budget."""
        return self.settings + tuple((k, v) for k, v in (("seed", self.seed), ("budget", self.budget)) if v)


def measure(value: Any) -> Measure | None:
    """An accuracy with its spread; None where there is no mean."""
    facts = mapping(value)
    mean = number(facts.get("last_mean"))
    if mean is None:
        return None
    each = tuple(x for x in map(number, items(facts.get("accuracies"))) if x is not None)
    ends = [x for x in map(number, items(facts.get("interval"))) if x is not None]
    seeds = whole(facts.get("seeds")) or len(each) or None
    return Measure(
        mean=mean,
        std=None if seeds == 1 else number(facts.get("last_std")),
        interval=(min(ends), max(ends)) if len(ends) == 2 else None,
        each=each,
        seeds=seeds,
        best=number(facts.get("best_mean")),
        protocol=_or_empty(facts.get("protocol")),
        labels=_or_empty(facts.get("labels")),
    )


def score(value: Any) -> Score:
    """A score object."""
    facts = mapping(value)
    found = {text(k, 60): measure(v) for k, v in mapping(facts.get("baseline")).items()}
    named = {k: text(facts[k], 60) if facts.get(k) is not None else "" for k in _NAMED}
    baselines = {k: m for k, m in found.items() if m is not None}
    ranks, broken = robust(facts.get("ranking")), text(facts.get("broken") or "", 400)
    return Score(**named, kept=measure(facts), baselines=baselines, robust=ranks, broken=broken)


def robust(value: Any) -> Pairs:
    """The label-robust and the augmentation-robust score of a ranking, with their intervals."""
    said = []
    for key, name in (("label_robust", "label-robust score"), ("augmentation_robust", "augmentation-robust score")):
        part = mapping(mapping(value).get(key))
        found, ends = number(part.get("score")), [number(x) for x in items(part.get("interval"))]
        among = " ({:.4f}–{:.4f})".format(*ends) if len(ends) == 2 and None not in ends else ""
        said += [(name, f"{found:.4f}{among}")] if found is not None else []
    return tuple(said)


_NAMED = ("network", "protocol", "labels", "images", "augment", "epochs")


def scores(values: Any) -> tuple[Score, ...]:
    """The scores of a manifest that hold an accuracy, those of the exact images first."""
    read = [score(v) for v in items(values)]
    return tuple(sorted((s for s in read if s.kept is not None), key=lambda s: s.images == "8-bit"))


def step(value: Any) -> Step:
    """A lineage entry."""
    facts = mapping(value)
    return Step(
        verb=text(facts.get("verb") or "made", 40),
        method=text(facts.get("method") or "", 80),
        settings=pairs(facts.get("settings")),
        seed=_or_empty(facts.get("seed")),
        budget=_or_empty(facts.get("budget")),
        plan=pairs(facts.get("plan")),
        environment=pairs(facts.get("environment")),
        seconds=number(facts.get("seconds")),
        shared=number(facts.get("shared_seconds")),
        steps=whole(facts.get("steps")),
        memory=whole(facts.get("peak_memory")),
        command=_command(facts.get("command")),
    )


def lineage(values: Any) -> tuple[Step, ...]:
    """The lineage of a manifest, the first step first."""
    return tuple(step(v) for v in items(values) if isinstance(v, Mapping))


def _command(value: Any) -> str:
    """A command line as text; a list of arguments is quoted for the shell."""
    words = items(value)
    return text(shlex.join(map(str, words)) if words else value or "", 4000)


def _or_empty(value: Any) -> str:
    return "" if value is None else text(value)


def _plain(value: Any) -> str:
    """A JSON value as people write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.10g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {_plain(v)}" for k, v in value.items()) or "none"
    return value if isinstance(value, str) else json.dumps(value, default=str)
