"""From a spec to a Net: ``convnet``, ``convnet:depth=4:norm=batch``, ``my.py:MyNet``, or a Python object."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

from torch import nn

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
        raise UsageError(f"there is no network '{name}'; {nearest(name, TABLE)}, or give my.py:MyNet")
    constructor = TABLE[name][0]
    settings = dict(_setting(name, constructor, item) for item in given)
    make = functools.partial(constructor, **shape, **settings)
    return Net(_canonical(name, constructor, settings), **shape, make=make)


def settings_of(constructor: Callable[..., nn.Module]) -> dict[str, inspect.Parameter]:
    """The keywords of a constructor that a spec may set, with their types as annotations."""
    hints = typing.get_type_hints(constructor.__init__ if inspect.isclass(constructor) else constructor)
    parameters = inspect.signature(constructor).parameters.values()
    return {p.name: p.replace(annotation=hints[p.name]) for p in parameters if p.name not in SHAPE}


def _setting(net: str, constructor: Callable[..., nn.Module], item: str) -> tuple[str, Any]:
    key, equals, text = item.partition("=")
    known = settings_of(constructor)
    if not equals or key not in known:
        hint = nearest(key, known) if known else "it has no settings"
        raise UsageError(f"network '{net}' has no setting '{item}'; {hint} (written as name=value)")
    return key, _typed(f"{net}:{key}", text, known[key].annotation)


def _typed(where: str, text: str, hint: Any) -> Any:
    """``text`` as a value of the annotated type: a Literal, int, float, bool or one of these or None."""
    if typing.get_origin(hint) is typing.Literal:
        choices = typing.get_args(hint)
        if text not in choices:
            raise UsageError(f"{where}={text} is not known; {nearest(text, choices)}")
        return text
    if isinstance(hint, types.UnionType):
        hint = next(t for t in typing.get_args(hint) if t is not types.NoneType)
    if hint is bool:
        return _typed(where, text, typing.Literal["true", "false"]) == "true"
    try:
        return hint(text)
    except ValueError:
        raise UsageError(f"{where}={text} is not of type {hint.__name__}") from None


def _canonical(name: str, constructor: Callable[..., nn.Module], settings: dict[str, Any]) -> str:
    """The spec with the settings that differ from the defaults, in the constructor's order."""
    parts = [name]
    for key, p in settings_of(constructor).items():
        if key in settings and settings[key] != p.default:
            value = settings[key]
            parts.append(f"{key}={str(value).lower() if isinstance(value, bool) else value}")
    return ":".join(parts)
