"""What a test draws without a seed of its own is the same in every run, or a difference across a kink fails now and then."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
import torch


@pytest.fixture(autouse=True)
def same_chance() -> None:
    """Seeds torch's global generator. NumPy's is left to chance: whoever uses it is to be found out."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def control_c() -> None:
    """Gives control-C its usual effect, here and in the processes of tests: in the background a shell lets it be ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def ray_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Ray cluster of two nodes of one core each on this machine, with a cache of their own, which this process has joined."""
    ray = pytest.importorskip("ray", reason="the package ray is not installed")
    from ray.cluster_utils import Cluster

    made = Cluster()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ATTAR_CACHE", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("nodes")))
        try:
            for _ in range(2):
                made.add_node(num_cpus=1, object_store_memory=80 * 2**20)
            ray.init(address=made.address, log_to_driver=False, logging_level="error")
        except Exception as e:  # Ray gives a node so many seconds to start, which a busy machine may not keep
            made.shutdown()
            pytest.skip(f"Ray could not start two nodes here: {type(e).__name__} {e}")
        yield made
        ray.shutdown()
        made.shutdown()
