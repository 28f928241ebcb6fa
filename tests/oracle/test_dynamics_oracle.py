"""Training dynamics and their scores against plain loops in float64 over recorded logits, and the defects of other tools."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from attar.errors import DataError, UsageError
from attar.resources import recording
from attar.resources.recorder import Recorder
from attar.select.scores import dynamics as scores
from attar.select.signals import given
from attar.testing.toys import toy

T, N, K, J = 9, 11, 4, 3


def trajectory(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits float64 [T, N, K] that wander, with a tie, an example that is never learned and one that always is; labels."""
    random = np.random.default_rng(seed)
    z = random.normal(size=(T, N, K)).cumsum(0)
    y = random.integers(0, K, N)
    z[:, 0, y[0]] = z[:, 0].min(1) - 1  # never learned
    z[:, 1, y[1]] = z[:, 1].max(1) + 1  # never wrong
    z[2, 2] = 0.0  # all classes tie: the lower one is the answer
    return z, y


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return e / e.sum()


def plain(z: np.ndarray, y: np.ndarray) -> dict[str, list[float]]:
    """Every signal of every example by its definition."""
    found: dict[str, list[float]] = {}
    for i in range(z.shape[1]):
        q = [softmax(z[t, i]) for t in range(len(z))]
        p = [float(q[t][y[i]]) for t in range(len(z))]
        right = [int(np.argmax(z[t, i])) == y[i] for t in range(len(z))]
        wrong_best = [max(q[t][c] for c in range(K) if c != y[i]) for t in range(len(z))]
        logit_best = [max(z[t, i, c] for c in range(K) if c != y[i]) for t in range(len(z))]
        windows = [p[k : k + J] for k in range(len(z) - J + 1)]
        stds = [float(np.std(w, ddof=1)) for w in windows]
        last = sorted(q[-1], reverse=True)
        one = {
            "confidence": np.mean(p),
            "variability": math.sqrt(np.mean((np.array(p) - np.mean(p)) ** 2)),
            "correctness": sum(right),
            "forgetting": sum(a and not b for a, b in pairwise(right)),
            "learned": float(any(right)),
            "epochs": len(z),
            "aum": np.mean([z[t, i, y[i]] - logit_best[t] for t in range(len(z))]),
            "aum_probability": np.mean([p[t] - wrong_best[t] for t in range(len(z))]),
            "el2n": np.mean([math.sqrt(sum((q[t][c] - (c == y[i])) ** 2 for c in range(K))) for t in range(len(z))]),
            "loss": np.mean([-math.log(p[t]) for t in range(len(z))]),
            "entropy": -sum(v * math.log(v) for v in q[-1]),
            "margin": last[0] - last[1],
            "least_confidence": 1 - last[0],
            "dyn_unc": np.mean(stds[:-1]),
            "dual": np.mean([s * (1 - np.mean(w)) for s, w in zip(stds, windows)]),
            "tdds": tdds(q),
        }
        for name, value in one.items():
            found.setdefault(name, []).append(float(value))
    return found


def tdds(q: list[np.ndarray]) -> float:
    """The published sum over windows, each with its own weight."""
    total = 0.0
    for k in range(len(q) - J + 1):
        kl = [
            sum(abs(q[t + 1][c] * (math.log(q[t + 1][c] + 1e-8) - math.log(q[t][c] + 1e-8))) for c in range(K))
            for t in range(k, k + J - 1)
        ]
        total += 0.9 * 0.1 ** (len(q) - J - k) * math.sqrt(sum((v - np.mean(kl)) ** 2 for v in kl))
    return total


