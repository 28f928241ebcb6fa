"""Whose setting wins in a hurried comparison: the user's, then the method's short schedule, then what all take."""

from __future__ import annotations

import pytest

from attar.errors import UsageError
from attar.registry import find
from attar.verbs.compare import NARROW, contenders_of


@pytest.mark.parametrize(
    ("label", "settings", "net"),
    [
        ("dm", {}, NARROW),
        ("wmdd", {}, "convnet:width=32:norm=batch"),
        ("wmdd", {"net": "convnet:norm=batch"}, "convnet:norm=batch"),
        ("wmdd:net=resnet18", {"net": "mlp"}, "resnet18"),
    ],
)
def test_a_short_schedule_keeps_the_network_that_it_names(label: str, settings: dict[str, str], net: str) -> None:
    (found,) = contenders_of(label, settings, quick=True)
    assert found.settings["net"] == net
    assert found.settings["steps"] == find(found.name).quick["steps"]


def test_without_hurry_only_what_is_given_is_set() -> None:
    assert contenders_of("dm", {"batch": 8})[0].settings == {"batch": 8}


def test_a_hurried_comparison_of_methods_without_networks_is_none_of_the_users_settings() -> None:
    (found,) = contenders_of("random", {}, quick=True)
    assert found.settings == {}
    with pytest.raises(UsageError, match="none of the methods has a setting 'net'"):
        contenders_of("random", {"net": NARROW}, quick=True)


def test_what_only_batch_norms_tell_is_there_in_a_hurry() -> None:
    """The narrow network that the others take has no batch norms, whose statistics WMDD matches."""
    assert "norm=batch" in find("wmdd").quick["net"] and "norm" not in NARROW
