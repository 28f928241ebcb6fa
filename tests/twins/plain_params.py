"""What sets are made of, decoded as the papers describe it: one image, one pixel, one term of a sum at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from plain_tiles import plain_decode

State = dict[str, torch.Tensor]


def cosine(u: int, y: int, n: int) -> float:
    """The orthonormal cosine of frequency u at place y of n."""
    return math.sqrt((1 if u == 0 else 2) / n) * math.cos(math.pi * (2 * y + 1) * u / (2 * n))


def plain_transform(image: torch.Tensor) -> torch.Tensor:
    """The cosine transform by its definition: [C, H, W] -> [C, H, W]."""
    h, w = image.shape[1:]
    out = torch.zeros_like(image)
    for u in range(h):
        for v in range(w):
            for y in range(h):
                for x in range(w):
                    out[:, u, v] += image[:, y, x] * cosine(u, y, h) * cosine(v, x, w)
    return out


def masked(mask: torch.Tensor, n: int) -> list[int]:
    """The places of the bits that are set, the highest bit of a byte first."""
    return [
        8 * i + j for i, byte in enumerate(mask.tolist()) for j in range(8) if byte >> (7 - j) & 1 and 8 * i + j < n
    ]


def frequency(stored: State, label: torch.Tensor, shape: tuple[int, int, int], fill: torch.Tensor) -> torch.Tensor:
    """Sums of cosines, one frequency and one pixel at a time."""
    c, h, w = shape
    out = torch.zeros(len(label), c, h, w, dtype=torch.float64)
    for i, k in enumerate(label.tolist()):
        places = masked(stored["mask"][k], h * w) if "mask" in stored else range(h * w)
        for j, place in enumerate(places):
            u, v = divmod(place, w)
            for y in range(h):
                for x in range(w):
                    out[i, :, y, x] += stored["frequency"][i, :, j] * cosine(u, y, h) * cosine(v, x, w)
    return out


def tiles(stored: State, label: torch.Tensor, shape: tuple[int, int, int], fill: torch.Tensor) -> torch.Tensor:
    """Tiles cut out and enlarged pixel by pixel, in the space of pixels where the fill is the same for all channels."""
    factor = math.isqrt(len(label) // len(stored["image"]))
    return plain_decode(stored["image"] - fill, factor, 0.0) + fill


def bases(stored: State, label: torch.Tensor, shape: tuple[int, int, int], fill: torch.Tensor) -> torch.Tensor:
    """Both convolutions one product at a time: a pixel sees, and is seen from, the places up to two before it."""
    c, h, w = shape
    out = []
    s = {name.removeprefix("style."): v for name, v in stored.items()}
    for b in stored["basis"]:
        for p in range(len(s["scale"])):
            image = torch.zeros(c, h, w, dtype=b.dtype) + s["decoder.bias"][p][:, None, None]
            for m in range(c):
                for y in range(h - 2):
                    for x in range(w - 2):
                        inner = (s["encoder"][p, m] * b[:, y : y + 3, x : x + 3]).sum() + s["encoder.bias"][p, m]
                        inner = s["scale"][p, m, y, x] * inner + s["shift"][p, m, y, x]
                        image[:, y : y + 3, x : x + 3] += inner * s["decoder"][p, m]
            out.append(image)
    return torch.stack(out)


def between(y: int, small: int, large: int) -> list[tuple[int, float]]:
    """The two pixels of a small column that a pixel of the large one lies between, and the weight of each."""
    place = max(0.0, (y + 0.5) * small / large - 0.5)
    below = min(math.floor(place), small - 1)
    above = min(below + 1, small - 1)
    return [(below, 1 - (place - below)), (above, place - below)]


def memory(stored: State, label: torch.Tensor, shape: tuple[int, int, int], fill: torch.Tensor) -> torch.Tensor:
    """One base and one pixel at a time, each between four pixels of the base."""
    c, h, w = shape
    out = torch.zeros(len(label), c, h, w, dtype=torch.float64)
    for i, address in enumerate(stored["address"]):
        for much, b in zip(address.tolist(), stored["base"]):
            for y in range(h):
                for x in range(w):
                    for v, down in between(y, b.shape[1], h):
                        for u, across in between(x, b.shape[2], w):
                            out[i, :, y, x] += much * down * across * b[:, v, u]
    return out / math.sqrt(c * h * w)


PLAIN: dict[str, Callable[[State, torch.Tensor, tuple[int, int, int], torch.Tensor], torch.Tensor]] = {
    "tiles": tiles,
    "frequency": frequency,
    "bases": bases,
    "memory": memory,
}
"""Name -> decoder of the stored tensors: (stored, label [M], (C, H, W), the grey of the normalised space) -> images."""
