"""attar select."""

from collections.abc import Callable, Sequence

from attar.cli import making


def command(arguments: Sequence[str]) -> Callable[..., None]:
    """The command with the flags of the method that is asked for."""
    return making.command("select", arguments, "kcenter")
