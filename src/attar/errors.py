"""Errors that a user can mend: one sentence with what was found, where, what was expected and what to do.

The command line prints the sentence, no traceback, and leaves with the error's exit code:
2 usage, 3 refused data, 4 refused resources, 5 waits for a person's labels, 130 or 143 stopped by a signal with the state saved.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AttarError(Exception):
    """A mistake or a limit that the user can act on; the message is one clear sentence."""

    exit_code = 1


class UsageError(AttarError):
    """The call itself is wrong: an unknown name, a setting out of range, an output that exists."""

    exit_code = 2


class DataError(AttarError):
    """The data cannot be used as they are: a broken file, a missing class, a NaN."""

    exit_code = 3


class ResourceError(AttarError):
    """The machine refuses: memory, disk, permission, a lock held by another run."""

    exit_code = 4


class Waiting(AttarError):
    """The work goes on when a person has done their part; the loop saves the state before it hands this on."""

    exit_code = 5


class Interrupted(AttarError):
    """A signal stopped the work after the state was saved.

    Args:
        message: how to go on.
        signal: the signal's number; the exit code is 128 + signal.
    """

    def __init__(self, message: str, signal: int = 2) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal


def nearest(name: str, known: Iterable[str], *, most: int | None = None, own: str | None = None) -> str:
    """Says which known name was probably meant.

    Args:
        most: names that are told where none is close; all where left out.
        own: how one of the user's own is given, told where none is close.

    Returns:
        ``"did you mean 'dm'?"`` where a name is close, else ``"known: a, b, c"`` or ``"known: a, b and 7 others"``, with
        ``", or give my.py:Own"``.
    """
    names = sorted(known)
    file = own is not None and name.endswith(".py")  # whose class was left out
    close = [] if file else difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    told = names[:most]
    others = len(names) - len(told)
    more = (f" and {others} others" if others else "") + (f", or give {own}" if own else "")
    return "known: " + ", ".join(told) + more


def missing_extra(package: str, extra: str, purpose: str) -> UsageError:
    """The error for an optional package that is not installed."""
    return UsageError(
        f"{purpose} needs the package '{package}', which is not installed; run: pip install 'attar[{extra}]'"
    )
