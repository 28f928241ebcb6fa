"""A resource: something costly that methods need and share, made by the same loop as a method and then cached.

Its fields are all that decides its content: the cache key is the hash of (fields, schema, real set, preprocessing), so a
setting that does not concern a resource must not be a field of it. Progress, saving and resume come from the loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.budget import Budget
from attar.method import Batch, Cost, Descend, Resources, State
from attar.optim import Opt
from attar.real.realset import RealSet
from attar.seeds import Seeds


@dataclass(frozen=True, kw_only=True)
class Resource:
    """The hooks of a :class:`~attar.method.Method`, but for ``finish``, which gives tensors instead of rows.

    Class attributes:
        name: the key under which methods find the tensors in ``res``.
        schema: raised whenever the code changes what is made from the same fields; older cached content is then not used.
        paper: authors, title, venue and year, where there is one.
        reads: state entries that ``draw`` may look at.
        grows: a setting of which more only adds to what is made, so that what was made with more of it serves as well.
        crowd: whether it comes in numbers that need none of each other; each is then made by one thread, as many at the same
            time as a run has threads.
    """

    name: ClassVar[str] = ""
    schema: ClassVar[int] = 1
    paper: ClassVar[str] = ""
    reads: ClassVar[tuple[str, ...]] = ()
    grows: ClassVar[str | None] = None
    crowd: ClassVar[bool] = False

    @property
    def own_seed(self) -> int | None:
        """The seed of its chance, where runs of all seeds share it; None for that of the run."""
        return None

    def length(self, real: RealSet) -> int:
        """Steps until it is made."""
        raise NotImplementedError(f"{type(self).__name__} has no length")

    def needs(self) -> tuple[Resource, ...]:
        """Resources that must exist first."""
        return ()

    def learned(self, state: State) -> dict[str, Opt]:
        """The learned tensors of the state, each with its optimiser."""
        return {}

    def init(self, real: RealSet, budget: Budget | None, seeds: Seeds, res: Resources) -> State:
        """The start; ``budget`` is None."""
        raise NotImplementedError(f"{type(self).__name__} has no init")

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        """Everything of a step that does not depend on the state; a pure function of (seed, step)."""
        return {}

    def loss(self, state: State, batch: Batch) -> torch.Tensor:
        """A scalar of tensors, where something is learned."""
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        """One update."""
        return descend(state, self.loss, batch)

    def finish(self, state: State, res: Resources) -> State:
        """What is kept and cached."""
        raise NotImplementedError(f"{type(self).__name__} has no finish")

    def cost(self, real: RealSet, budget: Budget | None = None) -> Cost:
        """An estimate for ``--dry-run`` and for the refusal of what cannot fit."""
        return Cost()


def needed(*roots: Any) -> tuple[Any, ...]:
    """What some methods or resources need, each once, in an order in which it can be built.

    Args:
        roots: anything with ``needs``.

    Returns:
        Resources, every one after those that it needs itself.
    """
    order: dict[Any, None] = {}
    for root in roots:
        for resource in root.needs():
            order |= dict.fromkeys((*needed(resource), resource))
    return tuple(order)
