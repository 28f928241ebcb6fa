"""Python code of the user: the files and modules that settings name, and what files held when they were imported."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from attar.errors import UsageError

_HELD: dict[str, str] = {}
"""Files that this process imported -> the hash of what they held then."""


def digest(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as e:
        raise UsageError(f"{path} cannot be read ({e.strerror}); give a file that can") from e


def remember(path: Path, held: str) -> None:
    """Takes down what a file held when it was imported; the first time counts."""
    _HELD.setdefault(str(path.resolve()), held)


def remember_module(module: ModuleType) -> ModuleType:
    """Takes down what a module's file holds, as it is imported; attar's own are known by its version."""
    if module.__name__.partition(".")[0] != "attar" and (module.__file__ or "").endswith(".py"):
        path = Path(str(module.__file__))
        remember(path, digest(path))
    return module


def unchanged(path: Path) -> str:
    """The hash of a file, which must still hold what runs here.

    Raises:
        UsageError: it was edited since this process imported it, so that what runs is not what it holds.
    """
    now, known = digest(path), path.resolve()
    if any(getattr(m, "__file__", None) in (str(path), str(known)) for m in list(sys.modules.values())):
        remember(path, now)  # somebody else imported it; from now on
    if _HELD.get(str(known), now) != now:
        raise UsageError(f"{path} was changed since it was imported; start Python anew, so that what it holds now runs")
    return now


def file_of(reference: str) -> Path | None:
    """The file of ``file.py:Name`` or ``package.module:Name``; None of what names no code, or code without a file."""
    where, _, what = reference.rpartition(":")
    if where.endswith(".py"):
        path = Path(where).expanduser()
        return path if path.is_file() else None
    if not what.isidentifier() or not all(part.isidentifier() for part in where.split(".")):
        return None
    found = getattr(sys.modules.get(where), "__file__", None) or _found(where)
    return Path(found) if found is not None and found.endswith(".py") and Path(found).is_file() else None


def _found(module: str) -> str | None:
    """Where a module that is not imported yet would come from."""
    try:
        spec = importlib.util.find_spec(module)
    except Exception:  # a package that it lies in is imported, and may raise anything; whoever needs it will say so
        return None
    return spec.origin if spec is not None else None
