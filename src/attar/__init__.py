"""attar makes a dataset small and proves what the small one kept.

>>> import attar
>>> kept = attar.distill("digits", method="dm", ipc=1, steps=2, batch=8)
>>> len(kept)
10

Importing the package loads no torch; each name below is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attar.apply.loader import WeightedLoader, subset
    from attar.condensed import Condensed
    from attar.condensed import open_condensed as open
    from attar.errors import AttarError
    from attar.method import Method
    from attar.real.load import load
    from attar.verbs.compare import compare
    from attar.verbs.distill import distill, select
    from attar.verbs.evaluate import evaluate
    from attar.verbs.export import export
    from attar.verbs.look import cache, methods, report, verify
    from attar.verbs.rerun import rerun

__version__ = "0.1.0"

_WHERE = {
    "AttarError": "attar.errors:AttarError",
    "Condensed": "attar.condensed:Condensed",
    "Method": "attar.method:Method",
    "WeightedLoader": "attar.apply.loader:WeightedLoader",
    "cache": "attar.verbs.look:cache",
    "compare": "attar.verbs.compare:compare",
    "distill": "attar.verbs.distill:distill",
    "evaluate": "attar.verbs.evaluate:evaluate",
    "export": "attar.verbs.export:export",
    "load": "attar.real.load:load",
    "methods": "attar.verbs.look:methods",
    "open": "attar.condensed:open_condensed",
    "report": "attar.verbs.look:report",
    "rerun": "attar.verbs.rerun:rerun",
    "select": "attar.verbs.distill:select",
    "subset": "attar.apply.loader:subset",
    "verify": "attar.verbs.look:verify",
}

__all__ = [
    "AttarError",
    "Condensed",
    "Method",
    "WeightedLoader",
    "cache",
    "compare",
    "distill",
    "evaluate",
    "export",
    "load",
    "methods",
    "open",
    "report",
    "rerun",
    "select",
    "subset",
    "verify",
]


def _load(name: str) -> Any:
    module, _, attribute = _WHERE[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'attar' has no attribute '{name}'")
    return _load(name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


class _Room(ModuleType):
    """A room that shares its name with a verb: ``attar.distill("photos/")`` is the verb, ``attar.distill.dm`` a file."""

    def __call__(self, *args: Any, **settings: Any) -> Any:
        return _load(self.__name__.rpartition(".")[2])(*args, **settings)

    @property
    def __signature__(self) -> Any:
        import inspect

        return inspect.signature(_load(self.__name__.rpartition(".")[2]))


for _name in ("distill", "evaluate", "report", "select"):
    importlib.import_module(f"attar.{_name}").__class__ = _Room
