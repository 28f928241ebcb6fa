"""Compiled losses against eager ones, and what happens without a C++ compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch._dynamo import config as dynamo
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

from attar.budget import Budget
from attar.distill.dc import DC
from attar.distill.dcc import DCC
from attar.distill.dm import DM
from attar.distill.dsa import DSA
from attar.distill.idc import IDC
from attar.errors import ResourceError
from attar.execute import plan
from attar.execute.compile import fast, in_parts, switched
from attar.execute.plan import Plan
from attar.method import Method
from attar.nets.layers import Choice
from attar.resources.dynamics import Dynamics
from attar.resources.experts import Expert
from attar.resources.network import TrainedNetwork
from attar.run import run, tensors_of
from attar.testing.toys import toy
from attar.testing.trial import Moment, moment

needs_compiler = pytest.mark.skipif(not plan.compiler_at_hand(), reason="compiling on the CPU needs a C++ compiler")
NET = "convnet:width=4:depth=1"
METHODS = {
    "dm": DM(steps=3, batch=4, net=NET),
    "dc": DC(steps=3, batch=4, net=NET, outer=2, inner=1),
    "dsa with batch norm": DSA(steps=3, batch=4, net=NET + ":norm=batch", augment="flip", outer=2, inner=1),
    "dcc": DCC(steps=3, batch=4, net=NET, outer=2, inner=1),
    "idc": IDC(steps=3, batch=4, batch_net=4, net=NET, outer=2, inner=1, lr_img=0.5),
}

TRAINED = {"net": NET, "epochs": 3, "batch": 16, "lr": 0.05}
RESOURCES = {
    "expert": Expert(**TRAINED),
    "expert in a flat valley": Expert(**TRAINED, rho=0.01, alpha=0.3),
    "dynamics": Dynamics(**TRAINED, augment="flip"),
    "dynamics seen apart": Dynamics(**{**TRAINED, "net": NET + ":norm=batch"}, view="eval", augment="flip"),
    "dynamics of distributions": Dynamics(**TRAINED, window=3, distributions=True),
    "network": TrainedNetwork(**{**TRAINED, "net": NET + ":norm=batch"}),
}


@contextmanager
def compiling() -> Iterator[None]:
    """Compiles inside the block, where a function that cannot be compiled is an error and not left eager."""
    counters.clear()
    with switched(True), dynamo.patch(suppress_errors=False):
        yield
    assert counters["stats"]["unique_graphs"] > 0
    assert not counters["graph_break"], dict(counters["graph_break"])


def loss_and_gradient(method: Method, at: Moment) -> tuple[torch.Tensor, torch.Tensor]:
    image = at.state["image"].clone().requires_grad_()
    loss = fast(method.loss)({**at.state, "image": image}, tensors_of(at.batch))
    return loss.detach(), torch.autograd.grad(loss, image)[0]


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_compiled_loss_agrees_with_eager(name: str) -> None:
    method = METHODS[name]
    at = moment(method)
    loss, grad = loss_and_gradient(method, at)
    with compiling():
        same_loss, same_grad = loss_and_gradient(method, at)
    assert torch.allclose(loss, same_loss, rtol=1e-4)
    assert float((grad - same_grad).norm()) < 1e-4 * float(grad.norm())


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_compiled_run_ends_where_an_eager_one_does(name: str) -> None:
    budget = Budget(ipc=2)
    eager = run(METHODS[name], toy(), [budget], seed=0, plan=Plan()).states[0]
    with dynamo.patch(suppress_errors=False):
        one, two = (run(METHODS[name], toy(), [budget], seed=0, plan=Plan(compiled=True)).states[0] for _ in range(2))
    assert torch.equal(one["image"], two["image"])
    assert torch.allclose(one["image"], eager["image"], rtol=1e-3, atol=1e-4)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", RESOURCES)
def test_a_compiled_training_gives_what_an_eager_one_does(name: str) -> None:
    task, found = RESOURCES[name], []
    for compiled in (False, True):
        with dynamo.patch(suppress_errors=False):
            state = run(task, toy(), [None], seed=0, plan=Plan(compiled=compiled)).states[0]
        found.append(task.finish(state, {}))
    eager, compiled = found
    assert eager.keys() == compiled.keys()
    for key, value in eager.items():
        assert torch.allclose(value.double(), compiled[key].double(), rtol=1e-3, atol=1e-4), key


def test_a_loss_in_parts_is_not_compiled_whole() -> None:
    """Its graph would grow with the classes."""

    @in_parts
    def loop(x: torch.Tensor) -> torch.Tensor:
        return x

    with switched(True):
        assert fast(loop) is loop
        assert fast(METHODS["dc"].loss) == METHODS["dc"].loss
        assert fast(METHODS["dm"].loss) != METHODS["dm"].loss
    assert fast(METHODS["dm"].loss) == METHODS["dm"].loss


@needs_compiler
@pytest.mark.slow
def test_a_function_that_the_compiler_refuses_stays_eager(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    x = torch.linspace(-2, 2, 77)

    def wave(x: torch.Tensor) -> torch.Tensor:
        return (x.sin() + x * 3).sum()

    with switched(True), inductor.patch({"cpp.cxx": (str(broken),), "fx_graph_cache": False}):
        assert float(fast(wave)(x)) == float(wave(x))
        with dynamo.patch(suppress_errors=False), pytest.raises(Exception, match=r"(?i)compile"):
            fast(lambda x: wave(x) * 2)(x)


@needs_compiler
@pytest.mark.slow
def test_a_function_is_compiled_for_every_network_that_it_meets() -> None:
    """Also for the ninth, at which torch would give up by itself: eager, and with a warning of many lines."""

    def shifted(x: torch.Tensor, name: str) -> torch.Tensor:
        return x + (len(name) if torch.compiler.is_compiling() else -1)

    names = [f"network {'n' * i}" for i in range(10)]
    with switched(True):
        found = [float(fast(shifted)(torch.zeros(3), name)[0]) for name in names]
    assert found == [len(name) for name in names]


def test_the_switch_leaves_no_trace(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    for given in (None, "/somewhere/else"):
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
        if given:
            monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", given)
        before = dict(os.environ), dynamo.suppress_errors
        with switched(True):
            assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == (
                given or str(tmp_path / "compiled" / f"torch-{torch.__version__}")
            )
        assert (dict(os.environ), dynamo.suppress_errors) == before


@pytest.mark.parametrize("first", ["", "import torch._dynamo"])
def test_code_is_compiled_into_the_cache_whoever_imports_the_compiler(tmp_path, first: str) -> None:
    """That import names a folder of torch's own in the environment, for which nobody asked."""
    script = f"import os; from attar.execute.compile import *; {first}\nwith switched(True): print(os.environ[CACHE])"
    unset = {k: v for k, v in os.environ.items() if k != "TORCHINDUCTOR_CACHE_DIR"}
    said = subprocess.run(
        [sys.executable, "-c", script], env={**unset, "ATTAR_CACHE": str(tmp_path)}, text=True, capture_output=True
    )
    assert said.stdout.strip() == str(tmp_path / "compiled" / f"torch-{torch.__version__}")


