"""The one abstraction: a method is a frozen dataclass of the paper's settings with six hooks.

The loop (:mod:`attar.run`) builds what ``needs`` names, calls ``init``, then for every step ``draw`` and ``step``, and at the
end ``finish``. Copy :mod:`attar.distill.dm`, change the loss, run :func:`attar.testing.check_method`: that is a new method.

Shape letters everywhere: N real examples, M kept examples, K classes, B batch, C H W image, D features, T time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch

from attar.budget import Budget
from attar.errors import UsageError
from attar.optim import Opt
from attar.seeds import Seeds

if TYPE_CHECKING:
    from attar.real.realset import RealSet

State = dict[str, torch.Tensor]
"""Everything that a run carries from step to step; names, shapes and dtypes are fixed by ``init``."""

Batch = dict[str, Any]
"""What a step needs that does not depend on the state: a tree of tensors, plus plain numbers and Seeds for ``step``."""

Loss = Callable[[State, Batch], torch.Tensor]


class Descend(Protocol):
    """One optimiser update of the learned tensors; handed to ``step`` by the loop."""

    def __call__(self, state: State, loss: Loss, batch: Batch, only: tuple[str, ...] = ()) -> State: ...


class Task(Protocol):
    """What the loop can run: a :class:`Method`, or a resource (:mod:`attar.resources`)."""

    def learned(self, state: State) -> dict[str, Opt]: ...
    def length(self, real: RealSet) -> int: ...
    def init(self, real: RealSet, budget: Any, seeds: Seeds, res: Resources) -> State: ...
    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch: ...
    def step(self, state: State, batch: Batch, descend: Descend) -> State: ...


@dataclass(frozen=True)
class Rows:
    """What a method kept.

    Args:
        columns: name -> values of length M. ``image``: float32 [M, C, H, W] in the normalised space of the real set.
            ``label``: int64 [M]. A selection takes all columns of its source rows, and names here what it found out itself: a
            ``label`` that a person gave.
        picked: int64 [M] positions in the real set, in pick order, for a selection.
        weight: float32 [M], >= 0.
        recipe: how to train on the rows (protocol, augment, learned learning rate ...).
        extra: further tensors of length M to keep (``gain`` of each pick, ``soft_label`` [M, K] ...).
        judged: of a selection, what it knew of all N examples: ``score`` (high = keep), the signals that the score came from,
            places in a map. Float [N] each, by name; NaN where it is not known. They are kept as ``scores.parquet``.
        stored: where the columns were decoded from less (:mod:`attar.params`), that less, whose bytes the budget counts:
            ``image`` float32 [S, C, H, W] in the normalised space, or tensors of other names; and ``label`` int64 [S], the
            classes of the images that the budget asked for. Else empty.
        class_names: of a selection's own ``label``, where they are others than those of the real set.
    """

    columns: dict[str, torch.Tensor] = field(default_factory=dict)
    picked: torch.Tensor | None = None
    weight: torch.Tensor | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, torch.Tensor] = field(default_factory=dict)
    judged: dict[str, torch.Tensor] = field(default_factory=dict)
    stored: dict[str, torch.Tensor] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        kept = self.picked if self.picked is not None else next(iter(self.columns.values()))
        return len(kept)


@dataclass(frozen=True)
class Cost:
    """An estimate made before the work: multiply-adds times two of one step, and peak memory in bytes."""

    flops_per_step: float = 0.0
    memory: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Method:
    """Settings and six hooks. Subclasses are frozen dataclasses whose fields are the paper's settings.

    Class attributes:
        paper: authors, title, venue and year.
        modalities: the kinds of data it takes.
        kind: ``"select"`` (keeps real rows) or ``"distill"`` (learns synthetic ones).
        separable: "class" or "chunk" where parts can be run apart, else None.
        reads: state entries that ``draw`` may look at; most methods: none.
        comparable: whether losses of different steps can be compared, so that a run which ends by the clock hands over the
            images of the lowest average loss; else the last ones.
        by_channel: whether it keeps pixels and normalises them by mean and deviation of their channels, as whitened images
            cannot be.
        quick: settings of a short schedule for two CPU cores, taken in place of the paper's where ``--quick`` asks for it.
        presets: settings of the authors by data set and images per class, as ``cifar10-10``, where they differ from the
            defaults; taken where ``--preset`` names one. ``ipc`` and ``zca`` may stand among them.

    A setting named ``balanced`` says whether the budget is divided evenly over the classes; without one it is.
    """

    steps = 0  # not annotated: a setting of those methods alone that declare it, as ``steps: int = 1000``
    "Updates of the kept examples; 0 for a selector that does all in init."

    paper: ClassVar[str] = ""
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "distill"
    separable: ClassVar[str | None] = None
    reads: ClassVar[tuple[str, ...]] = ()
    comparable: ClassVar[bool] = True
    by_channel: ClassVar[bool] = False
    quick: ClassVar[Mapping[str, Any]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @property
    def learn(self) -> dict[str, Opt]:
        """The learned tensors of the state, each with its optimiser."""
        return {}

    def learned(self, state: State) -> dict[str, Opt]:
        """``learn`` for a given state, where the names depend on it (network weights)."""
        return self.learn

    def length(self, real: RealSet) -> int:
        """Steps of the whole run."""
        return self.steps

    def needs(self) -> tuple[Any, ...]:
        """Resources that must exist first (:mod:`attar.resources`)."""
        return ()

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """The start."""
        raise NotImplementedError(f"{type(self).__name__} has no init")

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        """Everything of a step that does not depend on the state; a pure function of (seed, step).

        ``seeds`` is already at this step.
        """
        return {}

    def loss(self, state: State, batch: Batch) -> torch.Tensor:
        """A scalar of tensors: no generator, no input or output, no branch on data."""
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        """One update; alternating schemes call ``descend`` several times."""
        return descend(state, self.loss, batch)

    def finish(self, state: State, res: Resources) -> Rows:
        """Decodes the state to rows."""
        raise NotImplementedError(f"{type(self).__name__} has no finish")

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """An estimate for ``--dry-run`` and for the refusal of what cannot fit."""
        return Cost()


def positive(**settings: float | None) -> None:
    """Refuses settings that must be more than 0; None (left to the method) passes.

    Raises:
        UsageError: names the setting and its value.

    Example:
        >>> positive(batch=256, lr_img=0.1, outer=None)
    """
    for name, value in settings.items():
        if value is not None and not 0 < value < math.inf:  # not <=: NaN too
            expected = "a whole number of at least 1" if isinstance(value, int) else "a positive number"
            raise UsageError(f"{name}={value} must be {expected}")


def tabled(columns: str, rows: Mapping[str, Sequence[Any]], **common: Any) -> dict[str, dict[str, Any]]:
    """Presets written as a paper's table: the names of the settings once, a row of their values for each preset, what all share.

    Example:
        >>> tabled("ipc lr_img", {"cifar10-1": (1, 100.0), "cifar10-50": (50, 1000.0)})["cifar10-50"]
        {'ipc': 50, 'lr_img': 1000.0}
    """
    return {name: {**dict(zip(columns.split(), row, strict=True)), **common} for name, row in rows.items()}


GREY_AND_CIFAR = ("mnist", "fashion-mnist", "svhn", "cifar10", "cifar100")
"""What gradient matching was published on."""


def repeated(data: Sequence[str], by_ipc: Mapping[int, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Presets that are the same for several data sets, by images per class.

    Example:
        >>> repeated(("mnist", "cifar10"), {1: {}, 10: {"steps": 10_000}})["cifar10-10"]
        {'ipc': 10, 'steps': 10000}
    """
    return {f"{name}-{ipc}": {"ipc": ipc, **settings} for name in data for ipc, settings in by_ipc.items()}


Resources = Mapping[str, State]
"""Built resources by name: each is a dictionary of tensors."""
