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

from cyclopts import App, CycloptsError

from attar import __version__
from attar.errors import AttarError, ResourceError
from attar.io.atomic import refused

VERBS = {
    "distill": "Synthesise a tiny set that trains like the large one.",
    "select": "Choose the real examples that matter.",
    "evaluate": "Train fresh networks on a small set and score them beside random examples.",
    "compare": "Make and score several methods at several sizes in one table.",
    "report": "Write the page of a small set.",
    "methods": "List the methods, or one with its settings, paper and cost.",
    "verify": "Check every byte of a small set.",
    "export": "Write a small set as class folders, npz or pt.",
    "cache": "Show what is cached and where, or delete it.",
    "rerun": "Make a set again from its manifest.",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Runs one command; returns the exit code."""
    as_json = "--json" in arguments
    try:
        app(arguments)(list(arguments), exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as e:
        return _fail(str(e).replace("\n", " "), 2, as_json)
    except AttarError as e:
        return _fail(str(e), e.exit_code, as_json)
    except MemoryError:
        return _fail("the memory is used up; lower the budget or the batch, or use a larger machine", 4, as_json)
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


def app(arguments: Sequence[str]) -> App:
    """The application, with only the verb that is asked for loaded."""
    root = App(
        name="attar",
        help="Makes a dataset small and proves what the small one kept.",
        version=__version__,
        help_format="plaintext",  # the markdown reader costs a quarter of the start-up
        help_epilogue="Start with: attar distill digits --method dm --ipc 1 --steps 300 --batch 64",
    )
    asked = next((a for a in arguments if not a.startswith("-")), None)
    for verb, line in VERBS.items():
        if verb == asked:
            root.command(importlib.import_module(f"attar.cli.{verb}").command(arguments), name=verb, help=line)
        else:
            root.command(_placeholder, name=verb, help=line)
    return root


def _placeholder() -> None:
    """Stands for a verb that is only named in the list of verbs."""


def _fail(sentence: str, code: int, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": sentence, "exit_code": code}))
    print(f"attar: {sentence}", file=sys.stderr)
    return code
