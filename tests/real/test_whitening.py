"""Whitening: its formula against a plain eigen-decomposition, its inverse, and whose statistics it takes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from attar.errors import DataError, ResourceError, UsageError
from attar.execute import memory
from attar.execute.plan import Plan
from attar.real.realset import RealSet, Splits
from attar.real.whitening import EPSILON, MATRIX, MEAN, Whitening, root_of
from attar.resources.zca import LARGEST, PEAK, ZCA, affordable, affordable_side, whitened
from attar.run import run
from attar.testing.toys import toy, unlabelled


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path_factory.mktemp("cache")))


def real() -> RealSet:
    return toy((150, 140, 30), channels=3, size=(5, 4))  # 320 images, two blocks


def splits(train: RealSet) -> Splits:
    val = toy((9, 9, 9), channels=3, size=(5, 4), draw=2)
    return Splits(train=train, open_val=lambda: val, open_test=lambda: held_out())


def held_out() -> RealSet:
    return toy((20, 20, 20), channels=3, size=(5, 4), draw=1)


def plain(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and matrix [D, D] of float64 pixels [N, D] by numpy, as the formula stands."""
    mean = pixels.mean(0)
    centred = pixels - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / (len(pixels) - 1))
    return mean, vectors @ np.diag((values + 0.1) ** -0.5) @ vectors.T


def flat(some: RealSet) -> np.ndarray:
    """Pixels in [0, 1]: float64 [N, D]."""
    return some.raw(torch.arange(len(some))).flatten(1).double().numpy() / 255


def test_mean_and_matrix_are_those_of_the_formula() -> None:
    found = whitened(splits(real())).train.whitening
    mean, matrix = plain(flat(real()))
    assert found is not None and found.matrix.dtype == found.mean.dtype == torch.float32
    assert np.abs(found.mean.numpy() - mean).max() < 1e-7
    assert np.abs(found.matrix.numpy() - matrix).max() < 2e-7
    assert torch.equal(found.matrix, found.matrix.T)


def test_the_whitened_covariance_is_the_identity_but_for_epsilon() -> None:
    mean, matrix = plain(flat(real()))
    centred = flat(real()) - mean
    covariance = torch.from_numpy(centred.T @ centred / (len(centred) - 1))
    values = torch.linalg.eigvalsh(covariance)
    ours = root_of(covariance)
    assert (ours - torch.from_numpy(matrix)).abs().max() < 1e-12
    x = torch.from_numpy(centred) @ ours
    left = torch.linalg.eigvalsh(x.T @ x / (len(x) - 1))
    assert (left - values / (values + EPSILON)).abs().max() < 1e-12  # 1 wherever an eigenvalue is far above epsilon
    assert (root_of(covariance, 1e-12) @ covariance @ root_of(covariance, 1e-12) - torch.eye(60)).abs().max() < 1e-6


def test_a_constant_pixel_and_fewer_images_than_pixels_are_no_trouble() -> None:
    few = real().subset(torch.arange(7))
    few = dataclasses.replace(few, images=few.raw(torch.arange(7)), rows=torch.arange(7))
    assert few.images is not None
    few.images[:, :, 0, 0] = 0
    found = whitened(splits(few)).train.whitening
    assert found is not None and torch.isfinite(found.matrix).all()
    assert np.abs(found.matrix.numpy() - plain(flat(few))[1]).max() < 1e-6
    assert abs(float(found.matrix[0, 0]) - EPSILON**-0.5) < 1e-5


def test_sums_are_exact_so_that_the_order_of_rows_changes_no_bit() -> None:
    order = torch.randperm(320, generator=torch.Generator().manual_seed(0))
    a, b = (run(ZCA(), some, [None], seed=0, plan=Plan()).states[0] for some in (real(), real().subset(order)))  # pyright: ignore[reportArgumentType]
    x = real().raw(torch.arange(320)).flatten(1).long()
    for state in (a, b):
        assert torch.equal(state["second"].long(), x.T @ x) and torch.equal(state["first"].long(), x.sum(0))
    assert all(torch.equal(ZCA().finish(a, {})[k], ZCA().finish(b, {})[k]) for k in (MEAN, MATRIX))


