"""The registry and the rooms of methods agree; methods stand on their own."""

from __future__ import annotations

import dataclasses
import importlib
import inspect

import pytest
from house_reading import HOME, imported

from attar import registry
from attar.method import Method
from attar.registry import METHODS, Entry
from attar.verbs.look import field_help

ROOMS = ("select", "distill")


def defined() -> dict[str, type[Method]]:
    """module:Class of every method that a file of the rooms defines."""
    found = {}
    for room in ROOMS:
        for path in sorted((HOME / room).glob("*.py")):
            module = importlib.import_module(
                f"attar.{room}.{path.stem}" if path.stem != "__init__" else f"attar.{room}"
            )
            for name, kind in vars(module).items():
                if isinstance(kind, type) and issubclass(kind, Method) and kind.__module__ == module.__name__:
                    found[f"{module.__name__}:{name}"] = kind
    return found


def test_every_method_is_registered_and_every_registered_one_is_there() -> None:
    assert set(defined()) == {e.target for e in METHODS}


def test_names_are_unique_and_plain() -> None:
    names = [e.name for e in METHODS]
    assert len(set(names)) == len(names)
    assert all(n == n.lower() and n.replace("-", "").isalnum() for n in names)


@pytest.mark.parametrize("entry", METHODS, ids=lambda e: e.name)
def test_a_row_says_what_its_class_says(entry: Entry) -> None:
    kind = registry.find(entry.name)
    assert kind.kind == entry.verb
    assert kind.__module__.split(".")[1] == entry.verb
    assert kind.paper.strip() and entry.family and entry.line
    assert entry.line[-1] != "."
    year = entry.paper[-4:]
    assert not entry.paper or (year.isdigit() and 1900 < int(year) < 2100)


@pytest.mark.parametrize("entry", METHODS, ids=lambda e: e.name)
def test_a_method_is_a_frozen_dataclass_whose_every_setting_is_explained(entry: Entry) -> None:
    kind = registry.find(entry.name)
    assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    helps = field_help(kind)
    for f in dataclasses.fields(kind):
        assert f.default is not dataclasses.MISSING, f"{f.name} has no default"
        assert helps.get(f.name, "").endswith("."), f"{f.name} is not explained by a sentence below it"
        assert str(f.type).split(" | ")[0] in ("int", "float", "bool", "str"), f"{f.name} cannot be a flag"


@pytest.mark.parametrize("entry", METHODS, ids=lambda e: e.name)
def test_the_file_of_a_method_opens_with_its_paper(entry: Entry) -> None:
    head = inspect.getdoc(inspect.getmodule(registry.find(entry.name))) or ""
    assert len(head.splitlines()) >= 5
    if entry.paper:
        assert entry.paper[-4:] in head, "the year of the paper"


@pytest.mark.parametrize("target", sorted(defined()))
def test_no_method_imports_another(target: str) -> None:
    module = target.partition(":")[0]
    others = {t.partition(":")[0] for t in defined()} - {module}
    path = HOME.parent / (module.replace(".", "/") + ".py")
    assert not {m for _, m in imported(path)} & others


def test_no_class_stands_between_method_and_a_method() -> None:
    assert {kind.__mro__[1] for kind in defined().values()} == {Method}
