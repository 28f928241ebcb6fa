"""Words for numbers, and tolerant reading."""

from __future__ import annotations

import math
from typing import Any

import pytest

from attar.report import facts, wording


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines\tand", "two lines and"),
        ("a\x00b\x1b[31m", "a\ufffdb\ufffd[31m"),
        ("\u202eevil", "\ufffdevil"),
        ("\ud800", "\ufffd"),
        ("é 数 😀", "é 数 😀"),
        ("x" * 500, "x" * 200 + "…"),
        (None, "none"),
        (True, "yes"),
        (0.1, "0.1"),
        (1e-5, "1e-05"),
        ([1, [2.5, None]], "1, 2.5, none"),
        ({"a": {"b": 1}}, "a: b: 1"),
        ([], "none"),
    ],
)
def test_any_value_becomes_one_harmless_line(value: Any, shown: str) -> None:
    assert facts.text(value) == shown
    facts.text(value).encode()


def test_what_is_too_deep_or_too_long_to_write_is_said_so() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert facts.text(deep) == facts.text(10**5000) == "too large to show"


@pytest.mark.parametrize("value", [None, True, "1", [], math.nan, math.inf, -math.inf, 10**400])
def test_what_is_no_finite_number_is_none(value: Any) -> None:
    assert facts.number(value) is None


def test_a_score_is_read_whole() -> None:
    s = facts.score(
        {
            "network": "convnet",
            "last_mean": 0.5,
            "last_std": 0.1,
            "interval": [0.6, 0.4],
            "accuracies": [0.4, "x", 0.6],
            "baseline": {"random": {"last_mean": 0.3, "seeds": 2}, "full": None, "other": {}},
        }
    )
    assert s.kept is not None
    assert s.kept.interval == (0.4, 0.6) and s.kept.each == (0.4, 0.6) and s.kept.seeds == 2
    assert set(s.baselines) == {"random"} and s.baselines["random"].seeds == 2
    assert s.protocol == ""


def test_a_command_of_several_words_is_quoted() -> None:
    assert facts.step({"command": ["attar", "select", "my photos"]}).command == "attar select 'my photos'"


@pytest.mark.parametrize(
    ("n", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (25_600, "25.6 kB"),
        (999_700, "1 MB"),
        (5e12, "5 TB"),
        (4e15, "4e+03 TB"),
    ],
)
def test_sizes(n: float, said: str) -> None:
    assert wording.size(n).replace(wording.NARROW, " ") == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.042, "0.042 s"),
        (3.44, "3.4 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (7260, "2 h 1 min"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert wording.duration(seconds).replace(wording.NARROW, " ") == said


def test_shares() -> None:
    assert [wording.share(a, 1000).replace(wording.NARROW, " ") for a in (1, 69.5, 999, 4000)] == [
        "0.1 %",
        "6.95 %",
        "99.9 %",
        "400 %",
    ]


@pytest.mark.parametrize(
    ("method", "settings", "named"),
    [
        ("el2n", {"rule": "ccs:cutoff=0.3"}, "el2n with rule ccs"),
        ("el2n", {"rule": "top"}, "el2n"),
        ("ccs", {"rule": "ccs:strata=50"}, "ccs"),
        ("dm", {"steps": 3}, "dm"),
        ("dm", None, "dm"),
    ],
)
def test_a_rule_is_told_with_the_method(method: str, settings: object, named: str) -> None:
    assert facts.step({"method": method, "settings": settings}).named == named
