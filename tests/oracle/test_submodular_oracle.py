"""Set functions against their values by definition, greedy against exhaustive choice, blocks against the whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.utils import counters

from attar.errors import UsageError
from attar.execute import plan
from attar.execute.compile import switched
from attar.seeds import Seeds
from attar.select.facility_location import FacilityLocation
from attar.select.greedy import SetFunction, check_optimiser, exact, highest, lazy, maximise, stochastic
from attar.select.submodular.cut import Cut
from attar.select.submodular.facility import Facility
from attar.select.submodular.logdet import LogDet
from attar.select.submodular.saturated import Saturated
from attar.select.submodular.similarity import Cosine, Table, lifted, stored
from attar.testing.hooks import Alive

LAM, RIDGE, ALPHA = 1.3, 0.05, 0.2


def similarities(x: np.ndarray) -> np.ndarray:
    """1/2 + 1/2 cos pair by pair; 1/2 where a vector is 0."""
    s = np.empty((len(x), len(x)))
    for i, j in itertools.product(range(len(x)), repeat=2):
        lengths = math.sqrt(sum(v * v for v in x[i])) * math.sqrt(sum(v * v for v in x[j]))
        s[i, j] = 0.5 + (0.5 * sum(a * b for a, b in zip(x[i], x[j])) / lengths if lengths else 0)
    return s


def value_facility(s: np.ndarray, picks: list[int]) -> float:
    return sum(max((s[i, j] for j in picks), default=0.0) for i in range(len(s)))


def value_saturated(s: np.ndarray, picks: list[int]) -> float:
    return sum(min(sum(s[i, j] for j in picks), ALPHA * sum(s[i])) for i in range(len(s)))


def value_cut(s: np.ndarray, picks: list[int]) -> float:
    near = sum(s[i, j] for i in range(len(s)) for j in picks)
    return LAM * near - sum(s[i, j] for i in picks for j in picks)


def value_logdet(s: np.ndarray, picks: list[int]) -> float:
    return math.log(np.linalg.det(np.eye(len(picks)) + s[np.ix_(picks, picks)] / RIDGE)) if picks else 0.0


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(x, dtype=np.float64))


Value = Callable[[np.ndarray, list[int]], float]
FUNCTIONS: dict[str, tuple[Value, Callable[[np.ndarray], SetFunction]]] = {
    "facility": (value_facility, lambda x: Facility(Cosine(tensor(x)))),
    "facility-table": (value_facility, lambda x: Facility(Table(Cosine(tensor(x))))),
    "saturated": (value_saturated, lambda x: Saturated(Cosine(tensor(x)), ALPHA)),
    "saturated-table": (value_saturated, lambda x: Saturated(Table(Cosine(tensor(x))), ALPHA)),
    "cut": (value_cut, lambda x: Cut(lifted(tensor(x)), LAM)),
    "logdet": (value_logdet, lambda x: LogDet(lifted(tensor(x)), RIDGE, len(x))),
}


def points(n: int = 14, width: int = 3, seed: int = 0) -> np.ndarray:
    """Normal points, two of them twins and one 0."""
    x = np.random.default_rng(seed).normal(size=(n, width))
    x[5], x[9] = x[2], 0
    return x


@pytest.fixture(params=FUNCTIONS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("seed", range(3))
def test_gains_are_differences_of_values(name: str, seed: int) -> None:
    value, make = FUNCTIONS[name]
    x = points(seed=seed)
    s, f = similarities(x), make(x)
    picks: list[int] = []
    for place in np.random.default_rng(seed).permutation(len(x))[:9].tolist():
        left = [j for j in range(len(x)) if j not in picks]
        wanted = [value(s, [*picks, j]) - value(s, picks) for j in left]
        assert np.allclose(f.gains(torch.tensor(left)), wanted, atol=1e-9)
        if not picks:
            assert (f.bounds().numpy() >= np.array(wanted) - 1e-12).all()
        f.add(place)
        picks.append(place)


@pytest.mark.parametrize("optimiser", ["exact", "lazy"])
@pytest.mark.parametrize("seed", range(3))
def test_every_pick_is_the_best_by_exhaustive_search(name: str, seed: int, optimiser: str) -> None:
    value, make = FUNCTIONS[name]
    x = points(seed=seed)
    s, n = similarities(x), len(x)
    places, gain = maximise(make(x), n, optimiser=optimiser)
    picks: list[int] = []
    for place, added in zip(places.tolist(), gain.tolist()):
        gains = {j: value(s, [*picks, j]) - value(s, picks) for j in range(n) if j not in picks}
        assert place in gains, "picked twice"
        assert gains[place] == pytest.approx(added, abs=1e-8)
        assert gains[place] >= max(gains.values()) - 1e-9
        picks.append(place)


def test_gains_of_greedy_never_grow(name: str) -> None:
    gain = exact(FUNCTIONS[name][1](points(30)), 30)[1]
    assert (gain.diff() <= 1e-9).all()


@pytest.mark.parametrize("n", [1, 2, 31, 33, 200])
def test_lazy_picks_what_exact_picks(name: str, n: int) -> None:
    """But where two are as good to the last digits, which depend on how many rows a processor multiplies at once."""
    x = np.random.default_rng(n).normal(size=(n, 4))
    k = min(n, 60) if not name.startswith("saturated") else max(1, n // 8)  # beyond, all of its gains are 0
    make = FUNCTIONS[name][1]
    (places, gain), (_, wanted), f = lazy(make(x), k), exact(make(x), k), make(x)
    assert torch.allclose(gain, wanted, atol=1e-9)
    free = torch.ones(n, dtype=torch.bool)
    for place in places.tolist():
        fresh = f.gains(torch.arange(n)).masked_fill(~free, -torch.inf)
        best = torch.nonzero(fresh >= fresh.max() - 1e-9).flatten().tolist()
        assert place in best
        free[place] = False
        f.add(place)


def test_lazy_looks_at_few() -> None:
    """On clusters, most bounds never reach the top."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(40, 16)), 25, axis=0) * 4 + rng.normal(size=(1000, 16))
    f = Facility(Cosine(tensor(x)))
    looks: list[int] = []
    gains = f.gains
    f.gains = lambda places: (looks.append(len(places)), gains(places))[1]  # type: ignore[method-assign]
    lazy(f, 40)
    assert 1000 <= sum(looks) < 12_000  # exact looks at 40,000


