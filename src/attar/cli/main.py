"""``attar``: finds the verb, runs it, and turns errors into one sentence and an exit code.

0 done, 1 a run broke, 2 usage, 3 refused data, 4 refused resources, 130 or 143 stopped by a signal with the state saved.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cyclopts import App, CycloptsError, Parameter
from cyclopts.exceptions import MissingArgumentError, UnknownCommandError, UnusedCliTokensError

from attar import __version__
from attar.cli.show import Formatter, default, printable
from attar.errors import AttarError, ResourceError, UsageError, nearest
from attar.io.atomic import refused

VERBS = {
    "distill": (
        "Synthesise a tiny set that trains like the large one.",
        "distill digits --method dm --ipc 1 --steps 300 --batch 64",
    ),
    "select": ("Choose the real examples that matter.", "select photos/ --method kcenter --ipc 10"),
    "evaluate": (
        "Train fresh networks on a small set and score them beside random examples.",
        "evaluate digits-dm-ipc1 --nets convnet,mlp",
    ),
    "compare": (
        "Make and score several methods at several sizes in one table.",
        "compare digits --methods random,dm:steps=300 --ipc 1,10",
    ),
    "report": ("Write the page of a small set.", "report digits-dm-ipc1"),
    "methods": ("List the methods, or one with its settings, paper and cost.", "methods dm"),
    "verify": ("Check every byte of a small set.", "verify digits-dm-ipc1"),
    "export": ("Write a small set as class folders, npz or pt.", "export digits-dm-ipc1 --to small.npz --format npz"),
    "cache": ("Show what is cached and where, or delete it.", "cache --purge all"),
    "rerun": ("Make a set again from its manifest.", "rerun digits-dm-ipc1"),
}
"""Verb -> what it does, and an example."""

MEMORY = "the memory is used up; lower the budget or the batch, or use a larger machine"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Runs one command; returns the exit code."""
    as_json = "--json" in arguments
    try:
        app(arguments)(list(arguments), exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as e:
        return _fail(_sentence(e, verb(arguments)), 2, as_json)
    except AttarError as e:
        return _fail(str(e), e.exit_code, as_json)
    except MemoryError:
        return _fail(MEMORY, 4, as_json)
    except RuntimeError as e:  # torch's way to say the same
        if "allocate memory" not in str(e) and "out of memory" not in str(e):
            raise
        return _fail(MEMORY, 4, as_json)
    except KeyboardInterrupt:
        return _fail("stopped; run the same command again to go on", 130, as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as e:
        if e.filename is None and e.errno is None:
            raise
        error: ResourceError | AttarError = refused(e, Path(str(e.filename or ".")), "using")
        return _fail(str(error), error.exit_code, as_json)
    return 0


def verb(arguments: Sequence[str]) -> str | None:
    """The verb that is asked for: the first word that is no option."""
    return next((a for a in arguments if not a.startswith("-")), None)


def app(arguments: Sequence[str]) -> App:
    """The application, with only the verb that is asked for loaded.

    Raises:
        UsageError: an unknown verb; names the nearest.
    """
    root = App(
        name="attar",
        help="Makes a dataset small and proves what the small one kept.",
        version=__version__,
        help_format="plaintext",  # the markdown reader costs a quarter of the start-up
        help_formatter=Formatter(),
        help_epilogue=f"Start with: attar {VERBS['distill'][1]}",
        default_parameter=Parameter(negative_iterable=(), show_default=default),
    )
    asked = verb(arguments)
    if asked is not None and asked not in VERBS:
        raise UsageError(f"there is no command '{asked}'; {nearest(asked, VERBS)}")
    for place, (name, (line, example)) in enumerate(VERBS.items()):
        action = importlib.import_module(f"attar.cli.{name}").command(arguments) if name == asked else _placeholder
        root.command(action, name=name, help=line, help_epilogue=f"Example: attar {example}", sort_key=place)
    return root


def _placeholder() -> None:
    """Stands for a verb that is only named in the list of verbs."""


def _sentence(e: CycloptsError, asked: str | None) -> str:
    """What is wrong with the words of a command, and where to look."""
    extra = e.unused_tokens[0] if e.unused_tokens else ""
    if isinstance(e, UnusedCliTokensError):
        text = f"'{extra}' is one word too many"
    elif isinstance(e, UnknownCommandError):
        text = f"there is no option {extra} without a command"
    elif isinstance(e, MissingArgumentError) and e.argument is not None:
        text = f"{e.argument.name} {'needs a value' if e.argument.name.startswith('-') else 'is missing'}"
    else:
        text = str(e).replace("\n", " ").rstrip(".")
        text = text[0].lower() + text[1:]
    return text if text.endswith("?") else f"{text}; see attar {asked + ' ' if asked else ''}--help"


def _fail(sentence: str, code: int, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": sentence, "exit_code": code}))
    print(f"attar: {printable(sentence)}", file=sys.stderr)
    return code
