"""Writes the tables of docs/benchmarks.md and README.md from the rows in results/ and the registry, and measured.json.

``python benchmarks/tables.py`` replaces what stands between ``<!-- table NAME -->`` and ``<!-- end -->``; with ``--check`` it
changes nothing and fails where something would change.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from math import sqrt
from pathlib import Path
from statistics import fmean, median, variance
from typing import Any

from billion import reckoned
from rows import brief

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
    """Markdown; one line where there is no row."""
    if not body:
        return "Not measured yet."
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *body))


def among(r: dict[str, Any]) -> str:
    """The interval of a row, and whether it is one over networks of a single set."""
    if r["interval"] is None:
        return "-"
    low, high = r["interval"]
    said = f"{low:.4f} to {high:.4f}" if low < 0 else f"{low:.4f}-{high:.4f}"
    return said + (", of networks" if r.get("interval_over") == "networks" else "")


def named(r: dict[str, Any]) -> str:
    """The method of a row, marked where its schedule is a short one and where networks learned its soft labels."""
    return f"`{r['method']}`" + ", quick" * bool(r.get("quick")) + ", soft labels" * (r.get("labels") == "soft")


def fidelity() -> str:
    """Published against measured."""
    head = [
        "data",
        "ipc",
        "method",
        "accuracy",
        "95 % interval",
        "sets x networks",
        "precision",
        "published",
        "steps (published)",
        "made in",
    ]
    return table(head, [_cell(r) for r in rows("fidelity")])


def _cell(r: dict[str, Any]) -> list[str]:
    counted = f"{len(r['set_means'])} x {len(r['accuracies']) // len(r['set_means'])}"
    reached = [r["data"], str(r["ipc"]), named(r), f"{r['last_mean']:.4f}", among(r), counted, r["dtype"]]
    steps = f"{r['steps']:,} ({r['published_steps']:,})" if r["steps"] else "-"
    published = "-" if r["published"] is None else f"{r['published']:.3f}"
    return [*reached, published, steps, _made(r)]


def _made(r: dict[str, Any]) -> str:
    return f"{median(r['make_seconds']):.0f} s"


def precision() -> str:
    """Cells that were made and judged in both precisions; one standard error is that of the difference of their sets' means."""
    head = ["data", "ipc", "method", "float32", "bfloat16", "apart", "one standard error"]
    pairs: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for r in (*rows("fidelity"), *rows("matching")):
        schedule = r.get("schedule", r.get("steps"))  # a short one, or that of the cell
        pairs.setdefault((r["data"], r["ipc"], named(r), schedule), {})[r["dtype"]] = r
    body = []
    for (data, ipc, method, _), found in pairs.items():
        if len(found) == 2:
            means = [found[d]["set_means"] for d in ("float32", "bfloat16")]
            one, other = (fmean(m) for m in means)
            error = _error(*means)
            told = [f"{one:.4f}", f"{other:.4f}", f"{other - one:+.4f}", f"{error:.4f}"]
            body.append([data, str(ipc), method, *told])
    return table(head, body)


def _error(*groups: list[float]) -> float:
    """One standard error of the difference of the means of some groups."""
    return sqrt(sum(variance(g) / len(g) for g in groups))


def cosines() -> str:
    """How far gradients in half precision point where those in float32 do."""
    found = [r for r in rows("speed") if "cosine" in r]
    return table(["work", "cosine of the gradients"], [[r["what"], f"{r['cosine']:.4f}"] for r in found])


