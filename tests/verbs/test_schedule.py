"""--quick and --preset: what stands in place of a method's defaults."""

import pytest
from verbs_kit import TINY

import attar
from attar.errors import UsageError
from attar.registry import find, group, names
from attar.verbs.look import methods
from attar.verbs.options import Amount, Compute, Course, Data, divide
from attar.verbs.schedule import ahead

PRESETS = [(name, preset) for name in names("distill") for preset in find(name).presets]


@pytest.mark.parametrize("name,preset", PRESETS)
def test_every_preset_is_made_of_settings(name: str, preset: str) -> None:
    kind = find(name)
    _, _, amount, data, _ = divide(ahead(kind, set(), preset=preset), (kind, Course, Amount, Data, Compute))
    words = preset.split("-")
    if "ipc" in kind.presets[preset]:
        assert words[-1] == str(amount.ipc)
    assert data == Data(zca=data.zca)  # how the data are read is the caller's


@pytest.mark.parametrize(
    ("name", "preset", "wanted"),
    [
        ("mtt", "cifar10-50", {"zca": False, "syn_steps": 30, "max_start": 40, "lr_img": 1000.0, "rate": 0.001}),
        ("mtt", "cifar100-50", {"zca": True, "syn_steps": 80, "batch_syn": 125, "lr_img": 1000.0, "rate": 0.01}),
        ("tesla", "cifar10-1", {"syn_steps": 50, "max_start": 5, "lr_img": 500.0, "lr_lr": 1e-7, "rate": 0.01}),
        ("tesla", "cifar100-50", {"zca": True, "syn_steps": 80, "batch_syn": 125, "lr_img": 500.0, "rate": 0.01}),
        ("tesla", "imagenet1k-64", {"expert_epochs": 3, "max_start": 10, "lr_img": 5000.0, "rate": 0.01}),
        ("ftd", "cifar10-10", {"zca": True, "syn_steps": 30, "alpha": 0.3, "ema": 0.9995, "rate": 0.001}),
        ("ftd", "cifar100-10", {"zca": True, "syn_steps": 20, "alpha": 1.0, "ema": 0.9995, "rate": 0.01}),
        ("dm", "cifar10-50", {"lr_img": False, "zca": False}),
        ("dm", "cifar10-500", {"lr_img": 10.0}),
        ("dc", "fashion-mnist-10", {"steps": 10_000}),
        ("dsa", "cifar100-50", {"steps": 50_000}),
        ("dcc", "cifar10-1", {"steps": 10_000}),
        ("dream", "mnist", {"metric": "l1", "lr_img": 1e-4, "inner": 8}),
        ("wmdd", "tiny-imagenet", {"bn": 500.0, "lr_img": 0.1}),
        ("ncfm", "imagenet-subset-128-10", {"batch": 128, "epochs": 80}),
        ("datm", "cifar10-10", {"zca": True, "syn_steps": 80, "min_start": 0, "max_start": 20, "growth": 1000}),
    ],
)
def test_presets_are_the_numbers_of_the_authors(name: str, preset: str, wanted: dict[str, float]) -> None:
    """Published calls of the official code; the image rate of TESLA is half of theirs, whose gradient is half of the loss's."""
    found = find(name).presets[preset]
    assert {key: found.get(key, False) for key in wanted} == wanted


def test_what_is_given_wins_over_a_preset() -> None:
    kind = find("mtt")
    whole = ahead(kind, set(), preset="cifar10-1")
    assert (whole["ipc"], whole["zca"], whole["lr_lr"]) == (1, True, 1e-7)
    for budget in ("ipc", "rows", "keep", "bytes"):
        assert "ipc" not in ahead(kind, {budget}, preset="cifar10-1")
    assert ahead(kind, {"zca", "lr_lr"}, preset="cifar10-1").keys() == whole.keys() - {"zca", "lr_lr"}
    assert ahead(kind, set()) == {}


@pytest.mark.parametrize(
    "name,asked,says",
    [
        ("mtt", {"preset": "cifar10-9"}, "mtt has no preset 'cifar10-9'; did you mean 'cifar10-"),
        ("mtt", {"preset": "cifar10-1", "quick": True}, "quick and preset are two schedules; give one of them"),
    ],
)
def test_a_wrong_preset_is_refused_in_one_sentence(name: str, asked: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        attar.distill("digits", method=name, **asked)  # type: ignore[arg-type]


def test_a_method_without_presets_says_so() -> None:
    with pytest.raises(UsageError, match="random has no presets; leave preset out"):
        ahead(find("random"), set(), preset="cifar10-1")


def test_every_matching_method_has_presets() -> None:
    assert [name for name in group("matching") if not find(name).presets] == []


def test_the_networks_of_gradient_matching_are_a_thousand() -> None:
    """Each of ``outer`` updates, by the published table."""
    for name in ("dc", "dsa", "dcc"):
        for settings in find(name).presets.values():
            outer, _ = find(name)().path.counts(settings["ipc"])  # pyright: ignore[reportAttributeAccessIssue]
            assert settings["steps"] == 1000 * outer


def test_a_preset_is_what_the_set_was_made_with() -> None:
    kept = attar.distill(
        "digits", method="idm", preset="cifar10-1", steps=1, batch=2, lessons=1, batch_net=8, net=TINY["net"]
    )
    last = kept.manifest["lineage"][0]
    assert (last["settings"]["params"], last["settings"]["renew"], last["settings"]["batch"]) == ("tiles", 5, 2)
    assert last["budget"] == {"ipc": 1}
    with pytest.raises(UsageError, match="preset='cifar10-1' goes with the name of a method"):
        attar.distill("digits", method=find("idm")(), preset="cifar10-1")


def test_presets_are_listed() -> None:
    assert methods("datm")[0]["presets"]["cifar10-1"]["threshold"] == 1.1
    assert methods("random")[0]["presets"] == {}
