"""What holds for every selector: exact totals, unique rows, order, equivariance, refusals, and a real run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.execute.plan import Plan
from attar.method import Method, Resources, State
from attar.real.realset import RealSet
from attar.select.facility_location import FacilityLocation
from attar.select.graph_cut import GraphCut
from attar.select.herding import Herding
from attar.select.kcenter import KCenter
from attar.select.kmeans import KMeans
from attar.select.log_det import LogDet
from attar.select.random import Random
from attar.select.saturated_coverage import SaturatedCoverage

MakeSet = Callable[..., RealSet]
AsResource = Callable[[np.ndarray], Resources]
Choose = Callable[..., State]

ALL = {
    "random": Random,
    "kmeans": KMeans,
    "kcenter": KCenter,
    "kcenter-random": lambda **changes: KCenter(start="random", **changes),
    "herding": Herding,
    "herding-normalised": lambda **changes: Herding(normalise=True, **changes),
    "facility-location": FacilityLocation,
    "facility-location-exact": lambda **changes: FacilityLocation(optimiser="exact", **changes),
    "facility-location-blocks": lambda **changes: FacilityLocation(memory=1e-9, **changes),
    "facility-location-bfloat16": lambda **changes: FacilityLocation(similarities="bfloat16", **changes),
    "graph-cut": GraphCut,
    "log-det": LogDet,
    "saturated-coverage": SaturatedCoverage,
    "saturated-coverage-0.3": lambda **changes: SaturatedCoverage(alpha=0.3, **changes),
}
NESTED = [name for name in ALL if name not in ("kmeans", "saturated-coverage")]
FEATURED = [name for name in ALL if name != "random"]
LABELS = [0, 1, 2, 1, 0, 0, 2, 1, 1, 2, 0, 1, 2, 2, 0, 0, 1, 1, 2, 0, 0, 0, 2, 1, 0]  # 10, 8, 7


@pytest.fixture(params=ALL)
def make(request: pytest.FixtureRequest) -> Callable[..., Method]:
    return ALL[request.param]


def features(n: int, width: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width))


@settings(deadline=None, max_examples=25)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4), share=st.floats(0.01, 1), balanced=st.booleans())
@pytest.mark.parametrize("name", ALL)
def test_totals_are_exact_and_rows_unique(
    name: str,
    sizes: list[int],
    share: float,
    balanced: bool,
    make_set: MakeSet,
    as_resource: AsResource,
    choose: Choose,
) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    real, budget = make_set(labels.tolist()), Budget(fraction=share)
    state = choose(ALL[name](balanced=balanced), real, budget, as_resource(features(len(labels))))
    picked = state["picked"].tolist()
    assert len(picked) == len(set(picked)) == budget.total(sizes)
    assert set(picked) <= set(range(len(real)))
    if balanced:
        per_class = real.labels[state["picked"]].bincount(minlength=len(sizes)).tolist()
        assert per_class == budget.counts(sizes, balanced=True)
    assert {k: v.dtype for k, v in state.items()} == {
        "picked": torch.int64,
        "weight": torch.float32,
        "gain": torch.float32,
    }
    assert all(len(v) == len(picked) and v.isfinite().all() for v in state.values())


def test_ranks_take_turns_over_the_classes(
    make: Callable[..., Method], make_set: MakeSet, as_resource: AsResource, choose: Choose
) -> None:
    real = make_set(LABELS)
    state = choose(make(), real, Budget(ipc=5), as_resource(features(25)))
    assert real.labels[state["picked"]].tolist() == [0, 1, 2] * 5
    state = choose(make(), real, Budget(rows=24), as_resource(features(25)))  # 9, 8, 7: the smaller classes run out
    assert real.labels[state["picked"]].tolist() == [0, 1, 2] * 7 + [0, 1, 0]


@pytest.mark.parametrize("name", NESTED)
def test_the_first_rows_are_the_selection_of_a_smaller_budget(
    name: str, make_set: MakeSet, as_resource: AsResource, choose: Choose
) -> None:
    real, res = make_set(LABELS), as_resource(features(25))
    for balanced in (True, False):
        whole = choose(ALL[name](balanced=balanced), real, Budget(rows=25), res)
        for m in range(1, 25):
            part = choose(ALL[name](balanced=balanced), real, Budget(rows=m), res)
            assert part["picked"].tolist() == whole["picked"][:m].tolist()
        for ipc in (1, 4, 7):
            part = choose(ALL[name](balanced=balanced), real, Budget(ipc=ipc), res)
            assert part["picked"].tolist() == whole["picked"][: 3 * ipc].tolist()


def test_half_precision_of_networks_changes_no_pick(
    make: Callable[..., Method], make_set: MakeSet, as_resource: AsResource, choose: Choose
) -> None:
    real, res = make_set(LABELS * 8), as_resource(features(200).astype(np.float32))
    plain = choose(make(), real, Budget(ipc=20), res)
    with Plan(dtype="bfloat16").applied():
        half = choose(make(), real, Budget(ipc=20), res)
    assert all(torch.equal(plain[k], half[k]) for k in plain)


def test_balanced_and_pool_agree_on_one_class(
    make: Callable[..., Method], make_set: MakeSet, as_resource: AsResource, choose: Choose
) -> None:
    real, res = make_set([0] * 20), as_resource(features(20))
    one, pool = (choose(make(balanced=b), real, Budget(ipc=7), res) for b in (True, False))
    assert all(torch.equal(one[k], pool[k]) for k in one)


def test_a_class_is_chosen_as_if_it_were_alone(
    make: Callable[..., Method], make_set: MakeSet, as_resource: AsResource, choose: Choose
) -> None:
    real, x = make_set(LABELS), features(25)
    rows = real.classes[0]
    whole = choose(make(), real, Budget(ipc=4), as_resource(x))
    alone = choose(make(), make_set([0] * 10, ids=real.ids[rows].tolist()), Budget(ipc=4), as_resource(x[rows.numpy()]))
    assert rows[alone["picked"]].tolist() == whole["picked"][::3].tolist()
    assert torch.equal(alone["weight"], whole["weight"][::3])


@pytest.mark.parametrize("balanced", [True, False])
def test_a_permuted_set_gives_the_same_examples(
    make: Callable[..., Method], balanced: bool, make_set: MakeSet, as_resource: AsResource, choose: Choose
) -> None:
    """Also with ties and twins: they go by id."""
    real, x = make_set(LABELS), features(25)
    x[5:9], x[12] = x[4], x[3]
    order = np.random.default_rng(1).permutation(25)
    turned = real.subset(torch.from_numpy(order))
    a = choose(make(balanced=balanced), real, Budget(rows=17), as_resource(x))
    b = choose(make(balanced=balanced), turned, Budget(rows=17), as_resource(x[order]))
    assert real.ids[a["picked"]].tolist() == turned.ids[b["picked"]].tolist()
    assert torch.equal(a["gain"], b["gain"])
    assert torch.equal(a["weight"], b["weight"])


def test_everything_kept_is_everything(
    make: Callable[..., Method], make_set: MakeSet, as_resource: AsResource, choose: Choose
) -> None:
    for x in (features(25), np.zeros((25, 3)), np.repeat(features(5), 5, axis=0)):
        for balanced in (True, False):
            state = choose(make(balanced=balanced), make_set(LABELS), Budget(fraction=1.0), as_resource(x))
            assert sorted(state["picked"].tolist()) == list(range(25))


@pytest.mark.parametrize("name", FEATURED)
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, 1e30])
def test_a_broken_feature_is_refused_by_id(
    name: str, broken: float, make_set: MakeSet, as_resource: AsResource, choose: Choose
) -> None:
    x = features(6)
    x[4, 2] = broken
    real = make_set([0, 1] * 3, ids=[10, 11, 12, 13, 14, 15])
    for balanced in (True, False):
        with pytest.raises(DataError, match="id 14"):
            choose(ALL[name](balanced=balanced), real, Budget(ipc=1), as_resource(x))


def test_too_much_is_refused(
    make: Callable[..., Method], make_set: MakeSet, as_resource: AsResource, choose: Choose
) -> None:
    real, res = make_set([0] * 8 + [1] * 2), as_resource(features(10))
    with pytest.raises(DataError, match="class 'c1' has 2"):
        choose(make(), real, Budget(ipc=3), res)
    with pytest.raises(DataError, match="there are 10"):
        choose(make(balanced=False), real, Budget(rows=11), res)
    assert len(choose(make(balanced=False), real, Budget(ipc=5), res)["picked"]) == 10  # the pool has no short class


def test_an_empty_class_and_no_classes(
    make: Callable[..., Method], make_set: MakeSet, as_resource: AsResource, choose: Choose
) -> None:
    res = as_resource(features(6))
    assert len(choose(make(), make_set([0, 2] * 3, classes=4), Budget(rows=5), res)["picked"]) == 5
    unlabelled = make_set([0] * 6, classes=0)
    assert len(choose(make(), unlabelled, Budget(rows=4), res)["picked"]) == 4
    assert len(choose(make(), unlabelled, Budget(fraction=0.5), res)["picked"]) == 3


@pytest.mark.parametrize("make_bad", [Herding, KMeans, KCenter])
def test_unknown_settings_are_refused_at_once(make_bad: type[Method]) -> None:
    with pytest.raises(UsageError, match="did you mean 'pixels'"):
        make_bad(features="pixel")  # pyright: ignore[reportCallIssue]
    with pytest.raises(UsageError, match="epochs=0"):
        make_bad(features="trained", epochs=0)  # pyright: ignore[reportCallIssue]


def test_an_unknown_start_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'random'"):
        KCenter(start="randm")


def test_kmeans_depends_on_the_seed_and_the_greedy_rules_do_not(
    make_set: MakeSet, as_resource: AsResource, choose: Choose
) -> None:
    real, res = make_set([0] * 60), as_resource(features(60))
    sampled = FacilityLocation(optimiser="stochastic", eps=0.3)
    random, still = (KMeans(), KCenter(start="random"), sampled), (KCenter(), Herding(), FacilityLocation(), LogDet())
    for method, varies in (*((m, True) for m in random), *((m, False) for m in still)):
        picks = {tuple(choose(method, real, Budget(rows=10), res, seed=s)["picked"].tolist()) for s in range(4)}
        assert (len(picks) > 1) is varies


def test_normalised_herding_sees_directions_alone(make_set: MakeSet, as_resource: AsResource, choose: Choose) -> None:
    real, x = make_set([0] * 30), features(30)
    lengths = np.random.default_rng(2).uniform(0.5, 20, size=(30, 1))
    a, b = (choose(Herding(normalise=True), real, Budget(rows=12), as_resource(f)) for f in (x, x * lengths))
    assert a["picked"].tolist() == b["picked"].tolist()
    plain = choose(Herding(), real, Budget(rows=12), as_resource(x * lengths))
    assert plain["picked"].tolist() != b["picked"].tolist()


def test_cost_grows_with_the_budget(make: Callable[..., Method], make_set: MakeSet) -> None:
    real = make_set(LABELS)
    small, large = (make().cost(real, Budget(ipc=i)) for i in (1, 6))
    assert small.memory > 0
    assert 0 < small.flops_per_step <= large.flops_per_step


def test_needs_name_the_features_and_no_setting_that_does_not_concern_them() -> None:
    assert Random().needs() == ()
    assert Herding(net="convnet:width=8").needs() == KCenter(epochs=3).needs()
    assert Herding(features="random", epochs=3).needs() == KMeans(features="random").needs()
    assert Herding(features="trained", epochs=3).needs() != KMeans(features="trained").needs()
