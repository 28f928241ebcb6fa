"""Condensed: the result, in memory and as a folder; a coreset or a synthetic set.

It is the only thing that ``evaluate``, ``audit``, ``apply`` and ``report`` take. The folder opens with any dataset tool:
``datasets.load_dataset(folder)``, ``pandas.read_parquet(folder/data/train.parquet)``; nothing in it is executable.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.nn.functional import adaptive_avg_pool2d
from torch.utils.data import Dataset

from attar import card, judged, rowfile
from attar.errors import DataError, UsageError
from attar.io import atomic, png, tensors
from attar.judged import SCORES
from attar.manifest import DATA, EXACT, MANIFEST, SCHEMA, encode, fault, read_manifest
from attar.method import Rows
from attar.real import whitening
from attar.real.objects import DETECTION, objects_of, outlined, with_originals
from attar.real.realset import RealSet
from attar.real.whitening import Whitening
from attar.seeds import Seeds

MADE = {DATA, EXACT, "preview.png", "README.md"}
"""Files that are written anew from the rest."""

AROUND = {"image", whitening.MEAN, whitening.MATRIX}
"""Exact tensors that are no labels."""

SIDE = 128
"""Pixels of the longer side above which the preview shows a picture smaller."""


@dataclass(eq=False, kw_only=True)
class Condensed(Dataset):
    """M kept examples with all that is known of them. As a torch dataset: item i is (image, label), or (image, objects);
    the label is -1 where there are no classes.

    Args:
        manifest: the content of ``condensed.json``.
        table: M rows of every column but ``image``: ``label``, ``weight``, ``source_id`` and the source's own.
        bytes8: uint8 [M, C, H, W], the 8-bit pictures; None where the set has no image column.
        exact: tensors that 8-bit pictures cannot hold: ``image`` float32 [M, C, H, W] in the normalised space of a
            synthetic set, ``soft_label`` [M, K] ...; where those images were decoded from less, that less, which the bytes
            of the manifest count: ``stored`` float32 [S, C, H, W], or ``stored.NAME`` where it is not made of images.
        files: derived files by name (``report.html`` ...).
        path: where it was opened or saved.
    """

    manifest: dict[str, Any]
    table: pa.Table
    bytes8: torch.Tensor | None
    exact: dict[str, torch.Tensor] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    path: Path | None = None

    def __len__(self) -> int:
        return self.table.num_rows

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Any]:
        if self.task == DETECTION:
            return self.images[index], self.table["objects"][index].as_py()
        return self.images[index], int(self.labels[index]) if self.labelled else -1

    @property
    def kind(self) -> str:
        """``subset`` (real rows) or ``synthetic``."""
        return self.manifest["kind"]

    @property
    def task(self) -> str:
        """``image-classification``, ``detection`` ..."""
        return self.manifest.get("task", "")

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names."""
        return tuple(self.manifest["class_names"])

    @property
    def recipe(self) -> dict[str, Any]:
        """How to train on it."""
        return self.manifest["recipe"]

    @property
    def labelled(self) -> bool:
        """Whether every example has one class."""
        return "label" in self.table.column_names

    @cached_property
    def labels(self) -> torch.Tensor:
        """int64 [M].

        Raises:
            UsageError: the examples have no one class each.
        """
        if not self.labelled:
            what = f"a set for {self.task}" if self.task == DETECTION else "this set, which was read without labels,"
            raise UsageError(f"the examples of {what} have no one class each; use its table and its images")
        return torch.tensor(self.table["label"].to_numpy(), dtype=torch.int64)

    @cached_property
    def weight(self) -> torch.Tensor:
        """float32 [M]."""
        return torch.tensor(self.table["weight"].to_numpy(), dtype=torch.float32)

    @cached_property
    def images(self) -> torch.Tensor:
        """The exact images in the normalised space: float32 [M, C, H, W]."""
        image = self.exact.get("image")
        return self.images8 if image is None else image

    @cached_property
    def images8(self) -> torch.Tensor:
        """The 8-bit pictures in the normalised space: float32 [M, C, H, W]."""
        if self.bytes8 is None:
            raise UsageError(f"a set of task '{self.manifest['task']}' has no image column; use its table")
        return self.normalise(self.bytes8.to(torch.float32) / 255)

    @cached_property
    def whitening(self) -> Whitening | None:
        """The whitening that its images went through, as it was fitted on the real training split; or None."""
        return whitening.whitening_of(self.exact)

    def normalise(self, x: torch.Tensor) -> torch.Tensor:
        """Pixels in [0, 1], as those of a test image, in the normalised space of the set: [..., C, H, W]."""
        if self.whitening is not None:
            return self.whitening.apply(x)
        mean, std = (torch.tensor(self.manifest["preprocessing"][k])[:, None, None] for k in ("mean", "std"))
        return (x - mean) / std

    def view(
        self, epoch: int, seeds: Seeds, *, batch: int = 256, eight_bit: bool = False
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """One epoch of shuffled batches (image [B, C, H, W], label [B], weight [B]), a pure function of (epoch, seeds)."""
        images = self.images8 if eight_bit else self.images
        order = torch.randperm(len(self), generator=seeds.generator("view", epoch))
        for index in order.split(batch):
            yield images[index], self.labels[index], self.weight[index]

    @property
    def enlarged(self) -> int:
        """How many images every stored one was decoded to; 1 where none was, or where no images are stored."""
        return len(self) // len(self.exact["stored"]) if "stored" in self.exact else 1

    @property
    def counted(self) -> list[int]:
        """Images of every class that the stored bytes are worth, which a baseline may have: K numbers.

        They are fewer than the images of the set where these were decoded.
        """
        found = self.manifest["budget"].get("stored_per_class")
        if found is not None:
            return found
        return [n // self.enlarged for n in self.labels.bincount(minlength=len(self.class_names)).tolist()]

    @property
    def worth(self) -> int:
        """Images that the stored bytes are worth, in all."""
        return len(self.exact["stored"]) if "stored" in self.exact else self.manifest["budget"].get("stored", len(self))

    def image_bytes(self, *, eight_bit: bool) -> int:
        """Bytes that have to be kept for the exact images, or for their 8-bit pictures."""
        return _image_bytes(self.exact, self.bytes8, eight_bit=eight_bit)

    def scored(self, scores: list[dict[str, Any]]) -> Condensed:
        """The same set with ``scores`` in place of older ones of the same protocol, network, images and labels."""
        what = ("protocol", "network", "images", "labels")
        merged = {tuple(s.get(k) for k in what): s for s in [*self.manifest["scores"], *scores]}
        manifest = {**self.manifest, "scores": list(merged.values())}
        return Condensed(
            manifest=manifest, table=self.table, bytes8=self.bytes8, exact=self.exact, files=self.files, path=self.path
        )

    def save(self, out: Path | str, *, replace: bool = False) -> Path:
        """Writes the folder in one step: temporary sibling, fsync, rename; the manifest last.

        Args:
            replace: exchange an existing folder for this one; else an existing folder is refused. Files that somebody
                put into it stay.

        Raises:
            UsageError: the folder exists.
            ResourceError: disk full, no permission.
        """
        out = Path(out)
        if out.exists() and not replace:
            raise UsageError(f"{out} exists already; choose another --out or remove it")
        contents = self._contents()
        ours = {MANIFEST, *self.manifest.get("files", {}), *contents}
        self.manifest["files"] = {
            name: {"bytes": len(data), "sha256": tensors.digest(data)} for name, data in contents.items()
        }
        with atomic.folder(out.resolve(), replace=replace) as tmp:  # "." and links stand for the folder itself
            for name, data in contents.items():
                atomic.write_new(tmp / name, data)
            atomic.write_new(tmp / MANIFEST, encode(self.manifest))
            for name, data in _added(out, ours):
                atomic.write_new(tmp / name, data)
        self.path = out
        return out

    def _contents(self) -> dict[str, bytes]:
        contents = {DATA: rowfile.encode(self.table, self.bytes8, self.class_names)}
        if self.exact:
            contents[EXACT] = tensors.encode(self.exact)
        if self.bytes8 is not None:
            contents["preview.png"] = png.encode(self._preview(self.bytes8))
        contents["README.md"] = card.render(self.manifest, files=self.files).encode()
        return {**contents, **self.files}

    def _preview(self, bytes8: torch.Tensor) -> torch.Tensor:
        """The first pictures of each class, or with their boxes: uint8 [C, H', W']."""
        if self.task != DETECTION:
            return preview(bytes8, self.labels if self.labelled else torch.zeros(len(self), dtype=torch.int64))
        first = self.table.slice(0, 10)
        return preview(outlined(bytes8[:10], first), torch.zeros(len(first), dtype=torch.int64))

    def hf_dataset(self) -> Any:
        """The rows as a ``datasets.Dataset`` (extra ``hf``)."""
        from attar.errors import missing_extra

        try:
            import datasets
        except ImportError as e:
            raise missing_extra("datasets", "hf", "Condensed.hf_dataset") from e
        return datasets.Dataset(rowfile.with_images(self.table, self.bytes8, self.class_names))


def condense(
    rows: Rows, real: RealSet, *, kind: str, lineage: list[dict[str, Any]], budget: Mapping[str, Any] | None = None
) -> Condensed:
    """Makes a :class:`Condensed` of what a method kept.

    Args:
        rows: from ``Method.finish``; a selection's columns are taken from ``real``.
        kind: ``subset`` or ``synthetic``.
        lineage: what was done so far, the newest last.
        budget: what was asked for.

    Raises:
        DataError: a kept image or weight is not finite.
    """
    source, exact = real, {k: v for k, v in rows.extra.items() if v.ndim > 1}
    if rows.picked is not None:
        table, bytes8 = real.table.take(pa.array(rows.picked.numpy())), None
        if real.images is not None:
            table, bytes8 = _free(table, "image"), real.raw(rows.picked).cpu()
        if real.task == DETECTION and "images" in real.source:
            table = with_originals(table, real.source["images"])
        source_id = pa.array(real.ids[rows.picked].numpy())
        if "label" in rows.columns:
            table = _put(table, "label", pa.array(rows.columns["label"].cpu().numpy()))
        real = dataclasses.replace(real, class_names=rows.class_names or real.class_names)
    else:
        image = rows.columns["image"].detach().cpu().to(torch.float32).contiguous()
        if not torch.isfinite(image).all():
            raise DataError("the distilled images hold NaN or infinity; lower the learning rate and distil again")
        exact["image"] = image
        exact |= _stored(rows)
        bytes8 = real.pixels(image).mul(255).round().clamp(0, 255).to(torch.uint8)
        table = pa.table({"label": pa.array(rows.columns["label"].cpu().numpy())})
        source_id = pa.nulls(len(rows), pa.int64())
    if real.whitening is not None:
        exact |= real.whitening.on("cpu").tensors
    weight = rows.weight.cpu() if rows.weight is not None else torch.ones(len(rows))
    table = _put(table, "weight", pa.array(weight.to(torch.float32).numpy()))
    table = _put(table, "source_id", source_id)
    for name, value in rows.extra.items():
        if value.ndim == 1:
            table = _put(table, name, pa.array(value.cpu().numpy()))
    manifest = _manifest(real, table, bytes8, exact, kind=kind, lineage=lineage, budget=budget, recipe=rows.recipe)
    if source.sizes and not rows.class_names and not (rows.picked is not None and "label" in rows.columns):
        manifest["source"]["per_class"] = source.sizes
    if rows.stored:
        asked = rows.stored["label"].bincount(minlength=real.n_classes).tolist()
        manifest["budget"] |= {"stored": sum(asked), "stored_per_class": asked, "bytes_decoded": exact["image"].nbytes}
        manifest["budget"]["bytes_labels"] += sum(asked) - len(rows)  # one for each that is counted
    scores = judged.encode(rows, source)
    files = {} if scores is None else {SCORES: scores}
    return Condensed(manifest=manifest, table=table, bytes8=bytes8, exact=exact, files=files)


def _stored(rows: Rows) -> dict[str, torch.Tensor]:
    """What images were decoded from, as the exact tensors of a set."""
    names = {k: "stored" if k == "image" else f"stored.{k}" for k in rows.stored if k != "label"}
    found = {name: rows.stored[k].detach().cpu().contiguous() for k, name in names.items()}
    return {name: v.to(torch.float32) if v.is_floating_point() else v for name, v in found.items()}


def _image_bytes(exact: Mapping[str, torch.Tensor], bytes8: torch.Tensor | None, *, eight_bit: bool) -> int:
    """Bytes of what the images can be decoded from, else of the images; pictures can be decoded from pictures alone."""
    stored = {name: v for name, v in exact.items() if _is_stored(name)}
    if eight_bit or "image" not in exact:
        pictures = exact["stored"] if list(stored) == ["stored"] else bytes8
        return 0 if pictures is None else pictures.numel()
    return sum(v.nbytes for v in stored.values()) or exact["image"].nbytes


def _is_stored(name: str) -> bool:
    """Whether an exact tensor is what images were decoded from."""
    return name == "stored" or name.startswith("stored.")


def _put(table: pa.Table, name: str, values: Any) -> pa.Table:
    """Sets a column of ours; a source's column of the same name keeps its values as ``source_NAME``."""
    return _free(table, name).append_column(name, values)


def _free(table: pa.Table, name: str) -> pa.Table:
    """The table with its own column of that name, if any, called ``source_NAME``."""
    other = name
    while other in table.column_names:
        other = f"source_{other}"
    return table.rename_columns([other if c == name else c for c in table.column_names])


def _manifest(
    real: RealSet,
    table: pa.Table,
    bytes8: torch.Tensor | None,
    exact: dict[str, torch.Tensor],
    *,
    kind: str,
    lineage: list[dict[str, Any]],
    budget: Mapping[str, Any] | None,
    recipe: dict[str, Any],
) -> dict[str, Any]:
    labels = table["label"].to_numpy() if "label" in table.column_names else np.zeros(0, np.int64)
    per_class = (
        np.bincount(labels, minlength=real.n_classes).tolist() if real.n_classes and real.task != DETECTION else []
    )
    source = {k: v for k, v in real.source.items() if k != "images"}  # a folder of this machine
    manifest = {
        "schema": SCHEMA,
        "kind": kind,
        "task": real.task,
        "class_names": list(real.class_names),
        "lineage": lineage,
        "source": {"name": real.name, "rows": len(real), "fingerprint": real.fingerprint, **source},
        "budget": {
            **(budget or {}),
            "rows": table.num_rows,
            "per_class": per_class,
            "bytes_examples": _image_bytes(exact, bytes8, eight_bit=False),
            "bytes_examples_8bit": _image_bytes(exact, bytes8, eight_bit=True),
            "bytes_labels": table.num_rows
            + sum(v.nbytes for k, v in exact.items() if k not in AROUND and not _is_stored(k)),
        },
        "preprocessing": {"mean": list(real.mean), "std": list(real.std)},
        "recipe": recipe,
        "scores": [],
    }
    if real.task == DETECTION:
        found = objects_of(table).category.bincount(minlength=real.n_classes)
        manifest["budget"]["objects_per_class"] = found.tolist()
    if real.whitening is not None:
        manifest["preprocessing"]["whitening"] = real.whitening.facts
        manifest["budget"]["bytes_preprocessing"] = sum(v.nbytes for v in real.whitening.tensors.values())
    if bytes8 is not None:
        c, h, w = bytes8.shape[1:]
        manifest["preprocessing"] |= {"channels": c, "height": h, "width": w}
    return manifest


def preview(bytes8: torch.Tensor, labels: torch.Tensor, *, per_class: int = 10, classes: int = 20) -> torch.Tensor:
    """The first examples of each class, a row a class (one row where there is one of each).

    uint8 [M, C, H, W] -> uint8 [C, H', W'].
    """
    rows = [_shrunk(bytes8[labels == k][:per_class]) for k in labels.unique().tolist()[:classes]]
    rows = [torch.cat(rows)] if all(len(row) == 1 for row in rows) else rows
    return png.grid(rows, scale=max(1, 64 // bytes8.shape[-1]), gap=2)


def _shrunk(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures of at most SIDE pixels a side, by the means of areas; smaller ones as they are."""
    h, w = pictures.shape[-2:]
    by = -(-max(h, w) // SIDE)
    if by == 1:
        return pictures
    small = [adaptive_avg_pool2d(p.to(torch.float32), (max(1, h // by), max(1, w // by))) for p in pictures]
    return torch.stack(small).round().to(torch.uint8)


def open_condensed(folder: Path | str) -> Condensed:
    """Opens a folder after verifying every checksum.

    Raises:
        UsageError: nothing is there.
        DataError: not such a folder, a missing or changed file, an unknown schema.
    """
    folder = Path(folder)
    atomic.recover(folder)
    while True:
        manifest = read_manifest(folder)
        try:
            return _opened(folder, manifest)
        except DataError:
            if read_manifest(folder) == manifest:  # else a writer exchanged the folder meanwhile
                raise


def _opened(folder: Path, manifest: dict[str, Any]) -> Condensed:
    """What a folder holds, held against its manifest."""
    contents = {name: _checked(folder, name, facts) for name, facts in manifest["files"].items()}
    table, bytes8 = rowfile.decode(contents[DATA], folder / DATA)
    exact = tensors.decode(contents[EXACT], folder / EXACT) if EXACT in contents else {}
    files = {name: data for name, data in contents.items() if name not in MADE}
    wrong = _contradiction(manifest, table, bytes8, exact)
    if wrong is None and SCORES in files:
        wrong = judged.contradiction(judged.decode(files[SCORES], folder / SCORES), table["source_id"])
    if wrong is not None:
        raise DataError(f"{folder} does not hold what its manifest says ({wrong}); restore the folder from a copy")
    return Condensed(manifest=manifest, table=table, bytes8=bytes8, exact=exact, files=files, path=folder)


def _added(folder: Path, ours: set[str]) -> Iterator[tuple[str, bytes]]:
    """Files in a condensed folder that attar did not write: names and contents."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in ours and path.is_file() and not path.is_symlink():
            with atomic.named(path, "reading"):
                yield name, path.read_bytes()


def _checked(folder: Path, name: str, facts: Mapping[str, Any]) -> bytes:
    """The bytes of a file that the manifest names."""
    path = folder / name
    with atomic.named(path, "reading"):
        linked = path.resolve() != folder.resolve() / name
        if linked or not path.is_file():
            what = "is a link, or lies in one," if linked and path.exists() else "is missing"
            raise DataError(f"{path} {what} though {MANIFEST} names it as a file; restore the folder from a copy")
        data = path.read_bytes()
    if len(data) != facts["bytes"] or tensors.digest(data) != facts["sha256"]:
        raise DataError(
            f"{path} was changed after it was written (its checksum differs); restore the folder from a copy"
        )
    return data


def _contradiction(
    manifest: Mapping[str, Any], table: pa.Table, bytes8: torch.Tensor | None, exact: Mapping[str, torch.Tensor]
) -> str | None:
    """The first way in which rows and tensors differ from their manifest, or None."""
    m, names, space = manifest["budget"]["rows"], manifest["class_names"], manifest["preprocessing"]
    if table.num_rows != m:
        return f"{table.num_rows} rows, not {m}"
    detection = manifest["task"] == DETECTION
    own = ["objects"] if detection else ["label"] if names else []
    for column in ("weight", "source_id", *own):
        if column not in table.column_names:
            return f"no column '{column}'"
    if names and not detection and not _labelled(table["label"], len(names)):
        return f"labels other than 0 to {len(names) - 1}"
    if bytes8 is not None and not len(bytes8[0]) == len(space["mean"]) == len(space["std"]):
        return f"{len(bytes8[0])} channels, but mean and deviation of {len(space['mean'])} and {len(space['std'])}"
    size = 0 if bytes8 is None else bytes8[0].numel()
    if (wrong := whitening.contradiction(exact, space.get("whitening"), size)) is not None:
        return wrong
    worth = manifest["budget"].get("stored_per_class", [0] * len(names))
    if fault(worth, [int]) is not None or len(worth) != len(names) or min(worth, default=0) < 0:
        return f"stored_per_class {worth} of {len(names)} classes"
    image = exact.get("image")
    if image is not None and (bytes8 is None or image.shape != bytes8.shape or not image.is_floating_point()):
        return f"exact images of shape {tuple(image.shape)} that are not those of the rows"
    return None


def _labelled(column: pa.ChunkedArray, k: int) -> bool:
    """Whether a column holds whole numbers from 0 to K - 1 alone."""
    if not pa.types.is_integer(column.type) or column.null_count:
        return False
    labels = column.to_numpy()
    return bool(((labels >= 0) & (labels < k)).all())
