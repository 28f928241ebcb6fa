"""One switch between eager and compiled functions, so that a method says what may be compiled and never whether."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, TypeVar

import torch

Function = TypeVar("Function", bound=Callable[..., Any])

CACHE, THREADS = "TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_COMPILE_THREADS"

FORKED = 4
"""Threads at most that compile in a fork: forks that do the same work compile each function once, and more wait than work."""

FORMS = 128
"""Compiled forms of one function at most: networks x shapes x threads."""

_on: ContextVar[bool] = ContextVar("compiled", default=False)


@contextmanager
def switched(to: bool) -> Iterator[None]:
    """Whether :func:`fast` compiles inside the block."""
    token = _on.set(to)
    try:
        with _compiler() if to else nullcontext():
            yield
    finally:
        _on.reset(token)


@contextmanager
def _compiler() -> Iterator[None]:
    """Compiled code goes to attar's cache; torch's settings and the environment are afterwards what they were."""
    before = os.environ.get(CACHE)
    try:
        os.environ[CACHE] = _folder(before)
        from torch._dynamo import config

        # A compiler that is there but fails (no headers, no space) must not end a run: that function then stays eager. One
        # loss meets every network, size of batch and number of threads; past torch's limit it would be eager, and of other
        # bits than where fewer came before it.
        with config.patch(suppress_errors=True, recompile_limit=FORMS):
            yield
    finally:
        os.environ.pop(CACHE, None)
        if before is not None:
            os.environ[CACHE] = before


def _folder(named: str | None) -> str:
    """Where compiled code is kept: in the folder that the environment names, else in attar's cache.

    The folder of torch's own counts as none: torch names it itself, wherever it first imports its compiler.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    from attar.real.cache import root

    if named is None or named == os.path.abspath(default_cache_dir()):
        return str(root() / "compiled" / f"torch-{torch.__version__}")
    return named


def forked() -> None:
    """From now on this process compiles with threads of its own; for a fork, to be called before it compiles.

    The compiler's pool of the parent has no threads in it, and what is handed to that pool is waited for in vain.
    """
    config, pools = (sys.modules.get(f"torch._inductor.{name}") for name in ("config", "async_compile"))
    if config is None:  # not imported yet: it will have a pool of this process's, as large as the environment says
        os.environ[THREADS] = str(_at_most_a_few(os.environ.get(THREADS)))
        return
    config.compile_threads = _at_most_a_few(config.compile_threads)  # pyright: ignore[reportAttributeAccessIssue]
    if pools is not None:
        pools.AsyncCompile.pool.cache_clear()


def _at_most_a_few(threads: str | int | None) -> int:
    """Threads that compile in each of many processes."""
    return min(int(threads or os.cpu_count() or 1), FORKED)


def on() -> bool:
    """Whether :func:`fast` compiles now."""
    return _on.get()


def fast(fn: Callable[..., Any], *, varied: bool = False) -> Callable[..., Any]:
    """``fn`` itself, or its compiled form where the plan in force says so.

    ``fn`` must be hashable, equal for equal work (a bound method of a frozen object), and a function of tensors.

    Args:
        fn: what is called.
        varied: the shapes differ from call to call: compiled once for all of them, else once for each.
    """
    return _compiled(fn, varied) if on() and not getattr(fn, "in_parts", False) else fn


def in_parts(fn: Function) -> Function:
    """Marks a function that calls :func:`fast` on its parts, as a loop over classes does, and stays eager itself.

    Compiled whole, the loop would be unrolled: a graph that grows with the classes and takes minutes to compile.
    """
    fn.in_parts = True  # pyright: ignore[reportFunctionMemberAccess]
    return fn


@lru_cache(maxsize=64)
def _compiled(fn: Callable[..., Any], varied: bool) -> Callable[..., Any]:
    return torch.compile(fn, dynamic=varied)