def test_facility_and_cut_reach_the_guarantee() -> None:
    x = points(12, seed=4)
    s = similarities(x)
    for value, make in (FUNCTIONS["facility"], FUNCTIONS["saturated"], FUNCTIONS["logdet"]):
        best = max(value(s, list(c)) for c in itertools.combinations(range(12), 4))
        assert value(s, exact(make(x), 4)[0].tolist()) >= (1 - 1 / math.e) * best


def test_stochastic_greedy_reaches_its_guarantee_on_average() -> None:
    x = points(12, seed=6)
    s, eps = similarities(x), 0.2
    best = max(value_facility(s, list(c)) for c in itertools.combinations(range(12), 4))
    found = []
    for seed in range(50):
        picks = stochastic(Facility(Cosine(tensor(x))), 4, eps=eps, seeds=Seeds(seed))[0].tolist()
        assert len(set(picks)) == 4
        found.append(value_facility(s, picks))
    assert np.mean(found) >= (1 - 1 / math.e - eps) * best
    assert len(set(found)) > 1


def plain_stochastic(f: SetFunction, k: int, size: int, seed: int) -> list[int]:
    """The same with samples without repetition, each by sorting all that is left."""
    rng, left, picks = np.random.default_rng(seed), list(range(len(f))), []
    for _ in range(k):
        look = sorted(rng.permutation(left)[:size].tolist())
        picks.append(look[int(f.gains(torch.tensor(look)).argmax())])
        left.remove(picks[-1])
        f.add(picks[-1])
    return picks


def test_stochastic_greedy_reaches_what_samples_without_repetition_reach() -> None:
    """On average over 40 seeds, within a hundredth; a draw never looks at more than its size."""
    x = np.random.default_rng(1).normal(size=(120, 4))
    s, k, eps = similarities(x), 12, 0.1
    size = math.ceil(120 / k * math.log(1 / eps))
    table, looks, found, wanted = Table(Cosine(tensor(x))), [], [], []
    for seed in range(40):
        f = Facility(table)
        gains = f.gains
        f.gains = lambda places, gains=gains: (looks.append(len(places)), gains(places))[1]  # type: ignore[method-assign]
        found.append(value_facility(s, stochastic(f, k, eps=eps, seeds=Seeds(seed))[0].tolist()))
        wanted.append(value_facility(s, plain_stochastic(Facility(table), k, size, seed)))
    assert max(looks) <= size and len(looks) == 40 * k
    assert np.mean(found) == pytest.approx(np.mean(wanted), rel=0.01)


def test_a_draw_of_stochastic_greedy_does_not_see_all_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """After 10 of 1000 picks a permutation or a mask of the rest would be as long as the rest."""
    longest: list[int] = []
    f = Facility(Table(Cosine(tensor(np.random.default_rng(2).normal(size=(1000, 3))))))
    for name in ("sort", "unique", "ne"):
        work = getattr(torch.Tensor, name)
        noted = lambda self, *a, work=work, **k: (longest.append(self.numel()), work(self, *a, **k))[1]  # noqa: E731
        monkeypatch.setattr(torch.Tensor, name, noted)
    picks = stochastic(f, 500, eps=0.01, seeds=Seeds(0))[0]
    monkeypatch.undo()
    assert len(picks.unique()) == 500
    assert max(longest) <= math.ceil(2 * math.log(100))


