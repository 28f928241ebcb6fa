"""Budgets divide exactly: against plain counting, one example at a time."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.budget import Budget, largest_remainder, level
from attar.errors import DataError, UsageError

sizes_ = st.lists(st.integers(0, 40), min_size=1, max_size=7).filter(sum)


@given(sizes_, st.integers(0, 300))
def test_level_equals_giving_one_at_a_time(sizes: list[int], total: int) -> None:
    """Each example goes to the class that has the fewest so far and can still give one, ties to the lower class."""
    total = min(total, sum(sizes))
    given_ = [0] * len(sizes)
    for _ in range(total):
        k = min((k for k in range(len(sizes)) if given_[k] < sizes[k]), key=lambda k: (given_[k], k))
        given_[k] += 1
    assert level(total, sizes) == given_


@given(sizes_, st.integers(1, 300))
def test_level_is_nested_exact_and_capped(sizes: list[int], total: int) -> None:
    total = min(total, sum(sizes))
    parts, fewer = level(total, sizes), level(total - 1, sizes)
    assert sum(parts) == total
    assert all(0 <= p <= s for p, s in zip(parts, sizes))
    assert sum(p - f for p, f in zip(parts, fewer)) == 1
    assert all(p >= f for p, f in zip(parts, fewer))


@given(sizes_, st.integers(0, 500))
def test_largest_remainder_without_caps_stays_within_one_of_the_quota(shares: list[int], total: int) -> None:
    parts = largest_remainder(total, shares)
    quota = [Fraction(total * s, sum(shares)) for s in shares]
    assert sum(parts) == total
    assert all(int(q) <= p <= int(q) + 1 and abs(p - q) < 1 for p, q in zip(parts, quota))
    lifted = [q - int(q) for p, q in zip(parts, quota) if p > q]
    left = [q - int(q) for p, q in zip(parts, quota) if p < q]
    assert not lifted or not left or min(lifted) >= max(left)


@given(sizes_, st.integers(0, 300), st.lists(st.integers(0, 40), min_size=7, max_size=7))
def test_largest_remainder_with_caps_is_exact_where_it_can_be(shares: list[int], total: int, caps: list[int]) -> None:
    caps = caps[: len(shares)]
    parts = largest_remainder(total, shares, caps)
    room = sum(c for c, s in zip(caps, shares) if s)
    assert sum(parts) == min(total, room)
    assert all(0 <= p <= c for p, c in zip(parts, caps))
    assert all(p == 0 for p, s in zip(parts, shares) if s == 0)


@given(sizes_, st.integers(1, 280), st.booleans())
def test_counts_of_rows(sizes: list[int], rows: int, balanced: bool) -> None:
    budget = Budget(rows=rows)
    if rows > sum(sizes):
        with pytest.raises(DataError, match=f"{rows} examples but there are {sum(sizes)}"):
            budget.counts(sizes, balanced=balanced)
        assert sum(budget.counts(sizes, balanced=balanced, limited=False)) == rows
        return
    parts = budget.counts(sizes, balanced=balanced)
    assert sum(parts) == rows == budget.total(sizes)
    assert all(p <= s for p, s in zip(parts, sizes))
    open_ = [p for p, s in zip(parts, sizes) if p < s]
    assert not balanced or not open_ or max(parts) - min(open_) <= 1


@given(sizes_, st.decimals(min_value="0.001", max_value=1, places=3))
def test_counts_of_a_fraction(sizes: list[int], share) -> None:
    budget = Budget(fraction=float(share))
    exact = Fraction(share) * sum(sizes)
    total = budget.total(sizes)
    assert total == max(1, round(exact))
    assert sum(budget.counts(sizes)) == total
    assert sum(budget.counts(sizes, balanced=False)) == total


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(1, 25))
def test_counts_of_images_per_class(sizes: list[int], ipc: int) -> None:
    budget = Budget(ipc=ipc)
    if ipc > min(sizes):
        with pytest.raises(DataError, match=f"class 'c{next(k for k, s in enumerate(sizes) if s < ipc)}' has"):
            budget.counts(sizes, names=[f"c{k}" for k in range(len(sizes))])
    else:
        assert budget.counts(sizes) == [ipc] * len(sizes)
    assert budget.counts(sizes, limited=False) == [ipc] * len(sizes)


@given(st.integers(1, 5000), st.integers(1, 300))
def test_bytes_never_buy_more_than_they_hold(size: int, example: int) -> None:
    budget = Budget(bytes=size)
    if size < example:
        with pytest.raises(UsageError, match=f"raise it to {example}"):
            budget.total([10], example)
    else:
        rows = budget.total([10], example)
        assert rows * example <= size < (rows + 1) * example


@pytest.mark.parametrize("name", ["ipc", "rows", "bytes"])
@pytest.mark.parametrize("value", [0, -3, 2.5, 2.0, float("nan"), float("inf"), "3"])
def test_only_whole_numbers_from_one_on(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"{name}={value} must be a whole number"):
        Budget(**{name: value})


@pytest.mark.parametrize("value", [0.0, -0.1, 1.5, float("nan")])
def test_only_fractions_up_to_one(value: float) -> None:
    with pytest.raises(UsageError, match=f"fraction={value} is not in"):
        Budget(fraction=value)


def test_exactly_one_budget() -> None:
    with pytest.raises(UsageError, match="but got nothing"):
        Budget()
    with pytest.raises(UsageError, match="but got ipc, rows"):
        Budget(ipc=1, rows=2)
