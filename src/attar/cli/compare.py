"""attar compare."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from attar.cli import show
from attar.cli.words import short_name
from attar.report import table
from attar.verbs.compare import compare
from attar.verbs.options import Compute, Data


def command(arguments: Sequence[str]) -> Callable[..., None]:
    """The command."""
    return act


def act(
    source: str,
    /,
    *,
    methods: Annotated[
        str,
        Parameter(
            help="Names, each with settings of its own as in dm:steps=300:batch=64; matching or selection for all."
        ),
    ] = "random,kcenter,herding,dm",
    ipc: Annotated[str, Parameter(help="Images per class, as in 1,10.")] = "1,10",
    out: Annotated[
        Path | None, Parameter(help="Folder for the sets and the table; default SOURCE-compare here.")
    ] = None,
    seed: Annotated[int, Parameter(help="Seed of the runs.")] = 0,
    protocol: Annotated[
        str, Parameter(help="One protocol for all: dc, dsa, dc-best, dsa-best, idc, fkd or rded.")
    ] = "dsa",
    nets: Annotated[
        str | None,
        Parameter(
            name=["--nets", "--net"], help="Networks that score, as in convnet,mlp or my.py:MyNet; default convnet."
        ),
    ] = None,
    seeds: Annotated[int | None, Parameter(help="Networks trained for each score; default 5.")] = None,
    epochs: Annotated[int | None, Parameter(help="Epochs of scoring, other than the protocol's.")] = None,
    steps: Annotated[int | None, Parameter(help="Steps of every method that has them.")] = None,
    full: Annotated[bool, Parameter(negative="", help="Score training on all real examples too.")] = False,
    quick: Annotated[
        bool, Parameter(negative="", help="Short schedules for two CPU cores, narrow networks, 300 epochs and 3 seeds.")
    ] = False,
    json: show.Json = False,
    data: Annotated[Data, show.Flat] = Data(),
    compute: Annotated[Compute, show.Flat] = Compute(),
) -> None:
    """Makes and scores methods at several sizes.

    Parameters
    ----------
    source
        digits, a folder of class folders, a parquet file or a folder of them, an npz file, or hf:owner/name.
    """
    given = {"steps": steps, **asdict(data), **asdict(compute)}
    out = out or Path(f"{short_name(source)}-compare")
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
        quick=quick,
        **{k: v for k, v in given.items() if v is not None},
    )
    if json:
        return show.as_json({"folder": str(out), "rows": rows})
    show.console().print(table.compare_table(rows))
    show.lines(f"look at it: {out}/compare.html")
