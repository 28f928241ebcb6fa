"""Checks of what a run gives: the same bits again, exactly the budget, rows that are what they claim to be."""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path

import torch

from attar.budget import Budget
from attar.condensed import condense
from attar.errors import Interrupted
from attar.execute.progress import Silent
from attar.method import Batch, Loss, Method, Resources, Rows, State
from attar.real.realset import RealSet
from attar.seeds import Key, Seeds
from attar.testing.toys import toy
from attar.testing.trial import content, done, folder, fresh, require, resources, rows_content

BUDGETS = (Budget(ipc=1), Budget(ipc=2), Budget(rows=7), Budget(fraction=0.3))


def same_seed_same_bytes(method: Method) -> None:
    """Two runs with one seed give equal states and rows."""
    for budget in (Budget(ipc=2), Budget(rows=7)):
        first = done(method, toy(), budget)
        again = fresh(method, toy(), budget).states[0]
        require(content(first.state) == content(again), f"two runs of {budget} with the same seed differ")
        rows = method.finish(again, resources(method, toy()))
        require(
            rows_content(first.rows) == rows_content(rows), f"finish gives other rows for an equal state of {budget}"
        )


def other_seed_differs(method: Method) -> None:
    """Another seed gives another result, unless the method never asks for randomness: then the same."""
    real, budget = toy(), Budget(rows=7)
    found = {rows_content(done(method, real, budget, seed).rows) for seed in range(6)}
    if uses_chance(method, real, budget):
        require(len(found) > 1, "six seeds give one and the same result though the method asks them for randomness")
    else:
        require(
            len(found) == 1, "seeds change the result though the method never asks them: is the global generator used?"
        )


@dataclass(frozen=True)
class Spy(Seeds):
    """Seeds that note what they are asked; every kind of randomness comes from ``number``."""

    asked: list[tuple[Key, ...]] = field(default_factory=list, compare=False)

    def at(self, *key: Key) -> Spy:
        """A stream that notes into the same list."""
        return Spy(self.run, self.path + key, self.asked)

    def number(self, *key: Key) -> int:
        """The number, noted."""
        self.asked.append(self.path + key)
        return super().number(*key)


def uses_chance(method: Method, real: RealSet, budget: Budget) -> bool:
    """Whether a method, or what it needs, asks its seeds for a number."""
    two = [resources(method, real, seed) for seed in (0, 1)]
    if any(content(dict(two[0][name])) != content(dict(two[1][name])) for name in two[0]):
        return True
    spy, steps = Spy(0), method.length(real)
    state = method.init(real, budget, spy.at("init"), two[0])
    if steps:
        batch = method.draw(real, spy.at("step", 0), two[0], 0)
        if not spy.asked:  # a step that looks at its loss has none here
            method.step(state, batch, _no_descent)
    return bool(spy.asked)


def _no_descent(state: State, loss: Loss, batch: Batch, only: tuple[str, ...] = ()) -> State:
    return state


def resume_same_bytes(method: Method) -> None:
    """A run that a signal or a crash stopped, and that goes on, ends with the bits of one that was not stopped."""
    real, budget = toy(), Budget(ipc=2)
    whole, steps = content(done(method, real, budget).state), method.length(real)
    with folder() as at:
        for name, stop in {"a crash": Crash, "a signal": Signal}.items():
            for k in sorted({1, steps - 1} & set(range(1, steps))):
                _stopped(method, real, budget, at / f"{stop.__name__}{k}", stop(k))
                resumed = fresh(method, real, budget, at=at / f"{stop.__name__}{k}").states[0]
                require(whole == content(resumed), f"stopped by {name} at step {k} and resumed, the run ends elsewhere")
        again = fresh(method, real, budget, at=at / "whole").states[0]
        require(whole == content(again), "a run with a folder differs from one without")


class Crash(Silent):
    """Progress that dies when step k is saved."""

    def __init__(self, k: int) -> None:
        self.k, self.done = k, 0

    def advance(self, n: int = 1, **facts: float) -> None:
        """Counts the steps; at the k-th something breaks."""
        self.done += n
        if self.done == self.k:
            self.act()

    def act(self) -> None:
        """What happens then."""
        raise Crashed


class Crashed(Exception):
    """An accident."""


class Signal(Crash):
    """Progress at whose k-th step the process is asked to stop."""

    def act(self) -> None:
        """As from outside; signals reach the main thread alone."""
        if threading.current_thread() is not threading.main_thread():
            raise Crashed
        signal.raise_signal(signal.SIGTERM)


def _stopped(method: Method, real: RealSet, budget: Budget, at: Path, progress: Crash) -> None:
    try:
        fresh(method, real, budget, at=at, progress=progress, save_every=0)
    except (Crashed, Interrupted):
        return
    raise AssertionError(f"the run went past step {progress.k} though it was stopped there")


