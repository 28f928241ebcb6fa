"""Checks of words and settings: the paper, formula and cost are told, and settings survive JSON and the command line."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from pathlib import Path
from typing import Any

from attar import registry
from attar.cli import main
from attar.execute.identity import describe
from attar.method import Method
from attar.testing.trial import require
from attar.verbs.distill import job_of
from attar.verbs.look import field_help, module_doc
from attar.verbs.make import command


def docstrings(method: Method) -> None:
    """The file's text names the paper and has a formula, the cost and what differs; every setting has its sentence."""
    kind = type(method)
    text, all_text = module_doc(kind), module_doc(kind) + "\n" + (kind.__doc__ or "")
    require(bool(kind.paper.strip()), "the class names no paper (paper: ClassVar[str])")
    require(len(text.splitlines()) > 2, "the file has no text at its head")
    author = re.findall(r"\w+", kind.paper)[0]
    require(author.lower() in text.lower(), f"the text at the head of the file does not name the paper ({kind.paper})")
    formula = any(re.match(r"\s{2,}\S.*=", line) for line in text.splitlines())
    require(formula, "the text at the head of the file has no formula (an indented line with =)")
    require("Cost" in all_text, "neither the file nor the class tells the cost")
    require(
        re.search(r"\bDiffer", text) is not None, "the text at the head does not say where it differs from other code"
    )
    helps = field_help(kind)
    for f in dataclasses.fields(method):
        require(len(helps.get(f.name, "").split()) > 1, f"the setting '{f.name}' has no sentence below it")


def settings_round_trip(method: Method) -> None:
    """Settings written as JSON and read again make an equal method; the method is frozen."""
    text = json.dumps(describe(method), allow_nan=False)
    require(type(method)(**json.loads(text)) == method, f"settings are other ones after JSON: {text}")
    require(json.dumps(describe(type(method)(**json.loads(text)))) == text, "an equal method is described otherwise")
    for f in dataclasses.fields(method):
        try:
            setattr(method, f.name, getattr(method, f.name))
        except dataclasses.FrozenInstanceError:
            continue
        raise AssertionError(f"'{f.name}' can be changed; the dataclass must be frozen")


def flags_round_trip(method: Method) -> None:
    """Every setting can be given as a flag, every bool as --x and --no-x, and the printed command makes the same."""
    name = name_of(method)
    words = [method.kind, "digits", "--method", name]
    given = {f.name: getattr(method, f.name) for f in dataclasses.fields(method)}
    flags = [w for key, value in given.items() if value is not None for w in flag(key, value)]
    require(parsed([*words, *flags]) == method, f"'attar {shlex.join(words + flags)}' makes other settings")
    for key, value in given.items():
        if isinstance(value, bool):
            for wanted in (True, False):
                found = getattr(parsed([*words, *flag(key, wanted)]), key)
                require(found is wanted, f"'{flag(key, wanted)[0]}' sets {key} to {found}")
    job = job_of(method.kind, "digits", method, Path("out"), {"ipc": 1})
    line = shlex.split(command(job, {"ipc": 1}))
    require(line[0] == "attar" and line[3:5] == ["--method", name], f"the command is '{shlex.join(line)}'")
    require(parsed(line[1:]) == method, f"'{shlex.join(line)}' makes other settings")


def name_of(method: Method) -> str:
    """The name that finds the class again.

    Raises:
        AssertionError: there is none.
    """
    kind = type(method)
    name = registry.name_of(kind)
    found = registry.find(name) if "<locals>" not in name else None
    require(found is kind, f"'{name}' does not lead to the class; define it at the top of a module")
    return name


def flag(key: str, value: Any) -> list[str]:
    """A setting as words of a command."""
    dashed = key.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{dashed}" if value else f"--no-{dashed}"]
    return [f"--{dashed}", str(value)]


def parsed(words: list[str]) -> Any:
    """The method that a command line makes, without running it."""
    try:
        _, bound, *_ = main.app(words).parse_args(words, exit_on_error=False, print_error=False)
    except Exception as e:
        raise AssertionError(f"'attar {shlex.join(words)}' is refused: {e}") from e
    found = bound.arguments.get("settings")
    return registry.find(words[words.index("--method") + 1])() if found is None else found
