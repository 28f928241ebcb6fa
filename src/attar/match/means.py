"""Means of features by class: what distribution matching matches."""

from __future__ import annotations

import torch


def class_means(f: torch.Tensor, label: torch.Tensor, classes: int) -> torch.Tensor:
    """Means by class: f [B, D], label int64 [B] -> [K, D]; a class without examples gives zeros.

    Autocast would round the means to half precision, and what is matched is the small difference of two of them.
    """
    one_hot = torch.nn.functional.one_hot(label, classes).to(f.dtype)  # [B, K]
    with torch.autocast(f.device.type, enabled=False):
        return (one_hot.T @ f) / one_hot.sum(0).clamp(min=1)[:, None]
