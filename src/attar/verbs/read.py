"""The real data as the settings ask for them: read, split and, where that is asked for, whitened."""

from __future__ import annotations

from typing import Any

from attar.execute.progress import Progress
from attar.real.load import load
from attar.real.realset import Splits
from attar.resources.zca import affordable_side, whitened
from attar.verbs.options import Data, side


def read(source: Any, data: Data, *, progress: Progress | None = None) -> Splits:
    """Splits as from :func:`attar.real.load.load`.

    Raises:
        AttarError: as there; ResourceError for images too large to whiten, before they are decoded where their size is given.
    """
    if not data.zca:
        return load(source, progress=progress, **data.arguments())
    affordable_side(side(data.size))
    return whitened(load(source, progress=progress, **data.arguments()), progress=progress)
