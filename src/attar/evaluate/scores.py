"""What several networks' accuracies say together, as a manifest keeps it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from scipy.special import stdtrit

from attar.evaluate.lessons import Offer
from attar.evaluate.protocol import Protocol
from attar.evaluate.store import Result
from attar.nets import Net

LEVEL = 0.95
"""Confidence of the interval."""


def score(
    net: Net, plan: Protocol, way: Offer, results: Sequence[Result], *, rows: int, first_seed: int
) -> dict[str, Any]:
    """The score object of one network and one way to learn, without test split and baselines.

    Args:
        rows: M.
    """
    return {**told(net, plan, way, rows=rows, first_seed=first_seed), **together(plan, results, rows)}


def told(net: Net, plan: Protocol, way: Offer, *, rows: int, first_seed: int) -> dict[str, Any]:
    """What a score object tells before anything is measured."""
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
        "first_seed": first_seed,
    }


def baseline(plan: Protocol, results: Sequence[Result], rows: int) -> dict[str, Any]:
    """The object of what stands beside a score."""
    facts = {"protocol": plan.name, "labels": plan.labels, "lr": plan.lr, "rows": rows}
    return {**facts, **together(plan, results, rows)}


def together(plan: Protocol, results: Sequence[Result], rows: int) -> dict[str, Any]:
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


def summary(accuracies: Sequence[float]) -> dict[str, Any]:
    """Mean, spread and interval of the accuracies of networks that differ by their seed.

    interval = mean -+ t(n - 1, .975) * std / sqrt(n), cut off at 0 and 1

    Args:
        accuracies: n >= 1 fractions.

    Returns:
        last_mean; last_std (n - 1 in the denominator, 0 for one network); interval [low, high] that holds the mean over
        all seeds with 95 % confidence (Student's t), None for one network; accuracies.
    """
    n, mean = len(accuracies), statistics.fmean(accuracies)
    if n == 1:
        return {"last_mean": mean, "last_std": 0.0, "interval": None, "accuracies": list(accuracies)}
    std = statistics.stdev(accuracies)
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * std / n**0.5
    interval = [max(0.0, mean - half), min(1.0, mean + half)]
    return {"last_mean": mean, "last_std": std, "interval": interval, "accuracies": list(accuracies)}
