"""Memory of a trajectory-matching update beside back-propagation through all steps: ``python benchmarks/memory.py``.

CIFAR-10's shape, ConvNet-3 of width 128. Every figure is the growth of a fresh process's peak resident memory over the moment
before the update, so that what the interpreter and torch hold does not count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch
from rows import RESULTS, Rows, command, ended, environment

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "twins"))

CELLS = ((2, 100), (4, 100), (30, 100))
"""Inner steps, and images of each; the twin of the last takes 10 GB."""


def main() -> None:
    """Measures the cells that have no row yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--one", nargs=3, metavar=("WHO", "STEPS", "BATCH"), help="one figure, in this process")
    parser.add_argument("--out", type=Path, default=RESULTS / "memory.jsonl")
    given = parser.parse_args()
    if given.one:
        who, steps, batch = given.one
        return print(json.dumps(grown(who, int(steps), int(batch))))
    rows = Rows(given.out)
    for steps, batch in CELLS:
        for who in ("twin", "attar"):
            key = {"who": who, "steps": steps, "batch": batch}
            if rows.find(**key) is None:
                words = [sys.executable, __file__, "--one", who, str(steps), str(batch)]
                said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
                rows.put(
                    {**json.loads(said.splitlines()[-1]), "command": command(), "environment": environment()}, **key
                )
                print(rows.find(**key))


def grown(who: str, steps: int, batch: int) -> dict[str, float]:
    """Bytes that an update's peak stands above what was resident before it."""
    from attar.execute.memory import peak
    from attar.match.trajectories import trajectory_distance
    from attar.match.unroll import unroll
    from attar.nets.build import build
    from attar.seeds import Seeds

    torch.set_num_threads(1)
    net = build("convnet", channels=3, size=(32, 32), classes=10)
    begin, goal = (net.init(Seeds(s)) for s in (1, 2))
    image, target = torch.rand(batch, 3, 32, 32, requires_grad=True), torch.eye(10).repeat(batch // 10, 1)
    rate = torch.tensor(0.01, requires_grad=True)
    before = peak()
    if who == "attar":
        end = unroll(net, begin, image, target, rate, index=[torch.arange(batch)] * steps)
        trajectory_distance(end, goal, begin).backward()
    else:
        import official_matching
        from plain_matching import PlainConvNet

        twin = PlainConvNet(3, 32, 10, width=128, depth=3)
        optimiser = torch.optim.SGD([image, rate], lr=1.0)
        official_matching.mtt_step(twin, begin, goal, image, target, rate, optimiser, steps=steps, strategy="none")
    return {"bytes": peak() - before, "before": before}


if __name__ == "__main__":
    ended(main)
