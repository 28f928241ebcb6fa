"""Half precision is for networks: every method runs in it to its end, and what it hands over is whole."""

from __future__ import annotations

import pytest
import torch
from small_methods import small

from attar import registry
from attar.budget import Budget
from attar.execute.plan import Plan
from attar.execute.progress import Silent
from attar.resources.build import gather
from attar.run import run
from attar.testing.toys import toy
from attar.testing.trial import folder


@pytest.mark.parametrize("name", [e.name for e in registry.METHODS if e.name != "csod"])
def test_every_method_runs_in_half_precision(name: str) -> None:
    method, real, plan = small(name), toy(), Plan(dtype="bfloat16")
    with folder():
        res = gather(method, real, seed=0, plan=plan, progress=Silent())
    state = run(method, real, [Budget(ipc=2)], seed=0, plan=plan, res=res).states[0]
    rows = method.finish(state, res)
    kept = [*state.values(), *rows.columns.values(), *rows.extra.values()]
    assert {v.dtype for v in kept if v.is_floating_point()} <= {torch.float32, torch.float64}
    assert all(torch.isfinite(v).all() for v in rows.columns.values())
