"""attar verify."""

from collections.abc import Callable, Sequence
from pathlib import Path

from attar.cli import show
from attar.scale.output import is_kept
from attar.verbs.shards import verify_shards


def command(arguments: Sequence[str]) -> Callable[..., None]:
    """The command."""
    return act


def act(folder: Path, /, *, json: show.Json = False) -> None:
    """Checks every byte of a small set.

    Parameters
    ----------
    folder
        A folder that attar wrote.
    """
    if is_kept(folder):  # needs no torch
        facts = verify_shards(folder)
    else:
        from attar.verbs.look import verify

        facts = verify(folder)
    if json:
        return show.as_json(facts)
    show.lines(f"{folder}: good ({facts['rows']} examples, {len(facts['files'])} files)")
