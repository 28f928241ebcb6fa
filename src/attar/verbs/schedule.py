"""What ``--quick`` and ``--preset`` take in place of a method's defaults: a short schedule, or the authors' settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Container
from typing import Any

from attar import registry
from attar.errors import UsageError, nearest
from attar.method import Method
from attar.verbs.options import Amount

BUDGETS = frozenset(field.name for field in dataclasses.fields(Amount))


def ahead(
    kind: type[Method], given: Container[str], *, quick: bool = False, preset: str | None = None
) -> dict[str, Any]:
    """Settings that stand where the caller gives none.

    Args:
        kind: the method's class.
        given: names of the settings that the caller gives; a preset's images per class count where no budget is given.
        quick: take the method's short schedule. preset: one of ``kind.presets``.

    Raises:
        UsageError: both are asked for, or the method has no such preset.

    Example:
        >>> ahead(registry.find("mtt"), {"lr_img"}, preset="cifar10-10")["ipc"]
        10
    """
    if quick and preset is not None:
        raise UsageError("quick and preset are two schedules; give one of them")
    found = dict(kind.quick) if quick else {} if preset is None else _preset(kind, preset)
    if any(name in given for name in BUDGETS):
        found.pop("ipc", None)
    return {name: value for name, value in found.items() if name not in given}


def _preset(kind: type[Method], name: str) -> dict[str, Any]:
    if name in kind.presets:
        return dict(kind.presets[name])
    owner = registry.name_of(kind)
    if not kind.presets:
        raise UsageError(f"{owner} has no presets; leave preset out, and see attar methods {owner} for its settings")
    raise UsageError(f"{owner} has no preset '{name}'; {nearest(name, kind.presets)}; attar methods {owner} lists all")
