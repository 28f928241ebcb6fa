"""Writes the tables of docs/benchmarks.md and README.md from the rows in results/ and the registry, and measured.json.

``python benchmarks/tables.py`` replaces what stands between ``<!-- table NAME -->`` and ``<!-- end -->``; with ``--check`` it
changes nothing and fails where something would change.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attar import registry

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "benchmarks.md")
MEASURED = ROOT / "src" / "attar" / "measured.json"


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of a benchmark."""
    path = HERE / "results" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(head: list[str], body: list[list[str]]) -> str:
    """Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *body))


def fidelity() -> str:
    """Published against measured."""
    head = [
        "data",
        "ipc",
        "method",
        "accuracy",
        "95 % interval",
        "sets x networks",
        "published",
        "steps (published)",
        "made in",
    ]
    return table(head, [_cell(r) for r in rows("fidelity")])


def _cell(r: dict[str, Any]) -> list[str]:
    low, high = r["interval"]
    steps = f"{r['steps']:,} ({r['published_steps']:,})" if r["steps"] else "-"
    published = "-" if r["published"] is None else f"{r['published']:.3f}"
    made = f"{max(r['make_seconds']):.0f} s"
    n = len(r["accuracies"])
    counted = f"{len(r['set_means'])} x {n // len(r['set_means'])}"
    named = [r["data"], str(r["ipc"]), f"`{r['method']}`", f"{r['last_mean']:.4f}", f"{low:.4f}-{high:.4f}"]
    return [*named, counted, published, steps, made]


def speed() -> str:
    """Twin against fast path."""
    head = [
        "work",
        "precision",
        "twin",
        "attar",
        "times",
        "with compiling, whole run",
        "compiling",
        "share of the floor",
    ]
    return table(head, [_pair(r) for r in rows("speed") if r["pair"] != "budgets"])


def _pair(r: dict[str, Any]) -> list[str]:
    low, high = r["ratio_range"]
    times = f"**{r['ratio']:.2f}** ({low:.2f}-{high:.2f})"
    took = [f"{r['twin_seconds']:.2f} s", f"{r['fast_seconds']:.2f} s"]
    end = [f"{r['ratio_of_whole_run']:.2f}", f"{r['compile_seconds']:.0f} s", f"{r['fraction_of_floor']:.0%}"]
    return [r["what"], r["dtype"], *took, times, *end]


def scale() -> str:
    """Cost against the number of real examples."""
    head = ["work", "N", "seconds", "peak memory", "exponent"]
    body = []
    for r in rows("scale"):
        for n, s, m in zip(r["n"], r["seconds"], r["peak_memory"]):
            body.append([r["what"], f"{n:,}", f"{s:.2f}", f"{m / 1e6:.0f} MB", f"{r['exponent']:.2f}"])
    return table(head, body)


def methods() -> str:
    """The registry, with a link to each method's page."""
    body = [[f"[`{m.name}`](docs/methods/{m.name}.md)", m.verb, m.paper, m.line] for m in registry.METHODS]
    return table(["name", "verb", "paper", "what it does"], body)


TABLES: dict[str, Callable[[], str]] = {"fidelity": fidelity, "speed": speed, "scale": scale, "methods": methods}


def filled(text: str) -> str:
    """A page with its tables made anew."""

    def put(found: re.Match[str]) -> str:
        return f"<!-- table {found[1]} -->\n{TABLES[found[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table (\w+) -->\n.*?<!-- end -->", put, text, flags=re.DOTALL)


def measured() -> str:
    """What ``attar methods --which`` reads."""
    short = [
        {
            **{
                k: r[k]
                for k in ("data", "ipc", "method", "interval", "steps", "published_steps", "published", "protocol")
            },
            "accuracy": r["last_mean"],
            "networks": len(r["accuracies"]),
            "make_seconds": max(r["make_seconds"]),
            "cpu": r["environment"].get("gpu", r["environment"]["cpu"]),
        }
        for r in rows("fidelity")
    ]
    pairs = [{k: r[k] for k in ("pair", "dtype", "ratio", "fast_seconds", "twin_seconds")} for r in rows("speed")]
    lines = ",\n".join(f'"{k}": [\n' + ",\n".join(json.dumps(r) for r in v) + "\n]" for k, v in
                       {"fidelity": short, "speed": pairs}.items())  # fmt: skip
    return "{\n" + lines + "\n}\n"


def main() -> int:
    """Writes, or with ``--check`` compares."""
    stale = []
    for path, text in [*((p, filled(p.read_text())) for p in PAGES), (MEASURED, measured())]:
        if not path.exists() or path.read_text() != text:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(text)
    print("changed: " + (", ".join(stale) or "nothing"))
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
