"""Pixel means, by You, 2026: each class's kept images get the mean of its real ones under one random transform A.

    loss = sum_k || mean_i A_k(real_ki) - mean_j A_k(kept_kj) ||^2

Cost: a few operations a pixel of batch + kept images. Differs from DM: pixels are compared, not features.
"""

from dataclasses import dataclass

from attar.augment.siamese import augment, draw
from attar.match.means import class_means
from attar.method import Cost, Method, Rows
from attar.optim import Opt
from attar.params import pixels


@dataclass(frozen=True, kw_only=True)
class MyMethod(Method):
    steps: int = 300
    "Updates of the kept images."
    batch: int = 64
    "Real images per class and step."

    paper = "You. Pixel means. 2026"

    @property
    def learn(self):
        return {"image": Opt(lr=0.2)}

    def init(self, real, budget, seeds, res):
        return pixels.start(real, budget, seeds, kind="noise")

    def draw(self, real, seeds, res, step):  # all of a step that does not depend on the state, by the step's seeds
        ops = draw("crop_cutout", real.n_classes, seeds.generator("ops"), size=real.shape[1:], one_op=False)
        rows = real.sample(self.batch, seeds.generator("real")).flatten()  # [K B]
        x = augment(real.draw(rows), {k: v[real.labels[rows]] for k, v in ops.items()})
        return {"ops": ops, "target": class_means(x.flatten(1), real.labels[rows], real.n_classes)}  # [K, C H W]

    def loss(self, state, batch):
        x = augment(state["image"], {k: v[state["label"]] for k, v in batch["ops"].items()})  # [M, C, H, W]
        return (class_means(x.flatten(1), state["label"], len(batch["target"])) - batch["target"]).square().sum()

    def finish(self, state, res):
        return Rows(columns={"image": state["image"], "label": state["label"]}, recipe={"protocol": "dsa"})

    def cost(self, real, budget):
        numbers = real.example_bytes * (real.n_classes * self.batch + 3 * budget.total(real.sizes, real.example_bytes))
        return Cost(flops_per_step=20.0 * numbers, memory=16.0 * numbers)
