"""The classes before and after, and the spread of the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from markupsafe import Markup

from attar.condensed import Condensed
from attar.judged import Judged
from attar.report import svg, wording
from attar.report.classes import class_name, members, per_class
from attar.report.facts import Pairs, items, mapping, whole

BARS = 30
"""Classes of the chart."""
NAMED = 20
"""Vanished classes that are named."""


@dataclass(frozen=True, kw_only=True)
class Balance:
    """The classes as bars.

    Args:
        chart: None where the kept ones are even and nothing is known of the real ones.
        left_out: classes that are not shown.
        least, most: the smallest and the largest class.
        compared: whether the real set stands beside.
        divergence: KL(kept || real) of the shares of the classes, in nats.
        vanished: names of classes of which nothing was kept; ``unnamed`` more of them.
    """

    chart: Markup
    left_out: int
    least: int
    most: int
    compared: bool = False
    divergence: float | None = None
    vanished: tuple[str, ...] = ()
    unnamed: int = 0


def balance(condensed: Condensed, judged: Judged | None = None) -> Balance | None:
    """The classes of a set, beside those of a selection's real set; None where there is nothing to tell."""
    counts = per_class(condensed)
    sizes = [n for _, n in counts]
    if not sizes:
        return None
    before = real_sizes(condensed, judged)
    if before:
        return _compared(condensed, before)
    if min(sizes) == max(sizes):
        return None
    rows = [(k, f"{wording.count(n)} ({wording.share(n, len(condensed))})", float(n)) for k, n in counts[:BARS]]
    chart = svg.bars(rows, ident="balance", title="Kept examples per class")
    return Balance(chart=chart, left_out=len(counts) - len(rows), least=min(sizes), most=max(sizes))


def real_sizes(condensed: Condensed, judged: Judged | None = None) -> list[int]:
    """Examples of every class of the set that a selection chose from, by its manifest or by its scores; empty if unknown."""
    manifest = condensed.manifest
    k = len(items(manifest.get("class_names")))
    told = [whole(n) for n in items(mapping(manifest.get("source")).get("per_class"))]
    known = [n for n in told if n is not None and n >= 0]
    if manifest.get("kind") != "subset" or not k:
        return []
    if len(known) != len(told) or len(known) != k:
        if judged is None or judged.labels is None or not bool(((judged.labels >= 0) & (judged.labels < k)).all()):
            return []
        known = judged.labels.bincount(minlength=k).tolist()
    kept = _kept(condensed, k)
    return known if sum(known) and all(a <= b for a, b in zip(kept, known)) and sum(kept) == len(condensed) else []


def divergence(kept: list[int], real: list[int]) -> float:
    """KL(q || p) = sum of q log(q / p) over the classes, q the shares kept, p those of the real set; in nats."""
    q, p = ([n / max(1, sum(counts)) for n in counts] for counts in (kept, real))
    return max(0.0, math.fsum(a * math.log(a / b) for a, b in zip(q, p) if a))


def weights(condensed: Condensed) -> Pairs:
    """The spread of the weights; empty where they are all the same."""
    if "weight" not in condensed.table.column_names or not len(condensed):
        return ()
    w = condensed.weight.double()
    if not torch.isfinite(w).all() or float(w.min()) == float(w.max()) or float(w.sum()) <= 0:
        return ()
    effective = float(w.sum() ** 2 / w.square().sum())
    return (
        ("smallest weight", f"{float(w.min()):.3g}"),
        ("median weight", f"{float(w.quantile(0.5)) if len(w) < 10**7 else float(w.median()):.3g}"),
        ("largest weight", f"{float(w.max()):.3g}"),
        ("effective size", f"{effective:,.1f} of {wording.count(len(w))}"),
    )


def _kept(condensed: Condensed, k: int) -> list[int]:
    """Kept examples of each of K classes."""
    found = {c: len(rows) for c, rows in members(condensed) if c is not None}
    return [found.get(c, 0) for c in range(k)]


def _compared(condensed: Condensed, before: list[int]) -> Balance:
    """The shares of the classes after and before; of many classes those whose share changed the most."""
    after = _kept(condensed, len(before))
    q, p = ([n / max(1, sum(counts)) for n in counts] for counts in (after, before))
    there = [c for c, n in enumerate(before) if n]
    shown = sorted(sorted(there, key=lambda c: (-abs(q[c] - p[c]), c))[:BARS])
    rows = [
        (class_name(condensed, c), f"{wording.count(after[c])} of {wording.count(before[c])}", q[c], p[c])
        for c in shown
    ]
    gone = [class_name(condensed, c) for c in there if not after[c]]
    sizes = [after[c] for c in there]
    return Balance(
        chart=svg.twins(rows, ident="balance", title="Share of every class, kept and before"),
        left_out=len(there) - len(shown),
        least=min(sizes),
        most=max(sizes),
        compared=True,
        divergence=divergence(after, before),
        vanished=tuple(gone[:NAMED]),
        unnamed=len(gone[NAMED:]),
    )
