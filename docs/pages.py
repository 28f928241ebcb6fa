"""Writes docs/methods/NAME.md of every registered method from the head of its file, its settings and the recorded rows.

``python docs/pages.py``; with ``--check`` it changes nothing and fails where something would change.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from attar import registry
from attar.verbs.look import methods
from attar.verbs.which import measured, parts, shorts

HERE = Path(__file__).resolve().parent / "methods"
ELSEWHERE = {
    "active": "[Accuracy over the labels that were asked for](../benchmarks.md#active-learning-labels-that-were-asked-for).",
    "csod": "[What a detector learned from the chosen images](../benchmarks.md#detection-images-chosen-for-a-detector).",
}
"""Where a method's figures stand that are no accuracies of sets or parts."""


def page(name: str) -> str:
    """One method as Markdown."""
    one = methods(name)[0]
    verb = "distill" if one["verb"] == "distill" else "select"
    size = "--rows 25" if one["family"] == "object detection" else "--ipc 10"
    parts = [
        f"# `{name}`",
        f"{one['line'][0].upper()}{one['line'][1:]} ({one['family']}).",
        f"```sh\nattar {verb} DATA --method {name} {size} --out small\n```",
        "```text\n" + one["doc"].strip() + "\n```",
        "## Settings\n\n" + table(["flag", "type", "default", "meaning"], [setting(s) for s in one["settings"]]),
        *presets(one["presets"]),
        "## What was measured\n\n" + (figures(name) or "Nothing yet."),
    ]
    return "\n\n".join(parts) + "\n"


def setting(s: dict[str, Any]) -> list[str]:
    """A row of the table of settings."""
    default = f"`{s['default']}`" + (f", quick `{s['quick']}`" if s["quick"] is not None else "")
    return [f"`--{s['name'].replace('_', '-')}`", s["type"].replace("|", "or"), default, s["help"]]


def presets(known: dict[str, dict[str, Any]]) -> list[str]:
    """The section of the authors' settings: a row for each preset, a column for each setting; none where there are none."""
    columns = list(dict.fromkeys(column for settings in known.values() for column in settings))
    rows = [[f"`{name}`", *(cell(settings.get(column)) for column in columns)] for name, settings in known.items()]
    head = ["`--preset`", *(f"`--{column.replace('_', '-')}`" for column in columns)]
    told = "The authors' settings; where nothing stands, the default.\n\n"
    return ["## Presets\n\n" + told + table(head, rows)] if known else []


def cell(value: Any) -> str:
    """A setting's value; nothing where it is the default's None or a flag that is not set."""
    return "" if value is None or value is False else "yes" if value is True else str(value)


def figures(name: str) -> str:
    """All that was measured of a method."""
    return "\n\n".join(filter(None, (results(name), short(name), kept(name), ELSEWHERE.get(name))))


def results(name: str) -> str:
    """The recorded accuracies of a method as a table; nothing where there are none."""
    head = ["data", "images per class", "accuracy", "95 % interval", "steps (published)", "published", "made in"]
    rows = [
        [
            *reached(r),
            f"{r['steps']:,} ({r['published_steps']:,})" if r["steps"] else "-",
            "-" if r["published"] is None else f"{r['published']:.3f}",
            f"{r['make_seconds']:.0f} s",
        ]
        for r in measured()["fidelity"]
        if r["method"] == name
    ]
    return table(head, rows) if rows else ""


def reached(r: dict[str, Any]) -> list[str]:
    """Of what, and how good."""
    return [r["data"], str(r["ipc"]), f"{r['accuracy']:.4f}", "{:.4f} to {:.4f}".format(*r["interval"])]


def short(name: str) -> str:
    """What the method's short schedule gave as a table; nothing where that was not measured."""
    head = ["data", "images per class", "accuracy", "95 % interval", "above random examples", "steps", "made in"]
    rows = [
        [
            *reached(r),
            "-" if r["above_random"] is None or name == "random" else f"{r['above_random']:+.3f}",
            f"{r['steps']:,}" if r["steps"] else "-",
            f"{r['make_seconds']:.0f} s",
        ]
        for r in shorts(name)
    ]
    labels = " with its soft labels" * any(r["labels"] == "soft" for r in shorts(name))
    told = (
        f"By the short schedule (`--quick`), a ConvNet of width 32 and 300 epochs{labels}; this repeats no paper:\n\n"
    )
    return told + table(head, rows) if rows else ""


def kept(name: str) -> str:
    """What parts of a training set taught that a selector chose; nothing where that was not measured."""
    head = ["data", "kept", "settings", "accuracy", "95 % interval", "above random examples", "trainings"]
    rows = [
        [
            r["data"],
            f"{r['keep']:.0%}",
            ", ".join(f"{k}={v}" for k, v in r["settings"].items()) or "-",
            f"{r['accuracy']:.3f}",
            "{:.3f} to {:.3f}".format(*r["interval"]) if r["interval"] else "-",
            "-" if r["above_random"] is None or name == "random" else f"{r['above_random']:+.3f}",
            str(r["trainings"]),
        ]
        for r in parts(name)
    ]
    return table(head, rows) if rows else ""


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows))


def main() -> int:
    """Writes, or with ``--check`` compares."""
    stale = []
    for entry in registry.METHODS:
        path, text = HERE / f"{entry.name}.md", page(entry.name)
        if not path.exists() or path.read_text() != text:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)
    print("changed: " + (", ".join(stale) or "nothing"))
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
