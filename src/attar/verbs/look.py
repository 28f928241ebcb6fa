"""report, verify, methods and cache: look at what is there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from attar import registry
from attar.condensed import Condensed, open_condensed
from attar.errors import AttarError, UsageError
from attar.execute.progress import Silent
from attar.io import atomic
from attar.manifest import is_condensed, read_manifest
from attar.real import cache as caching
from attar.report import page
from attar.scale.output import is_kept
from attar.verbs.evaluate import opened
from attar.verbs.shards import verify_shards


def report(folder: Condensed | str | Path, *, out: str | Path | None = None, real: Any = None) -> str:
    """The page of a small set as HTML; written to ``out`` where given.

    The real examples beside the kept ones are shown where the real data can be read.

    Raises:
        UsageError: nothing is there, or ``out`` is a file that is no page.
        DataError: no condensed folder, or a changed one.
    """
    if out is not None:
        _room_for_page(Path(out))
    kept = folder if isinstance(folder, Condensed) else open_condensed(folder)
    try:
        examples = opened(kept, real, {}, Silent())[1].train
    except AttarError:
        if real is not None:
            raise
        examples = None
    if real is None and examples is not None and tuple(examples.class_names) != kept.class_names:
        examples = None  # as where a person gave the labels
    html = page.render(kept, real=examples)
    if out is not None:
        atomic.write_bytes(Path(out), html.encode())
    return html


def _room_for_page(out: Path) -> None:
    """Refuses to write a page over anything but an older page, and over that of a set, which its checksum covers."""
    if is_condensed(out.parent) and out.name in read_manifest(out.parent)["files"]:
        raise UsageError(f"{out} belongs to the set {out.parent}; choose another --out")
    if out.is_file():
        with atomic.named(out, "reading"), open(out, "rb") as f:
            old = f.read(100)
        if not old.lstrip().lower().startswith(b"<!doctype html"):
            raise UsageError(f"{out} exists already and is no page; choose another --out or remove it")


def verify(folder: str | Path) -> dict[str, Any]:
    """Opens a folder, checks every byte against its checksums and every row against its manifest.

    Raises:
        UsageError: nothing is there.
        DataError: the first thing that is wrong.
    """
    if is_kept(folder):
        return verify_shards(folder)
    kept = open_condensed(folder)
    manifest = kept.manifest
    return {
        "folder": str(folder),
        "kind": kept.kind,
        "rows": len(kept),
        "files": {name: facts["bytes"] for name, facts in manifest["files"].items()},
        "method": manifest["lineage"][-1]["method"],
        "good": True,
    }


def methods(name: str | None = None) -> list[dict[str, Any]]:
    """All methods, or one with its settings.

    Returns:
        name, verb, family, paper and line of each; for one, also ``settings`` (name, type, default, what
        ``--quick`` takes instead, help) and ``presets`` (name -> settings that ``--preset`` takes instead).
    """
    if name is None:
        known = [dataclasses.asdict(e) for e in registry.METHODS]
        plugins = [n for n in registry.names() if n not in {e["name"] for e in known}]
        return known + [{"name": n, "verb": "", "family": "plug-in", "paper": "", "line": ""} for n in plugins]
    found = registry.find(name)
    entry = next(
        (dataclasses.asdict(e) for e in registry.METHODS if e.name == name), {"name": name, "verb": found.kind}
    )
    helps = field_help(found)
    settings = [
        {
            "name": f.name,
            "type": str(f.type),
            "default": f.default,
            "quick": found.quick.get(f.name),
            "help": helps.get(f.name, ""),
        }
        for f in dataclasses.fields(found)
        if f.init
    ]
    told = {"paper": found.paper or entry.get("paper", ""), "doc": module_doc(found)}
    return [{**entry, **told, "settings": settings, "presets": {k: dict(v) for k, v in found.presets.items()}}]


def field_help(kind: type) -> dict[str, str]:
    """The sentence below each field of a settings class and of those it inherits from."""
    import ast
    import inspect
    import textwrap

    helps: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(owner):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:]):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(field.target, ast.Name):
                helps[field.target.id] = str(ast.literal_eval(text.value))
    return helps


def module_doc(kind: type) -> str:
    """The text at the head of a method's file: paper, idea, formula, cost."""
    import sys

    return (sys.modules[kind.__module__].__doc__ or "").strip()


def cache(*, purge: str | None = None) -> dict[str, Any]:
    """What the cache holds and where; ``purge`` deletes a kind of entries, or ``all``."""
    freed = caching.purge(purge) if purge is not None else 0
    entries = [{**e, "path": str(e["path"])} for e in caching.entries()]
    size = sum(e["bytes"] for e in entries)
    return {"folder": str(caching.root()), "bytes": size, "freed_bytes": freed, "entries": entries}