def recorded(
    z: np.ndarray, y: np.ndarray, *, batch: int = 4, shift: float = 0.0, **settings: Any
) -> dict[str, torch.Tensor]:
    """The same through the recorder, in shuffled batches, with ids that are not places."""
    recorder = Recorder(ids_of(), **settings)
    for t in range(len(z)):
        order = np.random.default_rng(t).permutation(N)
        for part in np.array_split(order, -(-N // batch)):
            recorder.update(ids_of()[part], torch.from_numpy(z[t, part] + shift), y[part])
        recorder.end_epoch()
    return recorder.finish()


def ids_of() -> np.ndarray:
    return (np.arange(N) * 7 + 3)[::-1].copy()


@pytest.mark.parametrize("batch", [1, 4, N])
def test_every_signal_is_its_definition(batch: int) -> None:
    z, y = trajectory()
    wanted = plain(z, y)
    found = recorded(z, y, batch=batch, window=J) | {"tdds": recorded(z, y, batch=batch, window=J, classes=K)["tdds"]}
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        assert np.allclose(found[name].double().numpy(), values, rtol=2e-5, atol=2e-6), name


def test_a_constant_on_all_logits_changes_nothing() -> None:
    """Logits in place of probabilities would be found here."""
    z, y = trajectory(1)
    one, two = recorded(z, y, window=J), recorded(z, y, shift=5.0, window=J)
    for name in one:
        assert torch.allclose(one[name], two[name], atol=1e-4), name


def test_half_precision_logits_give_finite_signals() -> None:
    recorder = Recorder(2)
    recorder.update([0, 1], torch.tensor([[60000.0, -60000.0], [0.0, 1.0]], dtype=torch.float16), [1, 1])
    found = recorder.finish()
    assert all(bool(torch.isfinite(v).all()) for v in found.values())
    assert found["confidence"][0] == 0 and abs(float(found["el2n"][0]) - math.sqrt(2)) < 1e-6


def test_chosen_epochs_of_el2n() -> None:
    z, y = trajectory(2)
    parts = [plain(z[t : t + 1].repeat(J + 1, 0), y)["el2n"] for t in (1, 4)]
    found = recorded(z, y, chosen=(2, 5))["el2n"].double().numpy()
    assert np.allclose(found, np.mean(parts, 0), atol=1e-5)


@pytest.mark.parametrize("together", [1, 5, 9, 10**6])
@pytest.mark.parametrize("classes", [0, K])
def test_batches_that_are_folded_together_give_the_same_bits(
    together: int, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some examples are shown twice in an epoch, in one batch or in two; the first showing counts."""
    z, y = trajectory(5)
    found = []
    for limit in (1, together):
        monkeypatch.setattr("attar.resources.recorder.TOGETHER", limit)
        recorder = Recorder(ids_of(), window=J, classes=classes, chosen=(1, 3, 4))
        for t in range(T):
            random = np.random.default_rng(t)
            order = np.append(random.integers(0, N, 3 * N), np.arange(N))
            for part in [*np.array_split(order, 13), order[:3]]:
                noise = random.normal(size=(len(part), K))
                recorder.update(ids_of()[part], torch.from_numpy(z[t, part] + noise), y[part])
            if t == T // 2:
                recorder.finish()  # a look in the middle of an epoch changes nothing
            recorder.end_epoch()
        found.append(recorder.finish())
    assert found[0].keys() == found[1].keys()
    for name in found[0]:
        assert torch.equal(found[0][name], found[1][name]), name


class Calls(TorchDispatchMode):
    """How often torch is called."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_an_update_is_few_calls() -> None:
    """With a full window; one for each statistic would be more than 130, views counted."""
    state, rows = recording.start(1000, window=J), torch.arange(256)
    z, y = torch.randn(256, K), torch.zeros(256).long()
    for epoch in range(J):
        with Calls() as calls:
            recording.fold(state, rows, recording.facts(z, y), epoch=epoch)
    assert calls.count < 105


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("classes", [0, K])
def test_merged_workers_are_one_recorder(workers: int, classes: int) -> None:
    """Shuffled over the workers anew in every epoch, padded with repeats as a distributed sampler pads."""
    z, y = trajectory(3)
    parts = [Recorder(ids_of(), window=J, classes=classes, worker=True) for _ in range(workers)]
    for t in range(T):
        order = np.random.default_rng(100 + t).permutation(N)
        padded = np.concatenate([order, order[: -N % workers]])
        for i, recorder in enumerate(parts):
            mine = padded[i::workers]
            recorder.update(ids_of()[mine], torch.from_numpy(z[t, mine]), y[mine])
            recorder.end_epoch()
    whole, merged = recorded(z, y, window=J, classes=classes), Recorder.merge(parts).finish()
    assert whole.keys() == merged.keys()
    for name in whole:
        assert torch.equal(whole[name], merged[name]), name


def test_a_repeat_in_the_same_epoch_counts_once() -> None:
    z, y = trajectory(4)
    once, twice = Recorder(N), Recorder(N)
    for t in range(T):
        for recorder in (once, twice):
            recorder.update(np.arange(N), torch.from_numpy(z[t]), y)
        twice.update([3, 3, 5], torch.randn(3, K), [0, 0, 0])
        once.end_epoch()
        twice.end_epoch()
    for name, value in once.finish().items():
        assert torch.equal(value, twice.finish()[name]), name
    batch = Recorder(N)
    batch.update([*range(N), 3], torch.from_numpy(np.concatenate([z[0], -z[0, 3:4]])), [*y, y[3]])
    first = Recorder(N)
    first.update(range(N), torch.from_numpy(z[0]), y)
    assert torch.equal(batch.finish()["loss"], first.finish()["loss"])


def test_what_cannot_be_recorded_is_refused() -> None:
    z = torch.zeros(2, 3)
    for ids, logits, targets, said in (
        ([0, 9], z, [0, 0], "the id 9 is none of the 2"),
        ([0, 1], z, [0, 3], "target 3 of id 1 is outside 0..2"),
        ([0, 1], z + math.nan, [0, 0], "logits of id 0 in epoch 1 are not finite"),
        ([0], z, [0], "one row of two or more classes"),
        ([0, 1], z[:, :1], [0, 0], "one row of two or more classes"),
        ([0.5, 1], z, [0, 0], "expected whole numbers"),
        (["a", "b"], z, [0, 0], "ids are no numbers"),
        ([0, 1], z, [0, None], "targets are no numbers"),
    ):
        with pytest.raises(DataError, match=said):
            Recorder(2).update(ids, logits, targets)
    with pytest.raises(UsageError, match="examples=-1 is less than none"):
        Recorder(-1)
    with pytest.raises(DataError, match="the id 4 stands there twice"):
        Recorder([4, 1, 4])
    with pytest.raises(DataError, match="row 1 was seen in no epoch"):
        part = Recorder(2)
        part.update([0], z[:1], [0])
        part.finish()
    with pytest.raises(DataError, match="too few epochs for a window of 4"):
        short = Recorder(2, window=4)
        short.update([0, 1], z, [0, 0])
        short.finish()
    cases: list[dict[str, Any]] = [{"window": 1}, {"classes": 3}, {"window": 2, "classes": 3}]
    for wrong in cases:
        with pytest.raises(UsageError, match="too short to have a spread"):
            Recorder(2, **wrong)
    with pytest.raises(UsageError, match=r"call Recorder\.merge"):
        Recorder(2, worker=True).finish()
    with pytest.raises(UsageError, match="worker=True"):
        Recorder.merge([Recorder(2)])
    with pytest.raises(UsageError, match="differ in their ids or settings"):
        Recorder.merge([Recorder(2, worker=True), Recorder(3, worker=True)])


def test_a_planted_set_is_ordered_as_documented() -> None:
    """Easy, moving and mislabelled thirds: each score puts on top what it says."""
    t = torch.linspace(0, 1, 12)
    easy, wrong = 4 + 0 * t, -4 + 0 * t
    moving = 3 * torch.sin(9 * t)
    recorder = Recorder(3, window=3)
    for k in range(12):
        recorder.update(
            [0, 1, 2], torch.stack([torch.tensor([float(v[k]), 0.0]) for v in (easy, moving, wrong)]), [0, 0, 0]
        )
        recorder.end_epoch()
    seen = recorder.finish()
    for score, top in (
        (scores.el2n(seen), 2),
        (scores.aum(seen, "logit"), 2),
        (scores.aum(seen, "probability"), 2),
        (scores.forgetting(seen, "drop"), 1),
        (scores.forgetting(seen, "easiest"), 1),
        (scores.forgetting(seen, "hardest"), 2),
        (scores.forgetting(seen, "epochs"), 2),
        (scores.cartography(seen, "variability", "auto"), 1),
        (scores.cartography(seen, "confidence", "auto"), 2),
        (scores.cartography(seen, "confidence", "high"), 0),
        (scores.cartography(seen, "correctness", "auto"), 2),
        (scores.dyn_unc(seen), 1),
        (scores.dual(seen), 1),
    ):
        assert int(score.argmax()) == top
    unsure = Recorder(2)
    unsure.update([0, 1], torch.tensor([[9.0, 0.0, 0.0], [1.0, 0.9, 0.8]]), [0, 0])
    last = unsure.finish()
    assert all(int(f(last).argmax()) == 1 for f in (scores.entropy, scores.margin, scores.least_confidence))


def test_the_policies_of_what_was_never_learned() -> None:
    seen = {
        "forgetting": torch.tensor([2.0, 0.0, 0.0, 0.5]),
        "learned": torch.tensor([1.0, 1.0, 0.0, 0.5]),
        "epochs": torch.full((4,), 9.0),
    }
    assert scores.forgetting(seen, "hardest").tolist() == [2, 0, 3, 0.5]
    assert scores.forgetting(seen, "easiest").tolist() == [2, 0, 0, 0.5]
    assert scores.forgetting(seen, "drop").tolist() == [2, 0, -1, 0.5]
    assert scores.forgetting(seen, "epochs").tolist() == [2, 0, 9, 5]
    with pytest.raises(UsageError, match="did you mean 'hardest'"):
        scores.forgetting(seen, "hardst")


def test_signals_from_files_and_columns_are_lined_up_by_id(tmp_path: Path) -> None:
    real = toy()
    values = np.random.default_rng(0).normal(size=len(real))
    turned = np.random.default_rng(1).permutation(len(real))
    more = np.append(real.ids.numpy()[turned], 10**9)
    pq.write_table(
        pa.table({"id": more, "el2n": np.append(values[turned], math.nan), "note": ["x"] * len(more)}),
        tmp_path / "a.parquet",
    )
    np.savez(tmp_path / "b.npz", el2n=values, confidence=values / 2)
    np.save(tmp_path / "c.npy", values)
    for name in ("a.parquet", "b.npz", "c.npy"):
        assert np.array_equal(given(real, str(tmp_path / name), ("el2n",))["el2n"].numpy(), values), name
    assert set(given(real, str(tmp_path / "b.npz"), ("el2n",))) == {"el2n", "confidence"}
    assert given(real, "columns", ("label",))["label"].tolist() == real.labels.tolist()


def test_signals_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    real = toy()
    ids, n = real.ids.numpy(), len(real)

    def saved(**columns: Any) -> str:
        np.savez(tmp_path / "x.npz", **columns)
        return str(tmp_path / "x.npz")

    holed = np.zeros(n)
    holed[5] = math.nan
    for columns, said in (
        ({"el2n": np.zeros(n - 1)}, f"has {n - 1} rows but toy has {n} examples"),
        ({"el2n": holed}, r"is nan for the example with id 20 \(row 5 of toy\)"),
        ({"el2n": np.zeros(n - 1), "id": ids[1:]}, "has no row of id 5"),
        ({"el2n": np.zeros(n + 1), "id": np.append(ids, ids[3])}, "the id 14 stands twice"),
        ({"el2n": np.zeros(n), "id": ids[1:]}, "different lengths"),
        ({"el2n": np.zeros((n, 2))}, "expected one number an example"),
        ({"el2n": np.array(["a"] * n)}, "expected one number an example"),
        ({"el2n": np.zeros(n), "id": ids.astype(float)}, "expected whole numbers"),
        ({"confidence": np.zeros(n)}, "has no column 'el2n'"),
        ({"other": np.zeros(n), "more": np.zeros(n)}, "has no column 'el2n', .* known: more, other"),
    ):
        with pytest.raises(DataError, match=said):
            given(real, saved(**columns), ("el2n",))
    (tmp_path / "d.npz").write_bytes(b"PK no archive")
    with pytest.raises(DataError, match="not a file of plain arrays"):
        given(real, str(tmp_path / "d.npz"), ("el2n",))
    np.save(tmp_path / "objects.npy", np.array([{}] * n), allow_pickle=True)
    with pytest.raises(DataError, match=r"objects.npy is not a file of plain arrays; save it again with numpy.savez$"):
        given(real, str(tmp_path / "objects.npy"), ("el2n",))
    np.save(tmp_path / "single.npy", np.float64(3))
    with pytest.raises(DataError, match=r"'el2n' of .*single.npy is a single value; expected one number an example"):
        given(real, str(tmp_path / "single.npy"), ("el2n",))
    np.savez_compressed(tmp_path / "torn.npz", el2n=np.random.default_rng(0).normal(size=n))
    torn = bytearray((tmp_path / "torn.npz").read_bytes())
    torn[60:200] = bytes(140)
    (tmp_path / "torn.npz").write_bytes(torn)
    with pytest.raises(DataError, match=r"torn.npz is not a readable file of arrays"):
        given(real, str(tmp_path / "torn.npz"), ("el2n",))
    for where in ("nothing.npz", __file__):
        with pytest.raises(UsageError, match=r"there is no file|no file of signals"):
            given(real, where, ("el2n",))
    np.save(tmp_path / "c.npy", np.zeros(n))
    with pytest.raises(DataError, match="has no column"):
        given(real, str(tmp_path / "c.npy"), ("forgetting", "learned"))


def test_what_a_recorder_saves_a_method_reads(tmp_path: Path) -> None:
    z, y = trajectory()
    real = toy((N,))
    recorder = Recorder(real.ids)
    recorder.update(real.ids, torch.from_numpy(z[0]), y)
    recorder.save(tmp_path / "seen.npz")
    assert torch.equal(given(real, str(tmp_path / "seen.npz"), ("el2n",))["el2n"], recorder.finish()["el2n"].double())
    with pytest.raises(UsageError, match=r"must end in \.npz"):
        recorder.save(tmp_path / "seen.parquet")


def test_chosen_epochs_are_counted_from_one() -> None:
    for chosen in ((0,), (-1, 2), (1.5,)):
        with pytest.raises(UsageError, match="whole numbers from 1"):
            Recorder(3, chosen=chosen)  # pyright: ignore[reportArgumentType]