def matching() -> str:
    """Every matching method by its short schedule, the best first; of each data set and size beside random examples and DM."""
    head = ["data", "ipc", "method", "accuracy", "95 % interval", "above random", "beside DM", "steps", "made in"]
    found = [r for r in rows("matching") if r["dtype"] == "bfloat16"]
    of = {(r["data"], r["ipc"], r["method"]): r for r in reversed(found)}  # DM by its short schedule stands first
    cells = dict.fromkeys((r["data"], r["ipc"]) for r in found)
    return table(
        head,
        [
            _matched(r, of.get((*cell, "random")), of.get((*cell, "dm")))
            for cell in sorted(cells, key=lambda c: (c[0] != "mnist", c[1]))
            for r in sorted(found, key=lambda r: -r["last_mean"])
            if (r["data"], r["ipc"]) == cell
        ],
    )


def _matched(r: dict[str, Any], random: dict[str, Any] | None, dm: dict[str, Any] | None) -> list[str]:
    """A row; its gain in standard errors of the sets' means."""
    above = beside = "-"
    if random and r is not random:
        gain = r["last_mean"] - random["last_mean"]
        above = f"{gain:+.3f} ({gain / _error(r['set_means'], random['set_means']):.0f} s.e.)"
    if dm and r is not dm:
        beside = f"{r['last_mean'] - dm['last_mean']:+.3f}"
    steps = f"{r['made_steps']:,}" if r["made_steps"] else "-"
    name = f"`{r['method']}*`" if r.get("settings") else named(r)
    return [r["data"], str(r["ipc"]), name, f"{r['last_mean']:.4f}", among(r), above, beside, steps, _made(r)]


def compared() -> str:
    """Every matching method in one comparison: what it reached with each network, the best first."""
    found = [r for r in rows("compared") if r["method"] != "all"]
    nets = list(dict.fromkeys(r["network"] for r in found))
    head = ["ipc", "method", *(f"`{n}`" for n in nets), "bytes", "made in", "shared before"]
    body = []
    for ipc in dict.fromkeys(r["ipc"] for r in found):
        of = {(r["method"], r["labels"], r["network"]): r for r in found if r["ipc"] == ipc}
        lines = sorted({key[:2] for key in of}, key=lambda line: (-of[*line, nets[0]].get("last_mean", 0.0), line))
        for line in lines:
            own = [of[*line, n] for n in nets]
            took = [f"{own[0]['bytes']:,}", f"{own[0]['seconds']:.0f} s", f"{own[0]['shared_seconds']:.0f} s"]
            body.append([str(ipc), named(own[0]), *map(_spread, own), *took])
        body.append([str(ipc), "random examples", *(_spread(of["dm", "hard", n]["random"]) for n in nets), "", "", ""])
    whole = [r["whole_seconds"] for r in rows("compared") if r["method"] == "all"]
    body += [["", "all of it, scored too", *("" for _ in nets), "", f"{seconds / 60:.0f} min", ""] for seconds in whole]
    return table(head, body)


def _spread(r: dict[str, Any]) -> str:
    return "diverged" if "broken" in r else f"{r['last_mean']:.3f} ± {r['last_std']:.3f}"


def speed() -> str:
    """Twin against fast path."""
    head = [
        "work",
        "precision",
        "twin",
        "attar",
        "times",
        "where the twin keeps memory too",
        "with compiling, whole run",
        "compiling",
        "share of the floor",
    ]
    return table(head, [_pair(r) for r in rows("speed") if r["pair"] != "budgets"])


def _pair(r: dict[str, Any]) -> list[str]:
    low, high = r["ratio_range"]
    times = f"**{r['ratio']:.2f}** ({low:.2f}-{high:.2f})"
    took = [f"{r['twin_seconds']:.2f} s", f"{r['fast_seconds']:.2f} s", times, f"{r['kept_ratio']:.2f}"]
    end = [f"{r['ratio_of_whole_run']:.2f}", f"{r['compile_seconds']:.0f} s", f"{r['fraction_of_floor']:.0%}"]
    return [r["what"], r["dtype"], *took, *end]


