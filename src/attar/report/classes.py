"""The classes of a condensed set: their names, their rows, their balance."""

from __future__ import annotations

import pyarrow as pa
import torch

from attar.condensed import Condensed
from attar.report.facts import items, text


def has_labels(condensed: Condensed) -> bool:
    """Whether every row has one class."""
    table = condensed.table
    found = "label" in table.column_names and pa.types.is_integer(table.schema.field("label").type)
    return found and table["label"].null_count == 0


def members(condensed: Condensed) -> list[tuple[int | None, torch.Tensor]]:
    """(class, rows int64 [m]) of every class that has examples; (None, all rows) where there are no classes."""
    if not has_labels(condensed):
        return [(None, torch.arange(len(condensed)))]
    labels = condensed.labels
    return [(k, torch.nonzero(labels == k).flatten()) for k in labels.unique().tolist()]


def class_name(condensed: Condensed, k: int | None) -> str:
    """The name of a class, made harmless to show; its number where it has no name."""
    if k is None:
        return "all"
    names = items(condensed.manifest.get("class_names"))
    return text(names[k], 60) if 0 <= k < len(names) else str(k)


def per_class(condensed: Condensed) -> list[tuple[str, int]]:
    """(class, kept examples) of every class, those that nothing was kept of too; empty where there are no classes."""
    if not has_labels(condensed):
        return []
    found = {k: len(index) for k, index in members(condensed) if k is not None}
    known = set(range(len(items(condensed.manifest.get("class_names"))))) | set(found)
    return [(class_name(condensed, k), found.get(k, 0)) for k in sorted(known)]
