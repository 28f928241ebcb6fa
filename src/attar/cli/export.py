"""attar export."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from attar.cli import show
from attar.condensed import open_condensed
from attar.verbs.export import export, meant


def command(arguments: Sequence[str]) -> Callable[..., None]:
    """The command."""
    return act


def act(
    folder: Path,
    /,
    *,
    to: Annotated[Path, Parameter(help="Folder or file to write; must not exist.")],
    format: Annotated[
        Literal["folder", "npz", "pt", "coco"],
        Parameter(
            help="Class folders of PNG files, 8-bit arrays, exact tensors, or original images with COCO annotations."
        ),
    ] = "folder",
    json: show.Json = False,
) -> None:
    """Writes a small set in another format.

    Parameters
    ----------
    folder
        A folder that attar wrote.
    """
    kept = open_condensed(folder)
    written, note = export(kept, to=to, format=format), meant(kept, format)
    if json:
        told = {"note": note} if note else {}
        return show.as_json({"folder": str(folder), "written": str(written), "format": format, **told})
    show.lines(str(written), *([note] if note else []))
