"""The settings that verbs share; their fields are command-line flags and Python keywords alike."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, TypeVar

from attar.budget import Budget
from attar.errors import UsageError, nearest

T = TypeVar("T")
RESERVED = {"source", "method", "out", "quick", "preset", "dry_run", "progress", "json"}
RESERVED |= {"settings", "amount", "data", "compute"}
"""Names of the verbs' own arguments."""


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How much to keep: one of these."""

    ipc: str | int | tuple[int, ...] | None = None
    "Images per class; several, as in 1,10,50, are made in one run over the same draws."
    rows: int | None = None
    "Examples in all."
    keep: float | None = None
    "Share of the real examples, in (0, 1]."
    bytes: int | None = None
    "Raw bytes of the kept examples as 8-bit pictures (with --params, as many bytes as those take in 32 bits)."

    def budgets(self) -> list[Budget]:
        """One budget, or one for each ipc; ipc 1 where nothing is given."""
        given = {k: v for k, v in vars(self).items() if v is not None}
        if len(given) > 1:
            told = " and ".join(f"{k}={v}" for k, v in given.items())
            raise UsageError(f"{told} are {len(given)} budgets; give one of them")
        if self.keep is not None and not 0 < self.keep <= 1:
            raise UsageError(f"keep={self.keep} is not a share in (0, 1]; try 0.1")
        if given and self.ipc is None:
            return [Budget(rows=self.rows, fraction=self.keep, bytes=self.bytes)]
        return [Budget(ipc=n) for n in dict.fromkeys(numbers(1 if self.ipc is None else self.ipc, "ipc"))]


@dataclass(frozen=True, kw_only=True)
class Course:
    """The run itself."""

    seed: int = 0
    "Seed of the run."
    minutes: float | None = None
    "Stop after so many minutes at the best state by then (the last of idc, dream, idm, datm, and of ncfm with a sampler)."
    save_every: float = 30.0
    "Seconds between two saves."


@dataclass(frozen=True, kw_only=True)
class Data:
    """How the real set is read."""

    size: str | int | tuple[int, int] | None = None
    "Side, or HEIGHTxWIDTH, that images are resized to; left out, all must have one size."
    resize: Literal["crop", "squash", "pad"] = "crop"
    "How: crop the middle, squash, or pad with black."
    on_bad: Literal["stop", "skip"] = "stop"
    "What to do with an unreadable image: stop, or skip and count."
    group: str | None = None
    "Column whose equal values stay on one side when a test split is held out."
    test_fraction: float = 0.2
    "Share that is held out where the source has no test split."
    split_seed: int = 0
    "Seed of the held-out split."
    unlabelled: bool = False
    "The images have no classes (to select some): they may lie in one folder, a table needs no label column."
    zca: bool = False
    "Whiten the images (ZCA, fitted on the training split) in place of normalising their channels."

    def arguments(self) -> dict[str, Any]:
        """Keywords of :func:`attar.real.load.load`, which reads and does not whiten (:func:`attar.verbs.read.read`)."""
        found = {**dataclasses.asdict(self), "size": side(self.size)}
        return {k: v for k, v in found.items() if k != "zca"}


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How it is computed; what is left out is chosen from the size of the work and kept with the run."""

    device: str | None = None
    "cpu, cuda, cuda:N or mps."
    threads: int | None = None
    "CPU threads."
    dtype: Literal["float32", "bfloat16"] | None = None
    "Precision of the networks; the kept examples are always float32."
    compile: bool | None = None
    "Compile the heavy functions (needs a C++ compiler on the CPU)."


@dataclass(frozen=True, kw_only=True)
class Published:
    """What a published .pt does not tell by itself."""

    labels: str | None = None
    "File of the labels, where they have one of their own."
    index: int = -1
    "Which set of a file of several; -1 for the last."
    logits: bool = False
    "Soft labels are logits (DATM, TESLA)."
    lr: float | None = None
    "Learning rate that was learned with the images (MTT, TESLA, FTD, DATM); left out, the protocol's."

    def recipe(self) -> dict[str, Any]:
        """How to train on it, as far as it is told."""
        return {} if self.lr is None else {"lr": self.lr}


def numbers(text: str | int | tuple[int, ...], name: str) -> list[int]:
    """``"1,10,50"`` -> [1, 10, 50]."""
    parts = text.split(",") if isinstance(text, str) else text if isinstance(text, (tuple, list)) else (text,)
    try:
        found = [int(p) for p in parts]
    except (ValueError, TypeError):
        found = []
    if not found or any(isinstance(p, (float, bool)) for p in parts):
        raise UsageError(f"{name}={text} is not a whole number or a list as in 1,10,50")
    return found


def side(size: Any) -> int | tuple[int, int] | None:
    """``"64"`` -> 64, ``"48x64"`` -> (48, 64); a number, or a pair of them as a manifest lists it, as it is.

    Raises:
        UsageError: anything else.
    """
    if size is None:
        return None
    found = size if isinstance(size, (list, tuple)) else [size]
    if isinstance(size, str):
        found = [int(p) if p.isdecimal() else p for p in size.lower().split("x")]
    if len(found) not in (1, 2) or any(isinstance(n, bool) or not isinstance(n, Integral) for n in found):
        raise UsageError(f"size={size} is neither a side nor HEIGHTxWIDTH; try --size 64")
    return int(found[0]) if len(found) == 1 else (int(found[0]), int(found[1]))


def divide(settings: dict[str, Any], kinds: tuple[type, ...]) -> list[Any]:
    """Hands keywords to the dataclasses that have them.

    Raises:
        UsageError: a keyword that none of them has; names the nearest.
    """
    fields = owners(kinds)
    for name in settings:
        if name not in fields:
            raise UsageError(f"there is no setting '{name}'; {nearest(name, fields)}")
    return [checked(kind, {k: v for k, v in settings.items() if fields[k] is kind}) for kind in kinds]


def owners(kinds: tuple[type, ...]) -> dict[str, type]:
    """Which dataclass has each setting.

    Raises:
        UsageError: two of them have it, as where a method of one's own calls a setting ``seed``.
    """
    found: dict[str, type] = {}
    for kind in kinds:
        for f in dataclasses.fields(kind):
            if f.name in found or f.name in RESERVED:
                raise UsageError(
                    f"{kinds[0].__name__} has a setting '{f.name}', as attar itself has; rename it in the method"
                )
            if f.init:
                found[f.name] = kind
    return found


PLAIN = {"int": "a whole number, as 10", "float": "a number, as 0.5", "bool": "True or False"}
"""What is meant by a type."""


def checked(kind: type[T], values: dict[str, Any]) -> T:
    """Makes a settings object after checking the plain types of its values.

    Raises:
        UsageError: a value of another type; names the setting.
    """
    hints = {f.name: str(f.type) for f in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    for name, value in values.items():
        wanted = hints[name].split(" | ")
        plain = {"int": int, "float": (int, float), "bool": bool}
        if wanted[0] in plain and len(set(wanted) - {"None"}) == 1:
            good = isinstance(value, plain[wanted[0]]) and (wanted[0] == "bool" or not isinstance(value, bool))
            if not good and not (value is None and "None" in wanted):
                raise UsageError(f"{name}={value!r} is not of type {wanted[0]}; give {PLAIN[wanted[0]]}")
    return kind(**values)
