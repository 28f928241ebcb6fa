"""Between arrow and numpy without pandas: arrow's own ways load it where it is installed, 40 MB in every process."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

KINDS = {
    pa.float16(): np.float16,
    pa.float32(): np.float32,
    pa.float64(): np.float64,
    **{
        getattr(pa, name)(): getattr(np, name)
        for sign in ("int", "uint")
        for name in (f"{sign}{b}" for b in (8, 16, 32, 64))
    },
}
"""Arrow type -> numpy type of numbers."""


def numbers(values: pa.Array) -> np.ndarray:
    """An arrow array of numbers as a numpy array, of its own memory: [n] -> [n]; what is null has any value."""
    data = np.frombuffer(values.buffers()[1] or b"", KINDS[values.type])
    return data[values.offset : values.offset + len(values)]


def column(values: np.ndarray, known: np.ndarray | None = None) -> pa.Array:
    """Numbers or truth values as an arrow array, null where not ``known``: [n] -> [n]."""
    valid = None if known is None else _bits(known)
    if values.dtype == np.bool_:
        return pa.Array.from_buffers(pa.bool_(), len(values), [valid, _bits(values)])
    kind = next(k for k, v in KINDS.items() if v == values.dtype)
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(np.ascontiguousarray(values))])


def _bits(mask: np.ndarray) -> pa.Buffer:
    """A bit a truth value, as arrow keeps them."""
    return pa.py_buffer(np.packbits(mask, bitorder="little"))
