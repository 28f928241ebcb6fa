"""What networks are trained on that learn real images while kept ones are being matched: augmented, and mixed with cutmix."""

from __future__ import annotations

import torch
from torch.nn.functional import one_hot

from attar.augment import cutmix, idc, siamese
from attar.real.realset import RealSet
from attar.seeds import Seeds


def mixed_lessons(
    real: RealSet, seeds: Seeds, *, batches: int, batch: int, strategy: str, share: float
) -> dict[str, torch.Tensor]:
    """Some batches of real images, as IDC trains its networks (Kim et al., ICML 2022).

    No example comes twice, where the set has enough. A pure function of ``seeds``.

    Args:
        strategy: operations of :mod:`attar.augment.idc`; every image has its own parameters.
        share: of the batches that are mixed; where it is more than 0, ``cutout`` is left out.

    Returns:
        ``image`` float32 [n, B, C, H, W] in the normalised space and ``target`` [n, B, K], distributions.
    """
    ops = "_".join(op for op in siamese.parse(strategy) if op != "cutout" or not share)
    size, n = real.shape[1:], batches * batch
    order = torch.from_numpy(seeds.numpy("order").choice(len(real), n, replace=n > len(real)))
    images, targets = [], []
    for i, index in enumerate(order.split(batch)):
        drawn = idc.draw(ops, batch, seeds.generator("augment", i), size=size)
        mixing = cutmix.draw(batch, seeds.generator("cutmix", i), size=size, p=share)
        params, boxes = ({name: v.to(real.device) for name, v in tree.items()} for tree in (drawn, mixing))
        x = idc.augment_one(real.draw(index), siamese.common_op(drawn), params)
        y = one_hot(real.labels[index], real.n_classes).to(real.device, x.dtype)
        images.append(cutmix.mix(x, boxes))
        targets.append(cutmix.mix_labels(y, boxes, size))
    return {"image": torch.stack(images), "target": torch.stack(targets)}
