"""The recorder of training dynamics, for a training loop of one's own.

>>> recorder = Recorder(2)
>>> recorder.update([0, 1], torch.tensor([[2.0, 0.0], [0.0, 1.0]]), [0, 0])
>>> recorder.end_epoch()
>>> recorder.finish()["correctness"].tolist()
[1.0, 0.0]
"""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attar.errors import DataError, UsageError
from attar.io import atomic
from attar.method import State
from attar.resources import recording

TOGETHER = 8192
"""Rows that are held at most until they are folded."""


class Recorder:
    """Statistics of every example over the epochs of a training.

    Call :meth:`update` with the logits of every batch and :meth:`end_epoch` after every epoch. Logits of the optimisation
    forward are free; those of a forward in evaluation mode of images that are not augmented are steadier and cost it. The
    scores differ, so say which you took.

    Args:
        examples: how many, with the ids 0 to n - 1; or their ids, unique.
        window: epochs of a window, for ``dyn_unc`` and ``dual``; 0 for none.
        classes: K, to compare distributions of successive epochs, for ``tdds``; then ``window`` is its window.
        chosen: epochs, from 1, whose EL2N is averaged; empty for all.
        worker: keep every epoch's facts until :meth:`merge`, about 40 bytes an example and epoch, and 4 for
            each of K classes: for one of several processes, none of which sees all examples.
    """

    def __init__(
        self,
        examples: int | Sequence[int] | torch.Tensor | np.ndarray,
        *,
        window: int = 0,
        classes: int = 0,
        chosen: Collection[int] = (),
        worker: bool = False,
    ) -> None:
        if isinstance(examples, int) and examples < 0:
            raise UsageError(f"examples={examples} is less than none; give how many there are, or their ids")
        self.ids = torch.arange(examples) if isinstance(examples, int) else whole(examples, "ids")
        self._sorted, self._order = self.ids.sort()
        if len(self.ids) > 1 and bool((self._sorted[1:] == self._sorted[:-1]).any()):
            twice = int(self._sorted[1:][self._sorted[1:] == self._sorted[:-1]][0])
            raise DataError(f"the id {twice} stands there twice; give every example an id of its own")
        least = 3 if classes else 2
        if (window and window < least) or (classes and not window):
            raise UsageError(f"window={window} is too short to have a spread; it must be at least {least}")
        if any(isinstance(e, bool) or not isinstance(e, int) or e < 1 for e in chosen):
            raise UsageError(f"chosen={sorted(map(str, chosen))} must be epochs, whole numbers from 1")
        self.window, self.classes, self.chosen, self.worker = window, classes, frozenset(chosen), worker
        self.epoch = 0
        self._state = recording.start(len(self.ids), window=window, classes=classes)
        self._journal: list[tuple[int, torch.Tensor, State]] = []
        self._held: list[tuple[torch.Tensor, State]] = []  # of this epoch, not yet in the state

    def update(self, ids: Any, logits: torch.Tensor, targets: Any) -> None:
        """One batch.

        Args:
            ids: [B] whole numbers. logits: [B, K], of any precision and device. targets: [B] whole numbers in 0..K - 1.

        Raises:
            DataError: an id that is unknown, a target that is no class, or a logit that is NaN or infinite.
        """
        ids, targets, logits = whole(ids, "ids"), whole(targets, "targets"), logits.detach().cpu()
        k = self.classes or (logits.shape[1] if logits.ndim == 2 else 0)
        if logits.ndim != 2 or logits.shape != (len(ids), k) or len(targets) != len(ids) or k < 2:
            raise DataError(
                f"logits of shape {list(logits.shape)} beside {len(ids)} ids and {len(targets)} targets; expected one row "
                f"of {self.classes or 'two or more'} classes for each id"
            )
        rows = self._rows(ids)
        self._check(ids, logits, targets)
        new = recording.facts(logits, targets, distribution=bool(self.classes))
        if self.worker:
            self._journal.append((self.epoch, rows, new))
        else:
            self._take(rows, new)

    def end_epoch(self) -> None:
        """The next update belongs to the next epoch."""
        self._fold()
        self.epoch += 1

    def finish(self) -> State:
        """The signals of :func:`attar.resources.recording.signals`, [N] each, in the order of the ids.

        Raises:
            UsageError: one of several workers, which must be merged first.
            DataError: an example that was not seen, or not often enough for the window.
        """
        if self.worker:
            raise UsageError("this recorder is one of several workers; call Recorder.merge with all of them")
        self._fold()
        return recording.signals(self._state)

    def save(self, path: str | Path) -> None:
        """Writes the signals with their ids as .npz, which ``--signals`` of a selector reads."""
        if Path(path).suffix != ".npz":
            raise UsageError(f"{path} must end in .npz")
        content = io.BytesIO()
        arrays: dict[str, Any] = {"id": self.ids.numpy()} | {k: v.numpy() for k, v in self.finish().items()}
        np.savez(content, **arrays)
        atomic.write_bytes(Path(path), content.getvalue())

    @classmethod
    def merge(cls, workers: Sequence[Recorder]) -> Recorder:
        """What one recorder that saw all of it holds; a repeated (id, epoch) counts once.

        Raises:
            UsageError: no workers, or of different examples or settings.
        """
        if not workers or not all(w.worker for w in workers):
            raise UsageError("merge takes recorders that were made with worker=True, at least one")
        first = workers[0]
        for w in workers:
            same = (w.window, w.classes, w.chosen) == (first.window, first.classes, first.chosen)
            if not same or not torch.equal(w.ids, first.ids):
                raise UsageError("the workers' recorders differ in their ids or settings; make them alike")
        made = cls(first.ids, window=first.window, classes=first.classes, chosen=first.chosen)
        for epoch, rows, new in sorted((entry for w in workers for entry in w._journal), key=lambda entry: entry[0]):
            while made.epoch < epoch:
                made.end_epoch()
            made._take(rows, new)
        while made.epoch < max(w.epoch for w in workers):
            made.end_epoch()
        return made

    def _take(self, rows: torch.Tensor, new: State) -> None:
        """Holds the facts of a batch of this epoch; many batches are folded at once, as a call costs more than a row."""
        self._held.append((rows, new))
        if sum(len(rows) for rows, _ in self._held) >= TOGETHER:
            self._fold()

    def _fold(self) -> None:
        """Puts what is held into the state."""
        if self._held:
            rows, new = zip(*self._held)
            facts = {name: torch.cat([one[name] for one in new]) for name in new[0]}
            chosen = {e - 1 for e in self.chosen}
            recording.fold(self._state, torch.cat(rows), facts, epoch=self.epoch, chosen=chosen)
            self._held.clear()

    def _rows(self, ids: torch.Tensor) -> torch.Tensor:
        """The place of each id: int64 [B] -> [B]."""
        place = torch.searchsorted(self._sorted, ids).clamp(max=max(0, len(self.ids) - 1))
        unknown = ids[self._sorted[place] != ids] if len(self.ids) else ids
        if len(unknown):
            raise DataError(f"the id {int(unknown[0])} is none of the {len(self.ids)} recorded examples; check the ids")
        return self._order[place]

    def _check(self, ids: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor) -> None:
        wrong = torch.nonzero((targets < 0) | (targets >= logits.shape[1])).flatten()
        if len(wrong):
            at = int(wrong[0])
            raise DataError(
                f"the target {int(targets[at])} of id {int(ids[at])} is outside 0..{logits.shape[1] - 1}; check the labels"
            )
        broken = torch.nonzero(~torch.isfinite(logits).all(1)).flatten()
        if len(broken):
            raise DataError(
                f"the logits of id {int(ids[broken[0]])} in epoch {self.epoch + 1} are not finite; lower the learning rate"
            )


def whole(values: Any, name: str) -> torch.Tensor:
    """Whole numbers as int64 [n] on the CPU.

    Raises:
        DataError: other numbers, or another shape.
    """
    try:
        found = torch.as_tensor(values).cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError) as e:
        raise DataError(f"{name} are no numbers ({str(e).splitlines()[0]}); expected whole numbers in one row") from e
    if found.ndim != 1 or found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise DataError(f"{name} are {found.dtype} of shape {list(found.shape)}; expected whole numbers in one row")
    return found.long()
