"""What a small set can be made of, on one page, and how a method asks for it: ``pixels``, ``tiles:factor=3``, ...

A method has a field ``params`` and learns whatever tensors that names; its loss sees the images that they are decoded to::

    first(self.params, real, budget, seeds, kind=self.start)            # State: tensors, `label` of the decoded images
    made_of(self.params).learn(Opt(lr=self.lr_img))                     # which of them move
    images(self.params, state)                                          # [M, C, H, W], differentiable, compiles
    rows(self.params, state, recipe)                                    # what finish returns

A budget counts bytes: the stored tensors of a set take at most those of the pixel images (float32) that the budget names, so
that ``ipc=10`` compares sets of equal storage. Numbers of images that are decoded from them differ. Learned labels (DATM, TESLA's
teacher) are beside the budget, K floats for every decoded image, and stand as ``bytes_labels`` in the manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from attar.budget import Budget
from attar.errors import UsageError, nearest
from attar.method import Rows, State
from attar.optim import Opt
from attar.params.bases import Bases
from attar.params.frequency import Frequency
from attar.params.memory import Memory
from attar.params.pixels import Pixels
from attar.params.tiles import Tiles
from attar.real.realset import RealSet
from attar.seeds import Seeds
from attar.spec import given, settings_of


class Params(Protocol):
    """What a small set is made of. S images are asked for, M are decoded."""

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, *, kind: str) -> State:
        """The first tensors, ``label`` int64 [M] among them and, where images are decoded, ``asked`` int64 [S].

        Args:
            kind: ``real`` or ``noise``.
        """
        ...

    def learn(self, opt: Opt) -> dict[str, Opt]:
        """The tensors that are learned, given how the method moves images."""
        ...

    def decode(self, state: State) -> torch.Tensor:
        """The images that the tensors stand for: [M, C, H, W], in the order of ``label``."""
        ...

    def stored(self, state: State) -> State:
        """The tensors that must be kept to decode them again; empty where images are kept themselves."""
        ...

    def counts(self, shape: tuple[int, int, int], asked: Sequence[int]) -> list[int]:
        """Decoded images of every class: K numbers.

        Args:
            shape: (C, H, W). asked: pixel images of every class whose bytes may be used.

        Raises:
            UsageError: a budget that is too small.
        """
        ...


TABLE: dict[str, tuple[type[Params], str]] = {
    "pixels": (Pixels, "images as they are"),
    "tiles": (Tiles, "factor x factor small pictures in every stored image, enlarged (IDC, IDM)"),
    "frequency": (Frequency, "the amplitudes of the frequencies in which a class varies most (FreD)"),
    "bases": (Bases, "bases of every class and small networks shared by all; each pair is an image (HaBa)"),
    "memory": (
        Memory,
        "small bases shared by all classes, and for every image an address that mixes them (Remember the Past)",
    ),
}
"""Name -> class and one line; the fields of the class are the settings of a spec string."""


def made_of(spec: str) -> Params:
    """What ``spec`` names: a name of :data:`TABLE` with settings, as ``tiles:factor=3``.

    Raises:
        UsageError: an unknown name, setting or value.
    """
    if spec not in _MADE:  # a plain dictionary, because a compiled caller can look through it
        _MADE[spec] = _made(spec)
    return _MADE[spec]


_MADE: dict[str, Params] = {}


def first(spec: str, real: RealSet, budget: Budget, seeds: Seeds, *, kind: str) -> State:
    """The first tensors of a set; not rounded to half precision where networks compute in it."""
    with torch.autocast(torch.device(real.device).type, enabled=False):
        return made_of(spec).init(real, budget, seeds, kind=kind)


def images(spec: str, state: State) -> torch.Tensor:
    """The images of a state, [M, C, H, W]; not rounded to half precision where networks compute in it."""
    with torch.autocast(state["label"].device.type, enabled=False):
        return made_of(spec).decode(state)


def rows(spec: str, state: State, recipe: dict[str, Any]) -> Rows:
    """What a run ends with: the decoded images, their labels, and the tensors that they can be decoded from."""
    columns = {"image": images(spec, state), "label": state["label"]}
    stored = made_of(spec).stored(state)
    if not stored:
        return Rows(columns=columns, recipe=recipe)
    return Rows(columns=columns, stored={**stored, "label": state["asked"]}, recipe={**recipe, "params": spec})


def asked(state: State, classes: int) -> float:
    """How many images per class the budget of a state asked for, on the average: of the stored ones, where it decodes more."""
    return len(state.get("asked", state["label"])) / classes


def largest(state: State) -> int:
    """The most images of a class that the budget of a state asked for."""
    return int(torch.bincount(state.get("asked", state["label"])).max())


def expected(real: RealSet, budget: Budget) -> int:
    """The most images of a class that a budget asks for, for estimates."""
    return max(budget.counts(real.sizes, example_bytes=real.example_bytes, limited=False))


def decoded(spec: str, real: RealSet, budget: Budget) -> int:
    """How many images a budget is decoded to, for estimates.

    Raises:
        UsageError: a budget that is too small.
    """
    asked = budget.counts(real.sizes, example_bytes=real.example_bytes, limited=False)
    return sum(made_of(spec).counts(real.shape, asked))


def _made(spec: str) -> Params:
    name, *items = spec.split(":")
    if name not in TABLE:
        raise UsageError(f"a set cannot be made of '{name}'; {nearest(name, TABLE)}")
    kind = TABLE[name][0]
    return kind(**given(f"params '{name}'", settings_of(kind), items))
