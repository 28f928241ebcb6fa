"""The front door: what ``attar``, ``attar --help`` and ``attar --version`` say, without loading the command line itself.

Reading cyclopts and rich takes longer than anything that these three print, so they are answered here from a table.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from attar import __version__

VERBS = {
    "distill": (
        "Synthesise a tiny set that trains like the large one.",
        "distill digits --method dm --ipc 1 --steps 300 --batch 64",
    ),
    "select": ("Choose the real examples that matter.", "select photos/ --method kcenter --ipc 10 --size 64"),
    "evaluate": (
        "Train fresh networks on a small set and score them beside random examples.",
        "evaluate digits-dm-ipc1 --nets convnet,mlp",
    ),
    "compare": (
        "Make and score several methods at several sizes in one table.",
        "compare digits --methods random,dm:steps=300 --ipc 1,10",
    ),
    "report": ("Write the page of a small set.", "report digits-dm-ipc1"),
    "methods": ("List the methods, or one with its settings, paper and cost.", "methods dm"),
    "verify": ("Check every byte of a small set.", "verify digits-dm-ipc1"),
    "export": (
        "Write a small set as class folders, npz, pt or COCO.",
        "export digits-dm-ipc1 --to small.npz --format npz",
    ),
    "cache": ("Show what is cached and where, or delete it.", "cache --purge decoded"),
    "rerun": ("Make a set again from its manifest.", "rerun digits-dm-ipc1"),
}
"""Verb -> what it does, and an example."""

OPTIONS = {"--help (-h)": "Show this text, or with a command all that it takes.", "--version": "Show the version."}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    said = answer(given)
    if said is not None:
        sys.exit(say(said))
    from attar.cli.main import run

    sys.exit(run(given))


def answer(arguments: Sequence[str]) -> str | None:
    """What these words alone ask for; None where a verb has to be loaded."""
    if list(arguments) in ([], ["--help"], ["-h"]):
        return overview()
    return __version__ if list(arguments) == ["--version"] else None


def say(text: str) -> int:
    """Prints, also into a pipe that nobody reads to its end; returns the exit code 0."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def overview() -> str:
    """Every verb in a line."""
    rows = {name: line for name, (line, _) in VERBS.items()} | OPTIONS
    width = max(map(len, rows))
    return "\n".join(
        (
            "Usage: attar COMMAND [OPTIONS]",
            "",
            "Makes a dataset small and proves what the small one kept.",
            "",
            *(f"  {name:{width}}  {line}" for name, line in rows.items()),
            "",
            f"Start with: attar {VERBS['distill'][1]}",
        )
    )
