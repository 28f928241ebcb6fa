"""Trials: kill a writer, run it again, and compare with a run that nobody disturbed.

Two kinds: at a random instant, which meets what nobody thought of, and at every point of :data:`attar.io.atomic.fault`,
which leaves no write out. What must hold after every kill: whatever stands under its final name opens, and no saved step
is lost. After the last run: equal bits, and nothing stale beside them or in the cache.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zygote import BROKEN, Child, Trap, Zygote

from attar import registry
from attar.testing.trial import method_of

MOST = 6
"""Kills in one trial; then the work is left alone."""
EXACT = (
    "train.parquet",
    "tensors.safetensors",
    "scores.parquet",
    "preview.png",
    "pixels.u8",
    "table.arrow",
    "index.safetensors",
)
TOLD = ("kind", "task", "class_names", "source", "budget", "preprocessing", "recipe", "scores")
"""What a manifest tells that does not depend on when and where it was written."""
TIMES = ("cost", "plan", "seconds", "shared_seconds", "folder")
"""What JSON may hold of speed and place."""


@dataclass(frozen=True, eq=False)
class Writer:
    """Some work that writes.

    Args:
        work: its name in ``works.WORKS``, with ``settings``. before: the work that fills its home first.
        brief: settings that make it shorter, for trials at every point.
        saves: whether it has checkpoints. everywhere: whether it is killed at every point too, or at random alone.
        crew: whether its work is done by several processes, whose writes come in any order.
    """

    name: str
    work: str
    settings: dict[str, Any] = field(default_factory=dict)
    before: str = "nothing"
    brief: dict[str, Any] = field(default_factory=dict)
    saves: bool = False
    everywhere: bool = True
    crew: bool = False

    def shorter(self) -> Writer:
        """With as few steps as show every kind of point."""
        return replace(self, settings={**self.settings, **self.brief})


def every_method() -> list[Writer]:
    """A writer for each method with steps of its own or of what it needs, and without for the quickest selectors.

    Object detection is left out, which the toys cannot give.
    """
    names = [e.name for e in registry.METHODS if e.name != "csod"]
    return [Writer(f"small {n}", "small", {"method": n}, saves=_saves(n), everywhere=False) for n in names]


def _saves(name: str) -> bool:
    method = method_of(name)
    return method.kind == "distill" or method.steps > 0 or bool(method.needs())


def _distilled(name: str, **settings: Any) -> Writer:
    return Writer(name, "distilled", settings, brief={"steps": 3}, saves=True)


WRITERS = {
    w.name: w
    for w in (
        _distilled("distill dm", method="dm"),
        _distilled("distill dc", method="dc", steps=5),
        _distilled("distill dsa", method="dsa", steps=5),
        _distilled("distill dm, ipc 1 and 2", method="dm", ipc=(1, 2), steps=6),
        Writer("select herding, trained features", "selected", saves=True),
        Writer("distill dm from pictures", "photos", before="with_photos", brief={"steps": 2}, saves=True),
        Writer("cache of decoded pictures", "cached", before="with_photos"),
        Writer("cache of decoded pictures, damaged", "cached", before="with_damage"),
        Writer("evaluate", "scored", before="with_set", brief={"seeds": 1, "random": False}),
        Writer(
            "evaluate by two renames", "scored_by_two_renames", before="with_set", brief={"seeds": 1, "random": False}
        ),
        Writer("evaluate by a crew", "scored", {"threads": None}, before="with_set", everywhere=False, crew=True),
        Writer("experts by a crew", "experts_beside", everywhere=False, crew=True, saves=True),
        Writer("compare", "compared", brief={"steps": 1}),
        Writer("export folder", "exported", {"format": "folder"}, before="with_set"),
        Writer("export npz", "exported", {"format": "npz"}, before="with_set"),
    )
}


@dataclass
class Tally:
    """What became of the kills.

    Args:
        kills: all; ``early`` of them before their process wrote anything, ``late`` after its first write; ``saved`` of all
            after the work's first checkpoint, of this process or of one before it.
        runs: processes started, the undisturbed references not counted.
        failures: sentences, by what broke: ``differing``, ``unreadable``, ``lost``, ``stale``, ``refused``.
    """

    kills: int = 0
    early: int = 0
    late: int = 0
    saved: int = 0
    runs: int = 0
    trials: int = 0
    failures: dict[str, list[str]] = field(
        default_factory=lambda: {k: [] for k in ("differing", "unreadable", "lost", "stale", "refused")}
    )

    @property
    def good(self) -> bool:
        """Whether nothing broke."""
        return not any(self.failures.values())

    def facts(self) -> dict[str, Any]:
        """Numbers; and sentences, where something broke."""
        broke = {k: len(v) for k, v in self.failures.items()}
        said = {"said": [s for v in self.failures.values() for s in v]} if not self.good else {}
        numbers = {k: getattr(self, k) for k in ("trials", "runs", "kills", "early", "late", "saved")}
        return {**numbers, **broke, **said}


class Bench:
    """A writer with its reference, and homes for its trials.

    Args:
        zygote: where it runs. place: an empty folder.
    """

    def __init__(self, zygote: Zygote, writer: Writer, place: Path) -> None:
        self.zygote, self.writer, self.place = zygote, writer, place
        self.template, home = place / "template", place / "home"
        home.mkdir(parents=True)
        if code := zygote.run(writer.before, home).finished():
            raise AssertionError(f"{writer.before} left with {code}")
        home.rename(self.template)
        self.reference, self.trail, self.seconds = self._undisturbed()
        again, trail, self.seconds = self._undisturbed()
        if again != self.reference or (trail != self.trail and not writer.crew):
            raise AssertionError(f"{writer.name} is not the same twice: {_difference(self.reference, again)}")

    def _undisturbed(self) -> tuple[dict[str, str], list[tuple[str, str]], float]:
        with self.home() as home:
            began = time.monotonic()
            child = self.run(home)
            seconds = time.monotonic() - began
            if child.ended != 0 or stale(home):
                raise AssertionError(f"{self.writer.name}, undisturbed: {child.ended} {child.said} {stale(home)}")
            return kept(home), child.trail, seconds

    def home(self) -> Home:
        """A fresh copy of the template at the same path always, removed at the end of the ``with``."""
        return Home(self.template, self.place / "home")

    def start(self, home: Path, **how: Any) -> Child:
        """Starts the work; ``how`` as for :meth:`Zygote.start`."""
        return self.zygote.start(self.writer.work, home, **how, **self.writer.settings)

    def run(self, home: Path, **how: Any) -> Child:
        """Does the work, to whatever end."""
        child = self.start(home, **how)
        child.finished()
        return child


class Home:
    """See :meth:`Bench.home`."""

    def __init__(self, template: Path, path: Path) -> None:
        self.template, self.path = template, path

    def __enter__(self) -> Path:
        shutil.copytree(self.template, self.path)
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path)


def at_random(bench: Bench, rng: random.Random, tally: Tally) -> None:
    """One trial: killed at random instants, each counted from its process's start, until it ends by itself."""
    tally.trials += 1
    where = f"{bench.writer.name}, kills at random instants"
    with bench.home() as home:
        for _ in range(MOST):
            before, checkpointed = saved_step(home), any(home.rglob("state-*.safetensors"))
            child = bench.start(home)
            tally.runs += 1
            if child.wait(rng.uniform(0, 1.1 * bench.seconds)) is None:
                child.send(signal.SIGKILL)
            if child.finished() != -signal.SIGKILL:
                break
            time.sleep(0.1 * bench.writer.crew)  # its processes die with it, a moment later
            _count(tally, child, checkpointed or child.states > 0)
            _nothing_lost(bench, home, child, before, tally, where)
            with _copy(home) as copy:
                check = bench.zygote.run("nothing", home, check=copy)
            _readable(check, tally, where)
        else:
            child = bench.run(home)
            tally.runs += 1
        _compare(bench, home, child, tally, where)


