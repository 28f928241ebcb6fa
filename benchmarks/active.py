"""Labels saved by active learning on real and generated faces: ``python benchmarks/active.py``.

The worked example of Rana, Nur Nobi and Sung, DeepDistAL, CVPR Workshops 2024: a detector of generated faces from a small,
asked-for part of the training set. Their network, query and tables are not at hand, so these rows stand beside no published
figure: they compare queries with random asking and with all labels. Every query starts a seed with the same first examples,
and every judged network is trained afresh by one recipe, as long per example for few labels as for all. One thread. Killed,
it goes on.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import torch
from rows import HERE, RESULTS, Rows, brief, command, ended, environment

import attar
from attar.evaluate.train import accuracy
from attar.execute.plan import Plan
from attar.nets.fit import net_of
from attar.real.realset import RealSet, Splits
from attar.resources.network import TrainedNetwork, params_of
from attar.seeds import Seeds

QUERIES = ("random", "entropy", "margin", "badge")


def main() -> None:
    """Measures the cells that have no row yet, then the means."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--data", default="real_fake_faces")
    parser.add_argument("--queries", default=",".join(QUERIES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--keep", type=float, default=0.24, help="share that is labelled at the end")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--net", default="convnet:width=16")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--work", type=Path, default=HERE / "work" / "active", help="where the selections are made")
    parser.add_argument("--out", type=Path, default=RESULTS / "active.jsonl")
    given = parser.parse_args()
    rows, splits = Rows(given.out), attar.load(place(given.data), size=given.size)
    key = {k: v for k, v in vars(given).items() if k not in ("queries", "seeds", "work", "out")}
    with Plan().applied():
        for seed in range(given.seeds):
            for query in ("full", *given.queries.split(",")):
                if rows.find(query=query, seed=seed, **key) is None:
                    rows.put(measured(query, seed, given, splits), query=query, seed=seed, **key)
    tell(rows, key, given)


def place(data: str) -> Path:
    """The folder of a data set."""
    return Path(os.environ.get("ATTAR_DATA", HERE.parents[1] / "shared" / "data")) / data


def measured(query: str, seed: int, given: argparse.Namespace, splits: Splits) -> dict[str, Any]:
    """Accuracies after every round, or of all labels."""
    real, began = splits.train, time.monotonic()
    if query == "full":
        labelled, asking = [torch.arange(len(real))], 0.0
    else:
        kept = selected(query, seed, given)
        place_of = {i: row for row, i in enumerate(real.ids.tolist())}
        picked = torch.tensor([place_of[i] for i in kept.table["source_id"].to_pylist()])
        turn = torch.from_numpy(kept.table["round"].to_numpy().copy())
        labelled = [picked[turn <= r] for r in range(given.rounds + 1)]
        asking = kept.manifest["lineage"][-1]["seconds"]
    found = [judged(real, rows, seed, given, splits.test) for rows in labelled]
    print(query, seed, " ".join(f"{len(rows)}: {a:.3f}" for rows, a in zip(labelled, found)), flush=True)
    return {
        "labels": [len(rows) for rows in labelled],
        "share": [len(rows) / len(real) for rows in labelled],
        "accuracy": found,
        "asking_seconds": asking,
        "seconds": round(time.monotonic() - began, 2),
        "command": command(),
        "environment": environment(),
    }


def selected(query: str, seed: int, given: argparse.Namespace) -> Any:
    """The picks of a query, made or found."""
    name = f"{given.data}-{given.size}-{given.net}-{given.epochs}-{given.rounds}-{given.keep}-{given.batch}-{given.lr}"
    return attar.select(
        place(given.data),
        query=query,
        rounds=given.rounds,
        keep=given.keep,
        seed=seed,
        net=given.net,
        epochs=given.epochs,
        batch=given.batch,
        lr=given.lr,
        size=given.size,
        threads=1,
        compile=False,
        out=given.work / name.replace(":", "_") / f"{query}-{seed}",
    )


def judged(real: RealSet, rows: torch.Tensor, seed: int, given: argparse.Namespace, test: RealSet) -> float:
    """The test accuracy of a fresh network trained on some rows; the same first weights for every query."""
    lessons = TrainedNetwork(net=given.net, epochs=given.epochs, batch=given.batch, lr=given.lr)
    seeds = Seeds(seed).at("judge")
    state = lessons.init(real, None, seeds, {})
    for name, opt in lessons.learned(state).items():
        state |= opt.slots(name, state[name])
    for epoch in range(given.epochs):
        lessons.teach(state, real, rows, real.labels[rows], seeds.at(epoch), epoch)
    return accuracy(net_of(given.net, real), params_of(state), test)


def tell(rows: Rows, key: dict[str, Any], given: argparse.Namespace) -> None:
    """Writes and prints mean and interval of every query at every share, and of its difference from random, seed by seed."""
    names = ("full", *given.queries.split(","))
    found = {q: [rows.find(query=q, seed=s, **key) or {} for s in range(given.seeds)] for q in names}
    for query, runs in found.items():
        for i, labels in enumerate(runs[0]["labels"]):
            mean = brief([r["accuracy"][i] for r in runs])
            row = {"labels": labels, "share": runs[0]["share"][i], **mean}
            if query != "full" and "random" in found:
                pairs = [r["accuracy"][i] - b["accuracy"][i] for r, b in zip(runs, found["random"])]
                row |= {"over_random": brief(pairs)}
            rows.put(row, mean_of=query, after=i, seeds=given.seeds, **key)
            print(f"{query:8} {labels:5} labels  {mean['mean']:.4f}  {mean['interval']}", flush=True)


if __name__ == "__main__":
    ended(main)