def exact_budget(method: Method) -> None:
    """As many rows as asked for, in all and of every class."""
    for budget in BUDGETS:
        real = toy()
        labels = done(method, real, budget).labels
        wanted = budget.counts(real.sizes, example_bytes=real.example_bytes)
        require(len(labels) == sum(wanted), f"{budget} asks for {sum(wanted)} rows but {len(labels)} were kept")
        found = labels.bincount(minlength=real.n_classes).tolist()
        if getattr(method, "balanced", True):
            require(found == wanted, f"{budget} asks for {wanted} rows of the classes but {found} were kept")


def labels_and_weights(method: Method) -> None:
    """Labels are classes, weights finite and not negative, and everything has M rows."""
    for budget in BUDGETS:
        real = toy()
        kept = done(method, real, budget)
        rows, m = kept.rows, len(kept.rows)
        require(kept.labels.dtype == torch.int64, f"labels are {kept.labels.dtype} instead of int64")
        good = bool(((kept.labels >= 0) & (kept.labels < real.n_classes)).all())
        require(good, f"a label of {budget} is outside 0..{real.n_classes - 1}")
        if rows.weight is not None:
            fine = bool((torch.isfinite(rows.weight) & (rows.weight >= 0)).all()) and float(rows.weight.sum()) > 0
            require(fine, f"a weight of {budget} is negative or not finite, or all are 0")
            require(rows.weight.shape == (m,), f"{m} rows have weights of shape {list(rows.weight.shape)}")
        for name, value in {**rows.columns, **rows.extra}.items():
            require(len(value) == m, f"'{name}' has {len(value)} values for {m} rows")
            finite = not value.is_floating_point() or bool(torch.isfinite(value).all())
            require(finite, f"'{name}' holds a value that is not finite")
        if rows.picked is None:
            _images(rows.columns["image"], m, real)
        if rows.stored:
            _stored(rows, len(kept.labels), real)


def _stored(rows: Rows, asked: int, real: RealSet) -> None:
    """What rows were decoded from takes no more bytes than the images that the budget counts, and is not more than they are."""
    if "image" in rows.stored:
        _images(rows.stored["image"], asked, real)
    used = sum(v.nbytes for k, v in rows.stored.items() if k != "label")
    require(used <= 4 * asked * real.example_bytes, f"{used} bytes are stored where {asked} images are asked for")
    require(len(rows) >= asked, f"{len(rows)} rows were decoded from the bytes of more, {asked}")


def _images(image: torch.Tensor, n: int, real: RealSet) -> None:
    require(image.shape == (n, *real.shape), f"images have the shape {list(image.shape)}, not {[n, *real.shape]}")
    require(bool(torch.isfinite(image).all()), "an image holds a value that is not finite")


def rows_are_source_rows(method: Method) -> None:
    """Every selected row is its source row, and none is there twice."""
    for budget in BUDGETS:
        real = toy()
        rows = done(method, real, budget).rows
        if rows.picked is None or real.images is None:
            raise AssertionError("a selector must give the positions of its picks")
        picked = rows.picked.tolist()
        require(len(set(picked)) == len(picked), f"{budget} holds an example twice")
        kept = condense(rows, real, kind="subset", lineage=[])
        source = real.images[real.rows[rows.picked]]
        require(kept.bytes8 is not None and torch.equal(kept.bytes8, source), "a picture differs from its source")
        require(kept.table["source_id"].to_pylist() == real.ids[rows.picked].tolist(), "a source id is wrong")
        for name in real.table.column_names:
            theirs = [real.table[name][i].as_py() for i in picked]
            require(kept.table[name].to_pylist() == theirs, f"the column '{name}' differs from its source")


def several_budgets(method: Method) -> None:
    """Two budgets in one run give what two runs give, to the bit."""
    real, budgets = toy(), (Budget(ipc=1), Budget(ipc=2))
    together = fresh(method, real, *budgets).states
    for budget, state in zip(budgets, together):
        alone = done(method, real, budget).state
        require(content(alone) == content(state), f"{budget} beside another budget differs from {budget} alone")


def order_of_rows(method: Method) -> None:
    """A selector that never asks for randomness picks the same examples of a set in another order."""
    real = toy()
    order = torch.randperm(len(real), generator=Seeds(1).generator("order"))
    turned = real.subset(order)
    for budget in BUDGETS:
        if uses_chance(method, real, budget):
            return
        ours, theirs = (r.ids[done(method, r, budget).rows.picked].tolist() for r in (real, turned))
        require(ours == theirs, f"{budget} of the same examples in another order holds other examples")


def finish_twice(method: Method) -> None:
    """``finish`` gives the same rows again and leaves the state as it is."""
    kept = done(method, toy(), Budget(ipc=2))
    state = {k: v.clone() for k, v in kept.state.items()}
    res: Resources = resources(method, toy())
    first = rows_content(method.finish(state, res))
    require(content(state) == content(kept.state), "finish changes the state")
    require(first == rows_content(method.finish(state, res)), "finish gives other rows the second time")
    require(first == rows_content(kept.rows), "finish gives other rows for an equal state")
