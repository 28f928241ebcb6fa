"""Every matching method by its short schedule, beside random examples: ``python benchmarks/matching.py``.

ConvNet-3 of width 32, 300 epochs of the DSA protocol, 3 distilled sets and 5 networks on each. These are rows of short
schedules (``--quick``): they compare the methods with each other on two CPU cores, and with no published figure. Killed,
it goes on; a short schedule that changed is measured anew.
"""

from __future__ import annotations

from fidelity import NETS, SETS, Cell, asking, measured
from rows import HERE, RESULTS, Rows, ended

from attar.registry import find, group

NET, EPOCHS = "convnet:width=32", 300
CHOSEN = ("random", "dm", "dsa", "idc", "mtt", "idm", "ncfm")
"""The methods on Fashion-MNIST."""
LONGER = 4
"""Times its short schedule that DM is also given: most other methods take as long."""


def cells() -> list[Cell]:
    """All, one image per class first; DM also for as long as the others take."""
    longer = {"tag": "longer", "settings": {"steps": LONGER * find("dm").quick["steps"]}}
    both = [("mnist", ("random", *group("matching"))), ("fashion_mnist", CHOSEN)]
    return [
        Cell(data, method, ipc, net=NET, epochs=EPOCHS, quick=True, **more)
        for ipc in (1, 10)
        for data, methods in both
        for method in methods
        for more in (({}, longer) if method == "dm" else ({},))
    ]


def main() -> None:
    """Measures the cells that have no row yet."""
    parser = asking(__doc__, work=HERE / "work" / "quick", out=RESULTS / "matching.jsonl")
    parser.add_argument("--cells", default=",".join(c.name for c in cells()))
    parser.add_argument("--sets", type=int, default=SETS)
    parser.add_argument("--nets", type=int, default=NETS)
    given = parser.parse_args()
    rows, wanted = Rows(given.out), given.cells.split(",")
    for cell in sorted((c for c in cells() if c.name in wanted), key=lambda c: wanted.index(c.name)):
        key = {"cell": cell.name, "sets": given.sets, "networks": given.nets, "dtype": given.dtype}
        if rows.find(**key, schedule=cell.schedule) is None:
            rows.put({"schedule": cell.schedule, **measured(cell, given)}, **key)


if __name__ == "__main__":
    ended(main)
