"""Which reader takes a source: by its type, or by what lies at its path."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from attar.errors import DataError, UsageError, nearest
from attar.io.atomic import named
from attar.real import arrays, coco, digits, folder, hub, npz, parquet, torch_dataset
from attar.real.source import Source, readable_name

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")


def find(source: Any, *, labelled: bool = True) -> Source:
    """Describes a source; training pixels are not read yet, and of the test split nothing but names and sizes.

    Args:
        source: ``digits``; a path; ``hf:owner/name``; arrays; a torch dataset, or (train, test) of them; a ``Dataset`` or
            ``DatasetDict`` of the package datasets.
        labelled: whether the examples have classes; else there need be none, images may lie in one folder, arrays may be alone,
            and there is a training split alone.

    Raises:
        UsageError: nothing is there, or it is no source.
        DataError: what is there cannot be used.
    """
    found = _found(source, labelled)
    return found if labelled else found.without_labels()


def _found(source: Any, labelled: bool) -> Source:
    if isinstance(source, (str, os.PathLike)):
        return _named(os.fspath(source), labelled)
    if hub.is_dataset(source):
        return hub.source(source, labelled=labelled)
    if isinstance(source, Dataset):
        return torch_dataset.source(source, labelled=labelled)
    if isinstance(source, (tuple, list)) and len(source) == 2 and all(isinstance(s, Dataset) for s in source):
        return torch_dataset.source(*source, labelled=labelled)
    if isinstance(source, (tuple, Mapping)) or (not labelled and isinstance(source, (np.ndarray, torch.Tensor))):
        return arrays.source(source, labelled=labelled)
    raise UsageError(
        f"{type(source).__name__} is no source; give a path, 'digits', (images, labels), a dictionary of arrays, "
        "or a dataset"
    )


def _named(name: str, labelled: bool) -> Source:
    if name == "digits":
        return digits.source()
    readable_name(name)
    if name.startswith("hf:"):
        return hub.from_hub(name[3:], labelled=labelled)
    path = Path(name).expanduser()
    with named(path, "reading"):
        if path.exists():
            return _at(path, labelled)
        if _HUB_NAME.fullmatch(name) and not path.parent.exists():
            return hub.from_hub(name, labelled=labelled)
        raise UsageError(f"there is nothing at {path}; {_siblings(path)}")


def _at(path: Path, labelled: bool) -> Source:
    if path.is_dir():
        if parquet.found(path):
            return parquet.source(path, labelled=labelled)
        archives = sorted(p for p in path.glob("*.npz") if not p.name.startswith("."))
        if len(archives) > 1:
            raise DataError(f"{path} holds {len(archives)} .npz archives; give the path of one of them")
        if archives:
            return replace(npz.source(archives[0], labelled=labelled), name=path.absolute().name, path=str(path))
        if coco.found(path):
            return coco.source(path)
        return folder.source(path) if labelled else folder.loose(path)
    if path.suffix.lower() in (".parquet", ".pq"):
        return parquet.source(path, labelled=labelled)
    if path.suffix.lower() == ".npz":
        return npz.source(path, labelled=labelled)
    if coco.is_annotations(path):
        return coco.source(path)
    raise DataError(
        f"{path} is not a kind of file that can be read; give a folder of class folders, a .parquet or an .npz file"
    )


def _siblings(path: Path) -> str:
    """What was probably meant, among the neighbours of a path that does not exist."""
    above = path.absolute().parent
    names = [p.name for p in above.iterdir() if not p.name.startswith(".")] if above.is_dir() else []
    if not names:
        return f"the folder {above} is empty" if above.is_dir() else f"nor is there a folder {above}; check the path"
    return nearest(path.name, names[:1000], most=8)
