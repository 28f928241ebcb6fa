"""Builders of small COCO folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from real_makers import encoded


def page(
    sizes: list[tuple[int, int]], boxes: list[tuple[int, int, list[float]]], names=("cat", "dog")
) -> dict[str, Any]:
    """Annotations: ``sizes`` (H, W) of images 10, 11 ...; ``boxes`` of (image, category, bbox), ids from 100."""
    return {
        "info": {"description": "made for a test", "year": 2024},
        "licenses": [{"id": 7, "name": "none at all", "url": ""}],
        "images": [
            {"id": 10 + i, "file_name": f"{i}.png", "width": w, "height": h, "license": 7, "seen": "by ☀"}
            for i, (h, w) in enumerate(sizes)
        ],
        "annotations": [
            {"id": 100 + j, "image_id": 10 + i, "category_id": 3 + k, "bbox": b, "area": b[2] * b[3] / 2, "iscrowd": 0}
            for j, (i, k, b) in enumerate(boxes)
        ],
        "categories": [{"id": 3 + k, "name": n, "supercategory": "animal"} for k, n in enumerate(names)],
    }


def write(root: Path, **splits: dict[str, Any]) -> Path:
    """A folder with ``SPLIT.json`` and random images."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for split, made in splits.items():
        for r in made["images"]:
            r["file_name"] = f"{split}-{r['file_name']}"
            pixels = random.integers(0, 256, (r["height"], r["width"], 3), dtype=np.uint8)
            (root / "images" / r["file_name"]).write_bytes(encoded(pixels))
        (root / f"{split}.json").write_text(json.dumps(made))
    return root


def plain() -> dict[str, Any]:
    """Three images of one size, the last without objects."""
    return page([(20, 30)] * 3, [(0, 0, [1, 2, 10, 8]), (0, 1, [5.5, 0, 4, 20]), (1, 1, [0, 0, 30, 20])])
