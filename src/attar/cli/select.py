"""attar select."""

from collections.abc import Callable, Sequence


def command(arguments: Sequence[str]) -> Callable[..., None]:
    """The command with the flags of the method that is asked for; with ``--on`` that for shards, which loads no torch."""
    if any(word == "--on" or word.startswith("--on=") for word in arguments):
        from attar.cli import shards

        return shards.command(arguments)
    from attar.cli import making

    return making.command("select", arguments, "kcenter")
