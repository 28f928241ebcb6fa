"""Hostile and broken ``.pt`` files: nothing in them runs, and each gets one sentence."""

from __future__ import annotations

import builtins
import functools
import io
import os
import pickle
import subprocess
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attar.errors import AttarError, DataError, ResourceError
from attar.io import importers, ptfile
from attar.io.importers import import_pt

M, C, H, W, K = 6, 1, 8, 8, 3


@dataclass(frozen=True)
class Real:
    """What the importer needs to know of a real set."""

    shape: tuple[int, int, int] = (C, H, W)
    n_classes: int = K


REAL = Real()


def images() -> torch.Tensor:
    return torch.linspace(-2, 2, M * C * H * W).reshape(M, C, H, W)


def labels() -> torch.Tensor:
    return torch.arange(M) % K


class Calls:
    """Pickles as a call of ``fn`` with ``args``."""

    def __init__(self, fn: Callable[..., Any], *args: Any) -> None:
        self.call = fn, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def refused(path: Path, **options: Any) -> str:
    """The message of the DataError, after checking that it is one sentence that names the file."""
    with pytest.raises(DataError) as caught:
        import_pt(path, real=REAL, **options)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message and len(message) < 900
    return message


def archive(path: Path, pickled: bytes, members: dict[str, bytes] | None = None, **options: Any) -> Path:
    """A file as torch.save lays it out, around any pickle."""
    with zipfile.ZipFile(path, "w", **options) as z:
        z.writestr("set/data.pkl", pickled)
        z.writestr("set/version", b"3\n")
        z.writestr("set/byteorder", b"little")
        for name, data in (members or {}).items():
            z.writestr(name, data)
    return path


def torch_pickle(value: Any) -> bytes:
    """The pickle that torch.save makes of a value."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return zipfile.ZipFile(buffer).read("archive/data.pkl")


def in_process(paths: list[Path], out: Path, index: int) -> None:
    """What the child does, without its limits."""
    try:
        for path in paths:
            ptfile.inspect(path)
        ptfile.convert(out, index, paths)
    except ptfile.Refusal as e:
        raise DataError(f"{paths[0]} {e}") from e


@pytest.fixture
def without_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Converts in this process, as a child for every case would only import torch again."""
    monkeypatch.setattr(importers, "_convert", in_process)


# --- what must be read ---------------------------------------------------------------------------------------------


