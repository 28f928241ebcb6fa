"""What a test draws without a seed of its own is the same in every run, or a difference across a kink fails now and then."""

from __future__ import annotations

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def same_chance() -> None:
    """Seeds the global generators."""
    torch.manual_seed(0)
    np.random.seed(0)
