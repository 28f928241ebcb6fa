"""attar select."""

from collections.abc import Callable, Sequence

from attar.cli import words

OF_SHARDS = {"on", "memory", "workers"}
"""Flags that may ask for selection from shards, which loads no torch."""


def command(arguments: Sequence[str]) -> Callable[..., None]:
    """The command with the flags of the method that is asked for, or that for shards.

    Without ``--method`` it is ``kcenter``, ``active`` where there is a ``--query``, and ``el2n`` of shards.
    """
    typed = words.typed(arguments)
    if typed & OF_SHARDS:
        from attar.cli import shards
        from attar.verbs.shards import meant

        if meant(typed, words.value(arguments, "--method", shards.DEFAULT)):
            return shards.command(arguments)
    from attar.cli import making

    return making.command("select", arguments, "active" if "query" in typed else "kcenter")
