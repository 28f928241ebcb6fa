"""Rules against plain loops: totals, strata, cutoffs, chances, and the defects that other tools have."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.registry import find
from attar.seeds import Seeds
from attar.select.rules import Pool, names, ranked, rule_of
from attar.select.rules.beta import density
from attar.testing.toys import toy

SCORES = st.lists(st.sampled_from([-3.5, -1.0, -0.25, 0.0, 0.5, 0.75, 2.0, 9.0]), min_size=1, max_size=40)
RULES = ("top", "top:skip=0.3", "stratified:strata=4", "ccs:strata=5:cutoff=0.2", "beta")


def pool(scores: list[float], seed: int = 0, ids: list[int] | None = None) -> Pool:
    """Scores as a pool; the confidence falls as the score grows."""
    score = torch.tensor(scores, dtype=torch.float64)
    return Pool(
        score=score,
        ids=torch.tensor(ids) if ids else 2 * torch.arange(len(scores)) + 1,
        seeds=Seeds(seed),
        hard=score,
        signals={"confidence": torch.sigmoid(-score).float()},
    )


@pytest.mark.parametrize("rule", RULES)
@given(scores=SCORES, data=st.data())
@settings(max_examples=60, deadline=None)
def test_exactly_k_each_once_with_its_score(rule: str, scores: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(scores)))
    picks = rule_of(rule)(pool(scores), k)
    assert len(set(picks.places.tolist())) == len(picks.places) == k
    assert picks.gain.tolist() == [scores[i] for i in picks.places.tolist()]


@given(SCORES, st.data())
@settings(deadline=None)
def test_top_is_a_sort_with_ties_to_the_lower_id(scores: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(scores)))
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    assert rule_of("top")(pool(scores), k).places.tolist() == order[:k]
    first = min(int(0.3 * len(scores)), len(scores) - k)
    assert rule_of("top:skip=0.3")(pool(scores), k).places.tolist() == order[first : first + k]


def test_what_is_left_out_is_the_hardest_and_not_the_highest() -> None:
    """Scores 0 to 9, of which the low ones are hard; a score that tells nothing of it leaves nothing out."""
    score, given = torch.arange(10.0, dtype=torch.float64), {"ids": torch.arange(10), "seeds": Seeds(0)}
    turned = Pool(score=score, hard=-score, **given)
    assert rule_of("top:skip=0.3")(turned, 5).places.tolist() == [9, 8, 7, 6, 5]
    assert rule_of("top:skip=0.3")(turned, 7).places.tolist() == [9, 8, 7, 6, 5, 4, 3]
    assert sorted(rule_of("ccs:strata=2:cutoff=0.3")(turned, 7).places.tolist()) == [3, 4, 5, 6, 7, 8, 9]
    unknown = Pool(score=score, **given)
    assert len(rule_of("ccs:cutoff=0")(unknown, 5).places) == 5
    for rule in ("top:skip=0.3", "ccs"):
        with pytest.raises(UsageError, match="does not tell which these are"):
            rule_of(rule)(unknown, 5)


@pytest.mark.parametrize(("share", "dropped"), [(0.07, 7), (0.14, 14), (0.28, 28), (0.55, 55), (0.29, 29), (0.57, 57)])
def test_shares_are_those_that_were_written(share: float, dropped: int) -> None:
    """0.07 * 100 is 7.000000000000001 in floating point, 0.29 * 100 is 28.999999999999996."""
    scores = [float(i) for i in range(100)]
    for rule in (f"top:skip={share}", f"ccs:strata=1:cutoff={share}"):
        assert max(rule_of(rule)(pool(scores), 40).places.tolist()) <= 99 - dropped
        assert max(rule_of(rule)(pool(scores), 100 - dropped).places.tolist()) == 99 - dropped


def test_the_skipped_share_shrinks_where_too_few_would_be_left() -> None:
    assert rule_of("top:skip=0.9")(pool([4.0, 3.0, 2.0, 1.0]), 3).places.tolist() == [1, 2, 3]
    assert sorted(rule_of("ccs:cutoff=0.9")(pool([4.0, 3.0, 2.0, 1.0]), 3).places.tolist()) == [1, 2, 3]


@given(SCORES, st.integers(1, 7), st.data())
@settings(deadline=None)
def test_ccs_is_the_loop_of_the_paper(scores: list[float], strata: int, data: st.DataObject) -> None:
    """The cut, the strata and the numbers of each, by loops; no scores are lost where all are negative."""
    n = len(scores)
    k = data.draw(st.integers(1, n))
    drop = min(math.ceil(0.2 * n), n - k)
    left = sorted(range(n), key=lambda i: (-scores[i], i))[drop:]
    low, high = min(scores[i] for i in left), max(scores[i] for i in left)
    stratum = {i: min(strata - 1, int((scores[i] - low) / (high - low) * strata)) if high > low else 0 for i in left}
    room, taken = Counter(stratum.values()), Counter()
    while sum(taken.values()) < k:  # one at a time to the emptiest stratum that has more, the largest first
        j = min((j for j in room if taken[j] < room[j]), key=lambda j: (taken[j], -room[j], j))
        taken[j] += 1
    found = rule_of(f"ccs:strata={strata}:cutoff=0.2")(pool(scores), k).places.tolist()
    assert set(found) <= set(left)
    assert Counter(stratum[i] for i in found) == taken


def test_ccs_keeps_the_top_example_of_negative_scores() -> None:
    """Cutting at 1.0001 times a negative maximum would lose it."""
    found = rule_of("ccs:strata=3:cutoff=0")(pool([-5.0, -4.0, -1.0]), 3).places.tolist()
    assert sorted(found) == [0, 1, 2]


def test_ccs_is_nested_while_the_cutoff_holds() -> None:
    scores = [float(x) for x in np.random.default_rng(0).normal(size=60)]
    choose, whole = rule_of("ccs:strata=7:cutoff=0.25"), pool(scores)
    longest = choose(whole, 45).places.tolist()
    for k in range(1, 45):
        assert choose(whole, k).places.tolist() == longest[:k]


@given(SCORES, st.integers(1, 9), st.data())
@settings(deadline=None)
def test_stratified_divides_by_largest_remainder(scores: list[float], strata: int, data: st.DataObject) -> None:
    n = len(scores)
    k = data.draw(st.integers(1, n))
    order = sorted(range(n), key=lambda i: (-scores[i], i))
    parts = [p.tolist() for p in np.array_split(order, min(n, strata))]
    found = set(rule_of(f"stratified:strata={strata}")(pool(scores), k).places.tolist())
    for part in parts:
        assert abs(len(found & set(part)) - k * len(part) / n) < 1 + 1e-9


def test_other_seeds_draw_others_and_another_order_the_same() -> None:
    scores = [float(x) for x in np.random.default_rng(1).normal(size=50)]
    for rule in ("stratified", "ccs", "beta"):
        drawn = {tuple(sorted(rule_of(rule)(pool(scores, seed), 10).places.tolist())) for seed in range(5)}
        assert len(drawn) > 1
    real = toy()
    order = torch.randperm(len(real), generator=Seeds(1).generator("order"))
    score = torch.randn(len(real), generator=Seeds(2).generator("score"))
    for rule in RULES:
        for balanced in (True, False):
            one, two = (
                r.ids[ranked(r, Budget(rows=9), s, rule=rule, balanced=balanced, seeds=Seeds(0), signals=c)["picked"]]
                for r, s, c in (
                    (real, score, {"confidence": score.sigmoid()}),
                    (real.subset(order), score[order], {"confidence": score[order].sigmoid()}),
                )
            )
            assert one.tolist() == two.tolist()


def test_balanced_and_not_agree_on_one_class() -> None:
    """A flag must not turn a sort around."""
    real = toy((20,))
    score = torch.randn(20, generator=Seeds(0).generator("score"))
    for rule in ("top", "stratified", "ccs"):
        one, two = (
            ranked(real, Budget(rows=6), score, rule=rule, balanced=b, seeds=Seeds(0))["picked"].tolist()
            for b in (True, False)
        )
        assert one == two


def test_the_first_draw_of_beta_has_the_chance_of_its_weight() -> None:
    """The first pick over 4000 seeds against s_i Beta(c_i; a, b), with scipy's density, at five standard deviations."""
    stats = pytest.importorskip("scipy.stats")
    scores, k, cd, seeds = [0.1, 0.4, 0.9, 0.3, 0.7, 0.2, 0.05, 0.6, 0.35, 0.8, 0.15, 0.5], 3, 2.0, 4000
    some = pool(scores)
    c = some.signals["confidence"].double().numpy()
    m = c[np.argsort(scores)[-10:]].mean()
    b = 15 * (1 - m) * (1 - (1 - k / len(scores)) ** cd)
    weight = np.array(scores) * stats.beta.pdf(c, 16 - b, b)
    p = weight / weight.sum()
    first = Counter(int(rule_of(f"beta:cd={cd}")(pool(scores, seed), k).places[0]) for seed in range(seeds))
    for i, chance in enumerate(p):
        assert abs(first[i] - seeds * chance) < 5 * math.sqrt(seeds * chance * (1 - chance)) + 1


