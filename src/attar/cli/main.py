"""``attar``: finds the verb, runs it, and turns errors into one sentence and an exit code.

0 done, 1 a run broke, 2 usage, 3 refused data, 4 refused resources, 5 waits for labels, 130 or 143 stopped by a signal with
the state saved.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from cyclopts import App, CycloptsError, Parameter, Token, convert
from cyclopts.exceptions import MissingArgumentError, UnknownCommandError, UnusedCliTokensError

from attar.cli.front import VERBS, answer, say
from attar.cli.show import Formatter, default, printable
from attar.errors import AttarError, ResourceError, UsageError, nearest
from attar.io.atomic import refused

MEMORY = "the memory is used up; lower the budget or the batch, or use a larger machine"


def run(arguments: Sequence[str]) -> int:
    """Runs one command; returns the exit code."""
    as_json = "--json" in arguments
    said = answer(arguments)
    if said is not None:
        return say(said)
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
        help_format="plaintext",  # the markdown reader costs a quarter of the start-up
        help_formatter=Formatter(),
        default_parameter=Parameter(negative_iterable=(), show_default=default, converter=exact),
        suppress_keyboard_interrupt=False,  # it is answered by a sentence
    )
    asked = verb(arguments)
    if asked is not None and asked not in VERBS:
        raise UsageError(f"there is no command '{asked}'; {nearest(asked, VERBS)}")
    if asked is not None:
        line, example = VERBS[asked]
        action = importlib.import_module(f"attar.cli.{asked}").command(arguments)
        root.command(action, name=asked, help=line, help_epilogue=f"Example: attar {example}")
    return root


def exact(kind: Any, tokens: Sequence[Token]) -> Any:
    """The value of a flag; unlike cyclopts alone, a whole number is not rounded from another.

    Raises:
        ValueError: a fraction where a whole number is due.
    """
    kinds = {kind, *get_args(kind)}
    if int in kinds and not kinds & {float, str}:
        broken = next((token.value for token in tokens if "." in token.value), None)
        if broken is not None:
            raise ValueError(f"'{broken}' is no whole number")
    return convert(kind, tokens)


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
