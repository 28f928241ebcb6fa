"""attar methods."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from attar.cli import show

Which = Annotated[bool, Parameter(negative="", help="Which one to use and what it costs, from recorded benchmarks.")]


def command(arguments: Sequence[str]) -> Callable[..., None]:
    """The command."""
    return act


def act(name: str | None = None, /, *, which: Which = False, json: show.Json = False) -> None:
    """Lists the methods, or one with its settings, or what was measured of them.

    Parameters
    ----------
    name
        A method, or my.py:MyMethod.
    """
    if which:
        return _which(name, json)
    from attar.verbs.look import methods

    found = methods(name)
    if json:
        return show.as_json(found[0] if name else {"methods": found})
    if name is None:
        rows = [[m["name"], m["verb"], m["family"], m["paper"], m["line"]] for m in found]
        return show.table("Methods", ["name", "verb", "family", "paper", "what it does"], rows)
    one = found[0]
    show.lines(*one["doc"].split("\n"), "")
    columns = ["flag", "type", "default", "quick", "meaning"]
    rows = [
        ["--" + s["name"].replace("_", "-"), s["type"], s["default"], _quick(s), s["help"]] for s in one["settings"]
    ]
    if not any(row[3] for row in rows):
        columns, rows = [c for c in columns if c != "quick"], [[*row[:3], row[4]] for row in rows]
    show.table(f"Settings of {name}", columns, rows)
    if one["presets"]:
        presets = [[preset, _flags(settings)] for preset, settings in one["presets"].items()]
        show.table("Settings of the authors", ["--preset", "in place of the defaults"], presets)


def _flags(settings: dict[str, Any]) -> str:
    """Settings as they would be typed: ``--syn-steps 50 --zca``."""
    typed = {"--" + name.replace("_", "-"): v for name, v in settings.items() if v is not None and v is not False}
    return " ".join(flag if value is True else f"{flag} {value}" for flag, value in typed.items())


def _quick(setting: dict[str, Any]) -> str:
    """What --quick takes in place of the default; nothing where it leaves it."""
    return "" if setting["quick"] is None else str(setting["quick"])


def _which(name: str | None, json: bool) -> None:
    from attar.verbs.which import parts, shorts, which

    found, quick, kept = which(name), shorts(name), parts(name)
    if json:
        return show.as_json({"measured": found, "quick": quick, "parts": kept})
    if found:
        columns = ["data", "ipc", "method", "accuracy", "above random", "made in", "steps", "published", "protocol", ""]
        show.table("A few images per class", columns, [_row(r) for r in found])
        show.lines(
            "accuracy: mean over networks ± half its 95 % interval; above random: by the same protocol",
            "steps: ours of the published number",
            "a row with fewer steps than published is a short schedule and no repetition of the paper",
            "",
        )
    if quick:
        columns = ["data", "ipc", "method", "accuracy", "above random", "made in", "steps", ""]
        show.table(f"By short schedules (--quick), {quick[0]['network']}", columns, [_short(r) for r in quick])
        show.lines("these compare methods with each other alone; made in: without experts and pretrained networks", "")
    for data in dict.fromkeys(r["data"] for r in kept):
        _parts(data, [r for r in kept if r["data"] == data])
    if kept:
        show.lines(
            "accuracy, and how far it is above random examples; the same number of steps for every share",
            "* the best of a share where more than one training tells it; settings and intervals: --json",
        )


def _parts(data: str, rows: list[dict[str, Any]]) -> None:
    """A line for each selector, a column for each share."""
    shares = sorted({r["keep"] for r in rows})
    lines: dict[tuple[str, str], dict[float, str]] = {}
    for r in rows:
        own = _flags({k: v for k, v in r["settings"].items() if k in ("strata", "cutoff")})
        lines.setdefault((r["method"], own), {})[r["keep"]] = _part(r)
    body = [[" ".join(name).strip(), *(cells.get(k, "") for k in shares)] for name, cells in lines.items()]
    show.table(f"Parts of {data}", ["method", *(f"{k:.0%} kept" for k in shares)], body)


def _part(r: dict[str, Any]) -> str:
    above = "" if r["above_random"] is None or r["method"] == "random" else f" {r['above_random']:+.3f}"
    return f"{r['accuracy']:.3f}{above}{' *' if r['advice'] else ''}"


def _row(r: dict[str, Any]) -> list[str]:
    steps = f"{r['steps']:,} of {r['published_steps']:,}" if r["published_steps"] else ""
    published = "" if r["published"] is None else f"{r['published']:.3f}"
    return [*_reached(r), steps, published, r["protocol"] or "", r["advice"]]


def _short(r: dict[str, Any]) -> list[str]:
    notes = [r["advice"], "soft labels" * (r["labels"] == "soft")]
    return [*_reached(r), f"{r['steps']:,}" if r["steps"] else "", ", ".join(filter(None, notes))]


def _reached(r: dict[str, Any]) -> list[str]:
    """What was made of what, how good it was and how long it took."""
    above = "" if r["above_random"] is None or r["method"] == "random" else f"{r['above_random']:+.3f}"
    accuracy = f"{r['accuracy']:.3f} ± {(r['interval'][1] - r['interval'][0]) / 2:.3f}"
    return [r["data"], str(r["ipc"]), r["method"], accuracy, above, show.duration(r["make_seconds"])]
