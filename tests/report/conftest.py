"""Condensed sets made by hand from the digits, and scores to show on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from attar.condensed import Condensed, condense
from attar.method import Rows
from attar.real.load import load
from attar.real.realset import RealSet

Score = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def real() -> RealSet:
    return load("digits").train


def lineage(verb: str, method: str, **settings: Any) -> list[dict[str, Any]]:
    return [
        {
            "verb": verb,
            "method": method,
            "settings": settings,
            "seed": 7,
            "budget": "ipc 3",
            "plan": {"device": "cpu", "threads": 1, "dtype": "float32", "compiled": False},
            "environment": {"attar": "0.1.0", "torch": "2.13.0", "python": "3.12.3", "cpu": "Testium 9"},
            "seconds": 34.2,
            "steps": 2000,
            "peak_memory": 612_000_000,
            "command": f"attar {verb} digits --method {method} --ipc 3 --out small",
        }
    ]


@pytest.fixture
def synthetic(real: RealSet) -> Condensed:
    """3 blurred images per class, and a log of 60 lines."""
    index = real.sample(3, torch.Generator().manual_seed(1)).flatten()
    x = real.draw(index)
    rows = Rows(columns={"image": (x + x.flip(3)) / 2, "label": real.labels[index]}, recipe={"protocol": "dsa"})
    made = lineage("distill", "dm", steps=2000, lr_img=0.5, momentum=None, augment=["crop", "scale"])
    condensed = condense(rows, real, kind="synthetic", lineage=made, budget={"ipc": 3})
    lines = [{"step": 10 * i, "seconds": float(i), "loss": [9.0 / i]} for i in range(1, 61)]
    condensed.files["log.jsonl"] = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return condensed


@pytest.fixture
def subset(real: RealSet) -> Condensed:
    """40 real rows of uneven classes, with gains, in pick order."""
    picked = torch.randperm(len(real), generator=torch.Generator().manual_seed(3))[:40]
    rows = Rows(picked=picked, extra={"gain": torch.linspace(0.9, 0.1, 40)})
    return condense(rows, real, kind="subset", lineage=lineage("select", "herding", balanced=False))


@pytest.fixture
def score() -> Score:
    def make(
        mean: float = 0.861, std: float = 0.010, *, network: str = "convnet", images: str = "exact"
    ) -> dict[str, Any]:
        return {
            "protocol": "dsa",
            "network": network,
            "labels": "hard",
            "augment": "auto",
            "epochs": 300,
            "images": images,
            "seeds": 3,
            "last_mean": mean,
            "last_std": std,
            "interval": [mean - 2 * std, mean + 2 * std],
            "accuracies": [mean - std, mean, mean + std],
            "best_mean": None,
            "baseline": {
                "random": {"last_mean": 0.62, "last_std": 0.03, "interval": [0.59, 0.65], "seeds": 3},
                "full": {"last_mean": 0.968, "last_std": 0.004, "interval": None, "seeds": 3},
            },
            "bytes": 640,
            "rows": 30,
            "cost": {"seconds": 12.0},
        }

    return make
