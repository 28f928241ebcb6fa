"""Tensors on disk as safetensors: nothing executable, checked before use."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
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


def digest(data: bytes) -> str:
    """SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