@pytest.fixture
def child_runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exit codes of the child processes, which run as always."""
    codes: list[int] = []
    run = subprocess.run

    def spied(*args: Any, **options: Any) -> Any:
        done = run(*args, **options)
        codes.append(done.returncode)
        return done

    monkeypatch.setattr(importers.subprocess, "run", spied)
    return codes


def test_reads_the_last_set_of_a_dictionary_with_numpy_numbers_beside(tmp_path: Path, child_runs: list[int]) -> None:
    first, last = [images() + 1, labels()], [images(), labels()]
    accuracies = {"ConvNet": [np.float64(0.5), np.float32(0.25), np.int64(3)]}
    path = tmp_path / "res_DC.pt"
    torch.save({"data": [first, last], "accs_all_exps": accuracies}, path)
    x, y = import_pt(path, real=REAL)
    assert torch.equal(x, images()) and x.dtype == torch.float32
    assert torch.equal(y, labels()) and y.dtype == torch.int64
    assert child_runs == [0]


def test_reads_images_and_soft_labels_in_files_of_their_own(tmp_path: Path) -> None:
    torch.save(torch.nn.Parameter(images().double()), tmp_path / "images_best.pt")
    torch.save(torch.full((M, K), 1 / K), tmp_path / "labels_best.pt")
    x, y = import_pt(tmp_path / "images_best.pt", real=REAL, labels=tmp_path / "labels_best.pt")
    assert torch.allclose(x, images()) and x.dtype == torch.float32
    assert torch.equal(y, torch.full((M, K), 1 / K))


@pytest.mark.usefixtures("without_child")
def test_reads_the_set_that_is_asked_for(tmp_path: Path) -> None:
    torch.save({"data": [[images() + k, labels()] for k in range(3)]}, tmp_path / "set.pt")
    for index, k in ((0, 0), (1, 1), (-1, 2), (-3, 0)):
        assert torch.equal(import_pt(tmp_path / "set.pt", real=REAL, index=index)[0], images() + k)


@pytest.mark.usefixtures("without_child")
def test_images_alone_are_not_enough(tmp_path: Path) -> None:
    torch.save(images(), tmp_path / "images_best.pt")
    assert "give the file of their labels" in refused(tmp_path / "images_best.pt")


# --- pickles that are programs -------------------------------------------------------------------------------------


def hostile(sentinel: Path) -> dict[str, Any]:
    """Values whose pickle runs something that makes ``sentinel``."""
    touch = f"touch {sentinel}"
    write = f"open({str(sentinel)!r}, 'w')"
    linear = torch.nn.Linear(2, 2)
    return {
        "os.system": Calls(os.system, touch),
        "in a dictionary": {"data": [[images(), Calls(os.system, touch)]]},
        "in a list": [images(), [labels(), Calls(os.system, touch)]],
        "beside a good set": {"data": [[images(), labels()]], "accs_all_exps": Calls(os.system, touch)},
        "as a key": {Calls(os.system, touch): 1},
        "eval": Calls(builtins.eval, write),
        "exec": Calls(builtins.exec, write),
        "getattr": Calls(builtins.getattr, Calls(builtins.__import__, "os"), "system"),
        "import": Calls(builtins.__import__, "antigravity"),
        "partial": functools.partial(os.system, touch),
        "popen": Calls(subprocess.Popen, ["touch", str(sentinel)]),
        "open": Calls(builtins.open, str(sentinel), "w"),
        "torch.load": Calls(torch.load, str(sentinel)),
        "module": linear,
        "object array": np.array([Calls(os.system, touch)], dtype=object),
        "numpy array": [images().numpy(), labels().numpy()],
        "path": Path("/etc/passwd"),
        "device": torch.device("cuda:0"),
        "sparse": [images().to_sparse(), labels()],
    }


@pytest.mark.parametrize("name", hostile(Path("x")))
def test_a_pickle_that_names_more_than_tensors_is_not_run(name: str, tmp_path: Path) -> None:
    sentinel = tmp_path / "sentinel"
    path = tmp_path / "set.pt"
    torch.save(hostile(sentinel)[name], path)
    assert "asks for" in refused(path)
    assert not sentinel.exists()


@pytest.mark.parametrize("protocol", [0, 1, 4, 5])
def test_no_protocol_of_pickle_gets_past(protocol: int, tmp_path: Path) -> None:
    sentinel = tmp_path / "sentinel"
    pickled = pickle.dumps(Calls(os.system, f"touch {sentinel}"), protocol=protocol)
    refused(archive(tmp_path / "set.pt", pickled))
    assert not sentinel.exists()


@pytest.mark.parametrize("opcodes", ["inst", "obj", "extension", "persistent text", "odd global"])
def test_rare_opcodes_are_refused(opcodes: str, tmp_path: Path) -> None:
    sentinel = tmp_path / "sentinel"
    text = f"touch {sentinel}".encode()
    crafted = {
        "inst": b"(S'" + text + b"'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS'" + text + b"'\no.",
        "extension": b"\x82\x01.",
        "persistent text": b"Pos.system\n.",
        "odd global": b"ctorch._utils _rebuild_tensor_v2\n\n.",
    }
    refused(archive(tmp_path / "set.pt", crafted[opcodes]))
    assert not sentinel.exists()


def test_torch_refuses_by_itself_what_the_first_check_let_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layers are independent: without the check of opcodes the restricted unpickler still holds."""
    sentinel = tmp_path / "sentinel"
    path = tmp_path / "set.pt"
    torch.save(Calls(os.system, f"touch {sentinel}"), path)
    with pytest.raises(ptfile.Refusal, match="restricted reader"):
        ptfile.unpickle(path)
    assert not sentinel.exists()