@pytest.mark.parametrize("optimiser", ["exact", "lazy", "stochastic"])
@pytest.mark.parametrize("x", [np.zeros((7, 2)), np.ones((7, 2)), np.repeat(np.eye(2), [3, 4], axis=0)])
def test_all_are_picked_once_among_zeros_and_twins(name: str, optimiser: str, x: np.ndarray) -> None:
    places, gain = maximise(FUNCTIONS[name][1](x), 7, optimiser=optimiser)
    assert sorted(places.tolist()) == list(range(7))
    assert gain.isfinite().all()


@pytest.mark.parametrize("optimiser", ["exact", "lazy"])
def test_ties_go_to_the_lower_place(name: str, optimiser: str) -> None:
    make = FUNCTIONS[name][1]
    assert maximise(make(np.zeros((40, 3))), 40, optimiser=optimiser)[0].tolist() == list(range(40))
    twins = np.repeat(np.eye(2), 3, axis=0)
    full = name.startswith("saturated")  # all examples lack .4 after the first pick, and .5 of any other covers that
    assert maximise(make(twins), 2, optimiser=optimiser)[0].tolist() == ([0, 1] if full else [0, 3])


@settings(deadline=None, max_examples=60)
@given(values=st.lists(st.integers(0, 4), min_size=1, max_size=80), share=st.floats(0, 1))
def test_highest_is_a_stable_sort(values: list[int], share: float) -> None:
    size = max(1, round(share * len(values)))
    found = highest(torch.tensor(values, dtype=torch.float64), size).tolist()
    assert found == sorted(sorted(range(len(values)), key=lambda i: (-values[i], i))[:size])


@pytest.mark.parametrize("block", [1, 7, 30, 45, 20 * 20, 20 * 30, 30 * 30, 1 << 20])
@pytest.mark.parametrize("kind", ["facility", "saturated"])
def test_blocks_of_any_size_give_the_same_sums(kind: str, block: int) -> None:
    """45 is one and a half rows, 20 x 20 and 20 x 30 leave part of a block over: no block may be counted twice or dropped."""
    x, everyone = tensor(points(30, 5)), torch.arange(30)
    for similarity in (Cosine(x), Table(Cosine(x))):
        small, whole = (
            Facility(similarity, block=b) if kind == "facility" else Saturated(similarity, ALPHA, block=b)
            for b in (block, 10**6)
        )
        for place in (3, 9, 20):
            assert torch.allclose(small.gains(everyone), whole.gains(everyone), atol=1e-10)
            assert torch.allclose(small.gains(everyone[4:11]), whole.gains(everyone)[4:11], atol=1e-10)
            small.add(place)
            whole.add(place)


def test_a_block_is_never_exceeded() -> None:
    similarity = Cosine(tensor(points(30)))
    seen: list[int] = []
    rows = similarity.rows
    similarity.rows = lambda p, c: (s := rows(p, c), seen.append(s.numel()))[0]  # type: ignore[method-assign]
    Facility(similarity, block=50).gains(torch.arange(30))
    assert max(seen) <= 50 and sum(seen) == 900


@pytest.mark.parametrize("n", [5, 1024, 1500])
def test_a_table_holds_the_similarities(n: int) -> None:
    """1500 are one strip and a half."""
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(n, 3)))
    cosine = Cosine(x)
    table = Table(cosine)
    wanted = 0.5 + 0.5 * torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=2)
    assert torch.allclose(table.s, wanted, atol=1e-12)
    assert torch.allclose(table.sums(), wanted.sum(0))
    assert torch.allclose(cosine.sums(), wanted.sum(0))


def test_similarities_are_stored_only_where_they_fit() -> None:
    cosine = Cosine(torch.randn(10, 3))
    assert isinstance(stored(cosine, 400), Table)
    assert stored(cosine, 399) is cosine


def test_similarities_that_do_not_fit_are_never_all_there() -> None:
    """4,000 examples: all similarities would take 64 MB."""
    x = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
    places = {}
    for room, least, most in ((2e6, 0, 24e6), (1e8, 64e6, 128e6)):
        with Alive() as alive:
            places[room] = lazy(Facility(stored(Cosine(x), room)), 5)[0].tolist()
        assert least < alive.most < most
    assert places[2e6] == places[1e8]


