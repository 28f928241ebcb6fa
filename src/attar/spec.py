"""Specs: a name from a table with settings, ``name:key=value:key=value``; networks and rules are written so."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

from attar.errors import UsageError, nearest

Known = Mapping[str, inspect.Parameter]
"""The settings that a spec may give, by name, with their types as annotations."""


def settings_of(function: Callable[..., Any], hidden: Collection[str] = ()) -> dict[str, inspect.Parameter]:
    """The keywords of a class or function that a spec may set, with their types as annotations.

    Args:
        function: what a name of the table stands for.
        hidden: arguments that the caller gives.
    """
    hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.replace(annotation=hints[p.name]) for p in parameters if p.name not in hidden}


def given(what: str, known: Known, items: Collection[str]) -> dict[str, Any]:
    """``["depth=4", "norm=batch"]`` -> values by name.

    Args:
        what: kind and name for messages, as in ``network 'convnet'``.
        known: the settings there are.
        items: the parts of a spec after the name.

    Raises:
        UsageError: an unknown setting, or a value of another type.
    """
    found: dict[str, Any] = {}
    for key, value in (_setting(what, known, item) for item in items):
        if key in found:
            raise UsageError(f"{what} has '{key}' twice; give it once")
        found[key] = value
    return found


def canonical(name: str, known: Known, settings: Mapping[str, Any]) -> str:
    """The spec with the settings that differ from the defaults, in the order of ``known``."""
    parts = [name]
    for key, p in known.items():
        if key in settings and settings[key] != p.default:
            value = settings[key]
            parts.append(f"{key}={str(value).lower() if isinstance(value, bool) else value}")
    return ":".join(parts)


def _setting(what: str, known: Known, item: str) -> tuple[str, Any]:
    key, equals, text = item.partition("=")
    if not equals and key in known:
        raise UsageError(f"{what} has '{key}' without a value; write {key}=VALUE")
    if key not in known:
        hint = nearest(key, known) if known else "it has no settings"
        raise UsageError(f"{what} has no setting '{item}'; {hint} (written as name=value)")
    name = what.split("'")[1]
    return key, _typed(f"{name}:{key}", text, known[key].annotation)


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
        apart = "; settings are parted by colons, as in name:key=value:key=value" if "=" in text else ""
        raise UsageError(f"{where}={text} is not of type {hint.__name__}{apart}") from None
