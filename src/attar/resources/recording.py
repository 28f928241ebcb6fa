"""Training dynamics as running statistics: what each example did in each epoch, folded into a few numbers an example.

For the logits z of an example with label y, p = softmax(z), in one epoch:

    p_y,  ||p - onehot(y)||,  -log p_y,  z_y - max_{c != y} z_c,  p_y - max_{c != y} p_c,  whether argmax z = y

An example counts once an epoch: what is shown of it again in the same epoch changes nothing, be it in a batch, in a later one
or on another worker. So every mean is over epochs, and a set that a sampler pads with repeats gives what the set gives.

The state is N rows of numbers: 66 bytes an example and 4 for each place of a window, whatever the number of epochs; K more
numbers an example where distributions are compared (TDDS). Nothing is kept of the epochs themselves.
"""

from __future__ import annotations

from collections.abc import Collection

import torch

from attar.errors import DataError
from attar.method import State

EPS = 1e-8
"""Added to probabilities before their logarithm, as TDDS does."""
DECAY = 0.9
"""How fast TDDS forgets: the share of the newest window."""
MEANS = ("margin", "margin_probability", "loss")
"""Facts of which the mean over the epochs is kept, as sums."""
LAST = ("entropy", "gap", "doubt")
"""Facts of the latest epoch alone."""


def start(n: int, *, window: int = 0, classes: int = 0) -> State:
    """Statistics of n examples before their first epoch.

    Args:
        n: examples.
        window: epochs of a window (``dyn_unc``, ``dual``, ``tdds``); 0 for none.
        classes: K, where distributions are compared (``tdds``); else 0.
    """
    whole = {name: torch.zeros(n, dtype=torch.int32) for name in ("count", "right", "forgot", "chosen")}
    real = ("mean", "spread", *MEANS, "el2n", *LAST)
    state: State = {
        "epoch": torch.full((n,), -1, dtype=torch.int32),
        **whole,
        **{name: torch.zeros(n) for name in real},
        "was_right": torch.zeros(n, dtype=torch.bool),
        "learned": torch.zeros(n, dtype=torch.bool),
    }
    if window and not classes:
        state |= {"ring": torch.zeros(n, window)}  # probabilities of the label, by epoch modulo window
        state |= {name: torch.zeros(n) for name in ("deviation", "deviation_last", "dual")}
    if classes:
        state |= {
            "before": torch.zeros(n, classes),
            "changes": torch.zeros(n, max(1, window - 1)),
            "tdds": torch.zeros(n),
        }
    return state


def facts(logits: torch.Tensor, targets: torch.Tensor, *, distribution: bool = False) -> State:
    """What one showing tells of each example.

    Args:
        logits: float [B, K], finite, K >= 2.
        targets: int64 [B].
        distribution: give the whole softmax too, as ``probability`` [B, K].

    Returns:
        ``p``, ``margin``, ``margin_probability``, ``el2n``, ``loss``, ``entropy``, ``gap``, ``doubt`` float [B] and
        ``correct`` bool [B]; in float64 where the logits are.
    """
    z = logits.detach() if logits.dtype == torch.float64 else logits.detach().float()
    y = targets[:, None]
    log = z.log_softmax(1)
    q = log.exp()
    p = q.gather(1, y)[:, 0]
    other = log.scatter(1, y, -torch.inf).max(1).values  # the strongest wrong class
    two = q.topk(2, dim=1).values
    found: State = {
        "p": p,
        "margin": log.gather(1, y)[:, 0] - other,  # logits less one and the same number
        "margin_probability": p - other.exp(),
        "el2n": q.scatter_add(1, y, -torch.ones_like(y, dtype=q.dtype)).norm(dim=1),
        "loss": -log.gather(1, y)[:, 0],
        "entropy": -(q * log).sum(1),
        "gap": two[:, 0] - two[:, 1],
        "doubt": 1 - two[:, 0],
        "correct": z.argmax(1) == targets,  # the lower class where two tie
    }
    return found | ({"probability": q} if distribution else {})


def fold(state: State, rows: torch.Tensor, new: State, *, epoch: int, chosen: Collection[int] = ()) -> State:
    """Adds one epoch of some examples to the statistics, in place.

    Args:
        state: of :func:`start`.
        rows: int64 [B], places in the state; what is there twice, or was seen in this epoch, is left out.
        new: of :func:`facts`.
        epoch: from 0, never falling.
        chosen: epochs whose EL2N is summed, from 0; empty for all.
    """
    fresh = _first(rows) & (state["epoch"][rows] != epoch)
    rows, new = rows[fresh], {name: value[fresh] for name, value in new.items()}
    count = state["count"][rows] + 1
    if "ring" in state:
        _window(state, rows, new["p"], count)
    if "before" in state:
        _change(state, rows, new["probability"], count)
    gap = new["p"] - state["mean"][rows]  # Welford: no difference of large sums
    state["mean"][rows] += (gap / count).to(state["mean"].dtype)
    state["spread"][rows] += (gap * (new["p"] - state["mean"][rows])).to(state["spread"].dtype)
    for name in MEANS:
        state[name][rows] += new[name].to(state[name].dtype)
    if not chosen or epoch in chosen:
        state["el2n"][rows] += new["el2n"].to(state["el2n"].dtype)
        state["chosen"][rows] += 1
    for name in LAST:
        state[name][rows] = new[name].to(state[name].dtype)
    state["right"][rows] += new["correct"].int()
    state["forgot"][rows] += (state["was_right"][rows] & ~new["correct"]).int()
    state["was_right"][rows] = new["correct"]
    state["learned"][rows] |= new["correct"]
    state["count"][rows] = count
    state["epoch"][rows] = epoch
    return state


