"""What a test draws without a seed of its own is the same in every run, or a difference across a kink fails now and then."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def same_chance() -> None:
    """Seeds torch's global generator. NumPy's is left to chance: whoever uses it is to be found out."""
    torch.manual_seed(0)
