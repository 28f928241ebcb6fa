"""The templates: every value is escaped, and a name that a template does not get is an error."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from attar.report import wording


def template(name: str, context: dict[str, Any]) -> str:
    """A template of this package, filled."""
    return _environment().get_template(name).render(context)


@cache
def _environment() -> Environment:
    env = Environment(
        loader=PackageLoader("attar.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.globals["say"] = wording
    return env