def fast() -> str:
    """Every work in a line: the twin, and attar in both precisions."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for r in rows("speed"):
        if r["pair"] != "budgets":
            found.setdefault(r["what"], {})[r["dtype"]] = r
    body = []
    for what, by in found.items():
        twin = fmean(r["twin_seconds"] for r in by.values())
        body.append([what, f"{twin:.2f} s", *(_times(by.get(d)) for d in ("float32", "bfloat16"))])
    return table(["work", "official steps", "attar, float32", "attar, bfloat16"], body)


def _times(r: dict[str, Any] | None) -> str:
    return "" if r is None else f"{r['fast_seconds']:.2f} s, **{r['ratio']:.1f}** times as fast"


def scale() -> str:
    """Cost against the number of real examples."""
    head = ["work", "N", "seconds", "peak memory", "exponent"]
    body = []
    for r in rows("scale"):
        for n, s, m in zip(r["n"], r["seconds"], r["peak_memory"]):
            body.append([r["what"], f"{n:,}", f"{s:.2f}", f"{m / 1e6:.0f} MB", f"{r['exponent']:.2f}"])
    return table(head, body)


def stream() -> str:
    """Selection from shards against the number of rows."""
    head = ["work", "rows", "seconds", "peak memory", "allowed", "workers", "exponent"]
    found = rows("stream")
    slopes = {(r["what"], r["memory"], r["workers"]): f"{r['exponent']:.2f}" for r in found if "exponent" in r}
    body = []
    for r in (r for r in found if "exponent" not in r):
        slope = slopes.get((r["what"], r["memory"], r["workers"]), "-")
        took = [f"{r['n']:,}", f"{r['seconds']:.1f}", f"{r['peak_memory'] / 1e6:.0f} MB"]
        body.append([r["what"], *took, r["memory"], str(r["workers"]), slope])
    return table(head, sorted(body, key=lambda line: line[0]))


def billion() -> str:
    """What a billion rows would take, from the largest size that was measured."""
    return table(*reckoned(rows("stream")))


def memory() -> str:
    """What an update of trajectory matching takes beside back-propagation through all of its steps."""
    head = ["inner steps", "images of each", "through all steps", "attar", "times less"]
    found = {(r["steps"], r["batch"], r["who"]): r["bytes"] for r in rows("memory")}
    body = []
    for steps, batch in sorted({key[:2] for key in found}):
        twin, ours = (found.get((steps, batch, who)) for who in ("twin", "attar"))
        if twin and ours:
            sizes = [f"{n / 1e6:,.0f} MB" for n in (twin, ours)]
            body.append([str(steps), str(batch), *sizes, f"**{twin / ours:.1f}**"])
    return table(head, body)


def active() -> str:
    """Accuracy over the share that is labelled, by how the labels were asked for."""
    head = ["data", "asked by", "labels", "share", "accuracy", "95 % interval", "above random asking", "seeds"]
    return table(head, [_asked(r) for r in rows("active") if "mean_of" in r])


def _asked(r: dict[str, Any]) -> list[str]:
    query = "all labels" if r["mean_of"] == "full" else f"`{r['mean_of']}`"
    above = "-"
    if "over_random" in r and r["mean_of"] != "random":
        above = f"{r['over_random']['mean']:+.4f} ({among(r['over_random'])})"
    labelled = [f"{r['labels']:,}", f"{r['share']:.0%}"]
    return [r["data"], query, *labelled, f"{r['mean']:.4f}", among(r), above, str(r["seeds"])]


def detection() -> str:
    """Detectors trained on chosen images, and the boxes of each class in them."""
    head = ["data", "method", "images", "AP50", "95 % interval", "trainings", "boxes of each class (mean)"]
    return table(head, [_detected(r) for r in rows("detection") if r["seed"] == "all"])


def _detected(r: dict[str, Any]) -> list[str]:
    same = [o for o in rows("detection") if o["seed"] != "all" and (o["method"], o["rows"]) == (r["method"], r["rows"])]
    boxes = {name: sum(o["boxes"][name] for o in same) / len(same) for name in same[0]["boxes"]}
    told = ", ".join(f"{name} {count:.0f}" for name, count in boxes.items())
    return [r["set"], f"`{r['method']}`", str(r["rows"]), f"{r['ap50_mean']:.4f}", among(r), str(r["seeds"]), told]


def choosing() -> str:
    """Pairs: another way and attar's."""
    head = ["work", "examples", "beside it", "attar", "times", "what else"]
    return table(head, [_beside(r) for r in rows("choosing") if "ratio" in r])


