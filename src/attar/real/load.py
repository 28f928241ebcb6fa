"""load: a user's data, wherever they are, as training, validation and test splits."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import torch

from attar.errors import DataError
from attar.real import digits, statistics
from attar.real.realset import RealSet, Splits, fingerprint
from attar.real.split import divide


def load(source: Any, *, test_fraction: float = 0.2, group: str | None = None, split_seed: int = 0) -> Splits:
    """Reads a source."""
    if isinstance(source, Splits):
        return source
    if isinstance(source, RealSet):
        return _held_out(source, test_fraction, group, split_seed)
    if source == "digits":
        x, y = digits.arrays()
        images = torch.from_numpy(x)[:, None]
        names = tuple(str(k) for k in range(10))
        table = pa.table({"label": y})
        ids = torch.arange(len(y))
        whole = RealSet(
            name="digits",
            table=table,
            images=images,
            rows=ids,
            ids=ids,
            class_names=names,
            source={"reader": "digits", "statistics": "computed"},
            fingerprint=fingerprint(images, table, names),
        )
        return _held_out(whole, test_fraction, group, split_seed)
    raise DataError(f"{source} is not a known source; try 'digits'")


def _held_out(whole: RealSet, fraction: float, group: str | None, seed: int) -> Splits:
    train, test = divide(whole, fraction=fraction, seed=seed, group=group)
    if not whole.mean:
        mean, std = statistics.moments(statistics.image_sums(train.raw(torch.arange(len(train)))), whole.shape)
        train = RealSet(**{**vars(train), "mean": mean, "std": std})
    note = f"{whole.name} has no test split: {len(test)} of {len(whole)} examples are held out (seed {seed})"
    return Splits(train=train, open_test=lambda: test, notes=(note,))
