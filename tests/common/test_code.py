"""Code of the user is part of what a run is, and does not change below a process that imported it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import attar
from attar import registry
from attar.errors import UsageError
from attar.execute.identity import files
from attar.nets import build

NET = """
import torch


class Net(torch.nn.Module):
    def __init__(self, channels, size, classes):
        super().__init__()
        self.last = torch.nn.Linear(channels * size[0] * size[1], classes)

    def forward(self, x):
        return self.last(x.flatten(1))
"""
METHOD = """
from attar.select.random import Random


class Mine(Random):
    pass
"""


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_files_and_modules_that_settings_name_are_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    inside = tmp_path / "a:b"
    inside.mkdir()
    for path in (tmp_path / "my_nets.py", inside / "net.py", inside / "scores.npz"):
        path.write_text(NET)
    settings = {"net": "my_nets:Net", "deep": [f"{inside}/net.py:Net"], "signals": f"{inside}/scores.npz"}
    wanted = {"my_nets": sha(tmp_path / "my_nets.py")}
    wanted |= {str(inside / name): sha(inside / name) for name in ("net.py", "scores.npz")}
    assert files(settings) == wanted
    (tmp_path / "my_nets.py").write_text(NET + "\n")  # nobody has imported it
    assert files(settings) == wanted | {"my_nets": sha(tmp_path / "my_nets.py")} != wanted


@pytest.mark.parametrize(
    "text",
    [
        "convnet:width=8",
        "cuda:0",
        "hf:owner/name",
        "attar.distill.dm:DM",
        "no_such:Net",
        "a.b.c:Net",
        "none.py:Net",
        ":",
        "",
    ],
)
def test_other_texts_name_no_file(text: str) -> None:
    assert files(text) == {}


def test_an_edited_network_is_refused_until_python_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text(NET)
    name = f"{path}:Net"
    build(name, channels=1, size=(8, 8), classes=10)
    assert files(name) == {str(path): sha(path)}
    kept = attar.select("digits", method="random", ipc=1)
    path.write_text(NET + "\n# edited\n")
    for act in (
        lambda: files(name),
        lambda: build(name, channels=3, size=(8, 8), classes=10),
        lambda: attar.evaluate(kept, real="digits", nets=name, seeds=1, epochs=1),
    ):
        with pytest.raises(UsageError, match=r"net\.py was changed since it was imported; start Python anew"):
            act()
    path.write_text(NET)
    assert files(name) == {str(path): sha(path)}


def test_an_edited_module_is_refused_until_python_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "nets_of_mine.py"
    path.write_text(NET)
    build("nets_of_mine:Net", channels=1, size=(8, 8), classes=10)
    path.write_text(NET + "\n# edited\n")
    with pytest.raises(UsageError, match=r"nets_of_mine\.py was changed since it was imported"):
        files("nets_of_mine:Net")


def test_an_edited_method_is_refused_until_python_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(METHOD)
    assert registry.find(f"{path}:Mine") is registry.find(f"{path}:Mine")
    path.write_text(METHOD + "\n# edited\n")
    with pytest.raises(UsageError, match=r"mine\.py was changed since it was imported"):
        registry.find(f"{path}:Mine")


def test_a_file_that_could_not_be_imported_may_be_mended(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text("def broken(:\n")
    with pytest.raises(UsageError, match="cannot be imported"):
        build(f"{path}:Net", channels=1, size=(8, 8), classes=10)
    path.write_text(NET)
    assert build(f"{path}:Net", channels=1, size=(8, 8), classes=10).n_parameters == 650
