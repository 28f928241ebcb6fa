"""Checks of the hooks one by one: what is pure is pure, a state holds tensors alone, a loss can be learned."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attar.budget import Budget
from attar.method import Method, State
from attar.run import Descent, tensors_of
from attar.seeds import Seeds
from attar.testing.toys import toy
from attar.testing.trial import (
    Moment,
    cast,
    copied,
    difference,
    done,
    moment,
    require,
    resources,
)

TOLERANCE = 1e-3
"""Largest relative difference of a loss in float32 from the same loss in float64."""
COST_FACTORS = (0.5, 4.0)
"""Smallest and largest estimate of memory, as a multiple of the bytes that a step was measured to hold."""
FIRST = 8
"""Steps whose memory is measured, so that those are among them that come once in a while."""
DESCENTS = 20
"""Updates after which the loss of one fixed batch must be lower."""


def state_is_tensors(method: Method) -> None:
    """A state holds tensors without a graph; names, shapes and dtypes stay as ``init`` made them, whatever the precision."""
    made = moment(method)
    before = _layout(made.state)
    for steps, state in ((0, made.state), (method.length(made.real), done(method, toy(), Budget(ipc=2)).state)):
        for name, value in state.items():
            require(isinstance(value, torch.Tensor), f"'{name}' is {type(value).__name__} instead of a tensor")
            require(not value.requires_grad, f"'{name}' carries a graph after {steps} steps")
            require(value.to("cpu").shape == value.shape, f"'{name}' does not move")
        after = _layout(state)
        changed = _changed(before, after)
        require(
            changed is None, f"'{changed}' is {before.get(changed)} at first, {after.get(changed)} after {steps} steps"
        )
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        half = _layout(moment(method).state)
    changed = _changed(before, half)
    require(
        changed is None,
        f"init makes '{changed}' {half.get(changed)} and not {before.get(changed)} where networks run in half precision",
    )


def _layout(state: State) -> dict[Any, tuple[Any, ...]]:
    return {name: (tuple(value.shape), value.dtype) for name, value in state.items()}


def _changed(one: dict[Any, Any], other: dict[Any, Any]) -> Any:
    """The first name of which two layouts differ, None where they are equal."""
    return next((n for n in {**one, **other} if one.get(n) != other.get(n)), None)


def draw_is_pure(method: Method) -> None:
    """``draw`` gives the same batch again, in any order of steps, whatever the global generator holds."""
    real, res, seeds = toy(), resources(method, toy()), Seeds(0)
    before = copied(dict(res))

    def at(step: int) -> Any:
        return copied(method.draw(real, seeds.at("step", step), res, step))

    first = {step: at(step) for step in (0, 1, 2)}
    with seeds.globally("something else"):
        again = {step: at(step) for step in (2, 0, 1)}
    for step, batch in first.items():
        where = difference(batch, again[step])
        require(where is None, f"'{where}' of step {step} differs when it is drawn again")
    require(difference(before, dict(res)) is None, "draw changes a resource")


def loss_is_pure(method: Method) -> None:
    """The loss asks no generator, leaves state and batch as they are, and its gradient is finite and not all 0."""
    at = moment(method)
    state, batch = copied(at.state), copied(at.batch)
    generator = torch.default_generator.get_state()
    values = [method.loss(at.state, tensors_of(at.batch)) for _ in range(2)]
    require(torch.equal(generator, torch.default_generator.get_state()), "the loss uses the global generator")
    require(values[0].shape == (), f"the loss has the shape {list(values[0].shape)}; it must be a scalar")
    require(torch.equal(*values), f"the loss of one state and batch is {float(values[0])}, then {float(values[1])}")
    for name, old, new in (("state", state, at.state), ("batch", batch, at.batch)):
        where = difference(old, new)
        require(where is None, f"the loss changes '{where}' of the {name}")
    for name, grad in gradients(at).items():
        require(bool(torch.isfinite(grad).all()), f"the gradient of '{name}' is not finite")
        require(bool((grad != 0).any()), f"the gradient of '{name}' is 0 everywhere")


def gradients(at: Moment) -> State:
    """The gradient of the loss for every learned tensor that it reaches."""
    learned = {name: at.state[name].detach().clone().requires_grad_() for name in at.method.learned(at.state)}
    loss = at.method.loss({**at.state, **learned}, tensors_of(at.batch))
    grads = torch.autograd.grad(loss, list(learned.values()), allow_unused=True)
    return {name: grad for name, grad in zip(learned, grads) if grad is not None}


def float64_agrees(method: Method) -> None:
    """The loss of the same state and batch in float64 is the same number, and is not rounded to float32 on the way."""
    at = moment(method)
    narrow = method.loss(at.state, tensors_of(at.batch))
    state, batch = cast(at.state, torch.float64), cast(tensors_of(at.batch), torch.float64)
    wide = method.loss(state, batch)
    require(wide.dtype == torch.float64, f"the loss of float64 tensors is {wide.dtype}")
    gap = abs(float(narrow) - float(wide)) / max(1e-12, abs(float(wide)))
    require(gap < TOLERANCE, f"the loss is {float(narrow)} in float32 and {float(wide)} in float64")


def loss_decreases(method: Method) -> None:
    """Repeated steps on one fixed batch lower its loss."""
    at = moment(method)
    descent = Descent(method, DESCENTS, losses=[[]])
    state = at.state
    for descent.done in range(DESCENTS):
        with Seeds(0).globally("step"):
            state = method.step(state, copied(at.batch), descent)
    per_step: dict[int, float] = {}
    for step, value in descent.losses[0]:
        per_step[step] = per_step.get(step, 0.0) + float(value)
    first, last = per_step[1], per_step[DESCENTS]
    require(last < first, f"{DESCENTS} steps on one batch move its loss from {first:.6g} to {last:.6g}")


def cost_of_memory(method: Method) -> None:
    """``cost`` names floating-point work where there are steps, grows with the budget, and its memory is about right.

    Measured are the bytes of all tensors alive at once while the hooks work, the real set left out; a C++ kernel's own
    workspace is not seen.
    """
    real = toy((30, 30, 30), channels=3, size=(16, 16))
    budget = Budget(ipc=4)
    estimate = method.cost(real, budget)
    require(estimate.memory > 0, "cost() names no memory")
    require(estimate.flops_per_step > 0, "cost() names no floating-point operations")
    larger = method.cost(real, Budget(ipc=8))
    require(larger.memory >= estimate.memory, "cost() names less memory for a larger budget")
    require(larger.flops_per_step >= estimate.flops_per_step, "cost() names less work for a larger budget")
    measured = memory_of(method, real, budget)
    low, high = (f * measured for f in COST_FACTORS)
    require(
        low <= estimate.memory <= high,
        f"cost() names {estimate.memory:.0f} bytes but {measured} were held; {low:.0f} to {high:.0f} would be good",
    )


def memory_of(method: Method, real: Any, budget: Budget) -> int:
    """The most bytes of tensors that init, and then the first steps, hold at once beyond what was there before."""
    res = resources(method, real)
    with Seeds(0).globally("memory"), Alive() as alive:
        state = method.init(real, budget, Seeds(0).at("init"), res)
        if method.length(real):
            for name, opt in method.learned(state).items():
                state |= opt.slots(name, state[name])
        for step in range(min(method.length(real), FIRST)):
            batch = method.draw(real, Seeds(0).at("step", step), res, step)
            state = method.step(state, batch, Descent(method, 1, losses=[[]]))
            del batch
    return alive.most


class Alive(TorchDispatchMode):
    """Counts the bytes of the storages that operations inside the block made and that still live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operation and notes what it made."""
        given = {id(_memory(t)) for t in _tensors((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for t in _tensors(out):
            memory = _memory(t)
            if id(memory) not in self.known | given:
                size = t.numel() * t.element_size() if memory is t else memory.nbytes()
                self.known.add(id(memory))
                self.now += size
                weakref.finalize(memory, self._gone, id(memory), size)
        self.most = max(self.most, self.now)
        return out

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def _memory(t: torch.Tensor) -> Any:
    """What holds a tensor's numbers: its storage, or itself where oneDNN laid them out."""
    return t if t.is_mkldnn else t.untyped_storage()


def _tensors(value: Any) -> list[torch.Tensor]:
    return [x for x in tree_leaves(value) if isinstance(x, torch.Tensor)]
