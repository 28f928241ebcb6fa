"""Draws docs/pictures from the rows in results/: ``python benchmarks/pictures.py``.

Each picture names in itself what it was drawn from, rows and this file, by their hash; where nothing of that has changed it is
left as it is. With ``--check`` nothing is drawn, and it fails where something would be.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tables import ROOT, rows

PLACE = ROOT / "docs" / "pictures"
STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "attar",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#e4e2dc",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
}
COLOURS = ("#9c2f58", "#1f6f8b", "#8a6100", "#5b4ba8", "#2f7d4f", "#b4531f")
QUIET = "#747b83"

Found = list[dict[str, Any]]


def cost(figure: Any, found: dict[str, Found]) -> None:
    """Seconds and peak memory against the number of examples: from shards, and in memory."""
    from matplotlib.ticker import LogLocator, NullLocator

    took, held = figure.subplots(1, 2, sharex=True)
    streams = [r for r in found["stream"] if "exponent" in r]
    lines = [(r, ", from shards", {"color": c, "marker": "o"}) for c, r in zip(COLOURS, streams)]
    quiet = {"color": QUIET, "linewidth": 1, "linestyle": "--"}
    lines += [(r, "", {**quiet, "marker": marker}) for marker, r in zip("sD^vP", found["scale"])]
    for r, where, style in lines:
        label = f"{r['what']}{where}: n^{r['exponent']:.2f}"
        took.plot(r["n"], r["seconds"], label=label, **style)
        held.plot(r["n"], [b / 1e9 for b in r["peak_memory"]], **style)
    if streams:
        held.axhline(2, color=COLOURS[0], linewidth=1, linestyle=":")
        held.annotate("what shards were allowed", (1, 2), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    for axes, title in ((took, "seconds"), (held, "peak memory, GB")):
        axes.set(xscale="log", yscale="log", xlabel="examples n", title=title)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    figure.legend(*took.get_legend_handles_labels(), loc="outside lower left", ncols=2, fontsize=8.5)


def asked(figure: Any, found: dict[str, Found]) -> None:
    """Accuracy against the labels that were asked for."""
    axes = figure.subplots()
    means = [r for r in found["active"] if "mean_of" in r]
    queries = [q for q in dict.fromkeys(r["mean_of"] for r in means) if q not in ("full", "margin")]
    for query, colour in zip(queries, (QUIET, *COLOURS)):
        some = [r for r in means if r["mean_of"] == query]
        labels, low, high = ([r["labels"] for r in some], *zip(*(r["interval"] for r in some)))
        name = "entropy and margin" if query == "entropy" else query
        axes.plot(labels, [r["mean"] for r in some], color=colour, marker="o", label=name)
        axes.fill_between(labels, low, high, color=colour, alpha=0.12, linewidth=0)
    for r in (r for r in means if r["mean_of"] == "full"):
        axes.axhline(r["mean"], color="black", linewidth=1, linestyle=":", label=f"all {r['labels']:,} labels")
    axes.set(xlabel="labels asked for", title="accuracy, mean of 5 seeds with its 95 % interval", ylim=(None, 1))
    axes.legend(loc="lower right")


def kept(figure: Any, found: dict[str, Found]) -> None:
    """Accuracy above random examples against the share that is kept, a panel for every family of methods."""
    some = [r for r in found["selection"] if r["data"] == "cifar10" and r["examples"] is None]
    random = {r["keep"]: r["last_mean"] for r in some if r["method"] == "random"}
    panels = figure.subplots(1, len(FAMILIES), sharey=True)
    for axes, (family, methods) in zip(panels, FAMILIES.items()):
        axes.axhline(0, color=QUIET, linewidth=1, linestyle="--")
        for method, colour, marker in zip(methods, COLOURS, "osD^vP"):
            own = sorted((r["keep"], r) for r in some if r["method"] == method and r["keep"] in random)
            shares = [keep for keep, _ in own]
            above = [r["last_mean"] - random[keep] for keep, r in own]
            around = [(r["interval"][1] - r["interval"][0]) / 2 if r["interval"] else 0.0 for _, r in own]
            axes.errorbar(shares, above, around, color=colour, marker=marker, capsize=2, label=method)
        axes.set(xscale="log", title=family, xlabel="share kept")
        axes.set_xticks(sorted(random), [f"{keep:.0%}" for keep in sorted(random)], minor=False)
        axes.minorticks_off()
        axes.legend(fontsize=8.5)
    panels[0].set_ylabel("accuracy above random examples")


def matched(figure: Any, found: dict[str, Found]) -> None:
    """Accuracy of every matching method by its short schedule with its 95 % interval, a panel for every data set and size."""
    some = [r for r in found["matching"] if r["dtype"] == "bfloat16"]
    cells = sorted({(r["data"], r["ipc"]) for r in some}, key=lambda cell: (cell[0] != "mnist", cell[1]))
    panels = figure.subplots(1, len(cells))
    for axes, (data, ipc) in zip(panels, cells):
        own = sorted((r for r in some if (r["data"], r["ipc"]) == (data, ipc)), key=lambda r: r["last_mean"])
        names = [r["method"] + "*" * r["cell"].endswith("longer") for r in own]
        for place, r in enumerate(own):
            colour = QUIET if r["method"] == "random" else COLOURS[0] if r["method"] == "dm" else COLOURS[1]
            around = (r["interval"][1] - r["interval"][0]) / 2
            axes.errorbar(r["last_mean"], place, xerr=around, color=colour, marker="o", capsize=2)
        dm = next(r["last_mean"] for r in own if r["method"] == "dm" and not r["cell"].endswith("longer"))
        axes.axvline(dm, color=COLOURS[0], linewidth=1, linestyle=":")
        axes.set_yticks(range(len(own)), names)
        axes.set(title=f"{data}, {ipc} per class", xlabel="accuracy")


def across(figure: Any, found: dict[str, Found]) -> None:
    """Accuracy of every matching method in one comparison, by each network that learned its set; a panel for every size."""
    some = [
        r for r in found["compared"] if r["method"] != "all" and "last_mean" in r
    ]  # a set that no network learned has none
    networks = list(dict.fromkeys(r["network"] for r in some))
    sizes = sorted({r["ipc"] for r in some})
    for axes, ipc in zip(figure.subplots(1, len(sizes)), sizes):
        own = {(r["method"] + ", soft" * (r["labels"] == "soft"), r["network"]): r for r in some if r["ipc"] == ipc}
        of_random = {("random", r["network"]): r["random"] for r in own.values()}
        scores = own | of_random
        order = sorted({m for m, n in scores if n == networks[0]}, key=lambda m: scores[m, networks[0]]["last_mean"])
        looks = zip((0.24, 0.0, -0.24), networks, COLOURS, "os^")
        for aside, network, colour, marker in looks:
            look = {"marker": marker, "markersize": 4, "linestyle": "", "elinewidth": 1}
            for place, name in ((p, n) for p, n in enumerate(order, start=1) if (n, network) in scores):
                mean, (low, high) = (scores[name, network][k] for k in ("last_mean", "interval"))
                shade = QUIET if name == "random" else colour
                axes.errorbar(mean, place + aside, xerr=(high - low) / 2, color=shade, **look)
            axes.plot([], [], color=colour, marker=marker, linestyle="", label=network)
        axes.set_yticks(range(1, len(order) + 1), order)
        axes.set(title=f"{some[0]['data']}, {ipc} per class", xlabel="accuracy")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(networks))


FAMILIES = {
    "the hardest first": ("el2n", "forgetting", "aum", "entropy"),
    "uncertain, or without the hardest": ("dyn-unc", "dual", "ccs", "d2", "d2:strata"),
    "coverage": ("kcenter", "herding", "moderate", "graph-cut"),
}
"""The methods of ``selection.py`` by what they look for."""

PICTURES: dict[str, tuple[Callable[[Any, dict[str, Found]], None], tuple[str, ...], tuple[float, float]]] = {
    "cost": (cost, ("stream", "scale"), (9, 5)),
    "asked": (asked, ("active",), (6, 3.6)),
    "kept": (kept, ("selection",), (9.5, 3.8)),
    "matched": (matched, ("matching",), (11, 4.2)),
    "across": (across, ("compared",), (10, 6)),
}
"""Name -> who draws it, the benchmarks whose rows it shows, its size in inches."""


def mark(name: str) -> str:
    """The hash of all that a picture is drawn from."""
    told = json.dumps([Path(__file__).read_text(), [rows(source) for source in PICTURES[name][1]]])
    return f"drawn from {hashlib.blake2b(told.encode(), digest_size=16).hexdigest()}"


def current(name: str) -> bool:
    """Whether a picture shows the rows as they are."""
    path = PLACE / f"{name}.svg"
    return path.exists() and mark(name) in path.read_text()


def draw(name: str) -> None:
    """Writes a picture."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    act, sources, size = PICTURES[name]
    with matplotlib.rc_context(STYLE):
        figure = pyplot.figure(figsize=size, layout="constrained")
        act(figure, {source: rows(source) for source in sources})
        PLACE.mkdir(exist_ok=True)
        figure.savefig(PLACE / f"{name}.svg", metadata={"Date": None, "Description": mark(name)})
        pyplot.close(figure)


def main() -> int:
    """Draws what has changed, or with ``--check`` tells it."""
    stale = [name for name in PICTURES if not current(name) and all(rows(s) for s in PICTURES[name][1])]
    print("changed: " + (", ".join(stale) or "nothing"))
    if "--check" in sys.argv:
        return int(bool(stale))
    for name in stale:
        draw(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
