"""Tensors on disk: equal in, equal out, and garbage is refused in one way."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import DataError, ResourceError
from attar.io import tensors

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
]  # fmt: skip


@st.composite
def trees(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    """Named tensors of all dtypes; scalars and empty ones too."""
    names = draw(st.lists(st.text(st.characters(codec="utf-8"), max_size=8), unique=True, max_size=4))
    made = {}
    for name in names:
        shape = draw(st.lists(st.integers(0, 4), max_size=4))
        values = torch.arange(torch.Size(shape).numel()).sub(3).mul(draw(st.integers(-5, 5)))
        made[name] = values.reshape(shape).to(draw(st.sampled_from(DTYPES)))
    return made


@given(trees())
def test_what_is_written_is_read(tree: dict[str, torch.Tensor]) -> None:
    if "__metadata__" in tree:
        return
    found = tensors.decode(tensors.encode(tree), "here")
    assert found.keys() == tree.keys()
    for name, value in tree.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        assert torch.equal(found[name], value)


@given(trees(), st.randoms())
def test_equal_tensors_give_equal_bytes_in_any_order(tree: dict[str, torch.Tensor], random: object) -> None:
    turned = dict(reversed(tree.items()))
    assert tensors.encode(tree) == tensors.encode(turned)


def test_a_file_is_mapped_as_it_is_read(tmp_path: Path) -> None:
    made = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(3, dtype=torch.int64), "c": torch.ones(4).half()}
    path = tmp_path / "x.safetensors"
    path.write_bytes(data := tensors.encode({**made, "none": torch.zeros(0, 2)}))
    found, read = tensors.mapped(path), tensors.read(path)
    assert list(found) == list(read) == ["a", "b", "c", "none"]
    assert all(torch.equal(found[k], read[k]) and found[k].dtype == read[k].dtype for k in read)
    assert tensors.digest_of(path) == tensors.digest(data)
    found["b"] += 1  # in this process alone
    assert path.read_bytes() == data
    path.unlink()  # as when another process puts a new one in its place
    assert torch.equal(found["b"], made["b"] + 1) and torch.equal(found["c"], made["c"])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_mapped_file_takes_memory_where_it_is_used(tmp_path: Path) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    path, size = tmp_path / "x.safetensors", 64 << 20
    path.write_bytes(tensors.encode({"x": torch.zeros(size, dtype=torch.uint8), "y": torch.ones(3)}))
    before = resident()
    found = tensors.mapped(path)
    assert float(found["y"].sum()) == 3 and int(found["x"][size // 2]) == 0
    assert resident() - before < size // 4
    assert int(found["x"].sum()) == 0 and resident() - before > size // 2


@pytest.mark.parametrize("data", [b"", b"no tensors", tensors.encode({"x": torch.ones(9)})[:-4]])
def test_what_cannot_be_mapped_is_told(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"x\.safetensors is not a readable safetensors file"):
        tensors.mapped(path)


def test_no_tensors_are_something_too() -> None:
    assert tensors.decode(tensors.encode({}), "here") == {}


def test_nan_infinity_and_signed_zero_keep_their_bits() -> None:
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 1e-45])
    assert torch.equal(tensors.decode(tensors.encode({"x": x}), "here")["x"].view(torch.int32), x.view(torch.int32))


def test_views_are_written_by_what_they_show() -> None:
    x = torch.arange(12.0).reshape(3, 4)
    found = tensors.decode(tensors.encode({"a": x.t(), "b": x[:, 1], "c": x[1:].requires_grad_()}), "here")
    assert torch.equal(found["a"], x.t()) and torch.equal(found["b"], x[:, 1]) and torch.equal(found["c"], x[1:])


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_nothing_else_happens(data: bytes) -> None:
    refused(data)


@given(trees(), st.data())
def test_damage_is_refused_or_gives_tensors(tree: dict[str, torch.Tensor], data: st.DataObject) -> None:
    whole = bytearray(tensors.encode({k: v for k, v in tree.items() if k != "__metadata__"}))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    refused(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


HEADERS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(["F32", "BOOL", "F8_E4M3", "x"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "a", "__metadata__"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(HEADERS, st.binary(max_size=64))
def test_any_header_is_refused_or_gives_tensors(header: object, rest: bytes) -> None:
    text = json.dumps(header).encode()
    refused(len(text).to_bytes(8, "little") + text + rest)


@given(
    st.sampled_from(["F32", "F16", "BF16", "I64", "U8", "BOOL", "F64", "U64", "F8_E4M3", "C64", "F4"]),
    st.lists(st.integers(0, 2**40), max_size=5),
    st.integers(0, 80),
    st.integers(0, 80),
)
def test_any_claim_of_shape_and_place_is_refused_or_gives_tensors(
    dtype: str, shape: list[int], begin: int, end: int
) -> None:
    text = json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}}).encode()
    refused(len(text).to_bytes(8, "little") + text + bytes(64))


def refused(data: bytes) -> None:
    """Decoding gives tensors or one sentence that names the file."""
    try:
        found = tensors.decode(data, "photos/tensors.safetensors")
    except DataError as e:
        assert str(e).startswith("photos/tensors.safetensors is not a readable safetensors file")
    else:
        assert all(isinstance(v, torch.Tensor) and v.numel() * v.element_size() <= len(data) for v in found.values())


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"reading .*none failed"):
        tensors.read(tmp_path / "none")


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(tensors.encode({"x": torch.ones(2)}))
    assert torch.equal(tensors.read(tmp_path / "x")["x"], torch.ones(2))
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(DataError, match="x is not a readable safetensors file"):
        tensors.read(tmp_path / "x")


def test_names_come_back_in_one_order() -> None:
    many = {f"weight.{i}": torch.full((i % 3 + 1,), float(i)) for i in range(40)}
    data = tensors.encode(many)
    assert all(list(tensors.decode(data, "here")) == sorted(many) for _ in range(5))
