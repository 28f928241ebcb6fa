"""A published synthetic set as a Condensed, so that it meets the same protocol, networks and baselines as our own."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from attar.condensed import Condensed, condense
from attar.errors import DataError
from attar.io.atomic import named
from attar.io.importers import import_pt
from attar.method import Rows
from attar.real.realset import RealSet


def condensed_from_pt(
    path: Path | str,
    real: RealSet,
    *,
    labels: Path | str | None = None,
    index: int = -1,
    logits: bool = False,
    recipe: Mapping[str, Any] | None = None,
) -> Condensed:
    """Imports somebody's ``.pt`` file through the guarded reader of :mod:`attar.io.importers`.

    The images are taken as they are: the sets of DC, DSA, DM and MTT are stored normalised and not clamped, with the
    means and deviations that attar uses for the same datasets. A set that was distilled in a whitened (ZCA) space cannot
    be told from its file; its accuracy without the whitening is far below what was published, so give a ``real`` that is
    whitened (``--zca``) where the set is.

    Args:
        real: the real set that it was distilled from.
        labels: the file of the labels, where they have one.
        index: which set of a file of several; the last one by default.
        logits: whether soft labels are logits (DATM, TESLA), to be put through softmax.
        recipe: how to train on it: protocol, learned learning rate ``lr`` ...

    Raises:
        DataError: the file is refused, does not fit ``real``, or has soft labels that are no distributions.
    """
    images, y = import_pt(path, real=real, labels=labels, index=index)
    recipe, extra = dict(recipe or {}), {}
    if y.ndim == 2:
        extra["soft_label"] = _distributions(y, logits, Path(labels or path))
        recipe["labels"] = "soft"
        y = y.argmax(1)
    rows = Rows(columns={"image": images, "label": y}, recipe=recipe, extra=extra)
    files = [Path(p) for p in (path, labels) if p is not None]
    entry = {
        "verb": "import",
        "method": "imported",
        "settings": {"index": index, "logits": logits},
        "files": {p.name: _digest(p) for p in files},
    }
    return condense(rows, real, kind="synthetic", lineage=[entry])


def _distributions(y: torch.Tensor, logits: bool, path: Path) -> torch.Tensor:
    """float32 [M, K] -> rows >= 0 of sum 1."""
    if logits:
        return y.softmax(1)
    sums = y.sum(1)
    if (y < 0).any() or not all(math.isclose(s, 1, abs_tol=1e-3) for s in sums.tolist()):
        raise DataError(
            f"{path} has soft labels that are no distributions (rows >= 0 of sum 1); if they are logits, add --logits"
        )
    return y


def _digest(path: Path) -> str:
    with named(path, "reading"), open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