def _beside(r: dict[str, Any]) -> list[str]:
    n = f"{r['n']:,} x {r['width']:,}"
    times, more = f"**{r['ratio']:.1f}**", ""
    if "ratio_range" in r:
        low, high = r["ratio_range"]
        times += f" ({low:.1f}-{high:.1f})"
        more = f"objectives {r['objectives_apart']:.1g} apart, {r['same_picks']:.1%} of the picks the same"
        if r["compiled"]:
            more += f"; compiled in {r['compile_seconds']:.0f} s"
    if "recall" in r:
        more = f"recall {r['recall']:.3f}"
    other = f"{r['other_seconds']:.2f} s ({r['beside']})"
    what = f"{r['what']}, in {r['kind']}" if "kind" in r else r["what"]
    return [f"{what}, {r['threads']} threads", n, other, f"{r['seconds']:.2f} s", times, more]


def picking() -> str:
    """Greedy choices that read all features at every pick."""
    head = [
        "work",
        "examples",
        "picks",
        "seconds",
        "picks a second",
        "read a pick",
        "of a copy's rate",
        "memory above features",
    ]
    return table(head, [_picked(r) for r in rows("choosing") if "picks_per_second" in r])


def _picked(r: dict[str, Any]) -> list[str]:
    n = f"{r['n']:,} x {r['width']:,}"
    took = [f"{r['picks']:,}", f"{r['seconds']:.1f}", f"{r['picks_per_second']:.1f}"]
    read = [f"{r['bytes_per_pick'] / 1e6:.0f} MB", f"{r['fraction_of_copy']:.0%}"]
    what = f"{r['what']}, compiled" if r["compiled"] else r["what"]
    return [what, n, *took, *read, f"{r['memory_above_features'] / 1e6:.0f} MB"]


def recorder() -> str:
    """What watching a training costs."""
    head = ["work", "without", "with", "overhead", "updates a second"]
    return table(head, [_recorded(r) for r in rows("choosing") if r["work"].startswith("recorder")])


def _recorded(r: dict[str, Any]) -> list[str]:
    if "updates_per_second" in r:
        return [
            f"{r['what']}, {r['threads']} threads",
            "-",
            f"{r['seconds']:.2f} s",
            "-",
            f"{r['updates_per_second']:,.0f}",
        ]
    low, high = r["overhead_range"]
    how = f"{r['what']}, {r['net']}" + ", compiled" * r["compiled"]
    took = [f"{r['other_seconds']:.2f} s", f"{r['seconds']:.2f} s"]
    return [how, *took, f"**{r['overhead_percent']:.1f} %** ({low:.1f}-{high:.1f})", "-"]


def selection() -> str:
    """Accuracy of every method at every share."""
    found = [r for r in rows("selection") if r["data"] == "cifar10" and r["examples"] is None]
    shares = sorted({r["keep"] for r in found})
    order = list(dict.fromkeys(r["method"] for r in found))
    head = ["method", *(f"{k:.0%} kept" for k in shares)]
    return table(head, [[f"`{m}`", *(_taught(found, m, k) for k in shares)] for m in order])


def _taught(found: list[dict[str, Any]], method: str, keep: float) -> str:
    """Mean, interval and best; empty where there is no row."""
    r = next((r for r in found if (r["method"], r["keep"]) == (method, keep)), None)
    return _accuracy(r) if r else ""


