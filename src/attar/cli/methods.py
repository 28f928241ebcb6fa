"""attar methods."""

from collections.abc import Callable, Sequence

from attar.cli import show


def command(arguments: Sequence[str]) -> Callable[..., None]:
    """The command."""
    return act


def act(name: str | None = None, /, *, json: show.Json = False) -> None:
    """Lists the methods, or one with its settings.

    Parameters
    ----------
    name
        A method, or my.py:MyMethod.
    """
    from attar.verbs.look import methods

    found = methods(name)
    if json:
        return show.as_json(found[0] if name else {"methods": found})
    if name is None:
        rows = [[m["name"], m["verb"], m["family"], m["paper"], m["line"]] for m in found]
        return show.table("Methods", ["name", "verb", "family", "paper", "what it does"], rows)
    one = found[0]
    show.lines(*one["doc"].split("\n"), "")
    rows = [["--" + s["name"].replace("_", "-"), s["type"], s["default"], s["help"]] for s in one["settings"]]
    show.table(f"Settings of {name}", ["flag", "type", "default", "meaning"], rows)
