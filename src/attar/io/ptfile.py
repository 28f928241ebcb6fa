"""What the child process of :mod:`attar.io.importers` runs: it opens a ``.pt`` file and writes its tensors as safetensors.

Called as ``python -m attar.io.ptfile OUT INDEX IMAGES [LABELS]``. Exit code 0: OUT holds ``images`` and ``labels``;
3: refused, with the reason on stdout. Nothing of the file is unpickled before its archive and its pickle's opcodes were
checked against short lists of what a set of images needs; torch's restricted unpickler is the next layer, the limits of
the process the last. torch is imported after those checks, so that a hostile file meets as little code as can be.
"""

from __future__ import annotations

import contextlib
import os
import pickletools
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None

REFUSED = 3
SECONDS, MEMORY = 120, 1 << 30
"""Limits of the process: processor time, and memory beside what torch and the file itself take."""
DIRECTORY, PICKLE, MEMBERS = 1 << 20, 16 << 20, 4096
"""Caps on the bytes of the archive's directory and of the pickle, and on the number of members."""

MEMBER = re.compile(
    r"[^/\\]+/(data\.pkl|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id|data/[0-9]+)"
)
"""The files that torch.save writes."""
STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
GLOBALS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {name}Storage" for name in STORAGES),
    # numpy numbers, such as the accuracies that stand beside published sets
    "numpy.core.multiarray scalar",
    "numpy._core.multiarray scalar",
    "numpy dtype",
    "_codecs encode",
}
"""What a pickle may name; a subset of what torch's restricted unpickler allows, and numpy numbers."""
FORBIDDEN = {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "PERSID"}
"""Opcodes that make objects in ways that torch.save does not use for tensors."""


class Refusal(Exception):
    """Why a file is not opened."""


def main(out: str, index: str, *names: str) -> int:
    """Reads, converts and writes under limits; gives the exit code."""
    paths = [Path(name) for name in names]
    size = sum(p.stat().st_size for p in paths)
    limit(size)
    try:
        for path in paths:
            inspect(path)
        _make_room()
        import torch

        torch.set_num_threads(1)
        limit(size, beside=_in_use())
        convert(Path(out), int(index), paths)
    except Refusal as e:
        print(e)
        return REFUSED
    return 0


def inspect(path: Path) -> None:
    """Refuses a file that is not a plain torch archive of tensors.

    Raises:
        Refusal: with the reason.
    """
    size = path.stat().st_size
    with open(path, "rb") as f:
        if f.read(4) != b"PK\x03\x04":
            raise Refusal("is not an archive as torch.save writes it since torch 1.6")
        f.seek(max(0, size - 98))
        tail = f.read(98)
    if tail[-22:-18] != b"PK\x05\x06" or _directory(tail) > DIRECTORY:
        raise Refusal("is an archive that was cut short, has bytes appended, or has a directory of more than 1 MiB")
    try:
        with zipfile.ZipFile(path) as archive:
            pickled = _members(archive, size)
            _opcodes(archive.read(pickled))
    except Refusal:
        raise
    except Exception as e:  # zipfile and pickletools raise many kinds for broken input
        raise Refusal(f"is damaged ({type(e).__name__})") from e


def _directory(tail: bytes) -> int:
    """Bytes of the archive's directory, as its last 98 bytes claim: two records where there is a 64-bit one."""
    claimed = int.from_bytes(tail[-10:-6], "little")
    if tail[-42:-38] == b"PK\x06\x07":
        claimed = max(claimed if claimed < 0xFFFFFFFF else 0, int.from_bytes(tail[-58:-50], "little"))
    return claimed


def _members(archive: zipfile.ZipFile, size: int) -> zipfile.ZipInfo:
    """The pickle's member, after checking that all members are what torch.save writes."""
    members = archive.infolist()
    names = [m.filename for m in members]
    if len(members) > MEMBERS:
        raise Refusal(f"is an archive of {len(members)} members, more than {MEMBERS}")
    for m in members:
        if not MEMBER.fullmatch(m.filename) or ".." in m.filename.split("/"):
            raise Refusal(f"holds the member {m.filename!r}, which torch.save does not write")
        if m.compress_type != zipfile.ZIP_STORED or m.compress_size != m.file_size:
            raise Refusal(f"holds the compressed member {m.filename!r}; torch.save compresses nothing")
    if len({name.lower() for name in names}) != len(names) or len({name.split("/")[0] for name in names}) != 1:
        raise Refusal("is an archive with repeated names or several folders")
    if sum(m.file_size for m in members) > size:
        raise Refusal("is an archive whose members overlap")
    pickles = [m for m in members if m.filename.endswith("/data.pkl")]
    if not pickles or pickles[0].file_size > PICKLE:
        raise Refusal("has no data.pkl, or one of more than 16 MiB")
    return pickles[0]


