"""A network that chooses frequencies: three layers that turn noise into the places where two distributions differ most.

NCFM (Wang et al., CVPR 2025, section 3.3; its authors' ``SampleNet``): linear, batch norm and leaky ReLU (0.2), twice, then
linear, batch norm and tanh, all of the features' width; so frequencies lie between -1 and 1. It climbs the loss that images
descend.
"""

from __future__ import annotations

import math

import torch
from torch.nn.functional import batch_norm, leaky_relu, linear

from attar.method import State
from attar.seeds import Seeds

LAYERS = 3
NAMES = tuple(f"sampler.{i}.{part}" for i in range(LAYERS) for part in ("weight", "bias", "scale", "shift"))
"""Its tensors in a state."""


def first(width: int, seeds: Seeds) -> State:
    """Its first weights, as torch draws them: uniform in +-1 / sqrt(width); scales of 1, shifts of 0."""
    state: State = {}
    for i in range(LAYERS):
        g = seeds.generator("sampler", i)
        w, b = (2 * torch.rand(shape, generator=g) - 1 for shape in ((width, width), (width,)))
        state[f"sampler.{i}.weight"], state[f"sampler.{i}.bias"] = w / math.sqrt(width), b / math.sqrt(width)
        state[f"sampler.{i}.scale"], state[f"sampler.{i}.shift"] = torch.ones(width), torch.zeros(width)
    return state


def climbing(state: State) -> State:
    """Its tensors with their derivative turned round, so that one update lets images descend and them climb."""
    return {name: 2 * state[name].detach() - state[name] for name in NAMES}


def frequencies(sampler: State, noise: torch.Tensor) -> torch.Tensor:
    """Noise [F, D] -> frequencies [F, D]; batch norms take the statistics of the F."""
    t = noise
    for i in range(LAYERS):
        weight, bias, scale, shift = (sampler[f"sampler.{i}.{part}"] for part in ("weight", "bias", "scale", "shift"))
        t = batch_norm(linear(t, weight, bias), None, None, scale, shift, training=True)
        t = leaky_relu(t, 0.2) if i < LAYERS - 1 else t.tanh()
    return t
