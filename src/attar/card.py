"""The dataset card: README.md of a condensed folder, with the header that dataset hubs read."""

from __future__ import annotations

import json
from collections.abc import Container
from typing import Any

CLASSIFIED = "image-classification"
TASKS = {"detection": "object-detection"}
"""A task in the words of dataset hubs."""
USES = {
    CLASSIFIED: "          # a torch dataset of (image, label)",
    "detection": "          # a torch dataset of (image, objects); attar export writes COCO",
}
"""What opening a set gives, by its task."""
JUDGED = (
    "`scores.parquet` holds what the selection knew of every real example: its score, the signals that it came from, and "
    "whether it was kept."
)


def render(manifest: dict[str, Any], *, files: Container[str] = ()) -> str:
    """Markdown with a YAML header (written as JSON scalars, which are valid YAML, so names cannot break it).

    Args:
        files: names of the derived files beside the rows; ``scores.parquet`` is told of.
    """
    source, budget, last = manifest["source"], manifest["budget"], manifest["lineage"][-1]
    synthetic = manifest["kind"] == "synthetic"
    what = "synthetic examples distilled from" if synthetic else "examples selected from"
    header = {
        "license": "other",
        "license_name": _text(source.get("licence", "as-the-source")),
        "task_categories": [TASKS.get(manifest["task"], _text(manifest["task"]))],
        "tags": ["attar", "dataset-distillation" if synthetic else "coreset"],
        "size_categories": [_size(budget["rows"])],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train.parquet"}]}],
    }
    lines = ["---", *(f"{k}: {json.dumps(v, ensure_ascii=False)}" for k, v in header.items()), "---", ""]
    lines += [f"# {_text(source['name'])}, made small", ""]
    lines += [
        f"{budget['rows']} {what} `{_text(source['name'])}` ({source['rows']} examples, "
        f"{len(manifest['class_names'])} classes) by `attar {last['verb']}` with method `{_text(last['method'])}`.",
        "",
        *(_scores(manifest["scores"]) if manifest["task"] == CLASSIFIED and manifest["class_names"] else []),
        "## Use",
        "",
        "```python",
        "import attar",
        f'kept = attar.open("this-folder"){USES.get(manifest["task"], "")}',
        "```",
        "",
        "`data/train.parquet` opens with datasets, pandas and polars as well."
        + (" Its pictures are rounded to 8 bits; `tensors.safetensors` holds the exact ones." if synthetic else ""),
        *([JUDGED] if "scores.parquet" in files else []),
        "",
        *_whitened(manifest),
        "## Limits",
        "",
        "The licence and the biases of the source carry over. A synthetic example can resemble real ones; "
        "a small set is no protection of privacy by itself."
        if synthetic
        else "The licence and the biases of the source carry over; rare cases of the source may be absent.",
        "",
    ]
    return "\n".join(lines)


def _whitened(manifest: dict[str, Any]) -> list[str]:
    """What whoever trains on a whitened set must know."""
    if "whitening" not in manifest["preprocessing"]:
        return []
    return [
        "Networks learn these images **whitened** (ZCA, fitted on the real training split), and test images must go through the "
        "same transform: `kept.normalise(pixels)` for pixels in [0, 1], which is `(pixels - mean) @ matrix` of images laid flat, "
        "with `zca.mean` and `zca.matrix` of `tensors.safetensors`. The pictures are shown as they were before it.",
        "",
    ]


def _scores(scores: list[dict[str, Any]]) -> list[str]:
    if not scores:
        return ["No accuracy was measured yet; `attar evaluate` measures it.", ""]
    lines = ["| images | protocol | network | test accuracy | random examples |", "|---|---|---|---|---|"]
    for s in scores:
        random = s["baseline"].get("random", {}).get("last_mean")
        labels = "" if s.get("labels", "hard") == "hard" else f", {s['labels']} labels"
        beside = "not measured" if random is None else f"{random:.3f}"
        accuracy = f"{s['last_mean']:.3f} ± {s['last_std']:.3f} ({s['seeds']} seeds)"
        if s["seeds"] == 1:
            accuracy = f"{s['last_mean']:.3f} (one seed, which says nothing of the spread)"
        if s.get("best_mean") is not None:
            accuracy += f"; best look at the test set {s['best_mean']:.3f}"
        lines.append(
            f"| {s.get('images', 'exact')} | {s['protocol']}{labels} | {s['network']} | {accuracy} | {beside} |"
        )
    return [*lines, ""]


def _size(rows: int) -> str:
    for limit, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if rows < limit:
            return name
    return "n>1M"


def _text(name: str) -> str:
    """A name as plain text inside Markdown."""
    return "".join(c if c.isalnum() or c in " .,:-_/" else " " for c in str(name)).strip() or "dataset"
