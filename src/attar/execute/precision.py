"""Float32 where half precision would turn a gradient aside, in the middle of work that the plan runs in half precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


@contextmanager
def full(device: torch.device, *, unless: bool = False) -> Iterator[Callable[[], AbstractContextManager[object]]]:
    """Float32 inside the block.

    Derivatives of gradients may need it: of DC and DSA (CIFAR-10, ConvNet-3 of width 128, 10 images per class) those in half
    precision are at a cosine of .985 and .988 to those in float32.

    Args:
        device: whose precision.
        unless: leaves everything as it is.

    Yields:
        A function of no arguments whose block computes in the precision from outside.
    """
    if unless:
        yield nullcontext
        return
    kind = device.type
    half, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    with torch.autocast(kind, enabled=False):
        yield lambda: torch.autocast(kind, dtype=dtype, enabled=half, cache_enabled=False)