def test_the_density_at_its_limits_is_finite() -> None:
    for a, b in ((16.0, 0.0), (1.0, 15.0), (8.0, 8.0)):
        found = density(torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64), a, b)
        assert bool(torch.isfinite(found).all()) and float(found.max()) == 1.0


def test_examples_of_no_weight_come_last() -> None:
    assert set(rule_of("beta")(pool([0.0, 1.0, 0.0, 2.0]), 2).places.tolist()) == {1, 3}
    assert sorted(rule_of("beta")(pool([0.0, 0.0, 0.0]), 3).places.tolist()) == [0, 1, 2]


def test_wrong_specs_are_refused_before_any_work() -> None:
    for text, said in {
        "tpo": "did you mean 'top'",
        "top:skip=1": "skip=1.0 is not a share",
        "top:k=3": "no setting 'k=3'",
        "ccs:stratum=3": "did you mean 'strata'",
        "ccs:strata=0": "at least 1",
        "ccs:cutoff=nan": "is not a share",
        "stratified:strata=0": "at least 1",
        "beta:cd=-1": "must be a positive number",
    }.items():
        with pytest.raises(UsageError, match=said):
            rule_of(text)
    with pytest.raises(UsageError, match="needs the confidence"):
        ranked(toy(), Budget(ipc=1), torch.zeros(42), rule="beta", balanced=True, seeds=Seeds(0))
    assert {name for name, _ in names()} == {"top", "stratified", "ccs", "beta"}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_names_its_row(bad: float) -> None:
    score = torch.zeros(42)
    score[17] = bad
    with pytest.raises(DataError, match=r"id 56 \(row 17 of toy\)"):
        ranked(toy(), Budget(ipc=1), score, rule="top", balanced=True, seeds=Seeds(0))


@pytest.mark.parametrize("name", ["grand", "moderate", "prototype", "knn-shapley"])
def test_a_rule_that_wants_more_than_a_method_knows_is_refused_before_any_work(name: str) -> None:
    with pytest.raises(UsageError, match="needs the confidence of every example, which this method has not"):
        find(name)(rule="beta")
    find(name)(rule="ccs:cutoff=0.3")
