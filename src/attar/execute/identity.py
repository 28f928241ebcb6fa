"""What makes two pieces of work the same: settings as JSON, and their hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from attar import code


def describe(value: Any) -> Any:
    """Settings as JSON: dataclasses as dictionaries, classes and functions by their qualified name.

    A reference to a file (``my.py:MyNet``) stands as it is written; :func:`files` tells what the file held.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, dict):
        return {str(k): describe(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}:{kind.__qualname__}"


TABLES = (".parquet", ".pq", ".npz", ".npy")
"""Endings of files of numbers that a setting may name."""


def files(value: Any) -> dict[str, str]:
    """Hashes of the files that settings name, so that an edited file is another run: ``file.py:Name``, ``package.module:Name``
    but for attar's own, and tables.

    Raises:
        UsageError: a file of code was edited since it was imported.
    """
    if isinstance(value, dict):
        return {k: v for inner in value.values() for k, v in files(inner).items()}
    if isinstance(value, list):
        return {k: v for inner in value for k, v in files(inner).items()}
    if not isinstance(value, str):
        return {}
    if value.endswith((".py", *TABLES)) and Path(value).expanduser().is_file():
        return {value: code.digest(Path(value).expanduser())}
    where = value.rpartition(":")[0]
    path = code.file_of(value) if where and where.partition(".")[0] != "attar" else None
    return {} if path is None else {where: code.unchanged(path)}


def key(value: Any) -> str:
    """Hash of a JSON value: 32 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