def grouped(n: int, width: int = 16) -> torch.Tensor:
    """Clusters of 25 float32 vectors."""
    g = torch.Generator().manual_seed(0)
    return torch.randn(n // 25, width, generator=g).repeat_interleave(25, 0) + 0.5 * torch.randn(n, width, generator=g)


def test_similarities_in_bfloat16_are_rounded_and_nothing_else_is() -> None:
    """Two vectors, their product and a difference by 2^-9 each; gains are float32 sums of such differences."""
    x = grouped(1500)
    table, exact_one = Table(Cosine(x, "bfloat16")), Table(Cosine(x.double()))
    assert table.s.dtype == torch.bfloat16
    assert (table.s.double() - exact_one.s).abs().max() <= 3 * 2**-9
    f, s = Facility(table), table.s.double()
    for place in (3, 700):
        f.add(place)
    everyone, covered = torch.arange(0, 1500, 7), torch.maximum(s[3], s[700])
    wanted = (s[everyone] - covered).clamp_min(0).sum(1)
    assert torch.allclose(f.gains(everyone), wanted, rtol=1e-3)
    for similarity in (table, Cosine(x, "bfloat16")):
        assert torch.allclose(similarity.sums(), s.sum(1), rtol=1e-6)


def test_picks_in_bfloat16_serve_as_well() -> None:
    """In a table and block by block; F counted in float64."""
    x = grouped(2000)
    s = Table(Cosine(x.double())).s
    value = {
        name: float(s[:, lazy(Facility(similarity), 100)[0]].max(1).values.sum())
        for name, similarity in {
            "float32": Table(Cosine(x)),
            "bfloat16": Table(Cosine(x, "bfloat16")),
            "blocks": Cosine(x, "bfloat16"),
        }.items()
    }
    assert value["bfloat16"] == pytest.approx(value["float32"], rel=2e-4)
    assert value["blocks"] == pytest.approx(value["float32"], rel=2e-4)


def test_bfloat16_takes_half_the_room() -> None:
    cosine = Cosine(torch.randn(10, 3), "bfloat16")
    assert isinstance(stored(cosine, 200, "bfloat16"), Table)
    assert stored(cosine, 199, "bfloat16") is cosine


def test_similarities_of_another_kind_are_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'bfloat16'"):
        FacilityLocation(similarities="bfloat")


@pytest.mark.slow
@pytest.mark.skipif(not plan.compiler_at_hand(), reason="compiling on the CPU needs a C++ compiler")
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_compiled_gains_agree_with_plain_ones_and_are_compiled_once(kind: str) -> None:
    table = Table(Cosine(grouped(1500), kind))
    for make in (Facility, lambda t: Saturated(t, ALPHA)):
        f = make(table)
        f.add(3)
        sizes = (16, 40, 300)
        plain = [f.gains(torch.arange(m)) for m in sizes]
        counters.clear()
        with switched(True):
            found = [f.gains(torch.arange(m)) for m in sizes]
        assert counters["stats"]["unique_graphs"] <= 1
        for p, q in zip(plain, found):
            assert torch.allclose(p, q, rtol=1e-5 if kind == "float32" else 1e-2)


def test_directions_survive_any_length() -> None:
    x = torch.tensor([[3.0, 4.0], [3e-30, 4e-30], [3e17, 4e17], [-3e-20, -4e-20], [0.0, 0.0]])
    s = lifted(x) @ lifted(x).T
    assert torch.allclose(s[0], torch.tensor([1, 1, 1, 0, 0.5]), atol=1e-6)
    assert torch.allclose(s[4], torch.full((5,), 0.5), atol=1e-6)


def test_a_limit_of_all_is_the_sum_of_similarities() -> None:
    """alpha = 1 never saturates: gains are column sums, whatever was picked."""
    x = points()
    f = Saturated(Cosine(tensor(x)), 1.0)
    f.add(3)
    f.add(4)
    assert np.allclose(f.gains(torch.arange(2)), similarities(x).sum(0)[:2])


@pytest.mark.parametrize(("optimiser", "eps"), [("lasy", 0.1), ("stochastic", 0.0), ("stochastic", 1.0)])
def test_impossible_optimisers_are_refused(optimiser: str, eps: float) -> None:
    with pytest.raises(UsageError, match=r"did you mean 'lazy'|eps="):
        check_optimiser(optimiser, eps)


@pytest.mark.parametrize("ridge", [1e-5, 1e-4, 1e-2])
def test_log_det_in_single_precision_picks_as_in_double_to_the_end(ridge: float) -> None:
    """Features of ten dimensions, of which more are picked than span them: what is left of each is near the ridge."""
    x = np.random.default_rng(0).normal(size=(120, 10))
    single, double = (LogDet(lifted(tensor(x).to(kind)), ridge, 100) for kind in (torch.float32, torch.float64))
    for _ in range(100):
        gains = double.gains(torch.arange(120))
        assert torch.allclose(single.gains(torch.arange(120)), gains, atol=0.05, rtol=0.05)
        place = int(gains.argmax())
        single.add(place)
        double.add(place)
