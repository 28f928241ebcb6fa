"""IDM: Zhao, Li, Qin, Yu. Improved Distribution Matching for Dataset Condensation. CVPR 2023. arXiv 2307.09742.

Distribution matching under networks that know something: a queue of networks of all ages, trained on the way, in place of fresh
random ones; and the kept images must be recognised by them, the more so the more the network itself can be trusted:

    loss = sum_k || mean_i f(A(real_ki)) - mean_j f(A(kept_kj)) ||^2 + w * a * sum_k mean_j CE(f_theta(A(kept_kj)), k)

a is the network's training accuracy in percent, up to 100, so that w * a is up to 50. Where a class is one image, those that the
network recognises have no cross entropy. f is the last map, flattened, as in the official code, which calls it embed_channel_avg.
One network of the queue is matched in a step; then two are trained for ten batches; every 30 steps a fresh one takes the place of
the oldest, from 100 on.

The queue is a ring of stacked parameters in the state, so that a run that was killed goes on with the same networks: 8 bytes a
parameter and network. Cost: a step is K batch + 6 M forwards, the training 3 * trained * lessons * batch_net.

Differs from the official code: all classes make one step and not one each. There the momentum of 0.5 goes on through the other
classes' steps, so that every gradient moves its images 1 + 1/2 + 1/4 + ... = 2 times: here the rate is twice 0.2, without
momentum. The accuracy is that of the last batch a network was trained on, after it (there: over all since the last evaluation,
which clears it); the networks trained in a step are others than the one matched; training batches are drawn with replacement.
The networks learn from real images, as there; ``teach=kept`` takes the kept ones. The published accuracies rest on the partition
of each stored image into four smaller ones: ``params=tiles``, which the presets take; the default is pixels. Left out: that
without it, at one image per class, the official code matches only the half of the real images with the least loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn.functional import cross_entropy

from attar.augment.siamese import augment
from attar.budget import Budget
from attar.errors import UsageError
from attar.execute.compile import fast, in_parts
from attar.execute.pieces import BACKWARD, FORWARD, features, logits, piece_size, weight_gradient, widened
from attar.match.inner import net_for
from attar.match.layers import shares
from attar.match.means import class_means
from attar.match.seen import seen
from attar.method import Batch, Cost, Descend, Method, Resources, Rows, State, positive, tabled
from attar.nets.build import build
from attar.nets.fit import activation_bytes, net_of
from attar.nets.net import Net, Params
from attar.optim import Opt
from attar.params import pixels, table
from attar.real.realset import RealSet
from attar.seeds import Seeds

FIRST = 4
"""Networks in the queue at the first step."""
TEACHERS = ("real", "kept")


@dataclass(frozen=True, kw_only=True)
class IDM(Method):
    """Matches the mean feature of every class under a queue of networks in training, which must recognise the kept images."""

    steps: int = 20_000
    "Updates of the kept examples."
    batch: int = 256
    "Real images per class and step; the paper takes whole classes at 1 image per class."
    lr_img: float = 0.4
    "Learning rate of the kept images, without momentum: twice the paper's 0.2 with a momentum of 0.5."
    ce: float | None = None
    "Weight w of the cross entropy, for each percent of accuracy; where left out 0.5, and 0.1 from 50 images per class on."
    queue: int = 100
    "Most networks in the queue."
    renew: int = 30
    "Steps between two fresh networks; the paper takes 5 at 1 image per class."
    trained: int = 2
    "Networks trained in a step."
    lessons: int = 10
    "Batches that each of them is trained on; the paper takes 50 for CIFAR-100 at 10 images per class."
    batch_net: int = 256
    "Images a batch of the networks' training."
    lr_net: float = 0.01
    "Learning rate of the networks."
    teach: str = "real"
    "What the networks are trained on: real or kept images."
    start: str = "real"
    "First images: real or noise."
    net: str = "convnet"
    "Network of the queue."
    augment: str = "auto"
    "Siamese transforms joined by _, none, or auto (all; no flip for digits and letters)."
    params: str = "pixels"
    "What the set is made of: pixels, or more images out of as many bytes: tiles, frequency, bases or memory, as tiles:factor=3."

    comparable: ClassVar[bool] = False  # the weight of the cross entropy grows with what the networks have learned
    paper: ClassVar[str] = "Zhao, Li, Qin, Yu. Improved Distribution Matching for Dataset Condensation. CVPR 2023"
    quick: ClassVar[Mapping[str, Any]] = {
        "steps": 300,
        "batch": 64,
        "ce": 0.01,
        "queue": 10,
        "renew": 10,
        "lessons": 4,
        "batch_net": 64,
        "params": "tiles",
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = tabled(
        "ipc batch renew ce lessons",
        {
            "cifar10-1": (1, 5000, 5, 0.5, 10),
            "cifar10-10": (10, 256, 30, 0.5, 10),
            "cifar10-50": (50, 256, 30, 0.1, 10),
            "cifar100-1": (1, 500, 5, 0.5, 10),
            "cifar100-10": (10, 256, 30, 0.1, 50),
            "cifar100-50": (50, 256, 30, 0.1, 10),
        },
        params="tiles",
    )

    def __post_init__(self) -> None:
        pixels.check(self.start)
        positive(batch=self.batch, lr_img=self.lr_img, ce=self.ce, queue=self.queue, renew=self.renew)
        positive(trained=self.trained, lessons=self.lessons, batch_net=self.batch_net, lr_net=self.lr_net)
        if self.teach not in TEACHERS:
            raise UsageError(f"teach '{self.teach}' is unknown; use {' or '.join(TEACHERS)}")

    @property
    def learn(self) -> dict[str, Opt]:
        return table.made_of(self.params).learn(Opt(lr=self.lr_img))

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        state, net = table.first(self.params, real, budget, seeds, kind=self.start), net_of(self.net, real)
        for name, value in net.init(seeds.at("net")).items():
            state[f"queue.{name}"] = value.new_zeros(self.queue, *value.shape)
            if name in net.trainable:
                state[f"velocity.{name}"] = torch.zeros_like(state[f"queue.{name}"])
        state["accuracy"] = torch.zeros(self.queue)
        for number in range(FIRST):
            enter(state, net.init(seeds.at("net", number)), number % self.queue)
        return state

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        x, ops = seen(real, seeds, batch=self.batch, augment=self.augment)  # [K, B, C, H, W]
        ages, due = step // self.renew, step > 0 and step % self.renew == 0
        order = torch.randperm(min(self.queue, FIRST + ages), generator=seeds.generator("queue"))
        return {
            "real": x,
            "augment": ops,
            "fresh": net_of(self.net, real).init(seeds.at("net"), device=real.device) if due else {},
            "place": (FIRST - 1 + ages) % self.queue,  # of the fresh network
            "matched": order[0].to(real.device),
            "learners": order.roll(-1)[: self.trained].tolist(),
            "lesson": self._lesson(real, seeds) if self.teach == "real" else {},
            "seeds": seeds,
        }

    def _lesson(self, real: RealSet, seeds: Seeds) -> dict[str, torch.Tensor]:
        """Real images [T, S, B, C, H, W] and labels [T, S, B] for T networks and S batches each."""
        shape = (self.trained, self.lessons, self.batch_net)
        index = torch.randint(len(real), shape, generator=seeds.generator("lesson"))
        image = real.draw(index.flatten()).unflatten(0, shape)
        return {"image": image, "label": real.labels[index].to(real.device)}

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        """A fresh network where one is due, one update of the kept images, then the training of some networks."""
        if batch["fresh"]:
            enter(state, batch["fresh"], batch["place"])
        state = descend(state, self.loss, batch)
        net, image = net_for(self.net, batch["real"]), table.images(self.params, state)
        for turn, place in enumerate(batch["learners"]):
            self._teach(net, image, state, batch, turn, place)
        return state

    def _teach(self, net: Net, image: torch.Tensor, state: State, batch: Batch, turn: int, place: int) -> None:
        """SGD on one network's row of the ring, in place, and the accuracy that it reached."""
        opt = Opt(lr=self.lr_net, momentum=0.9, decay=5e-4)
        params = entry(state, place)
        lessons = [self._batch(image, state["label"], batch, turn, lesson) for lesson in range(self.lessons)]
        for x, y in lessons:
            even = torch.full((len(y),), 1 / len(y), dtype=x.dtype, device=x.device)
            for name, grad in weight_gradient(net, params, x, y, even)[1].items():
                opt.update({"w": params[name], "w.momentum": state[f"velocity.{name}"][place]}, "w", grad)
        x, y = lessons[-1]
        state["accuracy"][place] = (logits(net, params, x).argmax(1) == y).float().mean()

    def _batch(
        self, image: torch.Tensor, label: torch.Tensor, batch: Batch, turn: int, lesson: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Real images, or some of the kept ones [M, C, H, W], and their labels."""
        if self.teach == "real":
            return batch["lesson"]["image"][turn, lesson], batch["lesson"]["label"][turn, lesson]
        generator = batch["seeds"].generator("lesson", turn, lesson)
        index = torch.randperm(len(label), generator=generator)[: self.batch_net].to(label.device)
        return image[index], label[index]

    @in_parts
    def loss(self, state: State, batch: Batch) -> torch.Tensor:
        real, matched = batch["real"], batch["matched"]  # [K, B, C, H, W]
        k, b = real.shape[:2]
        params = entry(state, matched)
        label = torch.arange(k, device=real.device).repeat_interleave(b)  # [K B]
        f = features(net_for(self.net, real), params, real.flatten(0, 1), train=False)  # [K B, D]
        ops = {name: v[state["label"]] for name, v in batch["augment"].items()}
        many = table.asked(state, k) >= 50
        trust = (self.ce or (0.1 if many else 0.5)) * 100 * state["accuracy"][matched]
        image = table.images(self.params, state)  # [M, C, H, W]
        return fast(self.kept_loss)(params, image, state["label"], ops, class_means(f, label, k), trust)

    def kept_loss(
        self,
        params: Params,
        image: torch.Tensor,
        label: torch.Tensor,
        ops: Params,
        target: torch.Tensor,
        trust: torch.Tensor,
    ) -> torch.Tensor:
        """The loss where the real images' side is known.

        Args:
            image: [M, C, H, W]. label: int64 [M]. ops: siamese parameters, M rows.
            target: [K, D]. trust: the weight of the cross entropy, a scalar.
        """
        k, x = len(target), augment(image, ops)
        net = build(self.net, channels=image.shape[1], size=(image.shape[2], image.shape[3]), classes=k)
        said, f = map(widened, net.both(params, x, train=False))  # [M, K], [M, D]
        mean = class_means(f, label, k)  # [K, D]
        wrong = cross_entropy(said, label, reduction="none")  # [M]
        if len(x) == k:  # one image per class: what is recognised already is left alone
            wrong = wrong * (said.argmax(1) != label)
        share = shares(label, k, wrong.dtype).sum(1)  # [M], 1 / count of the class
        return (mean - target).square().sum() + trust * (wrong * share).sum()

    def finish(self, state: State, res: Resources) -> Rows:
        return table.rows(self.params, state, {"protocol": "dsa", "augment": self.augment})

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        net, kept = net_of(self.net, real), table.decoded(self.params, real, budget)
        images, taught = real.n_classes * self.batch, self.trained * self.lessons * self.batch_net
        drawn = taught if self.teach == "real" else 0
        back = piece_size(net, self.batch_net, "cpu", most=BACKWARD)
        active = max(kept, piece_size(net, images, "cpu", most=FORWARD, train=False), back)
        return Cost(
            flops_per_step=2 * net.macs * (images + 3 * kept + 3 * taught),
            memory=4 * real.example_bytes * (3 * images + drawn + 12 * kept)
            + active * activation_bytes(net)
            + 8 * self.queue * net.n_parameters,
        )


def entry(state: State, place: int | torch.Tensor) -> Params:
    """The parameters of one network of the ring: views of its rows where ``place`` is a number, else copies."""
    return {name.removeprefix("queue."): v[place] for name, v in state.items() if name.startswith("queue.")}


def enter(state: State, params: Params, place: int) -> None:
    """Writes a fresh network over a row of the ring."""
    for name, value in params.items():
        state[f"queue.{name}"][place] = value
        if f"velocity.{name}" in state:
            state[f"velocity.{name}"][place] = 0
    state["accuracy"][place] = 0
