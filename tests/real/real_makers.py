"""Builders of small sources for the tests of this folder."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def encoded(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    """uint8 [H, W] or [H, W, 3] as the bytes of a file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def pictures(n: int, *, size: tuple[int, int] = (6, 5), colour: bool = True, seed: int = 0) -> np.ndarray:
    """Random images: uint8 [n, H, W, 3] or [n, H, W]."""
    shape = (n, *size, 3) if colour else (n, *size)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_folder(root: Path, classes: dict[str, np.ndarray]) -> Path:
    """One PNG per image in class folders."""
    for name, images in classes.items():
        (root / name).mkdir(parents=True)
        for i, image in enumerate(images):
            (root / name / f"{i:03}.png").write_bytes(encoded(image))
    return root


def image_table(images, labels, names: tuple[str, ...] = (), struct: bool = True, **columns) -> pa.Table:
    """Images and labels in the Hugging Face layout; ``images`` are arrays, bytes or None."""
    data = [encoded(i) if isinstance(i, np.ndarray) else i for i in images]
    if struct:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        column = pa.array([{"bytes": b, "path": f"{i}.png"} for i, b in enumerate(data)], kind)
    else:
        column = pa.array(data, pa.binary())
    table = pa.table({"image": column, "label": labels, **columns})
    if names:
        features = {"label": {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    return table


def write_parquet(path: Path, *args, **options) -> Path:
    """An :func:`image_table` as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(image_table(*args, **options), path)
    return path