CREW = """
import torch

from attar.execute import crew
from attar.execute.compile import fast, switched
from attar.execute.progress import Silent


def piece(n):
    def work(progress):
        with switched(True):
            return float(fast(lambda x: ((x - n).tanh() + n).sum())(torch.ones(99)))

    return work


for n in range(2, 4):
    piece(n)(Silent())  # the compiler's threads wait in this process from now on
found = crew.done([piece(n) for n in range(2)], workers=2, progress=Silent(), label="work", total=2)
assert all(abs(value - (torch.ones(99) - n).tanh().sum() - 99 * n) < 1e-3 for n, value in enumerate(found))
"""


@needs_compiler
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_a_crew_compiles_where_its_parent_has(tmp_path) -> None:
    """The parent's compiler has threads, of which a fork knows and which it does not have: it would wait for ever."""
    script = {"ATTAR_CACHE": str(tmp_path), "TORCHINDUCTOR_COMPILE_THREADS": "2"}
    subprocess.run([sys.executable, "-c", CREW], env={**os.environ, **script}, check=True, timeout=300)


def test_without_a_compiler_a_long_run_is_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    long = {"device": "cpu", "flops_per_step": 1e12, "flops": 1e16}
    monkeypatch.setattr(plan, "compiler_at_hand", lambda: True)
    assert plan.make(**long).compiled
    assert not plan.make(device="cpu", flops_per_step=1e3, flops=1e4).compiled
    monkeypatch.setattr(plan, "compiler_at_hand", lambda: False)
    assert not plan.make(**long).compiled
    assert not plan.make(**long, compiled=False).compiled
    with pytest.raises(ResourceError, match=r"needs a C\+\+ compiler .* install g\+\+"):
        plan.make(device="cpu", compiled=True)


def test_a_compiler_is_looked_for_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not plan.compiler_at_hand()
    tool = tmp_path / "g++"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert plan.compiler_at_hand()


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_compiled_choice_is_a_relu_with_its_slope(dtype: torch.dtype) -> None:
    x = torch.tensor([-torch.inf, -2.0, -0.0, 0.0, 1e-30, 2.0, torch.inf, torch.nan], dtype=dtype).repeat(9)
    leaf = x.clone().requires_grad_()
    with compiling():
        y = fast(Choice())(leaf)
        slope = torch.autograd.grad(y.sum(), leaf)[0]
    assert torch.equal(y.nan_to_num(7.0), torch.relu(x).nan_to_num(7.0))
    assert y.isnan().equal(x.isnan())
    seen = ~x.isnan()
    assert torch.equal(slope[seen], (x > 0).to(dtype)[seen])
