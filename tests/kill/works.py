"""What the children of a zygote do: one small piece of work for each of attar's writers.

Each is a function of a home folder. It reads what :data:`TEMPLATES` put there, keeps its cache in ``cache`` and writes
what :func:`kept` compares.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import os
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

torch.set_num_threads(1)  # before anything computes: forking a process with threads is not safe

from attar.cli import main as cli  # noqa: E402
from attar.condensed import open_condensed  # noqa: E402
from attar.execute.plan import Plan  # noqa: E402
from attar.execute.progress import Silent  # noqa: E402
from attar.io import atomic  # noqa: E402
from attar.manifest import is_condensed  # noqa: E402
from attar.real import entry  # noqa: E402
from attar.real.load import load  # noqa: E402
from attar.real.realset import Splits  # noqa: E402
from attar.resources import build  # noqa: E402
from attar.resources.experts import experts  # noqa: E402
from attar.run import run  # noqa: E402
from attar.testing.toys import toy  # noqa: E402
from attar.testing.trial import method_of  # noqa: E402
from attar.verbs.compare import compare  # noqa: E402
from attar.verbs.distill import distill, select  # noqa: E402
from attar.verbs.evaluate import evaluate  # noqa: E402
from attar.verbs.export import export  # noqa: E402

NET = "convnet:width=8:depth=1"
HOW: dict[str, Any] = {"device": "cpu", "threads": 1}
ABLE: dict[str, dict[str, Any]] = {
    "datm": {"start": "real"},
    "wmdd": {"net": f"{NET}:norm=batch", "start": "real"},
}
"""Settings of methods that refuse what the toys give by themselves."""
SAVING = {"save_every": 0.0, "seed": 3, **HOW}

_digits: Splits | None = None


def digits() -> Splits:
    """The digits, read once before the forks."""
    global _digits
    if _digits is None:
        _digits = load("digits", workers=1)
        _ = _digits.train.labels, _digits.test.labels
    return _digits


def warm() -> None:
    """Does a little of everything, so that children find imports, templates and kernels ready."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        distilled(home, method="dm", steps=1)
        scored(home, seeds=1)
        exported(home, "folder")
    for verb in ("distill", "select", "evaluate"):
        cli.app([verb])
    gc.freeze()  # what is never looked at is never copied


def distilled(home: Path, *, method: str, steps: int = 8, ipc: int | tuple[int, ...] = 1, **settings: Any) -> None:
    """``attar distill`` from memory."""
    how = {"net": NET, "batch": 4, **SAVING, **settings}
    distill(digits(), method=method, ipc=ipc, steps=steps, out=home / "set", **how)


def selected(home: Path, out: str = "set") -> None:
    """``attar select`` with a network that is trained for it, and features of it; both save after every step."""
    build.run = functools.partial(run, save_every=0.0)
    select(digits(), method="herding", features="trained", net=NET, epochs=1, ipc=2, out=home / out, **SAVING)


def small(home: Path, method: str) -> None:
    """Any method on the toys by its settings of the conformance suite; it and all that it needs save after every step."""
    build.run = functools.partial(run, save_every=0.0)
    one = dataclasses.replace(method_of(method), **ABLE.get(method, {}))
    (distill if one.kind == "distill" else select)(toy(), method=one, ipc=2, out=home / "set", **SAVING)


def photos(home: Path, steps: int = 6) -> None:
    """``attar distill`` from a folder of pictures, through the cache of decoded ones."""
    how = {"net": NET, "batch": 4, **SAVING}
    distill(home / "photos", method="dm", ipc=1, steps=steps, out=home / "set", **how)


def cached(home: Path) -> None:
    """Decodes a folder of pictures into the cache."""
    load(home / "photos", size=12, test_fraction=0.2, workers=1)


def experts_beside(home: Path, count: int = 3) -> None:
    """Experts that are trained beside each other, saved after every step."""
    build.run = functools.partial(run, save_every=0.0)
    task = types.SimpleNamespace(needs=lambda: experts(count, net=NET, epochs=3, batch=16))
    build.gather(task, toy(), seed=3, plan=Plan(threads=2), progress=Silent())


def scored(
    home: Path, seeds: int = 2, random: bool = True, at: str = "set", inside: str = ".", threads: int | None = 1
) -> None:
    """``attar evaluate`` on a set that is there.

    Args:
        random: score its baseline and its 8-bit pictures too.
        at: the set. inside: the folder that the command is called in.
        threads: None for networks beside each other, where there are cores.
    """
    os.chdir(home / inside)
    more = {"random": random, "eight_bit": random, **HOW, "threads": threads}
    evaluate(at, real=digits(), nets=NET, seeds=seeds, epochs=2, protocol="dc", **more)