def at_every_point(bench: Bench, act: str, tally: Tally) -> None:
    """A trial for each point: killed there, or given an error of the system there."""
    for k in range(1, len(bench.trail) + 1):
        tally.trials += 1
        tally.runs += 2
        where = f"{bench.writer.name}, {act} at point {k} of {len(bench.trail)} ({' '.join(bench.trail[k - 1])})"
        with bench.home() as home:
            child = bench.run(home, trap=Trap((k,), act))
            if act == "kill":
                _count(tally, child, child.states > 0)
            _expect(bench, home, child, act, tally, where)
            _nothing_lost(bench, home, child, 0, tally, where)
            with _copy(home) as copy:
                again = bench.run(home, check=copy)
            _readable(again, tally, where)
            _compare(bench, home, again, tally, where)


@contextmanager
def _copy(home: Path) -> Iterator[Path]:
    """A home to look at: opening a set tidies up beside it, which is for the next run to do."""
    copy = home.with_name("copy")
    shutil.copytree(home, copy)
    yield copy
    shutil.rmtree(copy)


def _count(tally: Tally, child: Child, checkpointed: bool) -> None:
    tally.kills += 1
    wrote = child.points > 1  # a point comes before its write: the second one tells that the first is done
    tally.late += wrote
    tally.early += not wrote
    tally.saved += checkpointed


