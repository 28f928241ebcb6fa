"""DATM: Guo, Wang, Cazenavette, Li, Zhang, You. Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching.
ICLR 2024. arXiv 2310.05773.

Experts learn what is easy in their first epochs and what is hard in their last. Few images can hold the easy part alone and many
need the hard one: match the epochs that fit their number, the easier of them first, and learn the labels with the images:

    theta_{i+1} = theta_i - rate * grad CE(net(theta_i), A_i(kept_i), softmax(y_i)),    theta_0 = expert_t
    loss = || theta_N - expert_{t+M} ||^2 / || expert_t - expert_{t+M} ||^2,    no update where it is above threshold
    t in [min_start, upper),    upper = early_start + (max_start - early_start) step / growth, max_start at most

The first images are real ones that an expert classifies correctly; y begins as the mean of the logits of all experts that do.

Cost: that of MTT, 12 N B forwards a step for inner batches of B, and once 6 forwards of every real image for each epoch of
each expert (these of FTD). Settings of the authors, all of them whitened: ``presets``.

Differs from the official code: as MTT here (exact gradient in the memory of one inner step, whitening with ``--zca`` alone, a
rate that stays above 0, expert and epoch drawn independently, nothing chosen by test accuracy); experts are trained as long as
is looked at and not for 100 epochs, in at least 48 batches each, so the labels come from the last epoch that is looked at
unless ``label_epoch`` says another; evaluation takes batches of 256 and not of 128; a loss that is no number is noted as ten
times the threshold, and a run in which no step was taken is an error. With start real, an image that no expert classifies
correctly has the mean logits of all of them, and any other one those of the experts that do; there it has the logits of the
first expert, right or wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn.functional import softmax

from attar.augment.strategy import strategy_for
from attar.budget import Budget
from attar.errors import AttarError, DataError, UsageError
from attar.execute.compile import in_parts
from attar.match.trajectories import SHORT, course, experts_of, learned, missed, unrolled_cost
from attar.method import Batch, Cost, Descend, Method, Resources, Rows, State, positive, tabled
from attar.nets.fit import net_of
from attar.optim import Opt
from attar.params import pixels, table
from attar.real.realset import RealSet
from attar.resources.experts import Expert, name_of, snapshot
from attar.seeds import Seeds

STARTS = ("correct", "real")
BLOCK = 256
"""Images that an expert looks at at once."""


@dataclass(frozen=True, kw_only=True)
class DATM(Method):
    """Matches the epochs of experts that are as hard as the number of kept images allows, and learns soft labels."""

    steps: int = 10_000
    "Updates of the kept images, their labels and the inner rate."
    syn_steps: int = 80
    "Inner steps on the kept images."
    expert_epochs: int = 2
    "Epochs of the expert that they shall cover."
    min_start: int = 0
    "First epoch of an expert at which a piece may begin."
    early_start: int | None = None
    "What max_start is at the first step; half of it where left out."
    max_start: int = 20
    "Epoch of an expert before which a piece must begin, from step growth on."
    growth: int = 1000
    "Steps in which early_start grows to max_start."
    batch_syn: int | None = None
    "Kept images of an inner step; all where left out."
    threshold: float = 1.0
    "Largest loss that moves anything."
    lr_img: float = 100.0
    "Learning rate of the kept images."
    lr_label: float = 2.0
    "Learning rate of their logits."
    lr_lr: float = 1e-5
    "Learning rate of the inner rate."
    rate: float = 0.01
    "First inner rate."
    momentum: float = 0.5
    "Momentum of images and inner rate."
    momentum_label: float = 0.9
    "Momentum of the logits."
    label_epoch: int | None = None
    "Epoch of the experts that choose the first images and labels; the last that is looked at where left out."
    rho: float = 0.01
    "How far around an expert's weights those of the highest loss are looked for; 0 for plain SGD."
    alpha: float = 0.3
    "How much of the plain gradient's part across the gradient at those weights is taken away from the latter."
    experts: int = 100
    "Networks trained on the real set."
    lr_expert: float = 0.01
    "Learning rate of the experts."
    batch_expert: int = 256
    "Real images of a batch of the experts."
    batches_expert: int = 48
    "Batches of an epoch of the experts at least; of a small set they are smaller for it."
    seed_expert: int = 0
    "Seed of the experts, whatever that of the run is: runs of all seeds share them."
    start: str | None = None
    "First images: correct (real ones that an expert classifies correctly; where left out, of pixels) or real."
    net: str = "convnet"
    "Network of experts and inner steps."
    augment: str = "auto"
    "Siamese transforms joined by _, none, or auto (all; no flip for digits and letters)."
    params: str = "pixels"
    "What the set is made of: pixels, or more images out of as many bytes: tiles, frequency, bases or memory, as tiles:factor=3."

    paper: ClassVar[str] = (
        "Guo, Wang, Cazenavette, Li, Zhang, You. "
        "Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching. ICLR 2024"
    )
    comparable: ClassVar[bool] = False  # later steps match later, harder epochs
    quick: ClassVar[Mapping[str, Any]] = {**SHORT, "steps": 150, "lr_img": 300.0, "growth": 50, "threshold": 2.0}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = tabled(
        "ipc syn_steps expert_epochs lr_img batch_syn lr_label min_start early_start max_start growth lr_lr threshold start",
        {
            "cifar10-1": (1, 80, 2, 100.0, 10, 5.0, 0, 4, 4, 1, 1e-7, 1.1, "correct"),
            "cifar10-10": (10, 80, 2, 100.0, 100, 2.0, 0, 10, 20, 1000, 1e-5, 1.0, "correct"),
            "cifar10-50": (50, 80, 2, 1000.0, 500, 2.0, 0, 20, 40, 2000, 1e-5, 1.0, "correct"),
            "cifar10-500": (500, 40, 2, 50.0, 1000, 10.0, 40, 60, 60, 1, 1e-5, 1.0, "correct"),
            "cifar10-1000": (1000, 100, 2, 50.0, 1000, 10.0, 40, 60, 60, 1, 1e-5, 1.0, "correct"),
            "cifar100-1": (1, 40, 3, 1000.0, 1000, 10.0, 0, 10, 20, 1000, 1e-5, 1.0, "correct"),
            "cifar100-10": (10, 80, 2, 1000.0, 1000, 10.0, 0, 30, 50, 2000, 1e-5, 1.0, "correct"),
            "cifar100-50": (50, 80, 2, 1000.0, 1000, 10.0, 20, 70, 70, 1, 1e-5, 1.0, "real"),
            "cifar100-100": (100, 80, 2, 50.0, 1000, 10.0, 30, 70, 70, 1, 1e-5, 1.0, "correct"),
            "tiny-imagenet-1": (1, 40, 2, 1e4, 1000, 10.0, 0, 15, 20, 2000, 1e-4, 1.0, "correct"),
            "tiny-imagenet-10": (10, 40, 2, 100.0, 500, 10.0, 10, 50, 50, 1, 1e-4, 1.0, "correct"),
            "tiny-imagenet-50": (50, 20, 2, 100.0, 1000, 10.0, 40, 70, 70, 1, 1e-4, 1.0, "correct"),
        },
        zca=True,
    )

    def __post_init__(self) -> None:
        if self.start is not None:
            pixels.check(self.start, known=STARTS)
        if self.start == "correct" and self.params != "pixels":
            raise UsageError(
                f"start=correct chooses whole images, but the set is made of {self.params}; use start=real"
            )
        positive(syn_steps=self.syn_steps, expert_epochs=self.expert_epochs, max_start=self.max_start)
        positive(batch_syn=self.batch_syn, experts=self.experts, rate=self.rate, growth=self.growth)
        positive(label_epoch=self.label_epoch, threshold=self.threshold)
        if not 0 <= self.min_start < self.early <= self.max_start:
            raise UsageError(
                f"min_start={self.min_start}, early_start={self.early} and max_start={self.max_start} leave no epochs to "
                "begin at; they must grow, as 0, 10 and 20 do"
            )
        _ = self.learn, self.needs()  # their settings are checked there

    @property
    def learn(self) -> dict[str, Opt]:
        logits = Opt(lr=self.lr_label, momentum=self.momentum_label)
        return {
            **learned(lr_img=self.lr_img, lr_lr=self.lr_lr, momentum=self.momentum, params=self.params),
            "logits": logits,
        }

    @property
    def reach(self) -> int:
        """The last epoch of an expert that is looked at."""
        return max(self.max_start - 1 + self.expert_epochs, self.label_epoch or 0)

    @property
    def early(self) -> int:
        """The epoch before which pieces begin at the first step."""
        return max(self.min_start + 1, self.max_start // 2) if self.early_start is None else self.early_start

    def upper(self, step: int) -> int:
        """The epoch before which pieces begin at a step."""
        return min(self.max_start, self.early + (self.max_start - self.early) * step // self.growth)

    def needs(self) -> tuple[Expert, ...]:
        return experts_of(self, rho=self.rho, alpha=self.alpha)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        state = table.first(self.params, real, budget, seeds, kind="real")
        if self.params == "pixels" and self.start != "real":
            counts = torch.bincount(state["label"], minlength=real.n_classes).tolist()
            picks = [self._known(real, k, n, seeds, res) for k, n in enumerate(counts)]
            state["image"] = real.draw(torch.cat(picks)).cpu().contiguous()
        image = table.images(self.params, state)  # [M, C, H, W]
        logits = torch.stack([self._answers(real, e, image, res) for e in range(self.experts)])  # [E, M, K]
        counted = {"counted": torch.zeros(2, dtype=torch.int64)}  # steps undone, and taken
        return {**state, **counted, "logits": mean_of_correct(logits, state["label"]), "rate": torch.tensor(self.rate)}

    def _answers(self, real: RealSet, expert: int, image: torch.Tensor, res: Resources) -> torch.Tensor:
        """The logits of an expert at ``label_epoch``: images [M, C, H, W] -> float32 [M, K] on the CPU."""
        net = net_of(self.net, real)
        params = snapshot(res[name_of(expert)], self.label_epoch or self.reach)
        params = {name: value.to(real.device) for name, value in params.items()}
        with torch.no_grad():
            return torch.cat([net(params, x.to(real.device), update=False).float().cpu() for x in image.split(BLOCK)])

    def _known(self, real: RealSet, k: int, n: int, seeds: Seeds, res: Resources) -> torch.Tensor:
        """n random examples of class k that an expert classifies correctly; where one knows too few, the next adds its own.

        Raises:
            DataError: all experts together know fewer.
        """
        left = real.classes[k][torch.randperm(len(real.classes[k]), generator=seeds.generator("known", k))]
        found = left[:0]
        for expert in range(self.experts):
            unknown = [left[:0]]
            for part in left.split(BLOCK):
                if len(found) >= n:
                    return found[:n]
                right = self._answers(real, expert, real.draw(part), res).argmax(1) == k
                found, unknown = torch.cat([found, part[right]]), [*unknown, part[~right]]
            left = torch.cat(unknown)
        if len(found) >= n:
            return found[:n]
        raise DataError(
            f"{len(found)} examples of class '{real.class_names[k]}' of {real.name} are classified correctly by the "
            f"{self.experts} experts at epoch {self.label_epoch or self.reach}, but {n} are asked for; take a later "
            "label_epoch, more experts, or start=real"
        )

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        return course(
            real,
            seeds,
            res,
            experts=self.experts,
            first=self.min_start,
            starts=self.upper(step),
            epochs=self.expert_epochs,
            steps=self.syn_steps,
            strategy=strategy_for(self.augment, real),
        )

    @in_parts
    def loss(self, state: State, batch: Batch) -> torch.Tensor:
        image, target = table.images(self.params, state), softmax(state["logits"], 1)  # [M, C, H, W], [M, K]
        return missed(self.net, batch, image, target, state["rate"], size=self.batch_syn)

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        """One update; where the loss is above the threshold, all that it moved is put back."""
        losses: list[torch.Tensor] = []

        @in_parts
        def seen(state: State, batch: Batch) -> torch.Tensor:
            losses.append(self.loss(state, batch))
            return told(losses[-1], 10 * self.threshold)

        moved = tuple(self.learn)
        before = {n: v.clone() for n, v in state.items() if n in moved or n.startswith(tuple(f"{m}." for m in moved))}
        state = descend(state, seen, batch)
        good = losses[0].detach() <= self.threshold
        for name, value in before.items():
            state[name].copy_(torch.where(good, state[name], value))
        state["counted"] += torch.stack([~good, good])
        return state

    def finish(self, state: State, res: Resources) -> Rows:
        """The images with their labels.

        Raises:
            AttarError: no step was taken.
        """
        undone, taken = state["counted"].tolist()
        if undone and not taken:
            raise AttarError(
                f"no step moved anything, as every loss was above threshold={self.threshold} or no number; raise the "
                f"threshold, or lower rate={self.rate}"
            )
        recipe = {"protocol": "dsa", "augment": self.augment, "lr": float(state["rate"]), "labels": "soft"}
        found = table.rows(self.params, state, recipe)
        return dataclasses.replace(found, extra={"soft_label": softmax(state["logits"], 1)})

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        return unrolled_cost(
            self.net,
            real,
            budget,
            steps=self.syn_steps,
            size=self.batch_syn,
            params=self.params,
        )


def told(loss: torch.Tensor, instead: float) -> torch.Tensor:
    """The loss that the run hears of: of an infinite or NaN one the step is undone and the run goes on, as of any large one."""
    return torch.where(loss.isfinite(), loss, torch.full_like(loss, instead))


def mean_of_correct(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """The mean logits of the experts whose largest is the example's class; of all experts, where there is none.

    Args:
        logits: [E, M, K]. label: int64 [M].

    Returns:
        [M, K].
    """
    right = logits.argmax(2) == label  # [E, M]
    share = torch.where(right.any(0), right, torch.ones_like(right)).to(logits.dtype)
    share = share / share.sum(0)
    return (share[..., None] * logits).sum(0)  # no matrix product: in half precision it would be rounded