def test_the_child_sees_neither_secrets_nor_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text(f"open({str(tmp_path / 'sentinel')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "secret")
    seen: dict[str, Any] = {}
    run = subprocess.run

    def spied(command: list[str], **options: Any) -> Any:
        seen.update(options["env"])
        return run(command, **options)

    monkeypatch.setattr(importers.subprocess, "run", spied)
    torch.save([images(), labels()], tmp_path / "set.pt")
    import_pt("set.pt", real=REAL)
    assert seen and "HF_TOKEN" not in seen
    assert not (tmp_path / "sentinel").exists()


# --- files that are not what torch.save writes ---------------------------------------------------------------------


def good(path: Path) -> bytes:
    torch.save([images(), labels()], path)
    return path.read_bytes()


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "text": lambda _: b"these are not the images\n" * 10,
    "plain pickle": lambda _: pickle.dumps([1, 2]),
    "truncated": lambda data: data[: len(data) // 2],
    "last byte gone": lambda data: data[:-1],
    "appended": lambda data: data + b"more",
    "prefixed": lambda data: b"#!/bin/sh\n" + data,
    "header alone": lambda data: data[:4],
    "directory overwritten": lambda data: data[:-400] + bytes(300) + data[-100:],
    "pickle overwritten": lambda data: data[:64] + bytes(300) + data[364:],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "set.pt"
    path.write_bytes(BROKEN[name](good(path)))
    refused(path)


def test_a_legacy_file_is_refused(tmp_path: Path) -> None:
    torch.save([images(), labels()], tmp_path / "set.pt", _use_new_zipfile_serialization=False)
    assert "torch 1.6" in refused(tmp_path / "set.pt")


PICKLED = torch_pickle([1, 2])


@pytest.mark.parametrize(
    "name",
    [
        "../escaped",
        "/etc/passwd",
        "set/../../escaped",
        "set\\..\\escaped",
        "../data/0",
        "set/code/run.py",
        "other/data/0",
        "set/DATA.pkl",
    ],
)
def test_a_member_with_another_name_is_refused(name: str, tmp_path: Path) -> None:
    assert "set.pt" in refused(archive(tmp_path / "set.pt", PICKLED, {name: b"x"}))
    assert not (tmp_path.parent / "escaped").exists()


def test_a_repeated_member_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        path = archive(tmp_path / "set.pt", PICKLED, {"set/version": b"4"})
    assert "repeated" in refused(path)


def test_a_ratio_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = archive(tmp_path / "set.pt", PICKLED, {"set/data/0": bytes(64 << 20)}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    assert "compressed" in refused(path)


def test_a_script_archive_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "set.pt", PICKLED, {"set/constants.pkl": PICKLED, "set/code/__torch__.py": b"x = 1"})
    assert "does not write" in refused(path)


def test_too_large_a_directory_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "set.pt", PICKLED, {f"set/data/{i}": b"" for i in range(20_000)})
    assert "directory" in refused(path)


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "set.pt", PICKLED, {f"set/data/{i}": b"" for i in range(5000)})
    assert "5003 members" in refused(path)


def test_a_file_above_the_cap_is_not_opened(tmp_path: Path, child_runs: list[int]) -> None:
    path = tmp_path / "set.pt"
    with open(path, "wb") as f:
        f.truncate(importers.LARGEST + 1)
    assert "more than" in refused(path)
    assert child_runs == []


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "set.pt")
    assert "not a file" in refused(tmp_path / "set.pt")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"none\.pt"):
        import_pt(tmp_path / "none.pt", real=REAL)


# --- tensors that do not fit ---------------------------------------------------------------------------------------


def claims(shape: list[int], stride: list[int]) -> torch.Tensor:
    return torch.zeros(1).as_strided(shape, stride)


def test_a_huge_tensor_over_a_tiny_storage_is_refused(tmp_path: Path) -> None:
    torch.save([claims([10**9, C, H, W], [0, 0, 0, 0]), labels()], tmp_path / "set.pt")
    assert "more than its bytes hold" in refused(tmp_path / "set.pt")


@pytest.mark.usefixtures("without_child")
def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.pt"
    torch.save([images(), labels()], path)
    with zipfile.ZipFile(path) as z:
        members = {i.filename: z.read(i) for i in z.infolist()}
    members["set/data.pkl"] = members["set/data.pkl"].replace(b"K\x06K\x01K\x08K\x08", b"K\xffK\x01K\x08K\x08", 1)
    assert b"K\xffK\x01" in members["set/data.pkl"]
    with zipfile.ZipFile(path, "w") as z:
        for name, data in members.items():
            z.writestr(name, data)
    assert "restricted reader" in refused(path)