def signals(state: State) -> State:
    """The statistics under the names by which scores know them, [N] each.

    ``confidence``, ``variability`` (population), ``correctness`` (epochs), ``forgetting`` (events), ``learned`` (0 or 1),
    ``epochs`` (seen), ``aum`` (of logits), ``aum_probability``, ``el2n`` (mean of the chosen epochs), ``loss``;
    of the latest epoch ``entropy``, ``margin``, ``least_confidence``; where there was a window ``dual``, and
    ``dyn_unc`` after two windows; where distributions were compared ``tdds``.

    Raises:
        DataError: an example that was never seen, or in fewer epochs than a window needs.
    """
    count = state["count"]
    _enough(count, 1, "in no epoch")
    n = count.to(state["mean"].dtype)
    found = {
        "confidence": state["mean"],
        "variability": (state["spread"].clamp(min=0) / n).sqrt(),
        "correctness": state["right"].to(n.dtype),
        "forgetting": state["forgot"].to(n.dtype),
        "learned": state["learned"].to(n.dtype),
        "epochs": n,
        "aum": state["margin"] / n,
        "aum_probability": state["margin_probability"] / n,
        "el2n": state["el2n"] / state["chosen"].clamp(min=1),
        "loss": state["loss"] / n,
        "entropy": state["entropy"],
        "margin": state["gap"],
        "least_confidence": state["doubt"],
    }
    return {name: value.clone() for name, value in (found | _windowed(state, count)).items()}


def _windowed(state: State, count: torch.Tensor) -> State:
    """The signals of windows, where there are any."""
    if "before" in state:
        window = state["changes"].shape[1] + 1
        _enough(count, window, f"in too few epochs for a window of {window}")
        return {"tdds": state["tdds"]}
    if "ring" not in state:
        return {}
    window = state["ring"].shape[1]
    _enough(count, window, f"in too few epochs for a window of {window}")
    windows = (count - window + 1).to(state["mean"].dtype)
    found = {"dual": state["dual"] / windows}
    if bool((windows > 1).all()):  # Dyn-Unc leaves the last window out
        found["dyn_unc"] = (state["deviation"] - state["deviation_last"]) / (windows - 1)
    return found


def _window(state: State, rows: torch.Tensor, p: torch.Tensor, count: torch.Tensor) -> None:
    """Puts p [B] into the ring and adds the window that it ends, where it is full."""
    size = state["ring"].shape[1]
    state["ring"][rows, ((count - 1) % size).long()] = p.to(state["ring"].dtype)
    full = rows[count >= size]
    ring = state["ring"][full]  # [B', J]
    deviation = ((ring - ring.mean(1, keepdim=True)).square().sum(1) / (size - 1)).sqrt()
    state["deviation"][full] += deviation
    state["deviation_last"][full] = deviation
    state["dual"][full] += deviation * (1 - ring.mean(1))


def _change(state: State, rows: torch.Tensor, q: torch.Tensor, count: torch.Tensor) -> None:
    """TDDS for q [B, K]: the change since the epoch before into the ring, and the window that it ends into the average.

    v = || kl - mean kl ||,  s <- (1 - a) s + a v
    """
    size = state["changes"].shape[1]
    q, again = q.to(state["before"].dtype), count > 1
    kl = (q * ((q + EPS).log() - (state["before"][rows] + EPS).log())).abs().sum(1)  # [B]
    state["changes"][rows[again], ((count[again] - 2) % size).long()] = kl[again]
    state["before"][rows] = q
    full = rows[count > size]
    ring = state["changes"][full]  # [B', J - 1]
    v = (ring - ring.mean(1, keepdim=True)).norm(dim=1)
    state["tdds"][full] = (1 - DECAY) * state["tdds"][full] + DECAY * v


def _first(rows: torch.Tensor) -> torch.Tensor:
    """Whether each of some rows stands there for the first time: int64 [B] -> bool [B]."""
    order = rows.argsort(stable=True)
    new = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    new[1:] = rows[order][1:] != rows[order][:-1]
    return torch.empty_like(new).scatter_(0, order, new)


def _enough(count: torch.Tensor, least: int, what: str) -> None:
    few = torch.nonzero(count < least).flatten()
    if len(few):
        raise DataError(
            f"the example in row {int(few[0])} was seen {what} (in {int(count[few[0]])}), and so {len(few)} of "
            f"{len(count)} examples; record {least} epochs of all examples at least"
        )
