"""attar cache."""

from collections.abc import Callable, Sequence
from typing import Annotated

from cyclopts import Parameter

from attar.cli import show
from attar.verbs.look import cache


def command(arguments: Sequence[str]) -> Callable[..., None]:
    """The command."""
    return act


def act(
    *,
    purge: Annotated[
        str | None,
        Parameter(help="Delete a kind of entries (decoded; resources; scores, the results of evaluations), or all."),
    ] = None,
    json: show.Json = False,
) -> None:
    """Shows what is cached and where, or deletes it."""
    facts = cache(purge=purge)
    if json:
        return show.as_json(facts)
    if purge is not None:
        show.lines(f"freed {show.size(facts['freed_bytes'])}")
    scores = [e["bytes"] for e in facts["entries"] if e["kind"] == "scores"]
    rows = [[e["kind"], e["name"], show.size(e["bytes"])] for e in facts["entries"] if e["kind"] != "scores"]
    if scores:
        rows.append(["scores", f"of {len(scores)} networks", show.size(sum(scores))])
    if not rows:
        return show.lines(f"{facts['folder']}: empty")
    show.table(f"{facts['folder']}: {show.size(facts['bytes'])}", ["kind", "name", "size"], rows)
