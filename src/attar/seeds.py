"""Counted randomness: every random number is a pure function of (run seed, key).

Nothing random is carried from step to step, so a checkpoint holds no generator state: the step number is enough to
go on with the same bits. A key costs a few microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from attar import chance

Key = str | int


@dataclass(frozen=True)
class Seeds:
    """A place in the tree of random streams.

    Args:
        run: the run's seed.
        path: the keys from the root to here.

    Example:
        >>> Seeds(0).at("step", 3).number("net") == Seeds(0).number("step", 3, "net")
        True
    """

    run: int = 0
    path: tuple[Key, ...] = ()

    def at(self, *key: Key) -> Seeds:
        """The stream below this one under ``key``."""
        return Seeds(self.run, self.path + key)

    def number(self, *key: Key) -> int:
        """A number in [0, 2^63) that depends on the run seed and the whole path alone."""
        return chance.number(self.run, *self.path, *key)

    def generator(self, *key: Key, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh torch generator for ``key``."""
        return torch.Generator(device=device).manual_seed(self.number(*key))

    def numpy(self, *key: Key) -> np.random.Generator:
        """A fresh numpy generator for ``key``."""
        return np.random.default_rng(self.number(*key))

    @contextmanager
    def globally(self, *key: Key) -> Iterator[None]:
        """Seeds torch's global CPU generator for ``key`` and puts it back afterwards.

        For code that takes no generator, such as the initialisation of torch modules.
        """
        before = torch.default_generator.get_state()
        torch.default_generator.manual_seed(self.number(*key))
        try:
            yield
        finally:
            torch.default_generator.set_state(before)