def test_threads_change_no_bit() -> None:
    covariance = torch.cov(torch.randn(300, 500, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(root_of(covariance))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_the_inverse_gives_the_pixels_back() -> None:
    some = whitened(splits(real())).train
    x = some.draw(torch.arange(50))
    assert x.dtype == torch.float32 and x.shape == (50, 3, 5, 4)
    assert (some.pixels(x) * 255 - some.raw(torch.arange(50))).abs().max() < 1e-2
    back = some.pixels(some.normalise(torch.rand(2, 4, 3, 5, 4, dtype=torch.float64)))
    assert back.shape == (2, 4, 3, 5, 4) and back.dtype == torch.float64


def test_every_split_goes_through_the_matrix_of_the_training_split() -> None:
    found = whitened(splits(real()))
    mean, matrix = plain(flat(real()))
    assert found.val is not None
    for split in (found.train, found.val, found.test, found.train.subset(torch.arange(5, 90)), found.test.on("cpu")):
        expected = (flat(split) - mean) @ matrix
        ours = split.draw(torch.arange(len(split))).flatten(1).numpy()
        assert np.abs(ours - expected).max() < 1e-5
    assert np.abs(plain(flat(held_out()))[1] - matrix).max() > 1e-2  # its own would be another


def test_the_fit_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = whitened(splits(real()))
    monkeypatch.setattr(ZCA, "init", lambda *_: pytest.fail("fitted again"))
    again = whitened(splits(real()))
    assert first.train.whitening and again.train.whitening and first.train.space == again.train.space
    assert torch.equal(first.train.whitening.matrix, again.train.whitening.matrix)
    assert whitened(first) is first


def test_a_whitened_space_is_another_one_and_a_plain_one_is_told_as_before() -> None:
    plainly = real()
    assert plainly.space == [list(plainly.mean), list(plainly.std)]
    space = whitened(splits(real())).train.space
    other = whitened(splits(real().subset(torch.arange(1, 320)))).train.space
    assert len(space) == 3 and space[2] != other[2]
    assert space[:2] == [[0.0] * 3, [1.0] * 3]


def test_bfloat16_around_it_changes_nothing() -> None:
    some = whitened(splits(real())).train
    x = some.draw(torch.arange(9))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(some.draw(torch.arange(9)), x) and torch.equal(some.pixels(x), some.pixels(x).float())


def test_channel_statistics_of_a_whitened_set_are_refused() -> None:
    mean, std = real().channels()
    assert mean.shape == std.shape == (3, 1, 1) and mean.flatten().tolist() == pytest.approx(real().mean)
    with pytest.raises(UsageError, match=r"whitened .zca. and cannot be normalised channel by channel"):
        whitened(splits(real())).train.channels()


@pytest.mark.parametrize(
    "shape, gib, side", [((3, 224, 224), "84.4", 104), ((1, 224, 224), "9.4", 181), ((3, 105, 105), "4.1", 104)]
)
def test_images_too_large_are_refused_with_the_number_and_the_remedy(
    shape: tuple[int, int, int], gib: str, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: None)
    with pytest.raises(ResourceError, match=rf"{gib} GiB.* at most {side} pixels a side .size., or leave zca out"):
        affordable(shape)
    affordable((1, 181, 181))
    assert LARGEST >= 181 * 181


def test_free_memory_counts_and_a_given_side_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: PEAK * 3072**2)
    affordable((3, 32, 32))
    affordable_side(None)
    affordable_side((32, 32))
    with pytest.raises(ResourceError, match="at most 32 pixels a side"):
        affordable((3, 32, 33))
    with pytest.raises(ResourceError, match=r"images of 3 x 64 x 64 takes a matrix of 12288 x 12288"):
        affordable_side(64)


def test_what_has_no_covariance_or_no_pixels_is_refused() -> None:
    with pytest.raises(DataError, match="1 training images; whitening needs two"):
        whitened(splits(real().subset(torch.arange(1))))
    with pytest.raises(UsageError, match="no images, which zca whitens"):
        whitened(splits(dataclasses.replace(unlabelled(), images=None)))


def test_moving_takes_the_transform_along() -> None:
    found = whitened(splits(real())).train.whitening
    assert found is not None
    moved = found.on("meta")
    assert isinstance(moved, Whitening) and moved.matrix.device.type == moved.mean.device.type == "meta"
