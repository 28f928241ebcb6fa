"""From a spec to a Net: ``convnet``, ``convnet:depth=4:norm=batch``, ``my.py:MyNet``, or a Python object."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from attar import spec as spec_of
from attar.errors import UsageError, nearest
from attar.nets import own
from attar.nets.net import Net
from attar.nets.table import TABLE

Spec = str | nn.Module | Callable[..., nn.Module]
SHAPE = ("channels", "size", "classes")


def build(spec: Spec, *, channels: int, size: tuple[int, int], classes: int) -> Net:
    """The network that ``spec`` names, for images of one shape.

    Args:
        spec: a built-in name with settings (``convnet:depth=4:width=64:norm=batch``); ``file.py:Name`` or
            ``package.module:Name`` of a class or function that takes the keywords channels, size and classes, or some
            of them, or none; or a Python object: such a class or function, or a module to be drawn anew.
        channels, size, classes: C, (H, W) and K.

    Raises:
        UsageError: an unknown name, setting or value; images too small; a module that does not give [B, K].
    """
    # A plain dictionary, because a compiled caller can look through it, and not through a cached function.
    key = (spec, channels, tuple(size), classes)
    if key not in _BUILT:
        _BUILT[key] = _build(spec, channels, size, classes)
    return _BUILT[key]


_BUILT: dict[tuple[Spec, int, tuple[int, ...], int], Net] = {}


def _build(spec: Spec, channels: int, size: tuple[int, int], classes: int) -> Net:
    h, w = size
    if min(channels, h, w, classes) < 1:
        raise UsageError(
            f"a network needs a channel, a pixel and a class at least, but got {channels}x{h}x{w}, {classes}"
        )
    shape: dict[str, Any] = {"channels": int(channels), "size": (int(h), int(w)), "classes": int(classes)}
    if not isinstance(spec, str):
        return own.adopt(spec, **shape)
    name, *given = spec.split(":")
    file = spec.rpartition(":")[0].endswith(".py")
    if file or (name not in TABLE and given and "=" not in spec):
        return own.adopt(own.load(spec), name=spec, **shape)
    if name not in TABLE:
        raise UsageError(f"there is no network '{name}'; {nearest(name, TABLE, own='my.py:MyNet')}")
    constructor = TABLE[name][0]
    known = spec_of.settings_of(constructor, SHAPE)
    settings = spec_of.given(f"network '{name}'", known, given)
    make = functools.partial(constructor, **shape, **settings)
    return Net(spec_of.canonical(name, known, settings), **shape, make=make)
