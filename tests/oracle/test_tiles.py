"""Tiles against loops over tiles and pixels, their first images, and what an artifact counts of them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from plain_tiles import plain_decode

from attar.budget import Budget
from attar.condensed import condense, open_condensed
from attar.errors import DataError, UsageError
from attar.method import Rows
from attar.params import tiles
from attar.seeds import Seeds
from attar.testing.toys import toy

SIZES = [(8, 8, 2), (9, 9, 3), (7, 5, 2), (8, 10, 3), (6, 4, 1), (5, 7, 4)]


def random_images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("h", "w", "factor"), SIZES)
@pytest.mark.parametrize("fill", [0.5, -2.0])
def test_decoding_is_a_loop_over_tiles(h: int, w: int, factor: int, fill: float) -> None:
    image = random_images(3, 2, h, w)
    found = tiles.decode(image, factor, fill=fill)
    assert found.shape == (3 * factor**2, 2, h, w)
    assert torch.allclose(found, plain_decode(image, factor, fill), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("h", "w", "factor"), SIZES)
def test_decoding_is_differentiable_twice(h: int, w: int, factor: int) -> None:
    image = random_images(2, 1, h, w).requires_grad_()

    def fn(x: torch.Tensor) -> torch.Tensor:
        return tiles.decode(x, factor).pow(3)

    assert torch.autograd.gradcheck(fn, (image,))
    assert torch.autograd.gradgradcheck(fn, (image,), atol=1e-4)


def test_every_stored_pixel_is_used_and_belongs_to_one_tile() -> None:
    image = random_images(1, 1, 9, 7).requires_grad_()
    used = torch.zeros(1, 1, 9, 7)
    for tile in tiles.decode(image, 3):
        (grad,) = torch.autograd.grad(tile.sum(), image, retain_graph=True)
        assert (grad >= 0).all()
        used += grad != 0
    assert (used == 1).all()


def test_fill_may_differ_by_channel_and_follows_the_space_of_the_pixels() -> None:
    """Decoding in the normalised space with the grey of that space equals decoding pixels."""
    pixels = random_images(2, 3, 5, 5)
    mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)))
    normalised = tiles.decode((pixels - mean) / std, 2, fill=(0.5 - mean) / std)
    assert torch.allclose(normalised, (tiles.decode(pixels, 2) - mean) / std, rtol=1e-11)


@pytest.mark.parametrize(("h", "w", "factor"), SIZES)
def test_what_is_encoded_is_where_decoding_looks(h: int, w: int, factor: int) -> None:
    """Images of one colour each come back in their order; a tile that reaches over the border does so in part."""
    n = 2 * factor**2
    flat = torch.arange(1.0, n + 1, dtype=torch.float64)[:, None, None, None].expand(n, 1, h, w)
    stored = tiles.encode(flat, factor)
    assert stored.shape == (2, 1, h, w)
    found = tiles.decode(stored, factor)
    inside = [(r + 0.0) * math.ceil(h / factor) < h and c * math.ceil(w / factor) < w
              for r in range(factor) for c in range(factor)] * 2  # fmt: skip
    for i, holds in enumerate(inside):
        assert float(found[i, 0, 0, 0]) == (i + 1 if holds else 0.5)


def test_the_first_images_are_real_ones_of_the_class_made_smaller() -> None:
    real = toy((20, 20, 20), channels=3, size=(8, 8))
    state = tiles.start(real, Budget(ipc=3), Seeds(1), kind="real", factor=2)
    assert state["image"].shape == (9, 3, 8, 8)
    assert state["label"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for k, members in enumerate(real.classes):
        small = real.draw(members)[:, :, ::2, ::2]  # the nearest pixels
        whole = state["image"][state["label"] == k].unflatten(3, (2, 4)).unflatten(2, (2, 4))
        parts = whole.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        found = [[i for i, s in enumerate(small) if torch.equal(s, part)] for part in parts]
        assert all(len(f) == 1 for f in found)
        assert len({f[0] for f in found}) == 12  # no example twice


def test_a_small_class_repeats_its_examples_and_a_budget_beyond_it_is_refused() -> None:
    real = toy((2, 9), size=(8, 8))
    state = tiles.start(real, Budget(ipc=2), Seeds(0), kind="real", factor=2)
    first = state["image"][:2].unflatten(3, (2, 4)).unflatten(2, (2, 4)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    assert sorted(map(int, torch.unique(first, dim=0, return_counts=True)[1])) == [4, 4]
    with pytest.raises(DataError, match="class 'apple' has 2"):
        tiles.start(real, Budget(ipc=3), Seeds(0), kind="real", factor=2)
    with pytest.raises(UsageError, match="factor=0"):
        tiles.start(real, Budget(ipc=1), Seeds(0), kind="real", factor=0)


@pytest.mark.parametrize(
    ("size", "factor", "most"), [((8, 8), 5, 4), ((28, 28), 8, 7), ((32, 32), 9, 8), ((9, 4), 3, 2)]
)
def test_tiles_that_would_lie_beyond_the_border_are_refused(size: tuple[int, int], factor: int, most: int) -> None:
    real = toy(size=size)
    with pytest.raises(UsageError, match=f"factor={factor} lays whole tiles beyond the border .* take {most} or less"):
        tiles.start(real, Budget(ipc=1), Seeds(0), kind="noise", factor=factor)
    state = tiles.start(real, Budget(ipc=1), Seeds(0), kind="noise", factor=most)
    spread = tiles.decode(state["image"], most, fill=0.0).flatten(1).std(1)
    assert (spread > 0).all(), "no image is fill alone"


def test_an_artifact_keeps_both_and_counts_what_is_stored(tmp_path: Path) -> None:
    real = toy(channels=3, size=(8, 8))
    state = tiles.start(real, Budget(ipc=2), Seeds(0), kind="real", factor=2)
    label = state["label"].repeat_interleave(4)
    rows = Rows(columns={"image": tiles.decode(state["image"], 2), "label": label}, stored=state)
    lineage = [{"verb": "distill", "method": "test"}]
    kept = open_condensed(condense(rows, real, kind="synthetic", lineage=lineage).save(tmp_path / "kept"))
    assert len(kept) == 24 and torch.equal(kept.labels, label)
    assert torch.equal(tiles.decode(kept.exact["stored"], 2), kept.images)
    budget, one = kept.manifest["budget"], 3 * 8 * 8
    assert (budget["rows"], budget["stored"], budget["per_class"]) == (24, 6, [8, 8, 8])
    assert budget["bytes_examples"] == tiles.stored_bytes(state["image"]) == 6 * one * 4
    assert (budget["bytes_examples_8bit"], budget["bytes_labels"]) == (6 * one, 6)
    assert budget["bytes_decoded"] == 24 * one * 4


def test_an_artifact_without_tiles_is_as_before() -> None:
    real = toy()
    state = tiles.start(real, Budget(ipc=2), Seeds(0), kind="real", factor=1)
    kept = condense(Rows(columns=state), real, kind="synthetic", lineage=[])
    assert set(kept.exact) == {"image"}
    assert set(kept.manifest["budget"]) == {
        "rows",
        "per_class",
        "bytes_examples",
        "bytes_examples_8bit",
        "bytes_labels",
    }
    assert kept.manifest["budget"]["bytes_labels"] == 6
