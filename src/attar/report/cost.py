"""What it took to make a set, and what it takes to store it beside the real one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attar.condensed import Condensed
from attar.report import wording
from attar.report.facts import Pairs, Step, mapping, whole


@dataclass(frozen=True)
class Cost:
    """Figures that people ask for first, and rows of (what, kept, real, share)."""

    tiles: Pairs
    sizes: tuple[tuple[str, str, str, str], ...]


def cost(condensed: Condensed, n_real: int | None, steps: Sequence[Step]) -> Cost:
    """The cost of a set.

    Args:
        n_real: examples of the real set, where known.
        steps: its lineage.
    """
    return Cost(_tiles(len(condensed), n_real, steps), tuple(_sizes(condensed, n_real)))


def _tiles(kept: int, n_real: int | None, steps: Sequence[Step]) -> Pairs:
    seconds = [s.seconds for s in steps if s.seconds is not None]
    shared = sum(s.shared for s in steps if s.shared)
    memory, done = [s.memory for s in steps if s.memory], sum(s.steps for s in steps if s.steps)
    tiles = [("to make", wording.duration(sum(seconds)))] if seconds else []
    tiles += [("prepared once for all that share it", wording.duration(shared))] if shared else []
    tiles += [("steps", wording.count(done))] if done else []
    tiles += [("peak memory", wording.size(max(memory)))] if memory else []
    tiles += [("of the real examples", wording.share(kept, n_real))] if n_real else []
    return tuple(tiles)


def _sizes(condensed: Condensed, n_real: int | None) -> list[tuple[str, str, str, str]]:
    """Rows and bytes; a real image counts its 8-bit pixels, a hard label one byte."""
    budget, kept = mapping(condensed.manifest.get("budget")), len(condensed)
    image = condensed.bytes8.shape[1:].numel() if condensed.bytes8 is not None else 0
    eight = whole(budget.get("bytes_examples_8bit")) or kept * image
    exact = whole(budget.get("bytes_examples")) or eight
    labels = whole(budget.get("bytes_labels"))
    real = n_real * image if n_real else None
    rows = [("examples", wording.count(kept), wording.count(n_real) if n_real else "", _against(kept, n_real))]
    if eight:
        rows.append(("pictures, 8-bit pixels", wording.size(eight), _size(real), _against(eight, real)))
    if exact != eight:
        rows.append(("pictures, exact numbers", wording.size(exact), _size(real), _against(exact, real)))
    if labels is not None and condensed.labelled:
        rows.append(("labels", wording.size(labels), _size(n_real), _against(labels, n_real)))
    return rows


def _size(n: int | None) -> str:
    return wording.size(n) if n else ""


def _against(part: float, total: float | None) -> str:
    return wording.share(part, total) if total else ""
