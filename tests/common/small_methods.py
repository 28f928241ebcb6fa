"""Registered methods with settings small enough for checks."""

from __future__ import annotations

import dataclasses

from attar.method import Method
from attar.testing.trial import method_of

ABLE = {
    "datm": {"start": "real"},
    "forgetting": {"lr": 0.5},
    "wmdd": {"net": "convnet:width=8:depth=1:norm=batch", "start": "real"},  # statistics are those of batch norms
}
"""Settings of methods that rightly refuse what the toys give, or see nothing in it: no expert of a few batches knows every
class, and nothing is forgotten in four epochs at a usual rate."""


def small(name: str) -> Method:
    """A registered method with the settings of the checks."""
    return dataclasses.replace(method_of(name), **ABLE.get(name, {}))
