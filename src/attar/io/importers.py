"""Opens somebody else's ``.pt`` file of a published synthetic set: the one place in attar that unpickles anything.

A pickle is a program. What keeps it from running here, in this order: the file is only opened in a child process without
the environment's secrets, with limits on memory, processor time and written bytes; its archive must be what torch.save
writes; its pickle may name tensors, lists, dictionaries and numbers, nothing else; torch's restricted unpickler reads it
(torch 2.10 or newer; older ones have a hole, CVE-2026-24747); the tensors cross over as safetensors and are checked here.
Not defended against: a hole in those readers themselves that works under those limits. Windows has no such limits.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Protocol

import torch

from attar.errors import DataError, ResourceError
from attar.io import ptfile, tensors
from attar.io.atomic import named

LARGEST = 4 << 30
"""Bytes of the largest file that is opened."""
SECONDS = 300.0
"""Time that the child process gets, most of it to import torch."""
NEEDED = (2, 10)
"""The oldest torch whose restricted unpickler is trusted."""
KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "SYSTEMDRIVE", "TZ", "LANG")
"""Environment variables that the child process sees."""


class Shaped(Protocol):
    """What the images and labels must fit: a real set."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        ...

    @property
    def n_classes(self) -> int:
        """K."""
        ...


def import_pt(
    path: Path | str, *, real: Shaped, labels: Path | str | None = None, index: int = -1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Reads a published synthetic set from ``.pt``.

    Taken are ``[images, labels]``; a dictionary whose ``data`` is a list of such pairs (DC, DSA, DM; the images there are
    normalised and not clamped); and a tensor of images with its labels in a file of their own (MTT and its followers).

    Args:
        real: the real set, for (C, H, W) and K.
        labels: the file of the labels, where they have one.
        index: which pair of a dictionary; the last one by default.

    Returns:
        images float32 [M, C, H, W], and labels int64 [M], or float32 [M, K] where the file holds soft ones.

    Raises:
        DataError: not such a file; images or labels that do not fit ``real`` or are not finite.
        ResourceError: torch is too old, or a file cannot be read.
    """
    _check_torch()
    paths = [Path(p) for p in (path, labels) if p is not None]
    for p in paths:
        _check_file(p)
    with tempfile.TemporaryDirectory(prefix="attar-import-") as folder:
        out = Path(folder) / "out.safetensors"
        _convert(paths, out, index)
        found = tensors.read(out)
    if set(found) != {"images", "labels"}:
        raise DataError(f"{path} gave {sorted(found)} in place of images and labels; do not trust this file")
    images, y = found["images"], found["labels"]
    return _images(images, real, paths[0]), _labels(y, len(images), real, paths[-1])


def _check_torch() -> None:
    version = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if version is None or tuple(int(v) for v in version.groups()) < NEEDED:
        raise ResourceError(
            f"opening .pt files needs torch 2.10 or newer but this is {torch.__version__}, whose restricted reader has a "
            "known hole (CVE-2026-24747); update torch"
        )


def _check_file(path: Path) -> None:
    with named(path, "reading"):
        facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise DataError(f"{path} is not a file; give the .pt file itself")
    if facts.st_size > LARGEST:
        raise DataError(
            f"{path} has {facts.st_size} bytes, more than the {LARGEST} that are opened; give a small set, not a dataset"
        )


def _convert(paths: list[Path], out: Path, index: int) -> None:
    """Lets a child process write the tensors of ``paths`` to ``out``."""
    # -P keeps the working folder, where a torch.py may lie, off the import path.
    command = [sys.executable, "-P", "-m", ptfile.__name__, str(out), str(index), *(str(p.resolve()) for p in paths)]
    env = {name: os.environ[name] for name in KEPT if name in os.environ}
    env |= {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "HOME": str(out.parent), "OMP_NUM_THREADS": "1"}
    env |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8", "MKL_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=out.parent,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DataError(
            f"{paths[0]} was not read within {SECONDS:.0f} seconds, so it was given up; {_REMEDY}"
        ) from None
    if done.returncode == ptfile.REFUSED:
        raise DataError(f"{paths[0]} {_plain(done.stdout)}; {_REMEDY}")
    if done.returncode != 0 or not out.is_file():
        last = _plain(done.stderr.strip().rsplit(b"\n", 1)[-1]) or "no message"
        raise DataError(
            f"{paths[0]} could not be read within the limits of memory and time (exit code {done.returncode}: {last}); {_REMEDY}"
        )


_REMEDY = "save it anew as [images, labels] with torch.save from a program that you trust"


def _plain(message: bytes) -> str:
    """What the child says, as one short printable line."""
    text = message.decode("utf-8", "replace").strip()
    return "".join(c if c.isprintable() else " " for c in text)[:300]


def _images(images: torch.Tensor, real: Shaped, path: Path) -> torch.Tensor:
    """float32 [M, C, H, W], finite."""
    if not images.is_floating_point():
        raise DataError(
            f"{path} has images of type {images.dtype}; expected floating-point numbers in the normalised space"
        )
    if images.ndim != 4 or tuple(images.shape[1:]) != tuple(real.shape) or not len(images):
        c, h, w = real.shape
        raise DataError(
            f"{path} has images of shape {list(images.shape)}; expected [M, {c}, {h}, {w}] as in the real set"
        )
    images = images.to(torch.float32)
    if not torch.isfinite(images).all():
        row = int((~torch.isfinite(images)).flatten(1).any(1).nonzero()[0])
        raise DataError(f"{path} has NaN or infinity in image {row}; use a set whose distillation did not break")
    return images


def _labels(labels: torch.Tensor, rows: int, real: Shaped, path: Path) -> torch.Tensor:
    """int64 [M] in 0..K-1, or float32 [M, K], finite."""
    k = real.n_classes
    if labels.is_floating_point() and tuple(labels.shape) == (rows, k):
        if not torch.isfinite(labels.to(torch.float32)).all():
            raise DataError(f"{path} has NaN or infinity in its labels; use a set whose distillation did not break")
        return labels.to(torch.float32)
    if labels.is_floating_point() or labels.dtype == torch.bool or tuple(labels.shape) != (rows,):
        raise DataError(
            f"{path} has labels of type {labels.dtype} and shape {list(labels.shape)}; "
            f"expected integers [{rows}], or floating-point numbers [{rows}, {k}]"
        )
    labels = labels.to(torch.int64)
    if int(labels.min()) < 0 or int(labels.max()) >= k:
        raise DataError(f"{path} has labels from {int(labels.min())} to {int(labels.max())}; expected 0 to {k - 1}")
    return labels
