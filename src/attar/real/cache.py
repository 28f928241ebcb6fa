"""The cache: decoded images, and what other rooms keep beside them, each as a folder that appears in one step."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from attar.errors import ResourceError, UsageError, nearest
from attar.io import atomic
from attar.real import entry
from attar.real.decode import Recipe
from attar.real.entry import Entry
from attar.real.labels import Classes
from attar.real.source import Opening, Progress

DECODED = "decoded"

_BUILDING = threading.Lock()
"""The threads of a process wait for each other, so that none decodes what another is decoding."""


def root() -> Path:
    """The cache folder: ``$ATTAR_CACHE``, else the platform's place for caches."""
    if given := os.environ.get("ATTAR_CACHE"):
        return Path(given).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "attar"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "attar" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attar"


def entries(at: Path | None = None) -> list[dict[str, Any]]:
    """What the cache holds: kind, name, path, bytes and created (seconds since 1970), by kind and name.

    Args:
        at: the cache folder; default :func:`root`.
    """
    at = at or root()
    found = [p for kind in _folders(at) for p in sorted(kind.iterdir()) if ".attar-" not in p.name]
    return [
        {"kind": p.parent.name, "name": p.name, "path": p, "bytes": _bytes(p), "created": p.stat().st_mtime}
        for p in found
    ]


def purge(kind: str = "all", at: Path | None = None) -> int:
    """Deletes the entries of a kind (``decoded``, ``resources`` ...) or all, and what dead processes left.

    A run that has an entry mapped keeps it to its end on systems that allow the removal of open files.

    Returns:
        Bytes freed.
    """
    at = at or root()
    kinds = {p.name: p for p in _folders(at)}
    if kind != "all" and kind not in kinds and kind != DECODED:
        raise UsageError(f"the cache {at} has no kind '{kind}'; {nearest(kind, [*kinds, 'all'])}")
    before = _bytes(at)
    for name, folder in kinds.items():
        if kind in ("all", name):
            atomic.sweep(folder)
            for item in sorted(folder.iterdir()):
                if ".attar-tmp-" not in item.name:
                    atomic.remove(item)
    return before - _bytes(at)


def fetch(
    opening: Opening,
    name: str,
    recipe: Recipe,
    known: Classes | None = None,
    *,
    at: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Entry:
    """A split, decoded: from the cache where it was decoded before, else decoded now and kept.

    A split without an identity is decoded into memory or, where its pixels are not in memory yet, into a nameless
    file that vanishes with the process.

    Args:
        opening: the split.
        name: short name of set and split.
        recipe: how images become equal tensors.
        known: the classes of the training split.
        at: the cache folder; default :func:`root`.

    Raises:
        DataError: the data cannot be used as they are.
        ResourceError: the cache cannot be written.
    """
    at = at or root()
    how: dict[str, Any] = {"name": name, "workers": workers, "progress": progress}
    identity = opening.identity() if callable(opening.identity) else opening.identity
    if identity is None:
        part = opening.open()
        if part.in_memory:
            return entry.build(part, io.BytesIO(), recipe, known, **how)
        with atomic.named(at):
            at.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=at) as sink:
                return entry.build(part, sink, recipe, known, **how)
    target = at / DECODED / f"{_slug(name)}-{_key(identity, recipe, known)}"
    with _BUILDING:
        atomic.recover(target)  # a process may have died between putting its entry in place and removing a damaged one
        return entry.read(target) or _make(opening, target, recipe, known, how)


def _make(opening: Opening, target: Path, recipe: Recipe, known: Classes | None, how: dict[str, Any]) -> Entry:
    """Decodes into a folder beside ``target``; where another process was quicker, its entry is taken."""
    part = opening.open()
    try:
        with atomic.named(target):
            atomic.sweep(target.parent)
            damaged = target.exists()
        with atomic.folder(target, replace=damaged) as tmp:
            with atomic.new_file(tmp / entry.PIXELS) as sink:
                made = entry.build(part, sink, recipe, known, **how)
            entry.save(made, tmp, {"name": how["name"], "recipe": vars(recipe)})
    except ResourceError as e:
        if (theirs := entry.read(target)) is not None:
            return theirs
        raise ResourceError(f"{e}; set ATTAR_CACHE to a folder where decoded images can be kept") from e
    return made


def _key(identity: Any, recipe: Recipe, known: Classes | None) -> str:
    """16 hexadecimal digits that change with the data, the way of decoding and the layout of an entry."""
    facts = [entry.SCHEMA, identity, vars(recipe), vars(known) if known else None]
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=8).hexdigest()


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.")[:60] or "set"


def _folders(at: Path) -> list[Path]:
    return [p for p in sorted(at.iterdir()) if p.is_dir()] if at.is_dir() else []


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(p.stat().st_size for p in files if p.is_file())
