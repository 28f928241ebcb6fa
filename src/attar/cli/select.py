"""attar select."""

from collections.abc import Callable, Sequence


def command(arguments: Sequence[str]) -> Callable[..., None]:
    """The command with the flags of the method that is asked for; with ``--on`` that for shards, which loads no torch.

    Without ``--method`` it is ``kcenter``, or ``active`` where there is a ``--query``.
    """
    if _has(arguments, "--on"):
        from attar.cli import shards

        return shards.command(arguments)
    from attar.cli import making

    return making.command("select", arguments, "active" if _has(arguments, "--query") else "kcenter")


def _has(arguments: Sequence[str], flag: str) -> bool:
    return any(word == flag or word.startswith(f"{flag}=") for word in arguments)