def _accuracy(r: dict[str, Any]) -> str:
    among = "" if r["interval"] is None else f" ({r['interval'][0]:.3f}-{r['interval'][1]:.3f})"
    return f"{r['last_mean']:.3f}{among}, best {r['best_mean']:.3f}"


def fashion() -> str:
    """What was asked of Dyn-Unc and of CCS."""
    head = ["method", "kept", "last (95 % interval), best", "above all examples, on the same seeds", "trainings"]
    found = [r for r in rows("selection") if r["data"] == "fashion_mnist" and r["examples"] is None]
    whole = next((r["accuracies"] for r in found if r["method"] == "full"), [])
    body = []
    for r in found:
        apart = [a - b for a, b in zip(r["accuracies"], whole)]
        body.append([f"`{r['method']}`", f"{r['keep']:.0%}", _accuracy(r), _above(apart), str(len(r["accuracies"]))])
    return table(head, body)


def _above(apart: list[float]) -> str:
    """The mean of some differences and its interval."""
    if len(apart) < 2 or not any(apart):
        return "-"
    found = brief(apart)
    return f"{found['mean']:+.4f} ({found['interval'][0]:+.4f} to {found['interval'][1]:+.4f})"


def params() -> str:
    """Pairs of methods and of what sets are made of, by their short schedules."""
    head = ["data", "ipc", "method", "made of", "images", "bytes", "accuracy", "95 % interval"]
    found = [r for r in rows("params") if r["data"] == "fashion_mnist" and r["quick"] and not r["steps"]]
    found.sort(key=lambda r: (r["ipc"], r["method"], -r["last_mean"]))
    body = [
        [r["data"], str(r["ipc"]), named(r), f"`{r['settings']['params']}`", str(r["images"]), f"{r['bytes']:,}",
         f"{r['last_mean']:.4f}", among(r)]
        for r in found
    ]  # fmt: skip
    return table(head, body)


def methods() -> str:
    """The registry by families, with a link to each method's page."""
    families: dict[tuple[str, str], list[str]] = {}
    for m in registry.METHODS:
        families.setdefault((m.verb, m.family), []).append(f"[`{m.name}`](docs/methods/{m.name}.md)")
    return table(["verb", "family", "methods"], [[*key, ", ".join(names)] for key, names in families.items()])


ACCURACY = (fidelity, precision, cosines, matching, compared, params, selection, fashion, active, detection)
COST = (speed, fast, memory, scale, stream, billion, choosing, picking, recorder)
TABLES: dict[str, Callable[[], str]] = {f.__name__: f for f in (*ACCURACY, *COST, methods)}


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
            "make_seconds": median(r["make_seconds"]),
            "cpu": r["environment"].get("gpu", r["environment"]["cpu"]),
        }
        for r in {(r["data"], r["ipc"], r["method"]): r for r in rows("fidelity")}.values()  # of one precision
    ]
    pairs = [{k: r[k] for k in ("pair", "dtype", "ratio", "fast_seconds", "twin_seconds")} for r in rows("speed")]
    parts = [
        {
            **{k: r[k] for k in ("data", "keep", "settings", "interval", "network", "steps")},
            "method": r["method"].partition(":")[0],
            "accuracy": r["last_mean"],
            "trainings": len(r["accuracies"]),
        }
        for r in rows("selection")
        if r["examples"] is None and r["method"] != "full"
    ]
    quick = [
        {
            **{k: r[k] for k in ("data", "ipc", "method", "interval", "network", "labels")},
            "accuracy": r["last_mean"],
            "make_seconds": median(r["make_seconds"]),
            "steps": r["made_steps"],
        }
        for r in rows("matching")
        if r["dtype"] == "bfloat16" and not r.get("settings")
    ]
    found = {"fidelity": short, "matching": quick, "selection": parts, "speed": pairs}
    lines = (f'"{k}": [\n' + ",\n".join(map(json.dumps, v)) + "\n]" for k, v in found.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


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