def _opcodes(pickled: bytes) -> None:
    """Refuses a pickle that names anything but tensors, lists, dictionaries and numbers."""
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL" and argument not in GLOBALS:
            raise Refusal(f"asks for {'.'.join(str(argument).split())!r}, which a set of images does not need")
        if opcode.name in FORBIDDEN:
            raise Refusal(f"makes objects that a set of images does not need (pickle opcode {opcode.name})")


def convert(out: Path, index: int, paths: list[Path]) -> None:
    """Writes the images and labels of inspected files to ``out``.

    Raises:
        Refusal: with the reason.
    """
    import torch
    from safetensors.torch import save_file

    size = sum(p.stat().st_size for p in paths)
    images, labels = _parts([unpickle(p) for p in paths], index)
    tensors = {"images": images, "labels": labels}
    for name, value in tensors.items():
        if not isinstance(value, torch.Tensor):
            raise Refusal(f"has {name} of type {type(value).__name__} in place of a tensor")
        # An expanded tensor claims any size over a storage of one number.
        if value.numel() * value.element_size() > size:
            raise Refusal(f"claims {name} of shape {list(value.shape)}, more than its bytes hold")
        tensors[name] = value.detach().contiguous().clone()
    save_file(tensors, out)


def unpickle(path: Path) -> Any:
    """What torch's restricted reader makes of a file.

    Raises:
        Refusal: it refuses.
    """
    import numpy as np
    import torch

    scalar = np.float64(0).__reduce__()[0]
    numpy_numbers: list[Any] = [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        (np.dtype, "numpy.dtype"),
        *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32")),
    ]
    try:
        with torch.serialization.safe_globals(numpy_numbers):
            return torch.load(path, map_location="cpu", weights_only=True)  # the one place; see the module's docstring
    except Exception as e:  # torch raises many kinds; the first line tells enough
        why = (str(e).splitlines() or [""])[0][:200]
        raise Refusal(f"was refused by torch's restricted reader ({type(e).__name__}: {why})") from e


def _parts(loaded: list[Any], index: int) -> tuple[Any, Any]:
    """(images, labels) of one of the layouts of published sets."""
    first = loaded[0]
    if len(loaded) == 2:
        return first, loaded[1]
    if isinstance(first, dict) and "images" in first and "labels" in first:  # what attar export writes
        return first["images"], first["labels"]
    if isinstance(first, dict):
        if not isinstance(first.get("data"), (list, tuple)) or not first["data"]:
            raise Refusal("is a dictionary without a list of sets under 'data'")
        if not -len(first["data"]) <= index < len(first["data"]):
            raise Refusal(f"has no set {index}; it holds {len(first['data'])}")
        first = first["data"][index]
    if isinstance(first, (list, tuple)) and len(first) == 2:
        return first[0], first[1]
    if hasattr(first, "shape"):
        raise Refusal("holds images alone; give the file of their labels as well")
    raise Refusal(f"holds a {type(first).__name__} in place of [images, labels]")


def limit(file: int, *, beside: int = 0) -> None:
    """Limits memory, processor time and written bytes of this process; nothing where the system has no such limits.

    Args:
        file: bytes of the files to open.
        beside: address space that is in use already.
    """
    space = MEMORY + 5 * file + beside  # the file's tensors, their copies and the bytes written
    for name, value in {
        "RLIMIT_AS": space,
        "RLIMIT_CPU": SECONDS,
        "RLIMIT_FSIZE": MEMORY + 2 * file,
        "RLIMIT_CORE": 0,
    }.items():
        _set(name, value)


def _make_room() -> None:
    """Takes the limit on memory back for the import of torch, which maps far more than it uses."""
    if resource is not None:
        _set("RLIMIT_AS", resource.RLIM_INFINITY)


def _set(name: str, value: int) -> None:
    if resource is None or not hasattr(resource, name):
        return
    kind = getattr(resource, name)
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        value = hard if value == resource.RLIM_INFINITY else min(value, hard)
    # A system can refuse a limit (macOS that on memory); the others and the time limit of the parent still hold.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (value, hard))


def _in_use() -> int:
    """Bytes of address space in use, 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
