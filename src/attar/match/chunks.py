"""Which kept examples the steps of an inner training take, where their number is not known when chance is drawn."""

from __future__ import annotations

import torch

ODD = 0x9E3779B97F4A7C15 - 2**64
"""2^64 over the golden ratio, as int64."""
MIX = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)


def chunks(m: int, size: int | None, keys: torch.Tensor) -> list[torch.Tensor]:
    """Consecutive chunks of random orders of m examples, a new order whenever one is used up (its last chunk may be short).

    A tensor function of ``keys`` alone: budgets that share a draw each get orders of their own length.

    Args:
        size: examples of a chunk; None, or m and more, takes all of them each time.
        keys: int64 [T], from a generator; as many chunks are made.

    Returns:
        T times int64 [B].
    """
    if size is None or size >= m:
        return [torch.arange(m, device=keys.device)] * len(keys)
    found: list[torch.Tensor] = []
    for key in keys:
        if len(found) >= len(keys):
            break
        found += order(m, key).split(size)
    return found[: len(keys)]


def order(m: int, key: torch.Tensor) -> torch.Tensor:
    """A permutation of m that a number decides: int64 [m].

    Every position gets 64 well-mixed bits (the finaliser of Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
    Generators", OOPSLA 2014) and they are sorted.
    """
    bits = torch.arange(1, m + 1, device=key.device) * ODD + key
    for factor, shift in zip(MIX, (30, 27)):
        bits = (bits ^ (bits >> shift)) * factor
    return (bits ^ (bits >> 31)).argsort(stable=True)
