"""attar rerun."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from attar.cli import show
from attar.verbs.rerun import rerun


def command(arguments: Sequence[str]) -> Callable[..., None]:
    """The command."""
    return act


def act(
    folder: Path,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Folder to write; default FOLDER-again.")] = None,
    trust: Annotated[
        str, Parameter(help="Methods and networks of the manifest that are Python code, as my.py:Mine, and may run.")
    ] = "",
    json: show.Json = False,
) -> None:
    """Makes a set again from its manifest.

    Parameters
    ----------
    folder
        A folder that attar wrote.
    """
    made = rerun(folder, out=out or show.beside(folder, "-again"), trust=trust.split(","))
    paths = [str(c.path) for c in (made if isinstance(made, list) else [made])]
    if json:
        return show.as_json({"folder": str(folder), "made": paths})
    show.lines(*paths)
