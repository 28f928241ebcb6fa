"""The house keeps its plan: floors, sizes, what is never called, and what every public thing says of itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from house_reading import PLAN, files, floors, foreign, imported, name_of, room, room_of, tree

import attar

pytestmark = pytest.mark.skipif(not PLAN.is_file(), reason="the plan of the house is not beside the package")

UNPICKLES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "torch.load",
    "pandas.read_pickle",
}
NETWORK = {"socket", "ssl", "http", "urllib.request", "requests", "aiohttp", "httpx", "ftplib", "smtplib"}


def test_every_room_has_a_floor() -> None:
    assert {room_of(p) for p in files()} - {"__main__"} <= set(floors())


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_imports_point_downwards(path: Path) -> None:
    floor = {**floors(), "__main__": 6}
    here = floor[room_of(path)]
    for line, module in imported(path):
        assert not module.startswith("."), f"line {line}: write imports in full"
        if module in ("attar", "attar.__version__"):  # the version is the plate at the door; see below
            continue
        there = floor[room(module)]
        assert there <= here, f"line {line}: floor {here} imports {module} of floor {there}"


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_of_the_package_itself_rooms_read_the_version_alone(path: Path) -> None:
    if not any(module == "attar" for _, module in imported(path)):
        return
    used = {n.attr for n in ast.walk(tree(path)) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "attar"}
    assert used <= {"__version__"}


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_files_are_short_and_named_after_their_idea(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500
    assert path.stem not in ("utils", "util", "helpers", "helper", "common", "misc")


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_nothing_that_is_read_is_executed(path: Path) -> None:
    for line, module in foreign(path):
        assert module not in UNPICKLES and module.split(".")[0] not in UNPICKLES, f"line {line} imports {module}"
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called == "torch.load" and name_of(path) == "io/ptfile.py":  # the one guarded place: a child process
            assert {k.arg: ast.unparse(k.value) for k in node.keywords}["weights_only"] == "True"
            continue
        assert called not in ("eval", "exec", "torch.load", "yaml.load"), f"line {node.lineno} calls {called}"
        for keyword in node.keywords:
            trusting = keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False"
            assert not trusting, f"line {node.lineno} allows pickles"
            assert keyword.arg != "shell" or ast.unparse(keyword.value) == "False", f"line {node.lineno} opens a shell"


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_no_file_speaks_to_the_network_by_itself(path: Path) -> None:
    for line, module in foreign(path):
        if (name_of(path), module) == ("execute/cluster.py", "socket"):  # knocks at the cluster that the user named
            continue
        assert module not in NETWORK and module.split(".")[0] not in NETWORK, f"line {line} imports {module}"


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_public_things_are_documented(path: Path) -> None:
    module = tree(path)
    assert ast.get_docstring(module), "the file does not say what it is"
    for node in module.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"line {node.lineno}: {node.name} has no docstring"


@pytest.mark.parametrize("name", attar.__all__)
def test_every_public_name_loads_and_is_documented(name: str) -> None:
    found = getattr(attar, name)
    assert (found.__doc__ or "").strip()
    assert name in dir(attar)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        _ = attar.distil  # type: ignore[attr-defined]
