"""Reader of arrays in memory: (x, y), or a dictionary with x_train, y_train, x_test, y_test; also the arrays of .npz."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from attar.errors import DataError, UsageError
from attar.real.source import SPLIT_WORDS, Opening, Part, Picture, Source

IMAGES = ("x", "image", "images", "img", "imgs", "data", "pixels")
LABELS = ("y", "label", "labels", "target", "targets")
Keys = dict[str, tuple[str, str]]
"""Split -> (key of its images, key of its labels)."""


def source(given: Any, *, labelled: bool = True) -> Source:
    """(x, y), or a dictionary of arrays, as a source of one or more splits.

    Args:
        given: numpy arrays or tensors: images [N, H, W], [N, H, W, C] or [N, C, H, W], labels [N]; in a dictionary also
            ``class_names``. Where examples are not ``labelled``, images alone will do.
    """
    if isinstance(given, (np.ndarray, torch.Tensor)):  # no labels are wanted
        given = {"x": given}
    if isinstance(given, Mapping):
        keys = find_keys(given, "the dictionary", labelled=labelled)
        names = class_names(given.get("class_names"), "class_names")
    else:
        if len(given) != 2:
            raise UsageError(f"a tuple of {len(given)} values is no source; give (images, labels)")
        given = {"x": given[0], "y": given[1]}
        keys, names = {"train": ("x", "y")}, ()

    def opening(x: str, y: str) -> Opening:
        def read() -> Part:
            labels = as_array(given[y], y) if y else None
            return part(as_array(given[x], x), labels, names=names, x_name=x, y_name=y)

        return Opening(open=read)

    return Source(reader="arrays", name="arrays", splits={split: opening(x, y) for split, (x, y) in keys.items()})


def part(
    x: np.ndarray, y: np.ndarray | None, *, names: tuple[str, ...] = (), x_name: str, y_name: str, where: str = ""
) -> Part:
    """Images and labels of one split.

    Args:
        x: [N, H, W], [N, H, W, C] or [N, C, H, W] with C of 1 or 3.
        y: [N]; None where there are no labels.
        where: the file that they come from.
    """
    at = f"{where}: " if where else ""
    if y is None:
        y = np.zeros(len(x) if x.ndim else 0, np.int64)  # nobody looks at them
    if x.dtype == object or y.dtype == object:
        raise DataError(f"{at}{x_name} or {y_name} is an array of Python objects; give plain arrays of equal images")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if x.ndim not in (3, 4) or y.ndim != 1:
        raise DataError(
            f"{at}{x_name} has the shape {list(x.shape)} and {y_name} {list(y.shape)}; "
            "expected images [N, H, W], [N, H, W, C] or [N, C, H, W] and labels [N]"
        )
    if len(x) != len(y):
        raise DataError(f"{at}{x_name} has {len(x)} images but {y_name} has {len(y)} labels; they must be as many")
    if not len(x):
        raise DataError(f"{at}{x_name} has no images; give at least one of every class")
    _depth(x, f"{at}{x_name}")
    return Part(
        n=len(x),
        pictures=lambda size: _pieces(x, size),
        columns=lambda: pa.table({"label": pa.array(y)}),
        where=lambda i: f"{at}{x_name}, row {i}",
        names=names,
        in_memory=True,
    )


def find_keys(given: Mapping[str, Any], where: str, *, labelled: bool = True) -> Keys:
    """Which arrays are the images and labels of which split: x_train, train_images, images_train, X_test ..."""
    found: dict[tuple[str, str], str] = {}
    for key in given:
        words = [w for w in re.split(r"[_\W]+", key.lower()) if w]
        split = next((SPLIT_WORDS[w] for w in words if w in SPLIT_WORDS), "train")
        for kind, known in (("x", IMAGES), ("y", LABELS)):
            if any(w in known for w in words if w not in SPLIT_WORDS):
                found.setdefault((split, kind), key)
    keys = {
        s: (found[s, "x"], found.get((s, "y"), ""))
        for s in ("train", "val", "test")
        if (s, "x") in found and (not labelled or (s, "y") in found)
    }
    if "train" not in keys:
        raise DataError(
            f"{where} has the arrays {', '.join(given) or 'none'}; expected x_train and y_train "
            "(or train_images and train_labels), and the same for test where there is a test split"
        )
    return keys


def class_names(given: Any, where: str) -> tuple[str, ...]:
    """Class names from a list or an array of strings; none where there are none."""
    if given is None:
        return ()
    names = np.asarray(given)
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise DataError(f"{where} must be a list of strings, not {names.dtype} of shape {list(names.shape)}")
    return tuple(n.decode(errors="replace") if isinstance(n, bytes) else str(n) for n in names.tolist())


def as_array(value: Any, name: str) -> np.ndarray:
    """A tensor, array or list as an array."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    try:
        return np.asarray(value)
    except ValueError as e:
        raise DataError(f"{name} holds values of different shapes; give one array of equal images") from e


def _pieces(x: np.ndarray, size: int) -> Iterator[list[Picture]]:
    for start in range(0, len(x), size):
        yield list(x[start : start + size])


def _depth(x: np.ndarray, where: str) -> None:
    """Refuses 8-bit pixels in a 16-bit array, which would all turn black."""
    if x.dtype == np.uint16 and x.size and x.max() < 256:
        raise DataError(f"{where} is uint16 but no pixel is above {x.max()}; convert it to uint8")