def test_more_memory_than_the_limit_ends_the_child_and_not_the_parent(tmp_path: Path) -> None:
    """The limit holds: a child that asks for more gets MemoryError."""
    if ptfile.resource is None:
        pytest.skip("this system has no limits of a process")
    code = (
        "from attar.io import ptfile\n"
        "ptfile.limit(0)\n"
        "try:\n    bytearray(2 << 30)\nexcept MemoryError:\n    raise SystemExit(7)\n"
    )
    done = subprocess.run([importers.sys.executable, "-c", code], check=False)
    assert done.returncode == 7


MISFITS: dict[str, tuple[Any, str]] = {
    "one more channel": ([images().expand(M, 3, H, W).contiguous(), labels()], "expected [M, 1, 8, 8]"),
    "flat": ([images().flatten(1), labels()], "expected [M, 1, 8, 8]"),
    "no images": ([images()[:0], labels()[:0]], "expected [M, 1, 8, 8]"),
    "bytes": ([images().to(torch.uint8), labels()], "type torch.uint8"),
    "NaN": ([images().index_fill(0, torch.tensor([4]), float("nan")), labels()], "NaN or infinity in image 4"),
    "infinity": ([images().index_fill(0, torch.tensor([0]), float("inf")), labels()], "NaN or infinity in image 0"),
    "float labels": ([images(), labels().float()], "expected integers [6]"),
    "bool labels": ([images(), labels() > 1], "expected integers [6]"),
    "fewer labels": ([images(), labels()[:-1]], "expected integers [6]"),
    "class beyond": ([images(), labels() + 1], "expected 0 to 2"),
    "negative class": ([images(), labels() - 1], "expected 0 to 2"),
    "soft labels of other classes": ([images(), torch.ones(M, K + 1)], "[6, 3]"),
    "NaN soft labels": ([images(), torch.full((M, K), float("nan"))], "NaN or infinity in its labels"),
    "three parts": ([images(), labels(), labels()], "in place of [images, labels]"),
    "no data": ({"images": images()}, "without a list of sets"),
    "no set": ({"data": []}, "without a list of sets"),
    "a number": (OrderedDict(data=[[1, 2]]), "type int"),
}
"""Contents of a readable file that is no set of images for REAL, and what the message must say."""


@pytest.mark.parametrize("name", MISFITS)
@pytest.mark.usefixtures("without_child")
def test_contents_that_do_not_fit_are_refused(name: str, tmp_path: Path) -> None:
    value, said = MISFITS[name]
    torch.save(value, tmp_path / "set.pt")
    assert said in refused(tmp_path / "set.pt")


@pytest.mark.usefixtures("without_child")
def test_a_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    torch.save({"data": [[images(), labels()]]}, tmp_path / "set.pt")
    assert "has no set 3; it holds 1" in refused(tmp_path / "set.pt", index=3)


# --- the guard itself ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2.9.1+cpu", "1.13.0", "unknown"])
def test_an_old_torch_is_refused(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, child_runs: list[int]
) -> None:
    torch.save([images(), labels()], tmp_path / "set.pt")
    monkeypatch.setattr(importers.torch, "__version__", version)
    with pytest.raises(ResourceError, match=r"2\.10"):
        import_pt(tmp_path / "set.pt", real=REAL)
    assert child_runs == []


def test_a_child_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save([images(), labels()], tmp_path / "set.pt")
    monkeypatch.setattr(importers, "SECONDS", 0.01)
    assert "given up" in refused(tmp_path / "set.pt")


@pytest.mark.parametrize("code", [1, -9, -24])
def test_a_child_that_dies_gives_one_sentence(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save([images(), labels()], tmp_path / "set.pt")
    died = subprocess.CompletedProcess([], code, b"", b"Traceback\n  lines\nMemoryError: \x1b[31mred\n")
    monkeypatch.setattr(importers.subprocess, "run", lambda *a, **k: died)
    message = refused(tmp_path / "set.pt")
    assert f"exit code {code}" in message and "\x1b" not in message


def test_what_the_child_writes_is_checked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save([images(), labels()], tmp_path / "set.pt")

    def taken_over(paths: list[Path], out: Path, index: int) -> None:
        out.write_bytes(b"\xff" * 64)

    monkeypatch.setattr(importers, "_convert", taken_over)
    with pytest.raises(AttarError):
        import_pt(tmp_path / "set.pt", real=REAL)