def _expect(bench: Bench, home: Path, child: Child, act: str, tally: Tally, where: str) -> None:
    """A kill kills; an error of the system ends the work with exit code 4 and one sentence, or does not matter at all."""
    said = child.said
    if act == "kill":
        good = child.ended == -signal.SIGKILL
    elif child.ended == 0:
        good = kept(home) == bench.reference and not stale(home)
    else:
        good = child.ended == 4 and said.startswith("ResourceError: ") and "\n" not in said and " failed: " in said
    if not good:
        tally.failures["refused"].append(f"{where}: {child.ended} {said}")


def _nothing_lost(bench: Bench, home: Path, child: Child, before: int, tally: Tally, where: str) -> None:
    """The steps that were saved are there, unless the set is."""
    saved = before + child.states
    if bench.writer.work in STEPS and saved_step(home) < saved and not (home / "set").exists():
        tally.failures["lost"].append(f"{where}: step {saved_step(home)} of {saved}")


def _readable(check: Child, tally: Tally, where: str) -> None:
    """All that had its final name could be opened."""
    if check.ended == BROKEN:
        tally.failures["unreadable"].append(f"{where}: {check.said}")


STEPS = ("distilled", "photos")
"""Work that saves one state a step in one run folder."""


def _compare(bench: Bench, home: Path, child: Child, tally: Tally, where: str) -> None:
    """After the last run: it ended well, with the bits of the reference, and left nothing."""
    if child.ended != 0:
        tally.failures["refused"].append(f"{where}: the last run left with {child.ended}: {child.said}")
    if (found := kept(home)) != bench.reference:
        tally.failures["differing"].append(f"{where}: {_difference(bench.reference, found)}")
    if left := stale(home):
        tally.failures["stale"].append(f"{where}: {left}")


def _difference(a: dict[str, str], b: dict[str, str]) -> list[str]:
    return sorted(k for k in a.keys() | b.keys() if a.get(k) != b.get(k))


def saved_step(home: Path) -> int:
    """The newest saved step of an unfinished run, 0 for none."""
    names = [p.name for p in (home / "set.attar-run").glob("state-*.safetensors")]
    return max((int(n.split("-")[1]) for n in names), default=0)


def stale(home: Path) -> list[str]:
    """What nobody needs any more: temporaries, old folders, run folders, lock files."""
    return sorted(str(p.relative_to(home)) for p in home.rglob("*.attar-*"))


def kept(home: Path) -> dict[str, str]:
    """What must be equal in every run, by path: tensors, rows and pictures to the bit, and what was measured."""
    found = {}
    for path in sorted(p for p in home.rglob("*") if p.is_file()):
        name = str(path.relative_to(home))
        if name.startswith("photos/") or ".attar-" in name:
            continue
        if path.name in EXACT or name.startswith("export"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name == "log.jsonl":
            found[name] = str([_timeless(json.loads(line)) for line in path.read_text().splitlines()])
        elif path.name == "condensed.json":
            page = json.loads(path.read_text())
            found[name] = str(_timeless({k: page[k] for k in TOLD}))
        elif path.name == "compare.json" or path.parent.name == "scores":
            found[name] = str(_timeless(json.loads(path.read_text())))
    return found


def _timeless(value: Any) -> Any:
    """JSON without what tells speed and place."""
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in TIMES}
    return [_timeless(v) for v in value] if isinstance(value, list) else value
