"""attar compare."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from attar.cli import show
from attar.report import table
from attar.verbs.compare import compare


def command(arguments: Sequence[str]) -> Callable[..., None]:
    """The command."""
    return act


def act(
    source: str,
    /,
    *,
    methods: Annotated[
        str, Parameter(help="Names, with own settings as in dm:steps=300.")
    ] = "random,kcenter,herding,dm",
    ipc: Annotated[str, Parameter(help="Images per class, as in 1,10.")] = "1,10",
    out: Annotated[
        Path | None, Parameter(help="Folder for the sets and the table; default SOURCE-compare here.")
    ] = None,
    seed: int = 0,
    protocol: Annotated[str, Parameter(help="One protocol for all: dc or dsa.")] = "dsa",
    nets: Annotated[str, Parameter(name=["--nets", "--net"], help="Networks, as in convnet,mlp.")] = "convnet",
    seeds: Annotated[int, Parameter(help="Networks trained for each score.")] = 5,
    epochs: Annotated[int | None, Parameter(help="Epochs, other than the protocol's.")] = None,
    steps: Annotated[int | None, Parameter(help="Steps of every method that has them.")] = None,
    full: Annotated[bool, Parameter(help="Score training on all real examples too.")] = False,
    size: Annotated[str | None, Parameter(help="Side, or HEIGHTxWIDTH, that images are resized to.")] = None,
    device: str | None = None,
    threads: int | None = None,
    json: show.Json = False,
) -> None:
    """Makes and scores methods at several sizes.

    Parameters
    ----------
    source
        digits, a folder of class folders, a parquet file or a folder of them, an npz file, or hf:owner/name.
    """
    given = {"steps": steps, "size": size, "device": device, "threads": threads}
    out = out or Path(f"{Path(source).stem}-compare")
    rows = compare(
        source,
        methods=methods,
        ipc=ipc,
        out=out,
        seed=seed,
        protocol=protocol,
        nets=nets,
        seeds=seeds,
        epochs=epochs,
        full=full,
        **{k: v for k, v in given.items() if v is not None},
    )
    if json:
        return show.as_json({"folder": str(out), "rows": rows})
    show.console().print(table.compare_table(rows))
    show.lines(f"the page: {out}/compare.html")