def scored_by_two_renames(home: Path, **settings: Any) -> None:
    """The same on a system that cannot swap two folders in one step."""
    atomic.sys = types.SimpleNamespace(platform="other")  # pyright: ignore[reportAttributeAccessIssue]
    scored(home, **settings)


def compared(home: Path, steps: int = 3) -> None:
    """``attar compare``."""
    how = {"net": NET, "batch": 4, "steps": steps, **HOW}
    methods = ("random", "dm")
    compare(digits(), methods=methods, ipc=1, out=home / "table", nets=NET, seeds=1, epochs=1, **how)


def exported(home: Path, format: str) -> None:
    """``attar export``; where it is there already, it is there whole."""
    to = home / f"export-{format}"
    if not to.exists():
        export(home / "set", to=to, format=format)


def command(home: Path, words: list[str], env: dict[str, str] | None = None) -> int:
    """A command line."""
    os.environ.update(env or {})
    return cli.run(words)


def command_on_a_mad_clock(home: Path, words: list[str]) -> int:
    """A command line while the clock runs backwards, an hour a look."""
    now = [2e9]

    def earlier() -> float:
        now[0] -= 3600
        return now[0]

    time.time = earlier
    return cli.run(words)


def command_as_nobody(home: Path, words: list[str]) -> int:
    """A command line of a user who owns nothing."""
    os.setgid(65534)
    os.setuid(65534)
    return cli.run(words)


def command_with_small_files(home: Path, words: list[str], limit: int) -> int:
    """A command line that may not write files of more than ``limit`` bytes."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    return cli.run(words)


# before the work


def nothing(home: Path) -> None:
    """An empty home."""


def with_set(home: Path) -> None:
    """A small set to score or to export."""
    distilled(home, method="dm", steps=2)


def with_photos(home: Path, n: int = 200) -> None:
    """A folder of pictures of 8x8, the last ones coloured, so that the decoded file is rewritten on the way."""
    train = digits().train
    for i in range(n):
        picture = Image.fromarray(train.images[i, 0].numpy()).convert("RGB" if i % 2 and i > n // 2 else "L")
        place = home / "photos" / f"{i % 2}" / f"{i:04d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        picture.save(place)


def with_damage(home: Path) -> None:
    """A cache whose entry of the pictures is damaged."""
    with_photos(home)
    cached(home)
    for index in (home / "cache").rglob(entry.INDEX):
        index.write_bytes(b"\0" + index.read_bytes()[1:])
    (home / "damaged").touch()


# after a kill


def check(home: Path) -> None:
    """Opens everything that stands in a home under its final name; what is there must be whole."""
    for place in (home / "set", *sorted((home / "table").glob("*"))):
        if place.is_dir() and ".attar-" not in place.name:
            _open(place)
        elif any(place.parent.glob(place.name + ".attar-old-*")):
            open_condensed(place)
    for place in sorted((home / "cache" / "resources").glob("*")):
        if ".attar-" not in place.name and build._load(place) is None:
            raise AssertionError(f"{place} is damaged")
    for place in sorted((home / "cache" / "decoded").glob("*")):
        if ".attar-" not in place.name and entry.read(place) is None and not (home / "damaged").exists():
            raise AssertionError(f"{place} is damaged")
    if (made := home / "export-folder").exists() and len(list(made.rglob("*.png"))) != len(
        open_condensed(home / "set")
    ):
        raise AssertionError(f"{made} is not whole")


def _open(place: Path) -> None:
    """A set, or a folder of sets, with every checksum verified."""
    inner = [p for p in sorted(place.iterdir()) if p.is_dir() and ".attar-" not in p.name]
    if is_condensed(place):
        open_condensed(place)
    elif [p.name for p in inner] == ["ipc-1", "ipc-2"]:
        for p in inner:
            open_condensed(p)
    else:
        raise AssertionError(f"{place} is not whole")


WORKS: dict[str, Callable[..., object]] = {
    "distilled": distilled,
    "selected": selected,
    "small": small,
    "photos": photos,
    "cached": cached,
    "scored": scored,
    "scored_by_two_renames": scored_by_two_renames,
    "compared": compared,
    "experts_beside": experts_beside,
    "exported": exported,
    "command": command,
    "command_on_a_mad_clock": command_on_a_mad_clock,
    "command_as_nobody": command_as_nobody,
    "command_with_small_files": command_with_small_files,
    "nothing": nothing,
    "with_set": with_set,
    "with_photos": with_photos,
    "with_damage": with_damage,
    "check": check,
}
