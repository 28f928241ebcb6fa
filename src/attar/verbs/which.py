"""which: which method to use and what it costs, from the recorded benchmarks that come with the package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from attar.errors import UsageError

NEAR = 0.01
"""How far below the best accuracy a cheaper method still counts as good."""


def measured() -> dict[str, list[dict[str, Any]]]:
    """The rows of ``benchmarks/results``, as ``benchmarks/tables.py`` shortened them: by table."""
    return json.loads(files("attar").joinpath("measured.json").read_text(encoding="utf-8"))


def which(name: str | None = None) -> list[dict[str, Any]]:
    """What was measured of every method, best first within each data set and number of images per class.

    Args:
        name: only the rows of one method.

    Returns:
        data, ipc, method, protocol, accuracy, interval, above_random (None where random was not measured by that protocol),
        make_seconds, steps,
        published_steps, published, and ``advice``: ``best``, ``best for its price`` (the cheapest within a point of the
        best) or an empty string.

    Raises:
        UsageError: nothing is recorded of the method, here, in :func:`shorts` or in :func:`parts`.
    """
    rows = measured()["fidelity"]
    known = sorted({r["method"] for table in ("fidelity", "matching", "selection") for r in measured()[table]})
    if name is not None and name not in known:
        raise UsageError(f"nothing is recorded of '{name}'; measured were {', '.join(known)}")
    found = []
    for cell in _cells(rows, "ipc"):
        near = [r for r in cell if r["accuracy"] >= cell[0]["accuracy"] - NEAR]
        cheapest = min(near, key=lambda r: r["make_seconds"])
        for r in cell:
            advice = "best" if r is cell[0] else "best for its price" if r is cheapest else ""
            advice = advice if len(cell) > 1 else ""  # alone it is neither
            found.append({**r, "advice": advice})
    return [r for r in found if name in (None, r["method"])]


def shorts(name: str | None = None) -> list[dict[str, Any]]:
    """What sets taught that were made by short schedules (``--quick``), best first within each data set and size.

    They compare methods with each other: the network is narrow, and no published table is of such schedules.

    Args:
        name: only the rows of one method.

    Returns:
        data, ipc, method, network, labels, accuracy, interval, above_random, make_seconds (experts and pretrained networks not in
        it), steps, and ``advice``: ``best`` or an empty string.
    """
    found = []
    for cell in _cells(measured()["matching"], "ipc"):
        found += [{**r, "advice": "best" if r is cell[0] else ""} for r in cell]
    return [r for r in found if name in (None, r["method"])]


def parts(name: str | None = None) -> list[dict[str, Any]]:
    """What parts of a training set taught, each chosen by another selector; best first within each data set and share.

    Args:
        name: only the rows of one method.

    Returns:
        data, keep (share), method, settings (not its defaults), accuracy, interval (None for one training), trainings,
        above_random (None where random was not measured), and ``advice``: ``best``, where more than one training tells it.
    """
    found = []
    for cell in _cells(sorted(measured()["selection"], key=lambda r: (r["data"], r["keep"])), "keep"):
        for r in cell:
            advice = "best" if r is cell[0] and len(cell) > 1 and r["trainings"] > 1 else ""
            found.append({**r, "advice": advice})
    return [r for r in found if name in (None, r["method"])]


def _cells(rows: list[dict[str, Any]], size: str) -> Iterator[list[dict[str, Any]]]:
    """The rows of one data set and one size, best first, with how far each is above random examples by the same protocol."""
    for shared in dict.fromkeys((r["data"], r[size]) for r in rows):
        cell = sorted((r for r in rows if (r["data"], r[size]) == shared), key=lambda r: -r["accuracy"])
        random = {r.get("protocol"): r["accuracy"] for r in cell if r["method"] == "random"}
        yield [{**r, "above_random": _above(r, random)} for r in cell]


def _above(row: dict[str, Any], random: dict[str | None, float]) -> float | None:
    """How far a row is above the random examples of its protocol; None where these were not measured."""
    beside = random.get(row.get("protocol"))
    return None if beside is None else row["accuracy"] - beside
