"""The best state so far, for runs that end by the clock: judged by a moving average of the loss.

Kept inside the state under names that begin with ``best.``, so that it is saved and resumed with it. The loss is that of the
training data; nothing is chosen on the test split.
"""

from __future__ import annotations

import torch

State = dict[str, torch.Tensor]
DECAY = 0.9
"""Weight of the past in the moving average, per tick."""
MARKS = ("best.mean", "best.loss")
"""What is known of the losses; every other name is that of a value."""


def watched(state: State, learned: tuple[str, ...]) -> State:
    """Adds room for the best values of the learned tensors, and of their moving averages where they have one."""
    names = [n for name in learned for n in (name, f"{name}.average") if n in state]
    marks = {"best.mean": torch.tensor(float("nan")), "best.loss": torch.tensor(float("inf"))}
    return state | marks | {f"best.{name}": state[name].clone() for name in names}


def look(state: State, loss: float) -> None:
    """Copies the learned tensors where the moving average of the loss is the lowest yet."""
    if "best.mean" not in state:
        return
    mean = state["best.mean"]
    mean.copy_(torch.where(mean.isnan(), torch.tensor(loss), DECAY * mean + (1 - DECAY) * loss))
    if mean < state["best.loss"]:
        state["best.loss"].copy_(mean)
        for name in _names(state):
            state[f"best.{name}"].copy_(state[name])


def chosen(state: State) -> State:
    """The state with the best values in place of the last ones; unchanged where none are kept."""
    if "best.mean" not in state or state["best.loss"].isinf():
        return state
    return {**state, **{name: state[f"best.{name}"] for name in _names(state)}}


def _names(state: State) -> list[str]:
    """What the best values are kept of."""
    return [k.removeprefix("best.") for k in state if k.startswith("best.") and k not in MARKS]
