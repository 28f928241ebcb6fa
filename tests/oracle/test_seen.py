"""What siamese methods see of the real images: each class's own transform, and the same one for the kept images."""

from __future__ import annotations

import dataclasses

import torch

from attar.augment.siamese import augment
from attar.match.seen import seen
from attar.seeds import Seeds
from attar.testing.toys import toy


def test_every_class_passes_the_transform_that_its_kept_images_pass() -> None:
    real, seeds = toy((9, 5, 14), channels=3), Seeds(3).at("step", 4)
    x, ops = seen(real, seeds, batch=6, augment="auto")
    index = real.sample(6, seeds.generator("real"))  # [K, B]
    assert x.shape == (3, 6, *real.shape)
    for k in range(3):
        plain = real.draw(index[k])
        one = augment(plain, {name: v[k : k + 1].expand(6, *v.shape[1:]) for name, v in ops.items()})
        assert torch.allclose(x[k], one, atol=1e-6)
    again, _ = seen(real, seeds, batch=6, augment="auto")
    assert torch.equal(x, again)


def test_digits_are_not_mirrored() -> None:
    real = dataclasses.replace(toy((9, 5, 14)), class_names=("0", "1", "2"))
    ops = [seen(real, Seeds(0).at("step", t), batch=1, augment="auto")[1]["op"] for t in range(40)]
    flipped = seen(real, Seeds(0), batch=1, augment="flip")[1]["op"][0]
    assert int(flipped) not in torch.cat(ops).tolist()
