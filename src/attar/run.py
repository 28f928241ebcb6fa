"""The one loop: it builds or loads the states, steps, saves, resumes and stops. It knows no method.

The contract: kill it at any instant, call it again with the same arguments, get the same bits on the same CPU, because
(1) a state is nothing but tensors, saved whole or not at all, (2) every random number is a function of (run seed, step), and
(3) what could change the arithmetic (threads, precision, compiling) is decided once and kept with the state.
Not promised: equal bits after ``minutes`` ended a run (its length is then a matter of speed), or across processors.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from attar.budget import Budget
from attar.errors import AttarError, Interrupted, Waiting
from attar.execute import best, memory
from attar.execute.checkpoint import Checkpoint
from attar.execute.compile import fast
from attar.execute.log import Log
from attar.execute.plan import Plan
from attar.execute.progress import Progress, Silent
from attar.execute.signals import Stop, caught
from attar.method import Batch, Loss, Resources, State, Task
from attar.real.realset import RealSet
from attar.seeds import Seeds

TICK = 10
"""Steps between two looks at the losses: finiteness, progress, log."""


@dataclass
class Outcome:
    """What a run gave.

    Args:
        states: one per budget.
        steps: steps done.
        seconds: time spent in steps, over all processes that shared the run.
        peak_memory: bytes, the largest of all these processes.
        log: JSON lines of step, seconds and losses.
    """

    states: list[State]
    steps: int
    seconds: float
    peak_memory: int
    log: bytes


@dataclass
class Descent:
    """The ``descend`` handed to a method's step; it collects the losses.

    Args:
        task: whose learned tensors move.
        total: steps of the run, for schedules.
        done: steps done before the one at work.
        losses: (step, scalar) since the last tick, one list per budget.
        current: which budget's state is at work.
    """

    task: Task
    total: int
    done: int = 0
    losses: list[list[tuple[int, torch.Tensor]]] = field(default_factory=list)
    current: int = 0

    def __call__(self, state: State, loss: Loss, batch: Batch, only: tuple[str, ...] = ()) -> State:
        """One update of the learned tensors (or of those in ``only``) along the gradient of ``loss(state, batch)``.

        Where nothing is learned here, the loss is told all the same: that of networks which a step trains itself.
        """
        opts = {k: o for k, o in self.task.learned(state).items() if not only or k in only}
        leaves = {k: state[k].detach().requires_grad_() for k in opts}
        value = fast(loss)({**state, **leaves}, tensors_of(batch))
        grads = torch.autograd.grad(value, list(leaves.values())) if leaves else ()
        for (name, opt), grad in zip(opts.items(), grads):
            opt.update(state, name, grad.to(state[name].dtype), self.done / max(1, self.total))
        self.losses[self.current].append((self.done + 1, value.detach()))
        return state


def tensors_of(batch: Batch) -> Batch:
    """The tensors of a batch, its dictionaries too: what a loss may see."""
    return {
        k: tensors_of(v) if isinstance(v, dict) else v for k, v in batch.items() if isinstance(v, (dict, torch.Tensor))
    }


def run(
    task: Task,
    real: RealSet,
    budgets: Sequence[Budget | None],
    *,
    seed: int,
    plan: Plan,
    res: Resources | None = None,
    folder: Path | None = None,
    identity: dict[str, Any] | None = None,
    progress: Progress | None = None,
    label: str = "",
    save_every: float = 30.0,
    minutes: float | None = None,
) -> Outcome:
    """Runs a method (or a resource) to its end, for several budgets over one stream of draws.

    Args:
        task: the hooks.
        real: the real set.
        budgets: how much to keep, one state each.
        seed: the run's seed.
        plan: how to compute.
        res: built resources by name.
        folder: where the state is saved; None keeps nothing.
        identity: what makes this run this run; a folder with another identity is refused.
        progress: where progress is shown.
        label: what progress calls the work.
        save_every: seconds between two saves.
        minutes: stop after this much time at the best state by then, or the last where losses do not compare.

    Returns:
        The final states.

    Raises:
        Interrupted: a signal came; the state is saved.
        Waiting: a step waits for a person; the state before it is saved.
        AttarError: a loss or a learned tensor is not finite.
    """
    seeds, res, progress = Seeds(seed), res or {}, progress or Silent()
    store = Checkpoint(folder) if folder is not None else None
    if store is not None:
        store.claim({**(identity or {}), "plan": plan.facts()})
    with plan.applied(), caught() as stop:
        real = real.on(plan.device)
        found = store.latest() if store else None
        step, states, facts = found or (0, _start(task, real, budgets, seeds, res, minutes is not None), {})
        states = [{k: s[k].to(plan.device) for k in sorted(s)} for s in states]  # new or read back: in one order
        share = _Share(task, real, seeds, res, states, step, facts, stop, store, Log(folder, step), save_every, minutes)
        progress.start(label, share.total, step)
        try:
            share.go(progress)
        finally:
            progress.stop()
        return share.outcome()


def _start(
    task: Task, real: RealSet, budgets: Sequence[Budget | None], seeds: Seeds, res: Resources, timed: bool
) -> list[State]:
    states = []
    for budget in budgets:
        torch.default_generator.manual_seed(seeds.number("init", "global"))
        state = task.init(real, budget, seeds.at("init"), res)
        learned = task.learned(state)
        for name, opt in learned.items():
            state |= opt.slots(name, state[name])
        judged = timed and getattr(task, "comparable", True)
        states.append(best.watched(state, tuple(learned)) if judged else state)
    return states


@dataclass
class _Share:
    """One process's share of a run."""

    task: Task
    real: RealSet
    seeds: Seeds
    res: Resources
    states: list[State]
    step: int
    facts: dict[str, float]
    stop: Stop
    store: Checkpoint | None
    log: Log
    save_every: float
    minutes: float | None

    def __post_init__(self) -> None:
        self.total = self.task.length(self.real)
        self.began = self.saved = time.monotonic()
        self.descent = Descent(self.task, self.total, losses=[[] for _ in self.states])

    @property
    def seconds(self) -> float:
        return self.facts.get("seconds", 0.0) + time.monotonic() - self.began

    def go(self, progress: Progress) -> None:
        """Steps to the end, to the time limit or to a signal."""
        ticked = self.step
        while self.step < self.total and not self._out_of_time():
            try:
                self._one()
            except Waiting:
                self._tick()
                self._save()
                raise
            if self.step - ticked >= TICK or self.step == self.total:
                losses = self._tick()
                progress.advance(self.step - ticked, **({"loss": losses[-1]} if losses else {}))
                ticked = self.step
            if self.stop.signal:
                break
            if self.store is not None and time.monotonic() - self.saved >= self.save_every:
                self._tick()
                self._save()
                progress.advance(self.step - ticked)
                ticked = self.step
        self._tick()
        if self.stop.signal:
            self._interrupted()
        self._check_learned()

    def _one(self) -> None:
        here = self.seeds.at("step", self.step)
        torch.default_generator.manual_seed(here.number("global", "draw"))
        self.descent.done = self.step
        batch = self.task.draw(self.real, here, self.res, self.step)
        for i, state in enumerate(self.states):
            torch.default_generator.manual_seed(here.number("global", "step"))  # the same for each budget as alone
            self.descent.current = i
            self.states[i] = self.task.step(state, batch, self.descent)
        self.step += 1

    def _tick(self) -> list[float]:
        """Looks at the losses since the last tick; returns the newest of each budget."""
        means, newest = [], []
        for i, losses in enumerate(self.descent.losses):
            if losses:
                values = torch.stack([x.float() for _, x in losses]).cpu()
                self._check([step for step, _ in losses], values)
                means.append(float(values.mean()))
                newest.append(float(values[-1]))
                best.look(self.states[i], means[-1])
                losses.clear()
        if means:
            self.log.write(step=self.step, seconds=round(self.seconds, 3), loss=means)
        return newest

    def _check(self, steps: list[int], values: torch.Tensor) -> None:
        bad = torch.nonzero(~torch.isfinite(values)).flatten()
        if len(bad):
            first = int(bad[0])
            raise AttarError(
                f"the loss is {float(values[first])} at step {steps[first]} of {self.total}; the state saved before it "
                f"{'is kept in ' + str(self.store.folder) if self.store else 'was not kept'}; lower the learning rate"
            )

    def _check_learned(self) -> None:
        for state in self.states:
            for name in self.task.learned(state):
                if not torch.isfinite(state[name]).all():
                    raise AttarError(f"'{name}' is not finite after step {self.step}; lower the learning rate")

    def _save(self) -> None:
        if self.store is None:
            return
        self._check_learned()
        self.store.save(self.step, self.states, self._facts())
        self.saved = time.monotonic()

    def _facts(self) -> dict[str, float]:
        return {"seconds": self.seconds, "peak_memory": max(self.facts.get("peak_memory", 0), memory.peak())}

    def _out_of_time(self) -> bool:
        return self.minutes is not None and self.seconds >= 60 * self.minutes

    def _interrupted(self) -> None:
        """Saves and stops, after the last step too: whoever sent the signal wants no further work."""
        self._save()
        how = "nothing was saved, as there is no folder to save it in"
        if self.store is not None:
            how = f"the state is saved in {self.store.folder}; run the same command again to go on"
        raise Interrupted(f"stopped after step {self.step} of {self.total}; {how}", self.stop.signal)

    def outcome(self) -> Outcome:
        """The states as they are, or the best ones where the time was limited."""
        facts = self._facts()
        return Outcome(
            states=[best.chosen(s) for s in self.states],
            steps=self.step,
            seconds=facts["seconds"],
            peak_memory=int(facts["peak_memory"]),
            log=self.log.content(),
        )
