"""The conformance suite that every method passes, ours and yours.

>>> import attar.testing
>>> done = attar.testing.check_method("random")
>>> "exact_budget" in done
True

In a test file, every check stands as a test of its own::

    @attar.testing.parametrize("my_method.py:MyMethod")
    def test_conforms(method, check):
        attar.testing.CHECKS[check](method)

The real sets of the checks are made in :mod:`attar.testing.toys`; nothing is read, and all is written to temporary folders.
Not checked here: a process that is killed (the project's own tests do that for the loop, which is the same for all
methods), and other devices than the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attar.errors import UsageError, nearest
from attar.method import Method
from attar.testing import hooks, learn, limits, results, traces, words
from attar.testing.trial import method_of

CHECKS: dict[str, Callable[[Method], None]] = {
    "same_seed_same_bytes": results.same_seed_same_bytes,
    "other_seed_differs": results.other_seed_differs,
    "resume_same_bytes": results.resume_same_bytes,
    "several_budgets": results.several_budgets,
    "exact_budget": results.exact_budget,
    "labels_and_weights": results.labels_and_weights,
    "rows_are_source_rows": results.rows_are_source_rows,
    "order_of_rows": results.order_of_rows,
    "finish_twice": results.finish_twice,
    "state_is_tensors": hooks.state_is_tensors,
    "draw_is_pure": hooks.draw_is_pure,
    "loss_is_pure": hooks.loss_is_pure,
    "loss_decreases": hooks.loss_decreases,
    "float64_agrees": hooks.float64_agrees,
    "cost_of_memory": hooks.cost_of_memory,
    "one_class": limits.one_class,
    "one_row_per_class": limits.one_row_per_class,
    "too_much_is_refused": limits.too_much_is_refused,
    "any_shape": limits.any_shape,
    "uneven_classes": limits.uneven_classes,
    "nan_is_refused": limits.nan_is_refused,
    "source_unchanged": traces.source_unchanged,
    "artifact_opens": traces.artifact_opens,
    "no_side_effects": traces.no_side_effects,
    "no_network_no_stray_files": traces.no_network_no_stray_files,
    "progress_and_log": traces.progress_and_log,
    "docstrings": words.docstrings,
    "settings_round_trip": words.settings_round_trip,
    "flags_round_trip": words.flags_round_trip,
    "beats_random": learn.beats_random,
}
"""Name -> check. A check takes a method with its settings and raises AssertionError with what is wrong."""

ONLY = {
    "rows_are_source_rows": "select",
    "order_of_rows": "select",
    "draw_is_pure": "distill",
    "loss_is_pure": "distill",
    "loss_decreases": "distill",
    "float64_agrees": "distill",
    "beats_random": "distill",
}
"""Checks that ask something of one kind of method alone."""

OPTIONAL = ("beats_random",)
"""Checks that are left out unless they are named: a good method may fail them at such small settings."""


def check_method(method: Method | type[Method] | str, *, checks: Iterable[str] | None = None) -> list[str]:
    """Runs the conformance checks on one method.

    Args:
        method: a method with its settings, as it is; a class or a name (``dm``, ``my.py:MyMethod``) is tried with small
            settings (3 steps, batches of 4, a tiny network).
        checks: names out of :data:`CHECKS`; None for all that apply (:func:`checks_for`).

    Returns:
        The names of the checks that were done.

    Raises:
        AssertionError: the first check that fails, by name, with what it found.
        UsageError: an unknown check or method.
    """
    made = method_of(method)
    names = checks_for(made) if checks is None else list(checks)
    for name in names:
        if name not in CHECKS:
            raise UsageError(f"there is no check '{name}'; {nearest(name, CHECKS)}")
    for name in names:
        try:
            CHECKS[name](made)
        except Exception as e:
            why = str(e) if isinstance(e, AssertionError) else f"{type(e).__name__}: {e}"
            raise AssertionError(f"{type(made).__name__} fails the check '{name}': {why}") from e
    return names


def checks_for(method: Method) -> list[str]:
    """The checks that apply to a method, optional ones left out."""
    return [name for name in CHECKS if ONLY.get(name, method.kind) == method.kind and name not in OPTIONAL]


def parametrize(*methods: Method | type[Method] | str) -> Any:
    """The pytest mark that runs a test for every method and every check that applies to it, as (method, check)."""
    import pytest

    made = [method_of(method) for method in methods]
    pairs = [(method, check) for method in made for check in checks_for(method)]
    return pytest.mark.parametrize("method, check", pairs, ids=[f"{type(m).__name__}-{check}" for m, check in pairs])
