"""RealSet: the large dataset as named typed columns, immutable, with stable ids."""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from attar.errors import UsageError
from attar.real.whitening import Whitening


@dataclass(frozen=True, eq=False, kw_only=True)
class RealSet:
    """N real examples. Two ways in, with the same ids: :meth:`draw` (random access) and :meth:`blocks` (streaming).

    Args:
        name: short name of the source.
        task: ``image-classification``; ``detection`` has the column ``objects`` (:mod:`attar.real.objects`) and no ``label``.
        table: N rows of every column but ``image``; ``label`` is int64 where there are classes.
        images: uint8 [N0, C, H, W], decoded, often memory-mapped; None where the set has no image column.
        rows: int64 [N], the position in ``images`` of each example.
        ids: int64 [N], the position of each example in the unshuffled source.
        class_names: K names.
        mean, std: C numbers each, of pixels scaled to [0, 1]; they define the normalised space.
        whitening: of the training split's pixels; where there is one, it defines the normalised space and mean is 0, std 1.
        source: where it came from: reader, path, resize policy, split, notes.
        fingerprint: hash of names, ids, pixels and columns.
    """

    name: str
    task: str = "image-classification"
    table: pa.Table
    images: torch.Tensor | None
    rows: torch.Tensor
    ids: torch.Tensor
    class_names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    whitening: Whitening | None = None
    source: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def __getstate__(self) -> dict[str, Any]:
        """Its fields, pixels as an array: pickled apart (protocol 5), processes can share them and none copies them."""
        state = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return state if self.images is None else {**state, "images": self.images.numpy(force=True)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        images = state["images"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of pixels that cannot be written to, as nobody does
            self.__dict__.update(state, images=None if images is None else torch.from_numpy(images))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        assert self.images is not None, "this set has no image column"
        c, h, w = self.images.shape[1:]
        return c, h, w

    @property
    def device(self) -> torch.device:
        """Where the pixels are."""
        return self.images.device if self.images is not None else torch.device("cpu")

    @property
    def n_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def example_bytes(self) -> int:
        """Raw 8-bit bytes of one image."""
        return int(np.prod(self.shape))

    @property
    def labelled(self) -> bool:
        """Whether every example has one class."""
        return "label" in self.table.column_names

    @cached_property
    def labels(self) -> torch.Tensor:
        """int64 [N].

        Raises:
            UsageError: the examples of this task have no one class.
        """
        if not self.labelled and self.task == "image-classification":
            raise UsageError(
                f"{self.name} has no classes, which this work needs; give labels, or select by a method that needs none, as "
                "kcenter or herding of pixels or of random features"
            )
        if not self.labelled:
            raise UsageError(
                f"{self.name} is a set for {self.task}, whose examples have no one class each, which this work needs; "
                "use a method for such sets, as csod for detection"
            )
        return torch.from_numpy(self.table["label"].to_numpy().astype(np.int64))

    @cached_property
    def classes(self) -> tuple[torch.Tensor, ...]:
        """K tensors of int64 positions, each sorted; none where examples have no one class."""
        if not self.labelled:
            return ()
        return tuple(torch.nonzero(self.labels == k).flatten() for k in range(self.n_classes))

    @property
    def sizes(self) -> list[int]:
        """Examples per class; empty where examples have no one class."""
        return [len(c) for c in self.classes]

    def raw(self, index: torch.Tensor) -> torch.Tensor:
        """The stored pixels of some examples: int64 [B] -> uint8 [B, C, H, W]."""
        assert self.images is not None, "this set has no image column"
        return self.images[self.rows.to(self.images.device)[index.to(self.images.device)]]

    def draw(self, index: torch.Tensor) -> torch.Tensor:
        """Some examples in the normalised space: int64 [B] -> float32 [B, C, H, W]."""
        return self.normalise(self.raw(index).to(torch.float32).div_(255))

    def blocks(self, size: int = 4096) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Streams (ids [B], raw uint8 [B, C, H, W]) in the order of the set."""
        for start in range(0, len(self), size):
            index = torch.arange(start, min(start + size, len(self)))
            yield self.ids[index], self.raw(index)

    def sample(self, per_class: int, generator: torch.Generator) -> torch.Tensor:
        """Positions of random examples of every class: int64 [K, per_class].

        Without replacement inside a class that has enough, else with replacement.
        """
        picks = []
        for members in self.classes:
            n = len(members)
            some = (
                torch.randperm(n, generator=generator)[:per_class]
                if n >= per_class
                else torch.randint(n, (per_class,), generator=generator)
            )
            picks.append(members[some])
        return torch.stack(picks)

    def normalise(self, x: torch.Tensor) -> torch.Tensor:
        """Pixels in [0, 1] -> the normalised space; [..., C, H, W]."""
        if self.whitening is not None:
            return self.whitening.apply(x)
        return (x - _per_channel(self.mean, x)) / _per_channel(self.std, x)

    def pixels(self, x: torch.Tensor) -> torch.Tensor:
        """The normalised space -> pixels, not clamped; [..., C, H, W]."""
        if self.whitening is not None:
            return self.whitening.undo(x)
        return x * _per_channel(self.std, x) + _per_channel(self.mean, x)

    @property
    def space(self) -> list[Any]:
        """What tells the normalised space from others, as JSON; part of the identity of all that is computed in it."""
        return [list(self.mean), list(self.std)] + ([self.whitening.digest] if self.whitening else [])

    def channels(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of every channel, float32 [C, 1, 1] each, for those who normalise pixels by themselves.

        Raises:
            UsageError: the images are whitened, which no numbers of single channels can do.
        """
        if self.whitening is not None:
            raise UsageError(
                f"the images of {self.name} are whitened (zca) and cannot be normalised channel by channel, as this method does; "
                "leave zca out, or take a method that learns in the normalised space, as mtt or dm"
            )
        mean, std = (torch.tensor(v, dtype=torch.float32)[:, None, None] for v in (self.mean, self.std))
        return mean, std

    def subset(self, index: torch.Tensor, **changes: Any) -> RealSet:
        """The examples at ``index`` (int64 [n]), with their ids; pixels are shared."""
        part = dataclasses.replace(
            self,
            table=self.table.take(pa.array(index.numpy())),
            rows=self.rows[index],
            ids=self.ids[index],
            **changes,
        )
        return dataclasses.replace(part, fingerprint=_derived(self.fingerprint, part.ids))

    def on(self, device: torch.device | str) -> RealSet:
        """The same set with its pixels on ``device``."""
        if self.images is None or self.images.device == torch.device(device):
            return self
        whitening = self.whitening.on(device) if self.whitening else None
        return dataclasses.replace(self, images=self.images.to(device), whitening=whitening)

    def normalised_as(self, other: RealSet) -> RealSet:
        """The same set in the normalised space of ``other`` (a test split in that of its training split)."""
        return dataclasses.replace(self, mean=other.mean, std=other.std, whitening=other.whitening)

    def whitened(self, whitening: Whitening) -> RealSet:
        """The same set in a whitened space, fitted on its training split, in place of the channels' mean and deviation."""
        c = self.shape[0]
        return dataclasses.replace(self, mean=(0.0,) * c, std=(1.0,) * c, whitening=whitening)


@dataclass(eq=False, kw_only=True)
class Splits:
    """A training split, and a test and an optional validation split that are opened when first asked for.

    Args:
        train: the real set.
        open_val: reads the validation split; None where the source has none.
        open_test: reads the test split. Each is called once.
        notes: sentences to print (a held-out split, skipped files).
        held_out: whether the test split is a part of what the source gave for training.
    """

    train: RealSet
    open_val: Callable[[], RealSet] | None = None
    open_test: Callable[[], RealSet]
    notes: tuple[str, ...] = ()
    held_out: bool = False

    @cached_property
    def val(self) -> RealSet | None:
        """The validation split, in the normalised space of the training split; None where the source has none."""
        return None if self.open_val is None else self.open_val().normalised_as(self.train)

    @cached_property
    def test(self) -> RealSet:
        """The test split, in the normalised space of the training split."""
        return self.open_test().normalised_as(self.train)


def fingerprint(images: torch.Tensor | None, table: pa.Table, class_names: Sequence[str]) -> str:
    """Hash of pixels, columns and class names: 32 hexadecimal digits."""
    h = hashlib.blake2b(digest_size=16)
    if images is not None:
        h.update(repr(tuple(images.shape)).encode())
        for start in range(0, len(images), 4096):
            h.update(images[start : start + 4096].contiguous().numpy().data)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema.remove_metadata()) as writer:
        writer.write_table(table.replace_schema_metadata(None).combine_chunks(), max_chunksize=1 << 20)
    h.update(memoryview(sink.getvalue()))
    h.update(repr(tuple(class_names)).encode())
    return h.hexdigest()


def _derived(parent: str, ids: torch.Tensor) -> str:
    return hashlib.blake2b(parent.encode() + ids.numpy().tobytes(), digest_size=16).hexdigest()


def _per_channel(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]
