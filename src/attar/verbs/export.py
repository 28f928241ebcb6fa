"""export: a small set in other tools' formats."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch

from attar.condensed import Condensed, open_condensed
from attar.errors import UsageError, nearest
from attar.io import atomic, png

FORMATS = ("folder", "npz", "pt")


def export(condensed: Condensed | str | Path, *, to: str | Path, format: str = "folder") -> Path:
    """Writes a small set as class folders of PNG files, as ``.npz`` arrays, or as a ``.pt`` of tensors.

    Args:
        to: the folder or file to write; it must not exist.
        format: ``folder`` (8-bit pictures, ``INDEX.png`` in a folder for each class), ``npz`` (``images`` uint8
            [M, H, W, C], ``labels``, ``class_names``), ``pt`` (``images`` float32 [M, C, H, W] in the normalised space,
            exact, ``labels``, ``mean``, ``std``; a plain dictionary of tensors that ``weights_only`` loads).

    Raises:
        UsageError: an unknown format, or ``to`` exists.
    """
    if format not in FORMATS:
        raise UsageError(f"format '{format}' is unknown; {nearest(format, FORMATS)}")
    to = Path(to)
    if to.exists():
        raise UsageError(f"{to} exists already; choose another --to or remove it")
    kept = condensed if isinstance(condensed, Condensed) else open_condensed(condensed)
    if kept.bytes8 is None:
        raise UsageError("only sets of images can be exported; read data/train.parquet instead")
    if format == "folder":
        _folder(kept, kept.bytes8, to)
    else:
        atomic.write_bytes(to, _npz(kept, kept.bytes8) if format == "npz" else _pt(kept))
    return to


def _folder(kept: Condensed, bytes8: torch.Tensor, to: Path) -> None:
    folders = [folder_name(k, name) for k, name in enumerate(kept.class_names)]
    with atomic.folder(to) as tmp:
        for i, (image, label) in enumerate(zip(bytes8, kept.labels.tolist())):
            atomic.write_new(tmp / folders[label] / f"{i:06d}.png", png.encode(image))


def folder_name(k: int, name: str) -> str:
    """A class name as a folder name: the name where it is plain, else made plain and led by its number."""
    plain = "".join(c if c.isalnum() or c in " ._-" else "_" for c in name).strip(" .")
    return name if plain == name and 0 < len(name) < 100 else f"{k:03d}_{plain[:80]}"


def _npz(kept: Condensed, bytes8: torch.Tensor) -> bytes:
    out = io.BytesIO()
    names = np.array(kept.class_names)
    np.savez_compressed(out, images=bytes8.permute(0, 2, 3, 1).numpy(), labels=kept.labels.numpy(), class_names=names)
    return out.getvalue()


def _pt(kept: Condensed) -> bytes:
    out = io.BytesIO()
    space = kept.manifest["preprocessing"]
    torch.save(
        {
            "images": kept.images.contiguous().clone(),
            "labels": kept.labels.clone(),
            "mean": torch.tensor(space["mean"]),
            "std": torch.tensor(space["std"]),
        },
        out,
    )
    return out.getvalue()
