"""export: a small set in other tools' formats."""

from __future__ import annotations

import io
import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from attar.condensed import Condensed, open_condensed
from attar.errors import DataError, UsageError, nearest
from attar.io import atomic, png
from attar.real.objects import DETECTION

FORMATS = ("folder", "npz", "pt", "coco")


def export(condensed: Condensed | str | Path, *, to: str | Path, format: str = "folder") -> Path:
    """Writes a small set as class folders of PNG files, as ``.npz`` arrays, or as a ``.pt`` of tensors.

    Args:
        to: the folder or file to write; it must not exist.
        format: ``folder`` (8-bit pictures, ``INDEX.png`` in a folder for each class), ``npz`` (``images`` uint8
            [M, H, W, C], ``labels``, ``class_names``), ``pt`` (``images`` float32 [M, C, H, W] in the normalised space,
            exact, ``labels``, ``mean``, ``std``, and of a whitened set ``zca.mean`` and ``zca.matrix``, through which test
            images must go too; a plain dictionary of tensors that ``weights_only`` loads), ``coco`` (of a
            detection set: ``images/`` with the original files, and ``train.json`` with their own records).

    Raises:
        UsageError: an unknown format, one that the set is not for, or ``to`` exists.
        DataError: a file name that would leave the folder.
    """
    if format not in FORMATS:
        raise UsageError(f"format '{format}' is unknown; {nearest(format, FORMATS)}")
    to = Path(to)
    if to.exists():
        raise UsageError(f"{to} exists already; choose another --to or remove it")
    kept = condensed if isinstance(condensed, Condensed) else open_condensed(condensed)
    if kept.bytes8 is None:
        raise UsageError("only sets of images can be exported; read data/train.parquet instead")
    if format != "coco" and kept.task == DETECTION:
        raise UsageError(
            f"the images of a set for detection have boxes, which {format} does not hold; use --format coco"
        )
    if format == "coco":
        _coco(kept, to)
    elif format == "folder":
        _folder(kept, kept.bytes8, to)
    else:
        atomic.write_bytes(to, _npz(kept, kept.bytes8) if format == "npz" else _pt(kept))
    return to


def meant(condensed: Condensed, format: str) -> str:
    """What must be known of exported images beyond their format: a sentence, or nothing."""
    if condensed.whitening is None:
        return ""
    if format == "pt":
        return "the images are whitened (ZCA): put test images, as pixels in [0, 1], through (x - zca.mean) @ zca.matrix too"
    return (
        "the pictures are shown as they were before they were whitened (ZCA), but networks learned them whitened: export as "
        "pt for the exact images with their transform"
    )


def _folder(kept: Condensed, bytes8: torch.Tensor, to: Path) -> None:
    folders = [folder_name(k, name) for k, name in enumerate(kept.class_names)]
    places = [folders[label] for label in kept.labels.tolist()] if kept.labelled else [""] * len(kept)
    with atomic.folder(to) as tmp:
        for i, (image, place) in enumerate(zip(bytes8, places)):
            atomic.write_new(tmp / place / f"{i:06d}.png", png.encode(image))


def _coco(kept: Condensed, to: Path) -> None:
    """The original files and records, in the order of the source."""
    if not {"original", "objects", "coco"} <= set(kept.table.column_names):
        raise UsageError(
            "only a selection from COCO annotations can be exported as coco; this set has no original images and records"
        )
    rows = sorted(kept.table.to_pylist(), key=lambda row: row["source_id"])
    files = {_inner(row["original"]["path"]): row["original"]["bytes"] for row in rows}
    page = {
        **kept.manifest["source"].get("coco", {}),
        "images": [json.loads(row["coco"]["record"]) for row in rows],
        "annotations": [json.loads(o["annotation"]) for row in rows for o in row["objects"]],
    }
    with atomic.folder(to) as tmp:
        for name, data in files.items():
            atomic.write_new(tmp / "images" / name, data)
        atomic.write_new(tmp / "train.json", json.dumps(page, ensure_ascii=False, indent=1).encode())


def _inner(name: str) -> str:
    """A file name of an artifact, which may come from a stranger, as one inside a folder."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or set("\\:\0") & set(name):
        raise DataError(f"the set holds an image called {name!r}, no file inside a folder; do not export it")
    return name


def folder_name(k: int, name: str) -> str:
    """A class name as a folder name: the name where it is plain, else made plain and led by its number."""
    plain = "".join(c if c.isalnum() or c in " ._-" else "_" for c in name).strip(" .")
    return name if plain == name and 0 < len(name) < 100 else f"{k:03d}_{plain[:80]}"


def _npz(kept: Condensed, bytes8: torch.Tensor) -> bytes:
    out = io.BytesIO()
    names = np.array(kept.class_names)
    told: dict[str, Any] = {"labels": kept.labels.numpy(), "class_names": names} if kept.labelled else {}
    np.savez_compressed(out, images=bytes8.permute(0, 2, 3, 1).numpy(), **told)
    return out.getvalue()


def _pt(kept: Condensed) -> bytes:
    out = io.BytesIO()
    space = kept.manifest["preprocessing"]
    torch.save(
        {
            "images": kept.images.contiguous().clone(),
            **({"labels": kept.labels.clone()} if kept.labelled else {}),
            "mean": torch.tensor(space["mean"]),
            "std": torch.tensor(space["std"]),
            **(kept.whitening.tensors if kept.whitening else {}),
        },
        out,
    )
    return out.getvalue()
