"""Every registered method passes every check, and every check finds the fault that it is there for."""

from __future__ import annotations

import dataclasses
import doctest
import subprocess
import sys
from pathlib import Path

import faulty_methods
import good_methods
import pytest
from small_methods import small

import attar.testing
from attar import registry
from attar.distill.dm import DM
from attar.errors import UsageError
from attar.method import Method
from attar.testing.trial import method_of

DISTILLERS = [e.name for e in registry.METHODS if e.verb == "distill"]
HASTY = {"idc": {"lr_img": 0.5}}
"""Settings for the few steps of a check, of methods whose published rate is for a hundred thousand.

IDC's was picked out of nine that were tried on this same toy: that it passes shows that its loss teaches something, and
nothing of the published rate, at which it stays below random here."""

VARIANTS = [dataclasses.replace(small("d2"), strata=3, cutoff=0.2)]
"""Settings that take another way through a method than its defaults."""


@attar.testing.parametrize(*(small(e.name) for e in registry.METHODS), *VARIANTS)
def test_registered(method: Method, check: str) -> None:
    attar.testing.CHECKS[check](method)


@pytest.mark.parametrize("name", DISTILLERS)
def test_distillers_beat_random(name: str) -> None:
    method = dataclasses.replace(small(name), **HASTY.get(name, {}))
    assert attar.testing.check_method(method, checks=["beats_random"]) == ["beats_random"]


@attar.testing.parametrize(good_methods.Means, good_methods.First)
def test_a_plain_method_passes(method: Method, check: str) -> None:
    attar.testing.CHECKS[check](method)


@pytest.mark.parametrize("fault", faulty_methods.FAULTS)
def test_a_fault_is_found(fault: str) -> None:
    check, kind = faulty_methods.FAULTS[fault]
    with pytest.raises(AssertionError, match=f"fails the check '{check}': .{{10}}"):
        attar.testing.check_method(kind, checks=[check])


def test_every_check_finds_a_fault() -> None:
    found = {check for check, _ in faulty_methods.FAULTS.values()}
    assert set(attar.testing.CHECKS) - found == {"one_row_per_class"}  # its fault would be one of any_shape's


@pytest.mark.slow
def test_checks_hold_without_asserts() -> None:
    """``python -O`` drops assert statements: neither a refusal nor a check may rest on one."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); assert False\n"
        "import attar.testing as t, faulty_methods as f\n"
        "for name in ('random', 'herding', 'dm'): print(len(t.check_method(name)))\n"
        "try: t.check_method(f.FAULTS['one row too many'][1])\n"
        "except AssertionError as e: print(e)"
    )
    call = [sys.executable, "-O", "-c", code, str(Path(__file__).parent)]
    done = subprocess.run(call, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [int(n) for n in done[:3]] == [
        len(attar.testing.checks_for(method_of(n))) for n in ("random", "herding", "dm")
    ]
    assert "fails the check 'exact_budget'" in done[3]


def test_an_instance_is_checked_with_its_own_settings_and_a_class_with_small_ones() -> None:
    mine = DM(steps=7, net="convnet:width=4")
    assert method_of(mine) is mine
    small = method_of(DM)
    assert (small.steps, small.batch, small.net) == (3, 4, "convnet:width=8:depth=1")
    assert method_of("dm") == small
    assert dataclasses.replace(small, steps=DM().steps, batch=DM().batch, net=DM().net) == DM()


def test_names_are_returned_and_unknown_ones_refused() -> None:
    assert attar.testing.check_method("random", checks=["docstrings", "one_class"]) == ["docstrings", "one_class"]
    with pytest.raises(UsageError, match="did you mean 'one_class'"):
        attar.testing.check_method("random", checks=["one_clas"])
    with pytest.raises(UsageError, match="there is no method 'nope'"):
        attar.testing.check_method("nope")


def test_the_lists_of_checks_agree() -> None:
    assert set(attar.testing.ONLY) | set(attar.testing.OPTIONAL) <= set(attar.testing.CHECKS)
    assert "loss_decreases" not in attar.testing.checks_for(method_of("random"))
    assert "rows_are_source_rows" not in attar.testing.checks_for(method_of("dm"))
    for name, check in attar.testing.CHECKS.items():
        assert check.__doc__ and check.__name__ == name


def test_the_example_in_the_documentation_runs() -> None:
    assert doctest.testmod(attar.testing).failed == 0
    assert doctest.testmod(attar.testing).attempted > 2
