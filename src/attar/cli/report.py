"""attar report."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from attar.cli import show
from attar.verbs.look import report


def command(arguments: Sequence[str]) -> Callable[..., None]:
    """The command."""
    return act


def act(
    folder: Path,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="File to write; default FOLDER.html beside the folder.")] = None,
    real: Annotated[str | None, Parameter(help="The real data; left out, they are found from the manifest.")] = None,
    json: show.Json = False,
) -> None:
    """Writes the page of a small set.

    Parameters
    ----------
    folder
        A folder that attar wrote.
    """
    out = out or show.beside(folder, ".html")
    report(folder, out=out, real=real)
    if json:
        return show.as_json({"folder": str(folder), "page": str(out)})
    show.lines(str(out))
