"""Tensors on disk as safetensors: nothing executable, checked before use."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save

from attar.errors import DataError
from attar.io.atomic import named


def encode(tensors: Mapping[str, torch.Tensor], meta: Mapping[str, str] | None = None) -> bytes:
    """Tensors as the bytes of a safetensors file, names sorted, so that equal tensors give equal bytes.

    Args:
        tensors: any dtypes and shapes; moved to the CPU and made contiguous.
        meta: strings to keep with them. Never empty in the file: a file of no tensors and no metadata cannot be read.
    """
    flat = {k: tensors[k].detach().cpu().contiguous().clone() for k in sorted(tensors)}
    return save(flat, metadata={"format": "pt", **(meta or {})})


def decode(data: bytes, where: Path | str) -> dict[str, torch.Tensor]:
    """Reads what :func:`encode` wrote, in the order of the names.

    The library gives them in another order every time, and the last bits of a sum over tensors depend on their order.

    Raises:
        DataError: not a safetensors file.
    """
    try:
        found = load(data)
        return {name: found[name] for name in sorted(found)}
    except (SafetensorError, ValueError, KeyError, TypeError) as e:
        raise DataError(f"{where} is not a readable safetensors file ({e}); restore it from a copy") from e


def read(path: Path) -> dict[str, torch.Tensor]:
    """Reads a safetensors file."""
    with named(path, "reading"):
        return decode(path.read_bytes(), path)


def mapped(path: Path) -> dict[str, torch.Tensor]:
    """Opens a safetensors file without reading it: what is used of its tensors is read then, and memory can let go of it.

    The file may be replaced meanwhile, and not changed. What is written to the tensors stays in this process.

    Raises:
        DataError: not a safetensors file.
    """
    with named(path, "reading"):
        try:
            with safe_open(path, framework="pt") as f:
                return {name: f.get_tensor(name) for name in sorted(f.keys())}
        except (SafetensorError, ValueError, KeyError, TypeError) as e:
            raise DataError(f"{path} is not a readable safetensors file ({e}); restore it from a copy") from e


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal, in little memory."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def digest(data: bytes) -> str:
    """SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
