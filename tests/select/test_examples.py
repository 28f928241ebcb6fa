"""What a method's page promises: examples that are calls which can be made, and a short schedule where networks are trained."""

import re
from types import SimpleNamespace
from typing import Any

import pytest

from attar.registry import find, names
from attar.resources.network import TrainedNetwork
from attar.resources.resource import needed
from attar.verbs.distill import job_of

CALL = re.compile(r">>> (attar\.\w+\(.*\))")


@pytest.mark.parametrize("name", names())
def test_an_example_names_settings_that_there_are(name: str) -> None:
    def call(verb: str) -> Any:
        return lambda source, *, method=None, **settings: job_of(verb, source, method or name, None, settings)

    attar = SimpleNamespace(select=call("select"), distill=call("distill"))
    for text in CALL.findall(find(name).__doc__ or ""):
        assert eval(text, {"attar": attar}).name == name  # noqa: S307  # our own text; sets up the work, opens no data


@pytest.mark.parametrize("name", names("select"))
def test_a_selector_that_trains_networks_has_a_short_schedule_that_trains_less(name: str) -> None:
    method = find(name)
    trained = [r for r in needed(method()) if isinstance(r, TrainedNetwork)]
    short = [r for r in needed(method(**method.quick)) if isinstance(r, TrainedNetwork)]
    assert sum(r.epochs for r in short) <= min(20, sum(r.epochs for r in trained))
    assert all(r.net == "convnet:width=32" for r in short)
