"""Training dynamics as running statistics: what each example did in each epoch, folded into a few numbers an example.

For the logits z of an example with label y, p = softmax(z), in one epoch:

    p_y,  ||p - onehot(y)||,  -log p_y,  z_y - max_{c != y} z_c,  p_y - max_{c != y} p_c,  whether argmax z = y

An example counts once an epoch: what is shown of it again in the same epoch changes nothing, be it in a batch, in a later one
or on another worker. So every mean is over epochs, and a set that a sampler pads with repeats gives what the set gives.

The state is N rows of numbers, whatever the number of epochs: 64 bytes an example; with a window 12 more and 4 for each of
its places; where distributions are compared (TDDS) 4 for each of the K classes in place of the 12. Nothing is kept of the
epochs themselves. The numbers of an example lie side by side, so that a batch is fetched and put back as whole rows.
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
WHOLE = ("epoch", "count", "right", "forgot", "chosen", "was_right", "learned")
"""Columns of ``whole``."""
REAL = ("mean", "spread", *MEANS, "el2n", *LAST)
"""First columns of ``real``."""
RINGED = ("deviation", "deviation_last", "dual")
"""Its further columns beside a ring of probabilities; beside distributions there is one, ``tdds``."""


def start(n: int, *, window: int = 0, classes: int = 0) -> State:
    """Statistics of n examples before their first epoch.

    Args:
        n: examples.
        window: epochs of a window (``dyn_unc``, ``dual``, ``tdds``); 0 for none.
        classes: K, where distributions are compared (``tdds``); else 0.
    """
    whole = torch.zeros(n, len(WHOLE), dtype=torch.int32)
    whole[:, 0] = -1  # no epoch
    state: State = {"whole": whole, "real": torch.zeros(n, len(REAL) + len(_more(window, classes)))}
    if window and not classes:
        state["ring"] = torch.zeros(n, window)  # probabilities of the label, by epoch modulo window
    if classes:
        state |= {"before": torch.zeros(n, classes), "changes": torch.zeros(n, max(1, window - 1))}
    return state


def size(*, window: int = 0, classes: int = 0) -> int:
    """Bytes an example of :func:`start`."""
    return sum(v.element_size() * v.shape[1] for v in start(0, window=window, classes=classes).values())


def _more(window: int, classes: int) -> tuple[str, ...]:
    return ("tdds",) if classes else RINGED if window else ()


def columns(state: State) -> State:
    """The statistics by name: [N] each, parts of ``state`` that change with it."""
    more = _more("ring" in state, "before" in state)
    return dict(zip(WHOLE, state["whole"].unbind(1))) | dict(zip((*REAL, *more), state["real"].unbind(1)))


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
    own, other = log.gather(1, y)[:, 0], log.scatter(1, y, -torch.inf).amax(1)  # the label, the strongest wrong class
    two = q.topk(2, dim=1).values
    found: State = {
        "p": p,
        "margin": own - other,  # logits less one and the same number
        "margin_probability": p - other.exp(),
        "el2n": q.scatter_add(1, y, -torch.ones_like(y, dtype=q.dtype)).norm(dim=1),
        "loss": -own,
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
    whole = state["whole"].index_select(0, rows)  # [B, 7]
    fresh = whole[:, 0] != epoch
    if _repeated(rows):
        fresh &= _first(rows)
    if not bool(fresh.all()):
        rows, whole, new = rows[fresh], whole[fresh], {name: value[fresh] for name, value in new.items()}
    real = state["real"].index_select(0, rows)  # [B, 9 and more]
    counts = not chosen or epoch in chosen
    _counted(whole, new["correct"].int(), epoch, counts)
    count = whole[:, 1]
    if "ring" in state:
        _window(state["ring"], rows, real[:, -3:], new["p"], count)
    if "before" in state:
        _change(state, rows, real[:, -1], new["probability"], count)
    mean, spread, _, _, _, el2n, *_ = real.unbind(1)
    gap = new["p"] - mean  # Welford: no difference of large sums
    mean += (gap / count).to(real.dtype)
    spread += (gap * (new["p"] - mean)).to(real.dtype)
    real[:, 2:5] += torch.stack([new[name] for name in MEANS], 1).to(real.dtype)
    if counts:
        el2n += new["el2n"].to(real.dtype)
    real[:, 6:9] = torch.stack([new[name] for name in LAST], 1)
    state["whole"].index_copy_(0, rows, whole)
    state["real"].index_copy_(0, rows, real)
    return state


def _counted(whole: torch.Tensor, correct: torch.Tensor, epoch: int, chosen: bool) -> None:
    """Counts an epoch, int32 [B] whether it was answered right, in the rows [B, 7] of ``whole``."""
    at, count, right, forgot, counted, was_right, learned = whole.unbind(1)
    at.fill_(epoch)
    count += 1
    right += correct
    forgot += was_right > correct
    counted += int(chosen)
    was_right.copy_(correct)
    learned |= correct


def signals(state: State) -> State:
    """The statistics under the names by which scores know them, [N] each.

    ``confidence``, ``variability`` (population), ``correctness`` (epochs), ``forgetting`` (events), ``learned`` (0 or 1),
    ``epochs`` (seen), ``aum`` (of logits), ``aum_probability``, ``el2n`` (mean of the chosen epochs), ``loss``;
    of the latest epoch ``entropy``, ``margin``, ``least_confidence``; where there was a window ``dual``, and
    ``dyn_unc`` after two windows; where distributions were compared ``tdds``.

    Raises:
        DataError: an example that was never seen, or in fewer epochs than a window needs.
    """
    kept = columns(state)
    count = kept["count"]
    _enough(count, 1, "in no epoch")
    n = count.to(state["real"].dtype)
    found = {
        "confidence": kept["mean"],
        "variability": (kept["spread"].clamp(min=0) / n).sqrt(),
        "correctness": kept["right"].to(n.dtype),
        "forgetting": kept["forgot"].to(n.dtype),
        "learned": kept["learned"].to(n.dtype),
        "epochs": n,
        "aum": kept["margin"] / n,
        "aum_probability": kept["margin_probability"] / n,
        "el2n": kept["el2n"] / kept["chosen"].clamp(min=1),
        "loss": kept["loss"] / n,
        "entropy": kept["entropy"],
        "margin": kept["gap"],
        "least_confidence": kept["doubt"],
    }
    return {name: value.clone() for name, value in (found | _windowed(state, kept)).items()}


def _windowed(state: State, kept: State) -> State:
    """The signals of windows, where there are any, from the state and its columns."""
    count = kept["count"]
    if "before" in state:
        window = state["changes"].shape[1] + 1
        _enough(count, window, f"in too few epochs for a window of {window}")
        return {"tdds": kept["tdds"]}
    if "ring" not in state:
        return {}
    window = state["ring"].shape[1]
    _enough(count, window, f"in too few epochs for a window of {window}")
    windows = (count - window + 1).to(state["real"].dtype)
    found = {"dual": kept["dual"] / windows}
    if bool((windows > 1).all()):  # Dyn-Unc leaves the last window out
        found["dyn_unc"] = (kept["deviation"] - kept["deviation_last"]) / (windows - 1)
    return found


def _window(ring: torch.Tensor, rows: torch.Tensor, kept: torch.Tensor, p: torch.Tensor, count: torch.Tensor) -> None:
    """Puts p [B] into the ring [N, J] and adds the window that it ends, where it is full, to ``kept`` [B, 3]."""
    size = ring.shape[1]
    ring[rows, ((count - 1) % size).long()] = p.to(ring.dtype)
    full = count >= size
    if not bool(full.any()):
        return
    own = ring.index_select(0, rows)  # [B, J]
    mean = own.mean(1)
    deviation = ((own - mean[:, None]).square().sum(1) / (size - 1)).sqrt()
    total, last, dual = kept.unbind(1)
    total += deviation.where(full, 0.0)
    dual += (deviation * (1 - mean)).where(full, 0.0)
    last.copy_(deviation.where(full, last))


def _change(state: State, rows: torch.Tensor, tdds: torch.Tensor, q: torch.Tensor, count: torch.Tensor) -> None:
    """TDDS for q [B, K]: the change since the epoch before into the ring, and the window that it ends into ``tdds`` [B].

    v = || kl - mean kl ||,  s <- (1 - a) s + a v
    """
    changes = state["changes"]
    size, q = changes.shape[1], q.to(changes.dtype)
    kl = (q * ((q + EPS).log() - (state["before"].index_select(0, rows) + EPS).log())).abs().sum(1)  # [B]
    changes[rows, ((count - 2) % size).long()] = kl.where(count > 1, 0.0)  # in the first epoch there is no change yet
    state["before"].index_copy_(0, rows, q)
    full = count > size
    if not bool(full.any()):
        return
    own = changes.index_select(0, rows)  # [B, J - 1]
    v = (own - own.mean(1, keepdim=True)).norm(dim=1)
    tdds.copy_(((1 - DECAY) * tdds + DECAY * v).where(full, tdds))


def _repeated(rows: torch.Tensor) -> bool:
    """Whether some row stands there more than once: int64 [B]."""
    order = rows.sort().values
    return bool((order[1:] == order[:-1]).any())


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
