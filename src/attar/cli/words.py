"""What the words of a command say before it is parsed, and the names of folders that follow from them; loads no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from attar.verbs.options import Amount


def value(arguments: Sequence[str], flag: str, default: str) -> str:
    """What was typed behind a flag: ``--method dm`` or ``--method=dm``; the default where it was not."""
    for word, after in zip(arguments, [*arguments[1:], default]):
        if word.partition("=")[0] == flag:
            return word.partition("=")[2] if "=" in word else after
    return default


def typed(arguments: Sequence[str]) -> set[str]:
    """The settings that were typed as flags: ``--lr-img 0.5 --no-balanced`` -> {lr_img, balanced}."""
    flags = [word.partition("=")[0] for word in arguments if word.startswith("--")]
    return {flag.removeprefix("--").removeprefix("no-").replace("-", "_") for flag in flags}


def default_out(source: str, method: str, amount: Amount) -> Path:
    """``mnist-dm-ipc1`` in the working folder."""
    asked = "-".join(str(b).replace(" ", "") for b in amount.budgets())
    return Path(f"{short_name(source)}-{method.rpartition(':')[2].lower()}-{asked}")


def short_name(source: str) -> str:
    """What a source is called in names of folders: ``data/mnist.parquet`` -> ``mnist``."""
    path = Path(source.removeprefix("hf:")).absolute()
    name = path.stem if path.suffix.lower() in (".parquet", ".pq", ".npz") else path.name
    return re.sub(r"[^\w.+-]+", "-", name).strip("-") or "data"
