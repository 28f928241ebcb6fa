"""Methods that score by training dynamics, with signals given: which way each ranks; and strata in proportion."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.method import Method, State
from attar.real.realset import RealSet
from attar.seeds import Seeds
from attar.select.aum import AUM
from attar.select.cartography import Cartography
from attar.select.ccs import CCS
from attar.select.dual import DUAL
from attar.select.dyn_unc import DynUnc
from attar.select.el2n import EL2N
from attar.select.entropy import Entropy
from attar.select.forgetting import Forgetting
from attar.select.least_confidence import LeastConfidence
from attar.select.margin import Margin
from attar.select.stratified import Stratified
from attar.select.tdds import TDDS
from attar.testing.toys import toy, unlabelled

RANKED: dict[str, tuple[Method, str, int]] = {
    "el2n": (EL2N(), "el2n", 1),
    "forgetting": (Forgetting(), "forgetting", 1),
    "aum": (AUM(), "aum", -1),
    "aum of probabilities": (AUM(margin="probability"), "aum_probability", -1),
    "ambiguous": (Cartography(), "variability", 1),
    "hard": (Cartography(metric="confidence"), "confidence", -1),
    "easy": (Cartography(metric="confidence", direction="high"), "confidence", 1),
    "rarely right": (Cartography(metric="correctness"), "correctness", -1),
    "dyn-unc": (DynUnc(), "dyn_unc", 1),
    "tdds": (TDDS(), "tdds", 1),
    "dual": (DUAL(rule="top"), "dual", 1),
    "ccs by top": (CCS(rule="top"), "aum_probability", -1),
    "entropy": (Entropy(), "entropy", 1),
    "margin": (Margin(), "margin", -1),
    "least confidence": (LeastConfidence(), "least_confidence", 1),
}


def table(n: int) -> dict[str, np.ndarray]:
    """Signals with ties; everything was learned in 9 epochs."""
    values = np.random.default_rng(0).integers(0, 12, n) / 12
    names = {name for _, name, _ in RANKED.values()}
    return {**{name: values for name in names}, "learned": np.ones(n), "epochs": np.full(n, 9.0)}


def picked(method: Method, real: RealSet, budget: Budget) -> list[int]:
    """Ids of the picks, in order."""
    res: dict[str, State] = {}
    state = method.init(real, budget, Seeds(0).at("init"), res)
    return real.ids[method.finish(state, res).picked].tolist()


def best(real: RealSet, rows: list[int], values: np.ndarray, sign: int, k: int) -> list[int]:
    return [int(real.ids[i]) for i in sorted(rows, key=lambda i: (-sign * values[i], int(real.ids[i])))[:k]]


@pytest.mark.parametrize("name", RANKED)
def test_every_score_keeps_the_end_that_it_says_balanced_or_not(name: str, tmp_path: Path) -> None:
    """A sort that turns around with the flag would be found here."""
    method, signal, sign = RANKED[name]
    real = toy()
    columns = table(len(real))
    np.savez(tmp_path / "s.npz", **columns)  # pyright: ignore[reportArgumentType]
    given: Any = dataclasses.replace(method, signals=str(tmp_path / "s.npz"))  # pyright: ignore[reportCallIssue]
    assert given.needs() == ()
    values = columns[signal]
    whole = best(real, list(range(len(real))), values, sign, 9)
    assert picked(dataclasses.replace(given, balanced=False), real, Budget(rows=9)) == whole
    per_class = [best(real, rows.tolist(), values, sign, 3) for rows in real.classes]
    assert picked(given, real, Budget(ipc=3)) == [i for turn in zip(*per_class) for i in turn]


def test_signals_reach_a_set_in_another_order_by_their_ids(tmp_path: Path) -> None:
    real = toy()
    turned = real.subset(torch.randperm(len(real), generator=Seeds(3).generator("order")))
    np.savez(tmp_path / "s.npz", id=real.ids.numpy(), el2n=table(len(real))["el2n"])
    method = EL2N(signals=str(tmp_path / "s.npz"))
    assert picked(method, real, Budget(ipc=4)) == picked(method, turned, Budget(ipc=4))


def test_a_set_without_classes_is_ranked_by_given_signals(tmp_path: Path) -> None:
    real = unlabelled(12)
    np.save(tmp_path / "s.npy", np.arange(12.0))
    found = picked(EL2N(signals=str(tmp_path / "s.npy"), balanced=False), real, Budget(rows=2))
    assert found == real.ids[[11, 10]].tolist()


def test_windows_and_rules_are_refused_when_the_method_is_made() -> None:
    for make, said in (
        (lambda: DynUnc(epochs=10), "epochs=10 are not more than window=10"),
        (lambda: TDDS(window=2), "has no spread"),
        (lambda: DUAL(window=40), "longer than epochs=30"),
        (lambda: EL2N(rule="tp"), "did you mean 'top'"),
        (lambda: CCS(rule="ccs:cutoff=1.5"), "is not a share"),
        (lambda: Forgetting(never_learned="never"), "never_learned 'never' is unknown"),
        (lambda: AUM(margin="logits"), "did you mean 'logit'"),
        (lambda: Cartography(direction="up"), "direction 'up' is unknown"),
        (lambda: Forgetting(runs=0), "runs=0"),
        (lambda: Entropy(epochs=0), "epochs=0"),
    ):
        with pytest.raises(UsageError, match=said):
            make()


@pytest.mark.parametrize("k", [1, 5, 13, 27])
def test_strata_get_their_largest_remainder(k: int) -> None:
    real = toy((2, 5, 20))
    found = picked(Stratified(), real, Budget(rows=k))
    assert len(set(found)) == k
    sizes = real.sizes
    got = [len(set(found) & set(real.ids[rows].tolist())) for rows in real.classes]
    quota = [Fraction(k * n, sum(sizes)) for n in sizes]
    base = [int(q) for q in quota]
    for i in sorted(range(3), key=lambda i: (base[i] - quota[i], i))[: k - sum(base)]:
        base[i] += 1
    assert got == base


def test_any_column_makes_strata_missing_values_too() -> None:
    real = toy((6, 6))
    camera = ["b", None, "a", "a"] * 3
    mixed = dataclasses.replace(real, table=real.table.append_column("camera", pa.array(camera)))
    order = torch.randperm(12, generator=Seeds(0).generator("order"))
    for method in (Stratified(by="camera"), Stratified(by="camera", balanced=True), Stratified(by="note")):
        assert picked(method, mixed, Budget(rows=4)) == picked(method, mixed.subset(order), Budget(rows=4))
    found = picked(Stratified(by="camera"), mixed, Budget(rows=4))
    kept = [camera[real.ids.tolist().index(i)] for i in found]
    assert (kept.count("a"), kept.count("b"), kept.count(None)) == (2, 1, 1)


def test_a_column_that_makes_no_strata_is_refused() -> None:
    real = toy()
    listed = dataclasses.replace(real, table=real.table.append_column("boxes", pa.array([[1]] * len(real))))
    with pytest.raises(UsageError, match="did you mean 'note'"):
        picked(Stratified(by="notes"), real, Budget(rows=3))
    with pytest.raises(UsageError, match="make no strata"):
        picked(Stratified(by="boxes"), listed, Budget(rows=3))
    with pytest.raises(UsageError, match="no column 'label'"):
        picked(Stratified(), unlabelled(), Budget(rows=3))
    with pytest.raises(DataError, match="asks for 43 examples"):
        picked(Stratified(), real, Budget(rows=43))


@pytest.mark.parametrize("method", [Cartography(), DynUnc(), TDDS(), DUAL()])
def test_rules_leave_out_what_is_least_confident_and_not_what_is_ambiguous(method: Any, tmp_path: Path) -> None:
    """Scores fall and confidence rises with the row: the tenth of highest scores is the least confident but for the last row."""
    real, n = toy((20,)), 20
    columns = {name: np.linspace(1, 0, n) for name in ("variability", "dyn_unc", "tdds", "dual")}
    confidence = np.linspace(0.3, 1, n)
    confidence[[5, 17]] = 0.0
    np.savez(tmp_path / "with.npz", **columns, confidence=confidence)
    np.savez(tmp_path / "without.npz", **columns)
    given = dataclasses.replace(method, balanced=False, rule="top:skip=0.1", signals=str(tmp_path / "with.npz"))
    rows = [i for i in range(n) if i not in (5, 17)]
    assert picked(given, real, Budget(rows=18)) == [int(real.ids[i]) for i in rows]
    with pytest.raises(UsageError, match="signals with a column confidence"):
        picked(dataclasses.replace(given, signals=str(tmp_path / "without.npz")), real, Budget(rows=18))


def test_a_category_makes_strata_as_its_values_do() -> None:
    real, camera = toy((6, 6)), pa.array(["b", None, "a", "a"] * 3)
    plain, coded = (
        dataclasses.replace(real, table=real.table.append_column("camera", c))
        for c in (camera, camera.dictionary_encode())
    )
    method = Stratified(by="camera")
    assert picked(method, coded, Budget(rows=4)) == picked(method, plain, Budget(rows=4))


def test_a_column_that_only_might_be_useful_is_left_where_it_is_not_of_numbers() -> None:
    real = toy()
    columns = {"entropy": np.linspace(0, 1, len(real)), "confidence": np.array(["high"] * len(real))}
    table = real.table
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    mixed = dataclasses.replace(real, table=table)
    found = picked(Entropy(signals="columns", balanced=False), mixed, Budget(rows=3))
    assert found == real.ids.tolist()[::-1][:3]
