"""The named protocols of the field.

``dc`` and ``dsa`` are the standard protocol of dataset condensation (Zhao, Mopuri and Bilen, "Dataset Condensation with
Gradient Matching", ICLR 2021; Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML
2021), which DM, CAFE, MTT, TESLA, DATM, IDM and DataDAM share: a fresh network for every seed, SGD with learning rate
.01, momentum .9, weight decay 5e-4, shuffled batches of 256, cross entropy, test accuracy of the last epoch. Some change a
number: MTT, TESLA and DATM learn the rate with the images, DATM takes batches of 128, DataDAM 1800 epochs of batches of 64.

Quirks of the official code that are kept, because published figures depend on them:

- E epochs are asked for and E + 1 are trained;
- the learning rate falls to a tenth once, after the epoch with index E // 2 + 1 (the first is 0), so that E // 2 + 2
  epochs run at the full rate: 152 of 301 and 502 of 1001;
- it falls by making a new optimiser, so that the momentum starts again from zero;
- batch norms of the network are in training mode, also for a last batch that is small;
- without augmentation E is 300, with augmentation it is 1000;
- in ``dc`` only MNIST is augmented (crop, scale or rotate), and networks with batch norm on every set (crop or noise);
  Fashion-MNIST is not. Here the first rule holds for every grey set of written characters;
- in ``dsa`` one operation is drawn for a whole batch, and every image draws its own parameters of it.

Not kept: seeds from the wall clock, and accuracies in percent.

Many papers report the best of several looks at the test set. ``dc-best`` and ``dsa-best`` do so openly: the best stands
beside the last, and everything else is equal.

``idc`` is the protocol of IDC, DREAM and DiM: longer, with cutmix, and several points above ``dsa`` on the same set. ``fkd``
(SRe2L) and ``rded`` learn from a teacher that was trained on all real examples: most of their accuracy comes from its
labels, so random examples with the same labels, and hard labels, stand beside. ``idc`` and ``rded`` look at the test set, as
their papers do. Their settings are in :mod:`attar.evaluate.published`, with what differs from the official code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from attar.augment import Augment
from attar.augment.strategy import strategy_for, written
from attar.errors import UsageError, nearest
from attar.evaluate import published
from attar.evaluate.protocol import Labels, Protocol
from attar.nets import Net
from attar.real.realset import RealSet

LOOKS = 10
"""How often a ``-best`` preset looks at the test set before the last epoch."""
FULL_EPOCHS, FULL_UPDATES = 300, 2500
"""``full`` trains for as many whole epochs as 2,500 updates allow: at least 1, at most 300; 10 on MNIST, 12 on CIFAR-10."""

PRESETS = {
    "dc": "no augmentation and 300 epochs; grey digits and batch norms: light augmentation and 1000 epochs",
    "dsa": "siamese augmentation and 1000 epochs",
    "dc-best": "as dc, and the best of eleven looks at the test set beside the last",
    "dsa-best": "as dsa, and the best of eleven looks at the test set beside the last",
    "idc": "1000 epochs with cutmix, batch 64; the best of four looks at the test set beside the last",
    "fkd": "labels of a teacher on crops, mirrored and mixed; AdamW, 300 epochs, cosine",
    "rded": "as fkd, half a cosine and small batches; the best of the looks of the last fifth beside the last",
    "full": "for all real examples: about 2,500 updates, learning rate falling along a cosine",
}
"""Name -> one line."""


def resolve(
    name: str,
    real: RealSet,
    *,
    net: Net | None = None,
    epochs: int | None = None,
    augment: str | None = None,
    lr: float | None = None,
    labels: Labels | None = None,
    per_class: int = 1,
    patches: int = 1,
    tiles: int = 1,
    teacher: str = "",
    teacher_epochs: int | None = None,
) -> Protocol:
    """The protocol that a preset means for a dataset and a network.

    Args:
        name: one of :data:`PRESETS`.
        real: its shape, name and class names decide what is augmented.
        net: whether it has batch statistics decides what ``dc`` augments, its name the learning rate of ``rded``.
        epochs, augment, lr: other values than the preset's, None to keep it; the resulting name tells them.
            ``augment`` is a spec of :class:`attar.augment.Augment`, a siamese strategy (``crop_flip``) or ``auto``.
        labels: other labels than the preset's.
        per_class: images of a class, for the epochs of ``idc`` and the batch of ``rded``.
        patches: tiles a side of every picture, for ``rded``. tiles: those a side that images were decoded from, for ``idc``.
        teacher: name of the network that labels, where it is not the scored one: it decides the batch of ``rded``, and the
            resulting name tells it.
        teacher_epochs: other epochs of its training than those of ``full``; the resulting name tells them.

    Raises:
        UsageError: an unknown preset or augmentation, epochs < 1, a learning rate that is not positive.
    """
    if name == RANKING:
        raise UsageError(f"'{name}' is no training but a comparison of several; give it to attar evaluate alone")
    if name not in PRESETS:
        raise UsageError(f"there is no protocol '{name}'; {nearest(name, (*PRESETS, RANKING))}")
    for key, given in (("patches", patches), ("tiles", tiles)):
        if isinstance(given, bool) or not isinstance(given, int) or given < 1:
            raise UsageError(f"{key}={given} of the recipe must be a whole number of at least 1")
    preset = _preset(name, real, net, per_class=per_class, patches=patches, tiles=tiles, teacher=teacher)
    changes = _changes(preset, epochs=epochs, augment=augment, lr=lr)
    told = ", ".join([name, *(_told(key, value) for key, value in changes.items()), *_taught(teacher, teacher_epochs)])
    changed = replace(preset, **{**changes, "name": told, "labels": labels or preset.labels})
    if changed.select == "last" or changed.evaluate_every:
        return changed
    every = -(-changed.epochs // 4) if name == "idc" else max(1, changed.epochs // LOOKS)
    return replace(changed, evaluate_every=every)


RANKING = "dd-ranking"
"""The comparison of :mod:`attar.evaluate.ranking`, of several trainings by the protocol of the set."""


def _preset(
    name: str, real: RealSet, net: Net | None, *, per_class: int, patches: int, tiles: int, teacher: str
) -> Protocol:
    signs = written(real)
    if name == "idc":
        return Protocol(name=name, **published.idc(real, written=signs, per_class=per_class, factor=tiles))
    if name == "fkd":
        return Protocol(name=name, **published.fkd(written=signs))
    if name == "rded":
        how = {"written": signs, "per_class": per_class, "factor": patches, "teacher": teacher}
        return Protocol(name=name, **published.rded(real, net, **how))
    if name == "full":
        updates = -(-len(real) // Protocol.batch)
        epochs = max(1, min(FULL_EPOCHS, FULL_UPDATES // max(1, updates)))
        return Protocol(name=name, epochs=epochs, schedule="cosine")
    kind, _, best = name.partition("-")
    return replace(_standard(kind, real, net), name=name, select="best" if best else "last")


def _standard(kind: str, real: RealSet, net: Net | None) -> Protocol:
    """``dc`` and ``dsa``."""
    if kind == "dsa":
        return Protocol(name=kind, epochs=1000, augment=f"dsa:{strategy_for('auto', real)}")
    strategy = "none"
    if net is not None and net.has_batch_statistics:
        strategy = "dc:crop_noise"
    elif real.shape[0] == 1 and written(real):
        strategy = "dc:crop_scale_rotate"
    return Protocol(name=kind, epochs=300 if strategy == "none" else 1000, augment=strategy)


def _changes(preset: Protocol, *, epochs: Any, augment: Any, lr: Any) -> Mapping[str, Any]:
    """The checked settings that differ from the preset's."""
    _whole(epochs=epochs)
    if lr is not None and (not isinstance(lr, (int, float)) or not math.isfinite(lr) or lr <= 0):
        raise UsageError(f"the learning rate {lr} of the recipe must be a positive number")
    given = {"epochs": epochs, "augment": _spec(augment, preset), "lr": lr}
    return {key: value for key, value in given.items() if value is not None and value != getattr(preset, key)}


def _whole(**given: Any) -> None:
    """Refuses numbers that are no whole ones of at least 1; None (left to the preset) passes."""
    for key, n in given.items():
        if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
            raise UsageError(f"{key}={n} must be a whole number of at least 1")


def _taught(teacher: str, epochs: int | None) -> list[str]:
    """What a protocol's name tells of a teacher: ``teacher resnet18 of 200 epochs``; nothing of the usual one."""
    _whole(teacher_epochs=epochs)
    words = [teacher] if teacher else []
    words += [] if epochs is None else [f"of {epochs} epoch" + "s" * (epochs > 1)]
    return [" ".join(["teacher", *words])] if words else []


def _told(key: str, value: Any) -> str:
    if key == "epochs":
        return f"{value} epoch" + "s" * (value > 1)
    if key == "lr":
        return f"learning rate {value:.4g}"
    return "no augmentation" if value == "none" else f"augment {value}"


def _spec(augment: str | None, preset: Protocol) -> str | None:
    """An augmentation as users and recipes write it -> a spec of Augment."""
    if augment is None or augment == "auto":
        return None if augment is None else preset.augment
    return str(Augment.parse(augment))
