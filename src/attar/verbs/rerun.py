"""rerun: make a set again from its manifest, which may come from a stranger."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from attar import registry
from attar.condensed import Condensed
from attar.errors import DataError, UsageError
from attar.manifest import fault, read_manifest
from attar.verbs.distill import job_of, result
from attar.verbs.options import Compute, Data, owners

MADE = {"settings": {}, "seed": int, "budget": {}, "data": {}, "plan": {"compiled": bool}}
"""What a manifest tells of a set that can be made again."""


def rerun(folder: str | Path, *, out: str | Path, trust: Collection[str] = ()) -> Condensed | list[Condensed]:
    """Makes a set again from its manifest.

    Args:
        out: the folder to write.
        trust: methods and networks of the manifest that are Python code (``my.py:Mine``) and may run with your rights.

    Raises:
        UsageError: its real data were in memory, or are no longer there; or it names code that is not trusted.
        DataError: no condensed folder, or a damaged one.
    """
    last: Mapping[str, Any] = read_manifest(folder)["lineage"][0]
    wrong = fault(last, MADE, "lineage[0]")
    if wrong is not None:
        raise DataError(f"{folder} does not tell how it was made ({wrong}); restore it from a copy")
    if last.get("source") is None:
        raise UsageError(
            f"{folder} was made from data in memory, so it cannot be made again from its manifest; "
            "repeat the call that made it, with the same data"
        )
    budget = {"keep" if k == "fraction" else k: v for k, v in last["budget"].items()}
    how = {k: v for k, v in last["plan"].items() if k != "compiled"} | {"compile": last["plan"]["compiled"]}
    settings = {**last["settings"], **budget, **last["data"], **how, "seed": last["seed"]}
    if last.get("minutes") is not None:
        settings["minutes"] = last["minutes"]
    unknown = next((c for c in code(last["method"], settings) if c not in trust), None)
    if unknown is not None:
        raise UsageError(
            f"{folder} was made by Python code, {unknown}, which would run with your rights; read it, and if it is what "
            f"you expect, add --trust {unknown}"
        )
    return result(job_of(last["verb"], last["source"], last["method"], out, settings), None)


def code(method: str, settings: Mapping[str, Any]) -> list[str]:
    """What would be imported as Python code: a method that is not registered, a network of a file or module.

    Args:
        settings: all that the method is called with, wherever in the manifest it stood.

    Example:
        >>> code("dm", {"net": "convnet:width=32", "params": "tiles"})
        []
        >>> code("my.py:Mine", {"net": "nets.py:Small"})
        ['my.py:Mine', 'nets.py:Small']
    """
    own = [method] if ":" in method and method not in registry.names() else []
    known = owners((Data, Compute))  # a device or a column, as cuda:0, is never imported
    texts = _texts({name: value for name, value in settings.items() if name not in known})
    return own + [text for text in texts if ".py:" in text or (":" in text and "=" not in text)]


def _texts(settings: Any) -> Iterator[str]:
    """All texts among settings, however deep."""
    if isinstance(settings, str):
        yield settings
    for inner in settings.values() if isinstance(settings, dict) else settings if isinstance(settings, list) else ():
        yield from _texts(inner)
