"""--dry-run: what a job will cost, before it starts."""

from __future__ import annotations

import time
from typing import Any

import torch

from attar.execute import memory
from attar.execute.plan import Plan
from attar.real.load import load
from attar.resources.zca import affordable, affordable_side
from attar.select.pick import counts
from attar.verbs.make import Job, first_images
from attar.verbs.options import side


def estimate(job: Job) -> dict[str, Any]:
    """Steps, floating-point operations, seconds and bytes of a job; the data are read (and cached) for it.

    The seconds come from a short measurement of this machine's matrix product at the plan's precision, of which
    convolutions reach about a third; they are an order of magnitude, not a promise.
    """
    if job.data.zca:
        affordable_side(side(job.data.size))
    real = load(job.source, **job.data.arguments()).train
    if job.data.zca:
        affordable(real.shape)
    cost, how, steps = job.cost(real), job.plan(real), job.method.length(real)
    sizes = real.sizes or [len(real)]
    for budget in job.budgets:
        if job.verb == "select":  # refuses what the selection would
            counts(real, budget, getattr(job.method, "balanced", True))
        else:
            first_images(job, real, budget)
    flops = job.flops(real)
    rows = [b.total(sizes, real.example_bytes) for b in job.budgets]
    return {
        "verb": job.verb,
        "method": job.name,
        "source": real.name,
        "real_rows": len(real),
        "kept_rows": rows,
        "steps": steps,
        "flops": flops,
        "seconds": round(seconds(flops, how), 1),
        "memory_bytes": int(cost.memory),
        "free_memory_bytes": memory.available(),
        "plan": how.facts(),
    }


def seconds(flops: float, how: Plan) -> float:
    """How long so many floating-point operations of networks take under a plan."""
    return flops / (speed(how) / 3)


def speed(how: Plan, side: int = 1024) -> float:
    """Floating-point operations a second of a matrix product under a plan."""
    with how.applied():
        kind = torch.bfloat16 if how.dtype == "bfloat16" else torch.float32
        a = torch.ones(side, side, device=how.device, dtype=kind)
        float((a @ a)[0, 0])
        began, n = time.perf_counter(), 0
        while time.perf_counter() - began < 0.2:
            float((a @ a)[0, 0])
            n += 1
        return n * 2 * side**3 / (time.perf_counter() - began)
