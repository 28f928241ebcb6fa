"""attar select --on: the command on parquet shards; loads no torch, which would be a large part of its memory."""

# Annotations are evaluated here: cyclopts reads the class of the chosen method from them.
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from attar.cli import show, words
from attar.execute.progress import usual
from attar.scale.run import Reading, run
from attar.scale.table import METHODS, find
from attar.verbs.options import Amount
from attar.verbs.shards import request

DEFAULT = "el2n"


def command(arguments: Sequence[str]) -> Callable[..., None]:
    """The command with the flags of the method that is asked for."""
    kind = find(words.value(arguments, "--method", DEFAULT))

    def act(
        source: str,
        /,
        *,
        method: Annotated[str, Parameter(help=f"One of {', '.join(METHODS)}.")] = DEFAULT,
        out: Annotated[Path | None, Parameter(help="Folder to write; default SOURCE-METHOD-fractionN here.")] = None,
        amount: Annotated[Amount, show.Flat] = Amount(),
        seed: Annotated[int, Parameter(help="Seed of the run.")] = 0,
        json: show.Json = False,
        settings: Annotated[Any, show.Named] = None,
        reading: Annotated[Reading, show.Flat] = Reading(),
    ) -> None:
        made = settings if settings is not None else kind()
        folder = out or named(source, method, amount)
        manifest = run(request(source, method, made, amount, reading, seed, folder), usual())
        facts = {"folder": str(folder), "rows": manifest["kept"]["rows"], "real_rows": manifest["source"]["rows"]}
        facts |= {"seconds": manifest["seconds"], "peak_memory": manifest["memory"]["peak"], "notes": manifest["notes"]}
        if json:
            return show.as_json(facts)
        show.lines(*facts["notes"])
        show.lines(
            f"{folder}: {facts['rows']} rows in place of {facts['real_rows']}, {show.duration(facts['seconds'])}, "
            f"{show.size(facts['peak_memory'])} of memory at most"
        )

    act.__annotations__["settings"] = Annotated[kind, show.Named]
    act.__kwdefaults__ = {**(act.__kwdefaults__ or {}), "settings": kind()}
    act.__doc__ = """select

    Parameters
    ----------
    source
        A folder or bucket of parquet shards with a column of features, or one of them.
    """
    return act


def named(source: str, method: str, amount: Amount) -> Path:
    """The folder where none is given; without a budget, as with a threshold, the name tells none."""
    if any(asked is not None for asked in vars(amount).values()):
        return words.default_out(source, method, amount)
    return Path(f"{words.short_name(source)}-{method}")
