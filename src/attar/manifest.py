"""The manifest, ``condensed.json``: what is in a condensed folder, how it was made, and what was measured of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from attar.errors import DataError, UsageError
from attar.io import atomic, tensors

SCHEMA = 1
DATA, EXACT, MANIFEST = "data/train.parquet", "tensors.safetensors", "condensed.json"
OF_SHARDS = "manifest.json"
"""That of a selection from shards, which loads no torch and so none of this file."""

FIELDS: dict[str, Any] = {
    "schema": int,
    "kind": str,
    "task": str,
    "class_names": [str],
    "lineage": [{"verb": str, "method": str}],
    "source": {"name": str, "rows": int, "fingerprint": str},
    "budget": {"rows": int, "per_class": [int], "bytes_examples": int, "bytes_labels": int},
    "preprocessing": {"mean": [float], "std": [float]},
    "recipe": {},
    "scores": [{"protocol": str, "network": str, "last_mean": float, "last_std": float, "seeds": int, "baseline": {}}],
    "files": {},
}
"""What every reader may rely on: [x] is a list of x, a dictionary holds at least these keys. ``float`` takes integers."""


def encode(manifest: Mapping[str, Any]) -> bytes:
    """The file's bytes. The last entry is the checksum of all others, so that a change anywhere is found."""
    body = {k: v for k, v in manifest.items() if k != "checksum"}
    return atomic.json_bytes({**body, "checksum": tensors.digest(atomic.json_bytes(body))})


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """Reads and checks ``condensed.json``.

    Raises:
        UsageError: nothing is there.
        DataError: not a condensed folder, an unknown schema, a damaged manifest.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise _absent(Path(folder))
    with atomic.named(path, "reading"):
        text = path.read_bytes()
    try:
        manifest = json.loads(text)
        whole = isinstance(manifest, dict) and text == encode(manifest)
    except (ValueError, TypeError, RecursionError) as e:
        raise DataError(f"{path} is damaged ({type(e).__name__}: {e}); restore the folder from a copy") from e
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise DataError(f"{path} has schema {schema}, newer than {SCHEMA}, the newest known here; update attar")
    if not whole:
        raise DataError(f"{path} was changed after it was written; restore the folder from a copy")
    wrong = fault(manifest, FIELDS)
    if wrong is not None:
        raise DataError(f"{path} is damaged ({wrong}); restore the folder from a copy")
    return {k: v for k, v in manifest.items() if k != "checksum"}


def is_condensed(path: Path | str) -> bool:
    """Whether a path is a folder with a manifest."""
    return (Path(path) / MANIFEST).is_file()


def fault(value: Any, shape: Any, at: str = "") -> str | None:
    """The first way in which a JSON value departs from a shape as in :data:`FIELDS`, or None."""
    if isinstance(shape, type):
        kinds = (int, float) if shape is float else shape
        good = isinstance(value, kinds) and isinstance(value, bool) == (shape is bool)
        return None if good else f"{at} is not of type {shape.__name__}"
    if not isinstance(value, type(shape)):
        return f"{at or 'it'} is not a {'list' if isinstance(shape, list) else 'dictionary'}"
    if isinstance(shape, list):
        found = (fault(v, shape[0], f"{at}[{i}]") for i, v in enumerate(value))
    else:
        missing = next((k for k in shape if k not in value), None)
        if missing is not None:
            return f"{at + '.' if at else ''}{missing} is missing"
        found = (fault(value[k], shape[k], f"{at}.{k}" if at else k) for k in shape)
    return next((f for f in found if f is not None), None) or _unsafe(value, at)


def _unsafe(value: Any, at: str) -> str | None:
    """What shapes alone do not tell: an empty history, and files that are unnamed or outside the folder."""
    if at == "lineage" and not value:
        return "lineage is empty"
    if at != "files":
        return None
    if DATA not in value:
        return f"files lacks {DATA}"
    for name, facts in value.items():
        if not _inside(name):
            return f"'{name}' is no file of the folder"
        wrong = fault(facts, {"bytes": int, "sha256": str}, f"files['{name}']")
        if wrong is not None:
            return wrong
    return None


def _inside(name: str) -> bool:
    """Whether a file name stays inside its folder."""
    plain = str(PurePosixPath(name)) == name and not name.startswith("/") and not set("\\:\0") & set(name)
    return plain and ".." not in PurePosixPath(name).parts and name not in ("", ".", MANIFEST)


def _absent(folder: Path) -> UsageError | DataError:
    """The error for a folder without a manifest."""
    with atomic.named(folder, "reading"):
        if not folder.exists():
            return UsageError(f"there is nothing at {folder}; give a folder that attar wrote")
        if (folder / OF_SHARDS).is_file():
            return DataError(
                f"{folder} is no condensed set but rows kept from shards: take them from {folder}/data/*.parquet, which any "
                "reader of parquet opens; attar verify checks them"
            )
        inside = sorted(p.parent for p in folder.glob(f"*/{MANIFEST}")) if folder.is_dir() else []
    hint = f"it holds sets, give one of them, as in {inside[0]}" if inside else "give a folder that attar wrote"
    return DataError(f"{folder} is not a condensed set: it has no {MANIFEST}; {hint}")
