"""What a set is made of, at equal bytes: ``python benchmarks/params.py [--cells dm-memory-1,dm-pixels-1]``.

Matching methods on Fashion-MNIST with pixels, tiles, frequencies, bases and a memory of as many bytes at most: ConvNet-3 of width
32, short schedules, 300 epochs of the DSA protocol, 1 set and 3 networks on it, so that intervals are over networks alone. Rows
compare with each other and with no published figure. Hallucinators leave no room for bases in the bytes of ten grey images, so
that bases begin at ten images per class. Killed, it goes on; a short schedule that changed is measured anew.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from fidelity import Cell, asking, folder, measured
from rows import HERE, RESULTS, Rows, ended

from attar.condensed import open_condensed
from attar.registry import find

DATA, NET, EPOCHS = "fashion_mnist", "convnet:width=32", 300
METHODS = ("dm", "dc", "dsa", "datadam", "idm")
PARAMS = {
    "pixels": "pixels",
    "tiles": "tiles",
    "frequency": "frequency:share=0.25",
    "bases": "bases",
    "memory": "memory",
}
"""What sets are made of, by its short name; of small images a quarter of the frequencies and not a sixteenth."""


def cells(data: str) -> dict[str, Cell]:
    """All by name, one image per class first."""
    return {
        f"{method}-{params}-{ipc}": Cell(
            data,
            method,
            ipc,
            settings={**find(method).quick, "params": spec},
            net=NET,
            epochs=EPOCHS,
            quick=True,
        )
        for ipc in (1, 10)
        for method in METHODS
        for params, spec in PARAMS.items()
        if params != "bases" or ipc > 1
    }


def row(name: str, cell: Cell, given: argparse.Namespace) -> dict[str, Any]:
    """A cell's row, with the images that were decoded and the bytes of what they were decoded from."""
    work = given.work / name
    found = measured(cell, argparse.Namespace(**{**vars(given), "work": work}))
    kept = open_condensed(folder(cell, work / given.dtype, 0))
    return {**found, "images": len(kept), "bytes": kept.image_bytes(eight_bit=False)}


def main() -> None:
    """Measures the cells that have no row yet."""
    parser = asking(__doc__, work=HERE / "work" / "params", out=RESULTS / "params.jsonl")
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--cells", default=None, help="names joined by commas; all where left out")
    parser.add_argument("--net", default=NET)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--steps", type=int, default=None, help="in place of the short schedule, for a trial")
    parser.add_argument("--sets", type=int, default=1)
    parser.add_argument("--nets", type=int, default=3)
    given, known = parser.parse_args(), cells(DATA)
    rows = Rows(given.out)
    for name in given.cells.split(",") if given.cells else known:
        cell = dataclasses.replace(known[name], data=given.data, net=given.net, epochs=given.epochs)
        if given.steps:
            others = {k: v for k, v in cell.settings.items() if k != "steps"}
            cell = dataclasses.replace(cell, steps=given.steps, settings=others)
        counted = {"sets": given.sets, "networks": given.nets}
        key = {"data": given.data, "cell": name, "steps": cell.steps, **counted, "dtype": given.dtype}
        if rows.find(**key, schedule=cell.schedule) is None:
            rows.put({"schedule": cell.schedule, **row(name, cell, given)}, **key)


if __name__ == "__main__":
    ended(main)
