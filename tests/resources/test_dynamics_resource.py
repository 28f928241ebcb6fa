"""Dynamics as a resource: what is recorded is what the network said, the training is that of a network, runs are apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attar.errors import DataError, UsageError
from attar.execute.identity import files
from attar.execute.plan import Plan
from attar.method import State
from attar.nets.fit import net_of
from attar.resources import recording
from attar.resources.dynamics import Dynamics, averaged, dynamics
from attar.resources.network import params_of
from attar.resources.outputs import Outputs
from attar.resources.recorder import Recorder
from attar.run import run
from attar.seeds import Seeds
from attar.select.dual import DUAL
from attar.select.el2n import EL2N, chosen
from attar.select.tdds import TDDS
from attar.testing.toys import toy, unlabelled

SMALL: dict[str, Any] = {"net": "convnet:width=4:depth=1:norm=batch", "epochs": 4, "batch": 16}


def ran(spec: Dynamics, seed: int = 0) -> State:
    return run(spec, toy(), [None], seed=seed, plan=Plan()).states[0]


@pytest.mark.parametrize("view", ["train", "eval"])
def test_a_recorder_beside_the_training_holds_the_same(view: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, real = Dynamics(**SMALL, view=view, window=3, augment="flip"), toy()
    recorder, shown = Recorder(len(real), window=3), []
    fold = recording.fold

    def watched(state: State, rows: torch.Tensor, new: State, **settings: Any) -> State:
        shown.append((settings["epoch"], rows.clone()))
        return fold(state, rows, new, **settings)

    facts = recording.facts
    logits: list[torch.Tensor] = []
    monkeypatch.setattr(recording, "fold", watched)
    monkeypatch.setattr(recording, "facts", lambda z, y, **k: (logits.append(z.clone()), facts(z, y, **k))[1])
    found = spec.finish(ran(spec), {})
    monkeypatch.undo()
    for (epoch, rows), z in zip(shown, logits):
        while recorder.epoch < epoch:
            recorder.end_epoch()
        recorder.update(rows, z, real.labels[rows])
    assert len(shown) == spec.length(real) == 12
    for name, value in recorder.finish().items():
        assert torch.equal(value, found[name]), name


@pytest.mark.parametrize("view", ["train", "eval"])
def test_the_logits_are_those_before_the_update(view: str) -> None:
    spec, real, seeds = Dynamics(**SMALL, view=view, augment="flip"), toy(), Seeds(0)
    state = spec.init(real, None, seeds.at("init"), {})
    batch = spec.draw(real, seeds.at("step", 0), {}, 0)
    x = batch["image"] if view == "train" else real.draw(batch["index"])
    wanted = net_of(spec.net, real)({k: v.clone() for k, v in params_of(state).items()}, x, train=view == "train")
    spec.step(state, batch, lambda state, loss, batch, only=(): (loss(state, batch), state)[1])
    assert torch.allclose(batch["logits"], wanted, atol=1e-6)
    p = wanted.softmax(1).gather(1, real.labels[batch["index"]][:, None])[:, 0]
    seen = recording.columns({k.removeprefix("seen."): v for k, v in state.items() if k.startswith("seen.")})
    assert torch.allclose(seen["mean"][batch["index"]], p, atol=1e-6)


@pytest.mark.parametrize(
    ("net", "augment", "apart"),
    [
        ("convnet:width=4:depth=1", "none", False),
        ("convnet:width=4:depth=1", "flip", True),
        ("convnet:width=4:depth=1:norm=batch", "none", True),
        ("vit:dim=8:depth=1:heads=1:head_dim=8:mlp=8", "none", True),
    ],
)
def test_a_forward_of_its_own_is_made_where_it_differs(net: str, augment: str, apart: bool) -> None:
    how: dict[str, Any] = {**SMALL, "net": net, "augment": augment}
    spec, other, real = Dynamics(**how, view="eval"), Dynamics(**how, view="train"), toy()
    assert ("plain" in spec.draw(real, Seeds(0).at("step", 0), {}, 0)) == apart
    assert (spec.cost(real).flops_per_step > other.cost(real).flops_per_step) == apart
    seen, beside = (x.finish(ran(x), {}) for x in (spec, other))
    assert all(torch.equal(seen[name], beside[name]) for name in seen) == (not apart)


def test_watching_does_not_change_the_training() -> None:
    """Nor does the view, the window or the distributions; another run is another training."""
    plain = params_of(ran(Dynamics(**SMALL)))
    others: list[dict[str, Any]] = [
        {"view": "eval"},
        {"window": 3},
        {"window": 3, "distributions": True},
        {"chosen": (2,)},
    ]
    for other in others:
        watched = params_of(ran(Dynamics(**SMALL, **other)))
        assert all(torch.equal(plain[name], watched[name]) for name in plain)
    second = params_of(ran(Dynamics(**SMALL, number=1)))
    assert any(not torch.equal(plain[name], second[name]) for name in plain)


def test_a_course_that_goes_on_after_the_last_epoch_keeps_its_rate() -> None:
    """Three epochs out of twelve: the rates of the first quarter of the cosine."""
    settings = {**SMALL, "epochs": 3}
    short, long = Dynamics(**settings, course=12), Dynamics(**{**settings, "epochs": 12})
    rates = [next(iter(spec.learned({"net.a.weight": torch.zeros(1)}).values())).rate for spec in (short, long)]
    for epoch in range(4):
        assert rates[0](epoch / 3) == pytest.approx(rates[1](epoch / 12))
    assert Dynamics(**settings)._opt.rate(1.0) == 0 < rates[0](1.0)
    whole, same = (params_of(ran(Dynamics(**settings, course=c))) for c in (0, 3))
    assert all(torch.equal(whole[name], same[name]) for name in whole)
    other = params_of(ran(short))
    assert any(not torch.equal(whole[name], other[name]) for name in whole)


def test_tdds_and_dual_watch_the_first_epochs_of_a_longer_training() -> None:
    for kind in (TDDS, DUAL):
        assert (kind().epochs, kind().course) == (30, 200)
        assert [run.course for run in kind(course=90).needs()] == [90]
        with pytest.raises(UsageError, match="course=20 is shorter than epochs=30"):
            kind(course=20)


def test_the_statistics_take_the_bytes_that_are_told() -> None:
    for window, classes, wanted in ((0, 0, 64), (5, 0, 64 + 12 + 20), (5, 10, 64 + 4 * 15)):
        state = recording.start(7, window=window, classes=classes)
        assert sum(v.numel() * v.element_size() for v in state.values()) == 7 * wanted
        assert recording.size(window=window, classes=classes) == wanted
    costs = [Dynamics(**SMALL, window=w).cost(toy()).memory for w in (0, 4)]
    assert costs[1] - costs[0] == (12 + 16) * len(toy())


def test_logits_that_are_not_finite_name_the_last_epoch() -> None:
    real, spec = toy(), Outputs(net=SMALL["net"], epochs=2, batch=16)
    params = spec.needs()[0].finish(spec.needs()[0].init(real, None, Seeds(0), {}), {})
    broken = {name: value * torch.nan for name, value in params.items()}
    with pytest.raises(DataError, match="row 0 are not finite in epoch 2;"):
        spec.draw(real, Seeds(0), {"network": broken}, 0)


def test_runs_are_averaged() -> None:
    runs = dynamics(2, **SMALL)
    res = {r.name: r.finish(ran(r), {}) for r in runs}
    found = averaged(res, 2, ("aum",))
    assert set(found) == {"aum", "confidence", "variability"}
    mean = (res["dynamics-0"]["aum"].double() + res["dynamics-1"]["aum"].double()) / 2
    assert torch.equal(found["aum"], mean)


def test_outputs_are_those_of_the_trained_network() -> None:
    real, spec = toy(), Outputs(net=SMALL["net"], epochs=2, batch=16)
    trained = spec.needs()[0]
    params = trained.finish(run(trained, real, [None], seed=0, plan=Plan()).states[0], {})
    state = run(spec, real, [None], seed=0, plan=Plan(), res={"network": params}).states[0]
    p = net_of(spec.net, real)(params, real.draw(torch.arange(len(real))), train=False).double().softmax(1)
    two = p.sort(1, descending=True).values
    found = spec.finish(state, {})
    assert torch.allclose(found["least_confidence"].double(), 1 - two[:, 0], atol=1e-6)
    assert torch.allclose(found["margin"].double(), two[:, 0] - two[:, 1], atol=1e-6)
    assert torch.allclose(found["entropy"].double(), -(p * p.log()).sum(1), atol=1e-6)


def test_impossible_settings_are_refused_before_any_work() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"view": "evl"}, "did you mean 'eval'"),
        ({"window": 1}, "has no spread"),
        ({"distributions": True}, "has no spread"),
        ({"window": 31}, "longer than epochs=30"),
        ({"chosen": (31,)}, "epoch 31 is none of the epochs 1 to 30"),
        ({"epochs": 0}, "must be at least 1"),
    ]
    for settings, said in cases:
        with pytest.raises(UsageError, match=said):
            Dynamics(**settings)
    with pytest.raises(UsageError, match="runs=0"):
        dynamics(0)
    for real in (unlabelled(), toy((5,))):
        with pytest.raises(DataError, match="no training can be watched"):
            Dynamics(**SMALL).init(real, None, Seeds(0), {})


def test_the_epochs_that_el2n_counts() -> None:
    assert chosen("last", 7) == (7,) and chosen("all", 7) == () and chosen("3, 1,3", 7) == (1, 3)
    with pytest.raises(UsageError, match="at=lst is neither"):
        chosen("lst", 7)
    with pytest.raises(UsageError, match="epoch 21 is none"):
        EL2N(at="21")


def test_given_signals_train_nothing_and_an_edited_file_is_another_run(tmp_path: Any) -> None:
    path = tmp_path / "el2n.npy"
    path.write_bytes(b"1")
    one = files({"signals": str(path)})
    path.write_bytes(b"2")
    assert EL2N(signals=str(path)).needs() == () and len(EL2N().needs()) == 10
    assert one != files({"signals": str(path)}) and len(one) == 1
