"""Counts of kills and faults that attar's writers survived: ``python benchmarks/reliability.py --kills 200``.

Writes ``reliability.json`` beside this file. At random: SIGKILL at a uniformly random instant of a process's life, again
and again until the work ends by itself; towards ``--kills`` count those after the work's first checkpoint alone, and where
work has no checkpoints (scores, caches, exports) each writer gets as many kills after its first write. Every registered
method is such a writer. At every point, for the writers of ``tests/kill``: a kill, a full disk and a refused permission at
each create, write, fsync, rename and remove that the code does. The machinery is that of ``tests/kill``.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import platform
import random
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "kill"))

import trials  # noqa: E402
from zygote import Zygote  # noqa: E402

ACTS = ("kill", "ENOSPC", "EACCES")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument(
        "--kills", type=int, default=200, help="random kills after a first checkpoint, over the writers that have any"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--writers", default="", help="names, separated by semicolons; all where left out")
    parser.add_argument("--points", default=",".join(ACTS), help="what happens at every point; empty for nothing")
    parser.add_argument("--at", type=Path, help="where the homes are; a temporary folder where left out")
    parser.add_argument("--out", type=Path, default=HERE / "reliability.json")
    return parser.parse_args()


def main() -> int:
    """Runs all trials; the exit code is 1 where something broke."""
    given = arguments()
    known = trials.WRITERS | {w.name: w for w in trials.every_method()}
    writers = [known[n.strip()] for n in given.writers.split(";")] if given.writers else list(known.values())
    acts = [a for a in given.points.split(",") if a]
    began = time.time()
    with tempfile.TemporaryDirectory(dir=given.at) as place, Zygote(notes(Path(place))) as zygote:
        rows = []
        share = -(-given.kills // (sum(writer.saves for writer in writers) or len(writers)))
        for i, writer in enumerate(writers):
            rows.append(row(zygote, writer, Path(place) / str(i), share, given.seed, acts))
    result = {**facts(given, began), "totals": totals(rows), "writers": rows}
    given.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["totals"], indent=2))
    return 0 if all(r["good"] for r in rows) else 1


def notes(place: Path) -> Path:
    """Where children note their points."""
    (place / "notes").mkdir()
    return place / "notes"


def row(zygote: Zygote, writer: trials.Writer, place: Path, kills: int, seed: int, acts: list[str]) -> dict[str, Any]:
    """One writer's counts."""
    rng, tally = random.Random(f"{seed} {writer.name}"), trials.Tally()
    bench = trials.Bench(zygote, writer, place / "random")
    while (tally.saved if writer.saves else tally.late) < kills:
        trials.at_random(bench, rng, tally)
    found: dict[str, Any] = {"writer": writer.name, "seconds": round(bench.seconds, 3), "random": tally.facts()}
    good = tally.good
    brief = trials.Bench(zygote, writer.shorter(), place / "points") if acts and writer.everywhere else None
    for act in acts if brief else ():
        tally = trials.Tally()
        trials.at_every_point(brief, act, tally)
        found[act] = {"points": len(brief.trail), **tally.facts()}
        good &= tally.good
    print(f"{writer.name}: {'good' if good else 'BROKE'}; {json.dumps(found)}", flush=True)
    return {**found, "good": good}


def totals(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums over the writers."""
    parts = [part for r in rows for part in r.values() if isinstance(part, dict)]
    names = ("trials", "runs", "kills", "early", "late", "saved", "differing", "unreadable", "lost", "stale", "refused")
    return {name: sum(part[name] for part in parts) for name in names} | {"good": all(r["good"] for r in rows)}


def facts(given: argparse.Namespace, began: float) -> dict[str, Any]:
    """When, where and with what."""
    return {
        "command": shlex.join(["python", "benchmarks/reliability.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "seconds": round(time.time() - began),
        "seed": given.seed,
        "versions": {
            name: importlib.metadata.version(name) for name in ("attar", "torch", "numpy", "pyarrow", "pillow")
        },
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu(),
        "what": {
            "early": "kills before the process's first write",
            "late": "kills after the process's first write",
            "saved": "kills after the work's first checkpoint",
            "differing": "runs that ended with other bits than the undisturbed one",
            "unreadable": "times that something under its final name did not open",
            "lost": "times that a saved step was gone",
            "stale": "times that a successful run left something behind",
            "refused": "times that a run ended otherwise than it should",
        },
    }


def commit() -> str:
    """What was tested."""
    asked = subprocess.run(["git", "-C", HERE, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return asked.stdout.strip() or "unknown"


def cpu() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), platform.processor())


if __name__ == "__main__":
    sys.exit(main())
