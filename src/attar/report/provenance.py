"""Where a set came from: source, budget, machine, recipe and checksums, as named tables."""

from __future__ import annotations

from collections.abc import Sequence

from attar import rowfile
from attar.condensed import DATA, EXACT, Condensed
from attar.io import tensors
from attar.report.facts import Pairs, Step, items, mapping, pairs

DIGESTED = 32_000_000
"""Bytes of examples up to which the checksums are worked out here; larger sets have them in their manifest alone."""


def provenance(condensed: Condensed, steps: Sequence[Step]) -> list[tuple[str, Pairs]]:
    """Named tables; those without rows are left out."""
    manifest = condensed.manifest
    source = {k: v for k, v in mapping(manifest.get("source")).items() if k != "per_class"}
    asked = {k: v for k, v in mapping(manifest.get("budget")).items() if k != "per_class"}
    ran = "Where step {} ran" if len(steps) > 1 else "Where it ran"
    tables = [
        ("Source", pairs(source)),
        ("Budget", pairs(asked)),
        *((ran.format(i + 1), s.plan + s.environment) for i, s in enumerate(steps)),
        ("Recipe for training", pairs(manifest.get("recipe"))),
        ("Preprocessing", pairs(manifest.get("preprocessing"))),
        ("SHA-256 checksums", checksums(condensed)),
    ]
    return [(name, rows) for name, rows in tables if rows]


def checksums(condensed: Condensed) -> Pairs:
    """The checksums of the files that hold the set, as saving writes them.

    They are worked out from the rows and not read from the manifest, which is older than the page when a set is saved again.
    """
    pixels = 0 if condensed.bytes8 is None else condensed.bytes8.numel()
    if pixels + sum(t.numel() * t.element_size() for t in condensed.exact.values()) > DIGESTED:
        return ()
    names = items(condensed.manifest.get("class_names"))
    found = [(DATA, tensors.digest(rowfile.encode(condensed.table, condensed.bytes8, names)))]
    if condensed.exact:
        found.append((EXACT, tensors.digest(tensors.encode(condensed.exact))))
    return tuple(found)
