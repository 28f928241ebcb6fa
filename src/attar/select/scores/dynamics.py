"""Scores from training dynamics: signals by the names of :mod:`attar.resources.recording`, [N] each -> [N], high = keep.

Every score is oriented here, once; no rule and no flag turns it around.
"""

from __future__ import annotations

import torch

from attar.errors import UsageError, nearest
from attar.method import State

NEVER = ("hardest", "easiest", "drop", "epochs")
MARGINS = {"logit": "aum", "probability": "aum_probability"}
METRICS = {"variability": "high", "confidence": "low", "correctness": "low"}
"""Which end of each metric of a cartography is kept first."""


def el2n(seen: State) -> torch.Tensor:
    """|| p - onehot(y) ||, the mean of the chosen epochs."""
    return seen["el2n"]


def forgetting(seen: State, never: str) -> torch.Tensor:
    """Forgetting events, with a policy for the examples that no run ever learned.

    Args:
        seen: ``forgetting``, ``learned`` (share of the runs that learned it) and ``epochs``.
        never: ``hardest`` (above all others), ``easiest`` (0 events, as they had none), ``drop`` (below all others) or
            ``epochs`` (as many events as epochs, in each run that never learned it).

    Raises:
        UsageError: an unknown policy.
    """
    known(never, NEVER, "never_learned")
    events, unlearned = seen["forgetting"], seen["learned"] == 0
    if never == "epochs":
        return events + (1 - seen["learned"]) * seen["epochs"]
    value = {"hardest": events.max() + 1, "easiest": events.new_zeros(()), "drop": events.new_tensor(-1)}[never]
    return torch.where(unlearned, value, events)


def aum(seen: State, margin: str) -> torch.Tensor:
    """Less the mean margin of the label over the strongest other class: hard examples are high.

    Args:
        seen: ``aum`` or ``aum_probability``.
        margin: of ``logit`` or ``probability``.

    Raises:
        UsageError: an unknown margin.
    """
    known(margin, tuple(MARGINS), "margin")
    return -seen[MARGINS[margin]]


def cartography(seen: State, metric: str, direction: str) -> torch.Tensor:
    """A coordinate of the map.

    Args:
        seen: the metric.
        metric: ``variability``, ``confidence`` or ``correctness``.
        direction: which end is kept: ``high``, ``low`` or ``auto`` (high variability, low confidence, low correctness).

    Raises:
        UsageError: an unknown metric or direction.
    """
    known(metric, tuple(METRICS), "metric")
    known(direction, ("auto", "high", "low"), "direction")
    end = METRICS[metric] if direction == "auto" else direction
    return seen[metric] if end == "high" else -seen[metric]


def dyn_unc(seen: State) -> torch.Tensor:
    """Mean over windows of the spread of the label's probability."""
    return seen["dyn_unc"]


def dual(seen: State) -> torch.Tensor:
    """Mean over windows of that spread, times 1 less the probability's mean."""
    return seen["dual"]


def tdds(seen: State) -> torch.Tensor:
    """Moving average over windows of the spread of the changes of the distribution."""
    return seen["tdds"]


def entropy(seen: State) -> torch.Tensor:
    """Entropy of the softmax: uncertain = high."""
    return seen["entropy"]


def margin(seen: State) -> torch.Tensor:
    """Less the gap of the two largest probabilities: uncertain = high."""
    return -seen["margin"]


def least_confidence(seen: State) -> torch.Tensor:
    """1 less the largest probability: uncertain = high."""
    return seen["least_confidence"]


def known(value: str, choices: tuple[str, ...], setting: str) -> None:
    """Refuses a value that is none of the choices.

    Raises:
        UsageError: names the nearest.
    """
    if value not in choices:
        raise UsageError(f"{setting} '{value}' is unknown; {nearest(value, choices)}")


def doubt(known: State) -> torch.Tensor | None:
    """How hard examples are whose score says something else: the negative mean probability of the label; None without it."""
    return -known["confidence"] if "confidence" in known else None
