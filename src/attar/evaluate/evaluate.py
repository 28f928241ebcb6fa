"""evaluate: trains fresh networks on a small set and on baselines of the same size, and scores them on the test split.

The test split is opened when the first network is trained and not before; only the ``-best`` protocols look earlier.
Random real examples meet the same networks, initial weights, protocol and numbers of every class. A learning rate that
was learned together with the images belongs to the images: random examples train with the protocol's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from attar.condensed import Condensed
from attar.errors import UsageError
from attar.evaluate.bench import Bench
from attar.evaluate.lessons import Offer, fitting, full_lesson, offers, random_lesson
from attar.evaluate.protocol import Protocol, resolve
from attar.evaluate.scores import summary
from attar.evaluate.store import Result, Store
from attar.execute.progress import Progress, Silent
from attar.nets import Net, Spec, build
from attar.real.realset import Splits


def evaluate(
    condensed: Condensed,
    splits: Splits,
    *,
    protocol: str | None = None,
    nets: Sequence[Spec] = ("convnet",),
    seeds: int = 5,
    first_seed: int = 0,
    random: bool = True,
    full: bool = False,
    eight_bit: bool = True,
    epochs: int | None = None,
    augment: str | None = None,
    store: Path | None = None,
    progress: Progress | None = None,
    device: torch.device | str = "cpu",
) -> list[dict[str, Any]]:
    """Scores a small set by the test accuracy of networks trained on it.

    Args:
        splits: the real data: random examples come from ``train``, accuracies from ``test``.
        protocol: a preset of :mod:`attar.evaluate.protocol`; None follows the set's recipe, or takes ``dc``.
        nets: one score for every network.
        seeds: networks of one score; network i has seed ``first_seed + i``.
        random: whether random real examples of the same budget are scored beside.
        full: whether one network is trained on all real examples as well.
        eight_bit: whether the 8-bit pictures of a synthetic set get scores of their own.
        epochs, augment: other values than the protocol's; its name then tells them.
        store: a folder that keeps the results of single networks; a repeated call goes on where it was.

    Returns:
        Score objects: for every network one of ``images`` exact, and for a synthetic set one of its 8-bit pictures;
        each with hard labels, and with soft ones beside where the recipe names them. Accuracies are fractions.

    Raises:
        DataError: the set and the real data differ in shape or classes; a training broke.
        UsageError: an unknown protocol or network, a setting out of range.
    """
    if seeds < 1:
        raise UsageError(f"seeds={seeds} trains no network; it must be at least 1")
    real = fitting(condensed, splits.train)
    built = [build(spec, channels=real.shape[0], size=real.shape[1:], classes=real.n_classes) for spec in nets]
    recipe = condensed.recipe
    name: str = recipe.get("protocol", "dc") if protocol is None else protocol
    if protocol is None:
        epochs = recipe.get("epochs") if epochs is None else epochs
        augment = recipe.get("augment") if augment is None else augment
    lr = recipe.get("lr")
    plans = [resolve(name, real, net=net, epochs=epochs, augment=augment) for net in built]
    own = [resolve(name, real, net=net, epochs=epochs, augment=augment, lr=lr) for net in built]
    ways = list(offers(condensed, eight_bit=eight_bit))
    bench = Bench(
        splits=splits, real=real, store=Store(store), progress=progress or Silent(), device=torch.device(device)
    )
    numbers = range(first_seed, first_seed + seeds)
    scores = []
    for net, plan, ours in zip(built, plans, own):
        taught = [_score(bench, net, ours, way, numbers, rows=len(condensed)) for way in ways]
        baseline = {}
        if random:
            counts = torch.bincount(condensed.labels, minlength=real.n_classes).tolist()
            baseline["random"] = _random(bench, net, plan, counts, numbers)
        if full:
            baseline["full"] = _full(bench, net, numbers[0])
        scores += [{**score, "test": bench.test_facts(), "baseline": baseline} for score in taught]
    return scores


def _score(bench: Bench, net: Net, plan: Protocol, way: Offer, seeds: range, *, rows: int) -> dict[str, Any]:
    """The score object of one network and one way to learn, without test and baselines."""
    plan = dataclasses.replace(plan, labels=way.labels)
    results = bench.results(f"{net.name}, {way.images} images", net, plan, [way.lesson] * len(seeds), seeds)
    return {
        "protocol": plan.name,
        "network": net.name,
        "labels": way.labels,
        "images": way.images,
        "augment": plan.augment,
        "epochs": plan.epochs,
        "lr": plan.lr,
        "rows": rows,
        "bytes": way.bytes,
        "first_seed": seeds[0],
        **_statistics(plan, results, rows),
    }


def _random(bench: Bench, net: Net, plan: Protocol, counts: list[int], seeds: range) -> dict[str, Any]:
    """Random real examples with hard labels, redrawn for every seed."""
    lessons = [random_lesson(bench.real, counts, seed) for seed in seeds]
    return _baseline(plan, bench.results(f"{net.name}, random examples", net, plan, lessons, seeds), sum(counts))


def _full(bench: Bench, net: Net, seed: int) -> dict[str, Any]:
    """One network on all real examples, by a protocol of its own."""
    real = bench.real
    plan = resolve("full", real, net=net)
    results = bench.results(f"{net.name}, all {len(real)} examples", net, plan, [full_lesson(real)], [seed])
    return _baseline(plan, results, len(real))


def _baseline(plan: Protocol, results: Sequence[Result], rows: int) -> dict[str, Any]:
    facts = {"protocol": plan.name, "labels": plan.labels, "lr": plan.lr, "rows": rows}
    return {**facts, **_statistics(plan, results, rows)}


def _statistics(plan: Protocol, results: Sequence[Result], rows: int) -> dict[str, Any]:
    """What several networks say together, and the cost: seconds of all of them, and updates of one."""
    best = [r["best"] for r in results if r["best"] is not None]
    return {
        "seeds": len(results),
        **summary([r["accuracy"] for r in results]),
        "best_mean": sum(best) / len(best) if best else None,
        "cost": {
            "train_seconds": round(sum(r["seconds"] for r in results), 3),
            "updates": plan.passes * -(-rows // plan.batch),
        },
    }
