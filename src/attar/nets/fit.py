"""Networks beside real sets and states: the one that fits, its tensors in a state, its memory."""

from __future__ import annotations

from functools import lru_cache

import torch

from attar.nets.build import Spec, build
from attar.nets.net import Net, Params
from attar.real.realset import RealSet
from attar.seeds import Seeds


def net_of(spec: Spec, real: RealSet) -> Net:
    """The network that ``spec`` names, for the images and classes of a real set; without classes it has a single output."""
    c, h, w = real.shape
    return build(spec, channels=c, size=(h, w), classes=max(1, real.n_classes))


def prefixed(params: Params) -> Params:
    """Parameters as entries of a state: ``net.NAME``."""
    return {f"net.{name}": value for name, value in params.items()}


def unprefixed(state: Params) -> Params:
    """The parameters that :func:`prefixed` put into a state; moments (``net.NAME.momentum``) stay behind."""
    named = {k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")}
    return {k: v for k, v in named.items() if k.rpartition(".")[0] not in named}


@lru_cache(maxsize=64)
def activation_bytes(net: Net) -> int:
    """Bytes that autograd keeps of one image's forward in float32, parameters left out."""
    params = {k: v.requires_grad_(k in net.trainable) for k, v in net.init(Seeds()).items()}
    own = {v.untyped_storage().data_ptr() for v in params.values()}
    kept: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        if x.untyped_storage().data_ptr() not in own:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = net(params, torch.zeros(1, net.channels, *net.size), train=False)
    del out
    return sum(kept.values())
