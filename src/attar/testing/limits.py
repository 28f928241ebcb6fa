"""Checks at the edges: few rows, few classes, odd shapes, too large budgets, broken numbers.

The contract is the same everywhere: a method does exactly what was asked for, or refuses with an AttarError.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from attar.budget import Budget
from attar.condensed import condense
from attar.errors import AttarError
from attar.execute.progress import Silent
from attar.method import Method
from attar.real.realset import RealSet
from attar.resources.build import gather
from attar.run import run
from attar.testing.toys import broken, toy, unlabelled
from attar.testing.trial import PLAN, folder, labels_of, require


def attempt(method: Method, real: RealSet, budget: Budget) -> list[int] | str:
    """Rows of every class where the method does the work, else the sentence of its refusal.

    Raises:
        AssertionError: it failed in another way, or kept a number that is not finite.
    """
    try:
        with folder():
            res = gather(method, real, seed=0, plan=PLAN, progress=Silent())
            state = run(method, real, [budget], seed=0, plan=PLAN, res=res).states[0]
            rows = method.finish(state, res)
            kept = condense(rows, real, kind="subset" if rows.picked is not None else "synthetic", lineage=[])
    except AttarError as e:
        return str(e)
    except Exception as e:
        what = f"{budget} of {len(real)} examples in classes of {real.sizes}"
        raise AssertionError(f"{what} fails with {type(e).__name__} instead of an AttarError: {e}") from e
    for name, value in {"image": kept.images, "weight": kept.weight}.items():
        require(bool(torch.isfinite(value).all()), f"the result of {budget} holds a {name} that is not finite")
    if not real.n_classes:
        return [len(rows)]
    return labels_of(rows, real).bincount(minlength=real.n_classes).tolist()


def exact_or_refused(method: Method, real: RealSet, budget: Budget) -> None:
    """Tries a budget; a refusal must be one sentence, a result must be exact."""
    found = attempt(method, real, budget)
    sizes = real.sizes or [len(real)]
    if isinstance(found, str):
        require(len(found) > 10, f"{budget} of classes of {sizes} is refused without a reason: '{found}'")
        return
    total = budget.total(sizes, real.example_bytes)
    require(sum(found) == total, f"{budget} of classes of {sizes} asks for {total} rows but {sum(found)} were kept")
    if budget.ipc is not None and getattr(method, "balanced", True):
        require(set(found) == {budget.ipc}, f"{budget} of classes of {sizes} kept {found} of the classes")


def must_work(method: Method, real: RealSet, budget: Budget) -> None:
    """Tries what every method must be able to do."""
    found = attempt(method, real, budget)
    require(
        not isinstance(found, str), f"{budget} of classes of {real.sizes}, images {real.shape}, is refused: {found}"
    )
    exact_or_refused(method, real, budget)


def one_class(method: Method) -> None:
    """A set of one class, or of none, works or is refused."""
    exact_or_refused(method, toy((12,)), Budget(ipc=2))
    exact_or_refused(method, unlabelled(12), Budget(rows=4))


def one_row_per_class(method: Method) -> None:
    """A set with one row of every class can be kept whole; fewer rows than classes leave a class out, or are refused."""
    must_work(method, toy((1, 1, 1)), Budget(ipc=1))
    exact_or_refused(method, toy((6, 6, 6)), Budget(rows=2))


def too_much_is_refused(method: Method) -> None:
    """A selector refuses more rows than there are; a distiller refuses or makes exactly so many."""
    for real, budget in _too_much():
        if method.kind == "select":
            found = attempt(method, real, budget)
            pooled = not getattr(method, "balanced", True) and budget.total(real.sizes) <= len(real)
            require(isinstance(found, str) or pooled, f"{budget} of classes of {real.sizes} is not refused")
        else:
            exact_or_refused(method, real, budget)


def _too_much() -> Sequence[tuple[RealSet, Budget]]:
    return (toy((3, 3)), Budget(ipc=4)), (toy((3, 3)), Budget(rows=7)), (toy((2, 9)), Budget(ipc=3))


def any_shape(method: Method) -> None:
    """Grey and colour, square and not, even and odd sides."""
    for channels, size in ((1, (8, 8)), (3, (12, 12)), (3, (9, 14)), (1, (7, 5))):
        must_work(method, toy((5, 5, 5), channels=channels, size=size), Budget(ipc=1))


def uneven_classes(method: Method) -> None:
    """Classes of very different sizes give exact totals; a class without rows works or is refused."""
    for budget in (Budget(ipc=2), Budget(rows=9), Budget(fraction=0.5)):
        must_work(method, toy((2, 5, 20)), budget)
    for budget in (Budget(ipc=1), Budget(rows=4)):
        exact_or_refused(method, toy((4, 0, 4)), budget)


def nan_is_refused(method: Method) -> None:
    """Images that are or become NaN end in an AttarError that says where, never in a result with a NaN."""
    real = toy()
    for sick in (broken(real, good=0), broken(real, good=2)):
        found = attempt(method, sick, Budget(ipc=2))
        if method.kind == "distill":
            refused = isinstance(found, str) and re.search(r"(?i)\bstep \d+|row \d+|NaN", found)
            require(bool(refused), f"NaN in the images is not refused with the step or row: {found}")
