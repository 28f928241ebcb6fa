"""Net: a network as a pure function of its parameters.

A network here has no weights of its own: parameters and buffers are a dictionary of tensors that :meth:`Net.init` draws
and the caller keeps, so that fresh networks, stacks of networks, inner training and second derivatives are all the same
call, also under ``torch.func`` and ``torch.compile``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.flop_counter import FlopCounterMode

from attar.errors import UsageError
from attar.nets.layers import Choice, Classifier
from attar.seeds import Seeds

Want = Literal["logits", "features", "both", "layers"]
Params = dict[str, torch.Tensor]
"""Parameters and buffers of one network by name."""


class Skeleton(nn.Module):
    """A module whose tensors hold no numbers, entered for logits, for features or for layers.

    Args:
        net: the module; its tensors are replaced by those of a call.
        last: name of the linear layer whose input is the features, where the module has no method ``features``.
    """

    def __init__(self, net: nn.Module, last: str | None) -> None:
        super().__init__()
        self.net = net
        self.holds = tuple(name for name, _ in tensors(net))
        self._seen: list[torch.Tensor] = []
        self._tapped = last is not None
        self.gives_both = self._tapped or isinstance(net, Classifier)  # in one forward
        if last is not None:
            net.get_submodule(last).register_forward_pre_hook(self._tap)

    def _tap(self, module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        self._seen.append(args[0])

    def forward(self, x: torch.Tensor, want: Want) -> Any:
        """[B, C, H, W] -> logits [B, K], features [B, D], both, or layers: maps [B, C', H', W'] and features."""
        if want == "layers":
            maps, last = self.net.layers(x)  # type: ignore[operator]  # checked by the caller
            return list(maps), last.flatten(1)
        if want == "both" and isinstance(self.net, Classifier):
            seen = self.net.features(x)
            return self.net.classifier(seen), seen
        if want == "features" and not self._tapped:
            return self.net.features(x).flatten(1)  # type: ignore[operator]  # checked when the net was built
        logits = self.net(x)
        if not self._tapped:
            return (logits, self.net.features(x).flatten(1)) if want == "both" else logits  # type: ignore[operator]
        seen = self._seen[-1].flatten(1)
        self._seen.clear()
        return {"logits": logits, "features": seen, "both": (logits, seen)}[want]


@dataclass(frozen=True)
class Net:
    """A network for images of one shape; two are equal where their recipe is.

    Args:
        name: canonical spec string.
        channels, size, classes: C, (H, W) and K.
        source: the user's class, function or module where the spec was one, else None.
        make: builds the module with fresh weights from torch's global generator.
        last: see :class:`Skeleton`; ``""`` where the module offers no features at all.
    """

    name: str
    channels: int
    size: tuple[int, int]
    classes: int
    source: object = field(default=None, repr=False)
    make: Callable[[], nn.Module] = field(kw_only=True, compare=False, repr=False)
    last: str | None = field(default=None, kw_only=True, compare=False, repr=False)

    def __post_init__(self) -> None:
        # Built now and not on first use: a compiled caller must find the modules ready.
        with Seeds().globally("skeleton"):
            module = self.make()
        train, still = uncounted(hollow(module).train()), chosen(unrecorded(hollow(module).train()))
        for mode, net in (("train", train), ("still", still), ("eval", hollow(module).eval())):
            object.__setattr__(self, f"_{mode}", Skeleton(net, self.last or None))
        object.__setattr__(self, "trainable", tuple(name for name, _ in module.named_parameters()))
        object.__setattr__(self, "has_batch_statistics", any(isinstance(m, _BatchNorm) for m in module.modules()))
        moods = (_BatchNorm, _DropoutNd)
        alike = self.source is None and not any(isinstance(m, moods) for m in module.modules())
        object.__setattr__(self, "modeless", alike)
        object.__setattr__(self, "has_layers", method(module, "layers"))
        object.__setattr__(self, "n_parameters", sum(p.numel() for p in module.parameters()))

    trainable: tuple[str, ...] = field(init=False, compare=False, repr=False)
    "Names of the parameters; what :meth:`init` returns besides are buffers."
    has_batch_statistics: bool = field(init=False, compare=False, repr=False)
    "Whether a batch norm couples the images of a batch."
    modeless: bool = field(init=False, compare=False, repr=False)
    "Whether training and evaluation are the same function; never said of a network of the user, whose code decides."
    has_layers: bool = field(init=False, compare=False, repr=False)
    "Whether :meth:`layers` can be called."
    n_parameters: int = field(init=False, compare=False, repr=False)
    "Numbers in the parameters."

    def init(self, seeds: Seeds, device: torch.device | str = "cpu") -> Params:
        """Fresh parameters and buffers: a pure function of ``seeds``, drawn on the CPU on every device."""
        with seeds.globally():
            module = self.make()
        return {name: t.detach().to(device) for name, t in tensors(module)}

    def __call__(
        self, params: Mapping[str, torch.Tensor], x: torch.Tensor, *, train: bool = True, update: bool = True
    ) -> torch.Tensor:
        """[B, C, H, W] -> logits [B, K].

        Args:
            params: what :meth:`init` returned, or as many tensors by the same names.
            train: training mode: batch norms use the batch, dropout drops (from torch's global generator).
            update: whether batch norms in training mode also move their running statistics, which are overwritten in
                place in ``params``. Under ``torch.func`` transforms they may only be overwritten where ``params`` is an argument
                of the transformed function; a loss that captures them sets ``update=False``, which is also the faster
                network to differentiate twice (:class:`~attar.nets.layers.Choice`).
        """
        return self._enter(params, x, train, update, "logits")

    def features(
        self, params: Mapping[str, torch.Tensor], x: torch.Tensor, *, train: bool = True, update: bool = True
    ) -> torch.Tensor:
        """[B, C, H, W] -> what the last linear layer sees, [B, D]; arguments as for a call."""
        self._needs_features()
        return self._enter(params, x, train, update, "features")

    def both(
        self, params: Mapping[str, torch.Tensor], x: torch.Tensor, *, train: bool = True, update: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, C, H, W] -> logits [B, K] and features [B, D]; arguments as for a call.

        One forward gives both, but for a module of one's own with a method ``features``, which may differ from its forward.
        """
        self._needs_features()
        return self._enter(params, x, train, update, "both")

    def _needs_features(self) -> None:
        if self.last == "":
            raise UsageError(
                f"network {self.name} has neither a method features(x) -> [B, D] nor an nn.Linear whose input could "
                "be taken; give it the method"
            )

    def layers(
        self, params: Mapping[str, torch.Tensor], x: torch.Tensor, *, train: bool = True, update: bool = True
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """[B, C, H, W] -> the maps [B, C', H', W'] after each block's activation, before its pooling; and the features.

        One forward gives both; arguments as for a call.

        Raises:
            UsageError: a network that is no plain chain of blocks and says nothing of its layers.
        """
        if not self.has_layers:
            raise UsageError(
                f"network {self.name} offers no layers to compare; take convnet, vgg11 or alexnet, or give it a method "
                "layers(x) -> (list of maps [B, C, H, W], features [B, D])"
            )
        return self._enter(params, x, train, update, "layers")

    def norms(
        self, params: Mapping[str, torch.Tensor], x: torch.Tensor
    ) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
        """[B, C, H, W] -> what enters each batch norm, [B, C', H', W'] in the order in which it comes; logits and features.

        One forward in evaluation mode, but for modules as in :meth:`both`; not under ``torch.compile``.
        """
        seen: list[torch.Tensor] = []
        batch_norms = [m for m in vars(self)["_eval"].modules() if isinstance(m, _BatchNorm)]
        taps = [m.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for m in batch_norms]
        once = vars(self)["_eval"].gives_both
        try:
            logits, features = (
                self.both(params, x, train=False) if once else (None, self.features(params, x, train=False))
            )
        finally:
            for tap in taps:
                tap.remove()
        return seen, self(params, x, train=False) if logits is None else logits, features

    def _enter(self, params: Mapping[str, torch.Tensor], x: torch.Tensor, train: bool, update: bool, want: Want) -> Any:
        mode = "eval" if not train else "train" if update else "still"
        skeleton: Skeleton = getattr(self, f"_{mode}")
        return functional_call(skeleton, {f"net.{name}": params[name] for name in skeleton.holds}, (x, want))

    @property
    def batch_norms(self) -> int:
        """How many batch norms it has."""
        return sum(isinstance(m, _BatchNorm) for m in vars(self)["_eval"].modules())

    @cached_property
    def macs(self) -> int:
        """Multiply-adds of one forward of one image: convolutions, linear layers and attention."""
        params = self.init(Seeds())
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self(params, torch.zeros(1, self.channels, *self.size), train=False)
        return counter.get_total_flops() // 2


def method(module: nn.Module, name: str) -> bool:
    """Whether a module has a method of that name; a submodule, which can be called too, is none."""
    found = getattr(module, name, None)
    return callable(found) and not isinstance(found, nn.Module)


def tensors(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Parameters, then buffers, by name; a tensor with two names appears once."""
    return [*module.named_parameters(), *module.named_buffers()]


def hollow(module: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers have shapes but no numbers; tensors that were shared stay shared."""
    memo: dict[int, object] = {id(b): b.to("meta") for b in module.buffers()}
    memo |= {id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in module.parameters()}
    return copy.deepcopy(module, memo)


def uncounted(module: nn.Module) -> nn.Module:
    """Stops every batch norm from counting its batches, where its running average does not need the count.

    ``torch.func.grad`` refuses to count a captured tensor up, though it lets the statistics themselves be overwritten.
    Changes ``module``.
    """
    for m in module.modules():
        if isinstance(m, _BatchNorm) and m.momentum is not None:
            m.num_batches_tracked = None
    return module


def unrecorded(module: nn.Module) -> nn.Module:
    """Makes every batch norm use the batch and keep nothing of it; changes ``module``."""
    for m in module.modules():
        if isinstance(m, _BatchNorm):
            m.running_mean = m.running_var = m.num_batches_tracked = None
            m.track_running_stats = False
    return module


def chosen(module: nn.Module) -> nn.Module:
    """Makes every ReLU a :class:`~attar.nets.layers.Choice`, but one that overwrites or has hooks; changes ``module``."""
    for name, m in list(module.named_modules()):
        watched = m._forward_hooks or m._forward_pre_hooks
        if name and type(m) is nn.ReLU and not m.inplace and not watched:
            module.set_submodule(name, Choice())
    return module
